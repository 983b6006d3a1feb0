"""DINO: the student says of every crop what the teacher says of each large one, as probabilities over learned prototypes.

Caron et al., arXiv 2104.14294. What keeps it from collapsing is on the teacher's side: its outputs are centred by a moving
average and sharpened by a low temperature. An encoder here has no class token; an image's feature is the mean of its tokens.
Where steps are few, two things more are needed: prototypes that keep their places at first (DINO's freeze_last_layer), and
KoLeo (DINOv2, arXiv 2304.07193), which keeps features apart: docs/small-run.md.
"""

# G global crops, V local crops, C = G + V of them, B images, S and s pixels, D channels, P prototypes

import copy
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from hjepa.models.block import initialise
from hjepa.models.ema import update_average
from hjepa.models.losses import nearest_loss, without_autocast
from hjepa.models.ranks import all_sum, num_ranks
from hjepa.models.sizes import VisionTransformerSettings
from hjepa.models.vit import VisionTransformer


@dataclass(frozen=True, kw_only=True, slots=True)
class DinoSettings:
    """The networks and the loss; the defaults are DINO's."""

    encoder: VisionTransformerSettings = field(default_factory=VisionTransformerSettings)
    """Sizes of student and teacher."""
    num_prototypes: int = 65536
    """Outputs of the head."""
    hidden: int = 2048
    """Width of its two hidden layers."""
    bottleneck: int = 256
    """Width before the prototypes."""
    student_temperature: float = 0.1
    """The student's outputs are divided by it."""
    center_momentum: float = 0.9
    """Share of the centre that is kept with each update."""
    local_weight: float = 1.0
    """Weight of a term in which the student sees a local crop, beside 1 for a global one; the mean is a weighted one."""
    koleo_weight: float = 0.0
    """Weight of the term that keeps the student's features of different images apart."""

    def __post_init__(self) -> None:
        if min(self.num_prototypes, self.hidden, self.bottleneck) < 1 or self.student_temperature <= 0:
            raise ValueError(f"every size of the head and its temperature must be above 0; got {self}")
        if min(self.koleo_weight, self.local_weight) < 0:
            raise ValueError(f"koleo_weight and local_weight must not be negative; got {self}")
        if not 0 <= self.center_momentum <= 1:
            raise ValueError(f"center_momentum={self.center_momentum} must lie between 0 (the batch's mean) and 1 (no change)")


@dataclass(frozen=True, kw_only=True, slots=True)
class DinoLosses:
    """Loss and norms of one batch, float32, on its device; only `total` carries a gradient."""

    total: Float[Tensor, ""]
    """What is minimised: the mean cross-entropy of all pairs of a student's crop and another crop of the teacher, plus the
    koleo term times its weight."""
    koleo: Float[Tensor, ""]
    """The koleo term, unweighted; 0 where it is off."""
    student_norm: Float[Tensor, ""]
    """Mean length of the student's outputs."""
    teacher_norm: Float[Tensor, ""]
    """Mean length of the teacher's outputs."""
    center_norm: Float[Tensor, ""]
    """Length of the centre that was subtracted from them."""


class DinoHead(nn.Module):
    """Three-layer MLP, length 1, and the cosine with each prototype: a last layer with weights normed to 1."""

    def __init__(self, width: int, hidden: int, bottleneck: int, num_prototypes: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, bottleneck)
        ).apply(initialise)
        self.prototypes = nn.Parameter(nn.init.trunc_normal_(torch.empty(num_prototypes, bottleneck), std=0.02))

    def forward(self, features: Float[Tensor, "R D"]) -> Float[Tensor, "R P"]:
        """The cosine of each feature, mapped, with each prototype."""
        return F.linear(F.normalize(self.mlp(features), dim=-1), F.normalize(self.prototypes, dim=-1))


class Dino(nn.Module):
    """Student `encoder` and `head`, their moving averages `teacher` and `teacher_head`, and the centre; crops crop-major."""

    center: Tensor
    _outputs: Tensor
    _num_batches: Tensor

    def __init__(self, settings: DinoSettings) -> None:
        super().__init__()
        self.settings = settings
        self.encoder = VisionTransformer(settings.encoder)
        self.head = DinoHead(settings.encoder.width, settings.hidden, settings.bottleneck, settings.num_prototypes)
        self.teacher = copy.deepcopy(self.encoder).requires_grad_(False).eval()
        self.teacher_head = copy.deepcopy(self.head).requires_grad_(False).eval()
        self.register_buffer("center", torch.zeros(settings.num_prototypes))
        # What the centre follows at the next update: the sum of the mean outputs of its batches, and how many these are.
        self.register_buffer("_outputs", torch.zeros(settings.num_prototypes), persistent=False)
        self.register_buffer("_num_batches", torch.zeros(()), persistent=False)

    def forward(
        self,
        global_crops: Float[Tensor, "G B 3 S S"],
        local_crops: Float[Tensor, "V B 3 s s"] | None,
        teacher_temperature: float,
    ) -> DinoLosses:
        """The training loss; local crops are read at their own size. In training `update_teacher` goes by what was seen."""
        seen = [self._means(crops) for crops in (global_crops, local_crops) if crops is not None]
        with torch.no_grad():
            teacher = self.teacher_head(self.teacher(global_crops.flatten(0, 1)).mean(1)).float()
            teacher = teacher.view(*global_crops.shape[:2], -1)
        said = torch.cat([self.head(means.flatten(0, 1)).view(*means.shape[:2], -1) for means in seen]).float()
        loss = dino_loss(
            said, teacher, self.center, self.settings.student_temperature, teacher_temperature, self.settings.local_weight
        )
        koleo = nearest_loss(seen[0]) if self.settings.koleo_weight > 0 else torch.zeros_like(loss)
        if self.training:
            self._outputs.add_(mean_output(teacher))
            self._num_batches.add_(1)
        return DinoLosses(
            total=loss + self.settings.koleo_weight * koleo,
            koleo=koleo.detach(),
            student_norm=said.detach().norm(dim=-1).mean(),
            teacher_norm=teacher.norm(dim=-1).mean(),
            center_norm=self.center.norm(),
        )

    @torch.no_grad()
    def features(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B D"]:
        """One feature per image for probes: the mean of the teacher's tokens, without gradient."""
        means: Tensor = self.teacher(images).mean(1)
        return means

    @torch.no_grad()
    def update_teacher(self, momentum: float) -> None:
        """Moves the teacher towards the student, and the centre, once for all batches since: after every optimizer step."""
        update_average(self.teacher, self.encoder, momentum)
        update_average(self.teacher_head, self.head, momentum)
        mean = self._outputs / self._num_batches.clamp(min=1)
        moved = moved_center(self.center, mean, self.settings.center_momentum)
        self.center.copy_(torch.where(self._num_batches > 0, moved, self.center))
        self._outputs.zero_()
        self._num_batches.zero_()

    def hold_prototypes(self) -> None:
        """Forgets the gradient of the prototypes, which then stay where they are in the next update.

        Early on it is easiest to let all of them point one way, which makes every image the same: DINO's freeze_last_layer.
        """
        self.head.prototypes.grad = None

    def _means(self, crops: Float[Tensor, "V B 3 s s"]) -> Float[Tensor, "V B D"]:
        means: Tensor = self.encoder(crops.flatten(0, 1)).mean(1)
        return means.view(*crops.shape[:2], -1)


def dino_loss(
    student: Float[Tensor, "C B P"],
    teacher: Float[Tensor, "G B P"],
    center: Float[Tensor, " P"],
    student_temperature: float,
    teacher_temperature: float,
    local_weight: float = 1.0,
) -> Float[Tensor, ""]:
    """Mean cross-entropy over the pairs of different crops of an image: G (C - 1) terms, 2 + 2V for two global crops.

    Crops are crop-major and the student's begin with the G of the teacher, to which no gradient goes. The terms of the others,
    the local crops, have their own weight in the mean.
    """
    wanted = ((teacher.detach().float() - center) / teacher_temperature).softmax(-1)
    said = (student.float() / student_temperature).log_softmax(-1)
    with without_autocast(student):
        entropies = -torch.einsum("gbp,cbp->gc", wanted, said)
    num_crops, num_images = student.shape[:2]
    num_globals = len(teacher)
    weights = 1 - torch.eye(num_globals, num_crops, device=student.device)
    weights[:, num_globals:] = local_weight
    total = num_globals * (num_globals - 1 + local_weight * (num_crops - num_globals))
    if total == 0:
        raise ValueError("DINO compares a global crop with others of its image, and none of them counts; use 2, or local crops")
    return (entropies * weights).sum() / (num_images * total)


@torch.no_grad()
def mean_output(teacher: Float[Tensor, "G B P"]) -> Float[Tensor, " P"]:
    """The mean of the teacher's outputs of a batch on all ranks."""
    mean: Tensor = all_sum(teacher.float().mean((0, 1))) / num_ranks()
    return mean


def moved_center(center: Float[Tensor, " P"], mean: Float[Tensor, " P"], momentum: float) -> Float[Tensor, " P"]:
    """The centre after an update: a moving average of the mean outputs."""
    return center * momentum + mean * (1 - momentum)
