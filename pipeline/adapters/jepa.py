"""The batches of I-JEPA and V-JEPA 2: what their MaskCollators return, with masks that do not have their faults.

The number of patches kept is the smallest in the batch, as upstream, so it depends on chance and on the batch, and is found
on the CPU: on a GPU it would have to be waited for. `kernels.shared_blocks` says what differs from upstream's law.
"""

# B images, T frames, F = T / tubelet, N = (S / patch)^2 patches of a frame, K patches kept

from dataclasses import dataclass
from numbers import Real
from typing import TypeAlias

import torch
from torch import Tensor

from hjepa.kernels import chance
from hjepa.kernels.mask_indices import context_indices, mask_indices
from hjepa.kernels.shared_blocks import (
    block_areas,
    block_masks,
    block_size,
    context_length,
    most_frames,
    tube_length,
    tube_masks,
)
from hjepa.pipeline.adapters.contract import host_mask_keys, require_patches, require_views
from hjepa.pipeline.batch import Batch
from hjepa.pipeline.mask_sampler import check_range
from hjepa.pipeline.recipe import Range, Recipe, whole

CONTEXT_SIZE, TARGET_SIZE = 0, 1
"""Parts of the batch's key: the sizes of I-JEPA's blocks."""
CONTEXT_TRIM, TARGET_TRIM = 1 << 21, (1 << 21) + 1
"""Parts of a sample's key, beyond the counters that place its blocks: which patches of a large mask go."""

IJepaBatch: TypeAlias = tuple[list[Tensor], list[Tensor], list[Tensor]]
"""([images [B, 3, S, S], labels int64 [B]], [context int64 [B, K]], num_targets x [target int64 [B, K']])"""
VJepa2Batch: TypeAlias = list[tuple[list[Tensor | list[Tensor]], list[Tensor], list[Tensor]]]
"""[([[clips [B, 3, T, S, S]], labels int64 [B], [frames int32 [B, T]]], contexts int64 [B, K], targets int64 [B, K'])]"""


@dataclass(frozen=True, kw_only=True, slots=True)
class IJepa:
    """Batch -> I-JEPA's (udata, masks_enc, masks_pred); lightly's I-JEPA reads the same."""

    patch_size: int = 16
    """Side of a patch of the trainer's ViT, in pixels."""
    enc_mask_scale: Range = (0.85, 1.0)
    """Least and greatest area of the context block, before the targets are removed, as a share of the grid."""
    pred_mask_scale: Range = (0.15, 0.2)
    """Least and greatest area of a target block, as a share of the grid."""
    aspect_ratio: Range = (0.75, 1.5)
    """Least and greatest height / width of a target block; the context block is square."""
    num_pred_masks: int = 4
    """Target blocks of an image."""
    min_keep: int = 10
    """Every mask has more patches than this. A context left smaller is filled up with patches that lie in no target."""

    def __post_init__(self) -> None:
        check_range("enc_mask_scale", self.enc_mask_scale, 1)
        check_range("pred_mask_scale", self.pred_mask_scale, 1)
        check_range("aspect_ratio", self.aspect_ratio)
        whole("num_pred_masks", self.num_pred_masks, 1)
        whole("min_keep", self.min_keep, 0)

    def check(self, recipe: Recipe) -> None:
        """One crop named "global", of whole patches, with room for all masks."""
        require_views("I-JEPA", recipe, {"global": 1})
        require_patches("I-JEPA", recipe, self.patch_size)
        side = recipe.groups()[0][0].size // self.patch_size
        least, most = block_areas(self.pred_mask_scale, self.aspect_ratio, (side, side))
        if least <= self.min_keep:
            raise ValueError(
                f"a target block on {side}x{side} patches may have {least}, and min_keep={self.min_keep} asks for more; "
                f"use min_keep={least - 1}, a greater pred_mask_scale or a smaller patch_size"
            )
        if side**2 - most <= self.min_keep:
            raise ValueError(
                f"a target block of {most} patches leaves the context no more than min_keep={self.min_keep} of {side}x{side}; "
                "use a smaller pred_mask_scale or patch_size"
            )

    def __call__(self, batch: Batch) -> IJepaBatch:
        """The trainer's triple."""
        images = batch.globals[0]
        context, targets = self.masks(batch)
        device = images.device
        masks_enc = [context.to(device, non_blocking=True)]
        masks_pred = [target.to(device, non_blocking=True) for target in targets.unbind(1)]
        return [images, batch.labels], masks_enc, masks_pred

    def masks(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Context int64 [B, K] and targets int64 [B, num_pred_masks, K'], ascending, on the CPU."""
        side = batch.globals.shape[-1] // self.patch_size
        grid, host_keys = (side, side), host_mask_keys(batch)
        target_size = block_size(chance.key(0, batch.step_key, TARGET_SIZE), self.pred_mask_scale, self.aspect_ratio, grid)
        context_size = block_size(chance.key(0, batch.step_key, CONTEXT_SIZE), self.enc_mask_scale, (1, 1), grid)
        keys = chance.key_tensor(host_keys)
        context, targets = block_masks(
            keys, context_size, target_size, grid, num_targets=self.num_pred_masks, min_outside=self.min_keep + 1
        )
        length = max(self.min_keep + 1, int(context.sum(-1).amin()))
        trim = chance.fold_tensor(keys, CONTEXT_TRIM)
        context_index, _ = context_indices(context, targets.any(1), length, self.min_keep + 1, trim)
        target_index, _ = mask_indices(targets, target_size[0] * target_size[1], trim.unsqueeze(-1))  # of one size: all kept
        return context_index, target_index


@dataclass(frozen=True, kw_only=True, slots=True)
class TubeMasks:
    """One of V-JEPA 2's mask settings: blocks with a height, a width and a length in time."""

    num_blocks: int
    """Blocks whose union is to be predicted."""
    spatial_scale: Range
    """Least and greatest area of a block, as a share of a frame."""
    aspect_ratio: Range = (0.75, 1.5)
    """Least and greatest height / width of a block."""
    temporal_scale: Range = (1.0, 1.0)
    """Least and greatest length of a block, as a share of the tubelets; a still image has equal frames, so hide all of them."""
    max_context_frames_ratio: float = 1.0
    """The context lies in the first tubelets, this share of all (max_temporal_keep in its files); what follows is predicted."""

    def __post_init__(self) -> None:
        check_range("spatial_scale", self.spatial_scale, 1)
        check_range("temporal_scale", self.temporal_scale, 1)
        check_range("aspect_ratio", self.aspect_ratio)
        whole("num_blocks", self.num_blocks, 1)
        ratio = self.max_context_frames_ratio
        if not (isinstance(ratio, Real) and 0 < ratio <= 1):
            raise ValueError(f"max_context_frames_ratio={ratio!r} is no share of the frames; use more than 0, up to 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class VJepa2:
    """Batch -> V-JEPA 2's list of (udata, masks_enc, masks_pred), one entry: a still image is a clip of equal frames."""

    patch_size: int = 16
    """Side of a patch of the trainer's ViT, in pixels."""
    num_frames: int = 16
    """Frames of the clip (dataset_fpcs)."""
    tubelet_size: int = 2
    """Frames of one patch."""
    masks: tuple[TubeMasks, ...] = (
        TubeMasks(num_blocks=8, spatial_scale=(0.15, 0.15)),
        TubeMasks(num_blocks=2, spatial_scale=(0.7, 0.7)),
    )
    """One pair of context and target per entry."""

    def __post_init__(self) -> None:
        whole("num_frames", self.num_frames, 1)
        if self.num_frames % whole("tubelet_size", self.tubelet_size, 1):
            raise ValueError(f"num_frames={self.num_frames} does not divide into tubelets of {self.tubelet_size} frames")
        if not isinstance(self.masks, list | tuple) or not self.masks:
            raise ValueError(f"V-JEPA 2 needs masks, got {self.masks!r}; give a tuple of one TubeMasks or more")

    def check(self, recipe: Recipe) -> None:
        """One crop named "global", of whole patches, larger than any block."""
        require_views("V-JEPA 2", recipe, {"global": 1})
        require_patches("V-JEPA 2", recipe, self.patch_size)
        side = recipe.groups()[0][0].size // self.patch_size
        tubelets = self.num_frames // self.tubelet_size
        for law in self.masks:
            whole = block_areas(law.spatial_scale, law.aspect_ratio, (side, side))[1] == side**2
            seen = context_length(law.max_context_frames_ratio, tubelets)
            if whole and most_frames(law.temporal_scale, tubelets) >= seen:
                raise ValueError(
                    f"a block of spatial_scale={law.spatial_scale} may cover all {side}x{side} patches of the {seen} "
                    "tubelets that the context lies in, and leave no context; use a smaller spatial_scale, temporal_scale or "
                    "patch_size, or a greater max_context_frames_ratio"
                )

    def __call__(self, batch: Batch) -> VJepa2Batch:
        """The trainer's list."""
        images = batch.globals[0]
        clips = images.unsqueeze(2).expand(-1, -1, self.num_frames, -1, -1)  # a view: every frame is the image's memory
        frames = torch.arange(self.num_frames, dtype=torch.int32, device=images.device).repeat(len(images), 1)
        masks_enc, masks_pred = [], []
        for number, law in enumerate(self.masks):
            context, target = self._indices(batch, number, law)
            masks_enc.append(context.to(images.device, non_blocking=True))
            masks_pred.append(target.to(images.device, non_blocking=True))
        return [([[clips], batch.labels, [frames]], masks_enc, masks_pred)]

    def _indices(self, batch: Batch, number: int, law: TubeMasks) -> tuple[Tensor, Tensor]:
        """Context and target int64 [B, K], ascending, on the CPU; where all tubelets are alike, whole tubes are kept."""
        side = batch.globals.shape[-1] // self.patch_size
        host_keys, tubelets = host_mask_keys(batch, number), self.num_frames // self.tubelet_size
        of_batch = chance.key(0, batch.step_key, number)
        length = tube_length(of_batch, law.temporal_scale, tubelets)
        block = block_size(of_batch, law.spatial_scale, law.aspect_ratio, (side, side))
        keys = chance.key_tensor(host_keys)
        seen = context_length(law.max_context_frames_ratio, tubelets)
        # What spans all tubelets is the same in all of them: drawn once, cut once, repeated.
        repeats, frames = (tubelets, 1) if length == seen == tubelets else (1, tubelets)
        tube, grid = (min(length, frames), *block), (frames, side, side)
        context, targets = tube_masks(keys, tube, grid, law.num_blocks, min(seen, frames))
        kept = []
        for mask, part in ((context, CONTEXT_TRIM), (targets, TARGET_TRIM)):
            index, _ = mask_indices(mask, int(mask.sum(-1).amin()), chance.fold_tensor(keys, part))
            starts = torch.arange(repeats, device="cpu").unsqueeze(-1) * frames * side**2
            kept.append((index.unsqueeze(1) + starts).flatten(1))
        return kept[0], kept[1]
