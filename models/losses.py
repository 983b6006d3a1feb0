"""How far predicted tokens are from the teacher's, in float32 whatever the model computes in."""

# M patches of a term, D channels, ... the axes of the terms

from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

LossKind: TypeAlias = Literal["smooth_l1", "mse", "huber"]


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
    """Mean over terms of the mean over each term's valid patches; a term without a valid patch is not counted."""
    distances = distance(predicted, target, kind, normalize_embeddings)
    counts = valid.sum(-1)
    # where, not a product with the mask: padding gets a gradient of exactly zero.
    terms = torch.where(valid, distances, 0.0).sum(-1) / counts.clamp_min(1)
    return terms.sum() / (counts > 0).sum().clamp_min(1)
