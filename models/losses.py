"""How far predicted tokens are from the teacher's, in float32 whatever the model computes in."""

# M patches of a term, D channels, ... the axes of the terms

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from hjepa.models.ranks import all_rows, all_sum, num_ranks, share_of_mean

LossKind: TypeAlias = Literal["smooth_l1", "mse", "huber"]


def without_autocast(tensor: Tensor) -> AbstractContextManager[Any]:
    """Where products of float32 on the tensor's device stay in float32, which autocast would take in bfloat16."""
    device = tensor.device.type
    return torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext()  # not on meta


def distance(
    predicted: Float[Tensor, "... D"], target: Float[Tensor, "... D"], kind: LossKind, normalize_embeddings: bool = False
) -> Float[Tensor, "..."]:
    """Distance averaged over the channels.

    smooth_l1 is I-JEPA's (arXiv 2301.08243, its published code) with beta = 1; huber with delta = 1 is the same function under
    the name that configurations use. normalize_embeddings scales both sides to length 1 first.
    """
    predicted, target = predicted.float(), target.float()
    if normalize_embeddings:
        predicted, target = F.normalize(predicted, dim=-1), F.normalize(target, dim=-1)
    match kind:
        case "smooth_l1":
            differences = F.smooth_l1_loss(predicted, target, reduction="none")
        case "mse":
            differences = F.mse_loss(predicted, target, reduction="none")
        case "huber":
            differences = F.huber_loss(predicted, target, reduction="none")
        case _:
            raise ValueError(f"loss kind {kind!r} is not known; use smooth_l1, mse or huber")
    return differences.mean(-1)


def prediction_loss(
    predicted: Float[Tensor, "... M D"],
    target: Float[Tensor, "... M D"],
    valid: Bool[Tensor, "... M"],
    kind: LossKind = "smooth_l1",
    normalize_embeddings: bool = False,
) -> Float[Tensor, ""]:
    """Mean over terms of the mean over each term's valid patches; a term without a valid patch is not counted.

    On several ranks it is this rank's share of the mean over the terms of all (`ranks.share_of_mean`).
    """
    distances = distance(predicted, target, kind, normalize_embeddings)
    counts = valid.sum(-1)
    # where, not a product with the mask: padding gets a gradient of exactly zero.
    terms = torch.where(valid, distances, 0.0).sum(-1) / counts.clamp_min(1)
    return share_of_mean(terms.sum(), (counts > 0).sum())


@torch.no_grad()
def baseline_loss(
    target: Float[Tensor, "... M D"],
    valid: Bool[Tensor, "... M"],
    kind: LossKind = "smooth_l1",
    normalize_embeddings: bool = False,
) -> Float[Tensor, ""]:
    """`prediction_loss` of predicting the mean of all valid targets everywhere, for which no patch need be seen."""
    summed = torch.where(valid.unsqueeze(-1), target.float(), 0.0).flatten(0, -2).sum(0)
    mean = all_sum(summed) / all_sum(valid.sum()).clamp_min(1)
    return prediction_loss(mean.expand_as(target), target, valid, kind, normalize_embeddings)


def spread_loss(features: Float[Tensor, "V B D"]) -> Float[Tensor, ""]:
    """How far features of a batch are from varying in every channel, and in each on its own: 0 for a perfect spread.

    VICReg's variance and covariance terms (Bardes et al., arXiv 2105.04906, equations 1 and 3), in its proportion of 25 to 1,
    averaged over the V views. With them a JEPA does not collapse: Mo and Tong, arXiv 2410.19560. The batch is
    that of all ranks.
    """
    num_images = num_ranks() * features.shape[1]
    centred = features.float() - all_sum(features.float().sum(1, keepdim=True)) / num_images
    with without_autocast(features):
        covariance = all_sum(centred.transpose(1, 2) @ centred) / max(1, num_images - 1)
    variance = covariance.diagonal(dim1=1, dim2=2)
    deviation = (variance + 1e-4).sqrt()
    off_diagonal = covariance.square().sum((1, 2)) - variance.square().sum(1)
    return F.relu(1 - deviation).mean() + off_diagonal.mean() / features.shape[-1] / 25


def nearest_loss(features: Float[Tensor, "V B D"]) -> Float[Tensor, ""]:
    """Minus the logarithm of each feature's distance to its nearest, both scaled to length 1; the mean over B, summed over V.

    KoLeo (Sablayrolles et al., arXiv 1806.03198), as in DINOv2 (arXiv 2304.07193): it keeps images apart that the student
    would let fall together. Nearest among the images of all ranks, within each of the V views. To differences
    torch adds 1e-6, where DINOv2 adds 1e-8: pairs that are closer than that push each other apart less.
    """
    unit = F.normalize(features.float(), dim=-1)
    others = all_rows(unit)
    # In bfloat16 all likenesses near 1 are the same.
    with torch.no_grad(), without_autocast(features):
        likeness = others @ others.transpose(1, 2)
        likeness.diagonal(dim1=1, dim2=2).fill_(-1)  # no feature is its own neighbour
        nearest = likeness.argmax(-1, keepdim=True).expand_as(others)
    distances = F.pairwise_distance(others, others.gather(1, nearest))
    return -(distances + 1e-8).log().mean(1).sum()
