"""Hierarchical JEPA: student, teacher and predictor, and one training loss from crops and masks.

I-JEPA (arXiv 2301.08243) at several levels: at each, the student reads a few visible patches of a global crop, and from them
the predictor guesses what the teacher, who read the whole crop, says about hidden blocks, averaged over that level's window.
All contexts of all crops and levels are one batch for the student, all target blocks one batch for the predictor.
Local crops may be context beside the global ones, and some of them may be masked and predicted: `local_masks`.
"""

# G global crops, V local crops, L levels, B images, K context tokens, T target blocks, M patches of a block,
# N patches of a crop and n of a local one, J tokens of local crops, S and s pixels, D channels

import copy
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from hjepa.kernels.token_gather import gather_visible
from hjepa.models.block import initialise
from hjepa.models.ema import update_average
from hjepa.models.geometry import PatchPlaces, sampled_targets
from hjepa.models.local_crops import LocalMasks, MaskedLocals, encode_patches, gather_patches, join_tokens, place_tokens
from hjepa.models.losses import LossKind, baseline_loss, distance, prediction_loss, spread_loss
from hjepa.models.predictor import LocalTokens, Predictor, PredictorSettings
from hjepa.models.sizes import VisionTransformerSettings
from hjepa.models.targets import level_targets
from hjepa.models.vit import VisionTransformer


@dataclass(frozen=True, kw_only=True, slots=True)
class HierarchicalJepaSettings:
    """The networks, the levels and the loss."""

    encoder: VisionTransformerSettings = field(default_factory=VisionTransformerSettings)
    """Sizes of student and teacher."""
    predictor: PredictorSettings = field(default_factory=PredictorSettings)
    """Sizes of the predictor."""
    num_levels: int = 3
    """Levels of targets, from fine to coarse."""
    level_windows: tuple[int, ...] = (1, 3, 7)
    """Side of the window that a level's targets are averaged over, in patches, odd; one per level."""
    level_weights: tuple[float, ...] = (1.0, 0.5, 0.25)
    """Weight of each level in the loss; they are divided by their sum."""
    loss: LossKind = "smooth_l1"
    """Distance between predicted and true tokens."""
    normalize_embeddings: bool = False
    """Whether both sides are scaled to length 1 before they are compared."""
    view_weight: float = 0.0
    """Weight of the term that predicts the whole image from each local crop; 0 leaves the local crops unread."""
    spread_weight: float = 0.0
    """Weight of the term that keeps the local crops' means apart, against collapse; it needs view_weight > 0."""
    reads_locals: bool = False
    """Whether the predictor can read local crops."""
    cross_weight: float = 0.0
    """Weight of the term that predicts masked local crops; it needs reads_locals."""

    def __post_init__(self) -> None:
        if not self.num_levels == len(self.level_windows) == len(self.level_weights) > 0:
            raise ValueError(
                f"num_levels={self.num_levels} needs as many level_windows ({len(self.level_windows)} came) "
                f"and level_weights ({len(self.level_weights)} came)"
            )
        if bad := [window for window in self.level_windows if window < 1 or window % 2 == 0]:
            raise ValueError(f"level_windows must be odd and above 0, so that a window has a centre; got {bad[0]}")
        if (
            min(*self.level_weights, self.view_weight, self.spread_weight, self.cross_weight) < 0
            or sum(self.level_weights) == 0
        ):
            raise ValueError(f"weights must not be negative, nor all level_weights 0; got {self}")
        if self.spread_weight > 0 and self.view_weight == 0:
            raise ValueError(f"spread_weight={self.spread_weight} has no effect with view_weight=0; set view_weight above 0")
        if self.cross_weight > 0 and not self.reads_locals:
            raise ValueError(f"cross_weight={self.cross_weight} has no effect with reads_locals=False; set reads_locals=True")


@dataclass(frozen=True, kw_only=True, slots=True)
class JepaLosses:
    """Losses of one batch, float32, on its device; only `total` carries a gradient."""

    total: Float[Tensor, ""]
    """What is minimised: the weighted mean of the levels, plus the view, spread and cross terms times their weights."""
    levels: Float[Tensor, " L"]
    """Loss of each level, unweighted."""
    baselines: Float[Tensor, " L"]
    """What the loss of each level would be if the mean of its targets were predicted everywhere."""
    view: Float[Tensor, ""]
    """The view term, unweighted; 0 where it is off."""
    spread: Float[Tensor, ""]
    """The spread term, unweighted; 0 where it is off."""
    cross: Float[Tensor, ""]
    """The term of the masked local crops, unweighted; 0 where there are none."""


class HierarchicalJepa(nn.Module):
    """Student `encoder`, its moving average `teacher`, and `predictor`; crops come crop-major."""

    def __init__(self, settings: HierarchicalJepaSettings) -> None:
        super().__init__()
        self.settings = settings
        width = settings.encoder.width
        self.encoder = VisionTransformer(settings.encoder)
        self.predictor = Predictor(settings.predictor, width, settings.num_levels, reads_locals=settings.reads_locals)
        self.view_projector: nn.Module | None = None
        if settings.view_weight > 0:
            self.view_projector = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width)).apply(initialise)
        # Copied after initialisation: a teacher that starts elsewhere is a target that has nothing to do with the student.
        self.teacher = copy.deepcopy(self.encoder).requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "HierarchicalJepa":
        """Sets the mode of all but the teacher, which always evaluates."""
        super().train(mode)
        self.teacher.eval()
        return self

    def forward(
        self,
        global_crops: Float[Tensor, "G B 3 S S"],
        context_index: Int[Tensor, "G L B K"],
        context_valid: Bool[Tensor, "G L B K"],
        target_index: Int[Tensor, "G L B T M"],
        target_valid: Bool[Tensor, "G L B T M"],
        local_crops: Float[Tensor, "V B 3 s s"] | None = None,
        places: PatchPlaces | None = None,
        local_masks: LocalMasks | None = None,
        known: Float[Tensor, "G B N D"] | None = None,
    ) -> JepaLosses:
        """The training loss. Indices are int64 patches in raster order; valid is False at padding.

        Local crops are context for the levels where local_masks come, with the places of their patches. known: the teacher's
        tokens, where `watch` has given them. On several ranks losses are this rank's shares of the mean over all
        (`models.ranks`).
        """
        if known is None:
            known = self.teacher_tokens(global_crops.flatten(0, 1))
            known = known.view(*global_crops.shape[:2], *known.shape[1:])
        local = self._read_locals(local_crops, places, local_masks)
        predicted = self.predict(global_crops, context_index, context_valid, target_index, target_valid, local)
        grid = self.encoder.grid(global_crops)
        levels, baselines = self._level_losses(predicted, known, grid, target_index, target_valid)
        settings, weights = self.settings, self.settings.level_weights
        total = torch.stack([weight * level for weight, level in zip(weights, levels, strict=True)]).sum() / sum(weights)
        view = spread = cross = torch.zeros_like(total)
        if settings.view_weight > 0:
            means = self._local_means(local_crops)
            view, spread = self._view_loss(means, known), spread_loss(means) if settings.spread_weight > 0 else spread
        if settings.cross_weight > 0:
            cross = self._cross_loss(local_crops, places, local_masks, known, grid)
        return JepaLosses(
            total=total + settings.view_weight * view + settings.spread_weight * spread + settings.cross_weight * cross,
            levels=torch.stack(levels).detach(),
            baselines=torch.stack(baselines),
            view=view.detach(),
            spread=spread.detach(),
            cross=cross.detach(),
        )

    @torch.no_grad()
    def teacher_tokens(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B N D"]:
        """The teacher's tokens of whole images, without gradient."""
        tokens: Tensor = self.teacher(images)
        return tokens

    @torch.no_grad()
    def watch(self, global_crops: Float[Tensor, "G B 3 S S"]) -> tuple[Float[Tensor, "G B N D"], Float[Tensor, "G B N"]]:
        """The teacher's tokens of the global crops, and the attention that each patch receives in its last block.

        AttMask (arXiv 2203.12719) takes what the class token asks for there, meant over heads; without one, all tokens ask.
        """
        tokens, received = self.teacher.encode_watched(self.teacher.embed(global_crops.flatten(0, 1)))
        crops = global_crops.shape[:2]
        return tokens.view(*crops, *tokens.shape[1:]), received.view(*crops, -1)

    def features(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B D"]:
        """One feature per image for probes: the mean of the teacher's tokens, without gradient."""
        return self.teacher_tokens(images).mean(1)

    def update_teacher(self, momentum: float) -> None:
        """Moves the teacher towards the student: after every optimizer step, once."""
        update_average(self.teacher, self.encoder, momentum)

    def predict(
        self,
        global_crops: Float[Tensor, "G B 3 S S"],
        context_index: Int[Tensor, "G L B K"],
        context_valid: Bool[Tensor, "G L B K"],
        target_index: Int[Tensor, "G L B T M"],
        target_valid: Bool[Tensor, "G L B T M"],
        local: LocalTokens | None = None,
    ) -> Float[Tensor, "G L B T M D"]:
        """What student and predictor say about the hidden patches, from the visible ones alone; local has rows G B L."""
        num_crops, num_levels, num_images, _ = context_index.shape
        # Levels go next to each other: then the contexts of an image are one slice of its tokens, embedded once.
        index, valid, asked, counted = (
            indices.transpose(1, 2).flatten(0, 2) for indices in (context_index, context_valid, target_index, target_valid)
        )
        embedded = self.encoder.embed(global_crops.flatten(0, 1))
        grouped = (num_crops * num_images, num_levels, -1)
        context = gather_visible(embedded, index.view(grouped), valid.view(grouped)).flatten(0, 1)
        context = self.encoder.encode(context, valid)
        level = torch.arange(num_levels, device=index.device).repeat(num_crops * num_images)
        grid = self.encoder.grid(global_crops)
        predicted: Tensor = self.predictor(context, index, valid, asked, counted, level, grid, local)
        return predicted.view(num_crops, num_images, num_levels, *predicted.shape[1:]).transpose(1, 2)

    def _read_locals(
        self, local_crops: Tensor | None, places: PatchPlaces | None, masks: LocalMasks | None
    ) -> LocalTokens | None:
        """Tokens of the local crops that are context for the levels, rows in order G B L."""
        if masks is None:
            return None
        assert local_crops is not None
        assert places is not None
        read = slice(len(local_crops) - masks.seen_index.shape[2], None)
        tokens = encode_patches(self.encoder, local_crops[read], masks.seen_index, masks.seen_valid)
        return place_tokens(tokens, masks.seen_index, masks.seen_valid, places.of(read))

    def _cross_loss(
        self,
        local_crops: Tensor | None,
        places: PatchPlaces | None,
        masks: LocalMasks | None,
        known: Float[Tensor, "G B N D"],
        grid: tuple[int, int],
    ) -> Float[Tensor, ""]:
        """Distance of what is predicted of the masked local crops to the teacher's maps at the places of their patches."""
        assert local_crops is not None
        assert places is not None
        assert masks is not None
        if masks.masked is None:
            raise ValueError("cross_weight > 0 predicts masked local crops and none came; pass local_masks.masked")
        index = masks.masked.target_index
        masked = places.of(slice(0, len(index)))
        asked = index.flatten(2).expand(len(known), -1, -1, -1)  # [G, M, B, T m]
        targets = sampled_targets(known, grid, self.settings.level_windows[:1], masked.centre)[0]
        wanted = gather_patches(targets, asked).view(len(known), *index.shape, -1)
        inside = gather_patches(masked.inside, asked).view(len(known), *index.shape)
        valid = masks.masked.target_valid & inside
        guess = self._predict_locals(local_crops, places, masks.masked, valid)
        return prediction_loss(guess, wanted, valid, self.settings.loss, self.settings.normalize_embeddings)

    def _predict_locals(
        self, local_crops: Tensor, places: PatchPlaces, masked: MaskedLocals, valid: Bool[Tensor, "G M B T m"]
    ) -> Float[Tensor, "G M B T m D"]:
        """What is predicted of the masked local crops, from their own visible patches and from the other local crops."""
        num_masked = len(masked.context_index)
        own, others = places.of(slice(0, num_masked)), places.of(slice(num_masked, None))
        index, counted = masked.context_index[None, None], masked.context_valid[None, None]
        tokens = encode_patches(self.encoder, local_crops[:num_masked], index, counted)
        index, counted, tokens = index.transpose(1, 2), counted.transpose(1, 2), tokens.transpose(1, 2)  # [1, M, 1, B, K, D]
        context = place_tokens(tokens, index, counted, own, own=True)
        index, counted = masked.seen_index.unsqueeze(0), masked.seen_valid.unsqueeze(0)
        tokens = encode_patches(self.encoder, local_crops[num_masked:], index, counted)
        context = join_tokens(context, place_tokens(tokens, index, counted, others))
        asked = gather_patches(own.centre, masked.target_index.flatten(2).expand(len(valid), -1, -1, -1)).view(*valid.shape, 2)
        asked, counted = (part.transpose(1, 2).flatten(0, 2) for part in (asked, valid))  # rows G B M
        level = torch.zeros(len(asked), dtype=torch.int64, device=valid.device)
        predicted = self.predictor.predict_places(context, asked, counted, level)
        return predicted.view(len(valid), -1, num_masked, *predicted.shape[1:]).transpose(1, 2)

    def _level_losses(
        self, predicted: Tensor, known: Tensor, grid: tuple[int, int], target_index: Tensor, target_valid: Tensor
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Loss and baseline of each level, from predicted [G, L, B, T, M, D] and the teacher's tokens [G, B, N, D]."""
        settings = self.settings
        targets = level_targets(known.flatten(0, 1), grid, settings.level_windows)
        compared = settings.loss, settings.normalize_embeddings
        losses, baselines = [], []
        # unbind, not predicted[:, level]: the gradient of an index is a whole tensor of zeros for each level.
        for level, (guess, target) in enumerate(zip(predicted.unbind(1), targets, strict=True)):
            index, valid = target_index[:, level], target_valid[:, level]  # [G, B, T, M]
            wanted = gather_visible(target, index.flatten(0, 1), valid.flatten(0, 1)).view(*index.shape, -1)
            losses.append(prediction_loss(guess, wanted, valid, *compared))
            baselines.append(baseline_loss(wanted, valid, *compared))
        return losses, baselines

    def _local_means(self, local_crops: Float[Tensor, "V B 3 s s"] | None) -> Float[Tensor, "V B D"]:
        """The mean of the student's tokens of each local crop."""
        if local_crops is None:
            raise ValueError("view_weight > 0 reads the local crops and none came; pass local_crops or set view_weight=0")
        tokens: Tensor = self.encoder(local_crops.flatten(0, 1))
        return tokens.mean(1).view(*local_crops.shape[:2], -1)

    def _view_loss(self, means: Float[Tensor, "V B D"], known: Float[Tensor, "G B N D"]) -> Float[Tensor, ""]:
        """Distance of each local crop's projected mean to each global crop's mean, over all pairs of one image."""
        assert self.view_projector is not None
        guessed = self.view_projector(means)
        wanted = F.layer_norm(known.float().mean(2), known.shape[-1:])
        pairs = (len(guessed), *wanted.shape)  # [V, G, B, D]
        guessed, wanted = guessed.unsqueeze(1).expand(pairs), wanted.unsqueeze(0).expand(pairs)
        return distance(guessed, wanted, self.settings.loss, self.settings.normalize_embeddings).mean()
