"""Local crops as context beside a global crop, and as crops that are masked and predicted themselves.

A local patch that shows a part of what is to be predicted must not be seen. It is left out before the encoder reads the crop,
not only before the predictor: attention would have carried its pixels into the other tokens of the crop. So a local crop is
encoded once for each thing that is predicted beside it, from those patches alone that may be seen.
"""

# G global crops, V local crops of which the first M are masked and the other U are read, L levels, B images, n patches of a
# local crop, J of them read, K context tokens of a masked one, T target blocks, m patches of a block, s pixels, D channels;
# X, Y any two axes of what is predicted beside a local crop

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hjepa.kernels.token_gather import gather_visible
from hjepa.models.geometry import PatchPlaces
from hjepa.models.predictor import LocalTokens
from hjepa.models.vit import VisionTransformer


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskedLocals:
    """The first M local crops, each with blocks to predict at the finest level, and what is read beside them."""

    context_index: Int[Tensor, "M B K"]
    context_valid: Bool[Tensor, "M B K"]
    target_index: Int[Tensor, "M B T m"]
    target_valid: Bool[Tensor, "M B T m"]
    seen_index: Int[Tensor, "M U B J"]
    """Patches of the other local crops that show no part of the blocks."""
    seen_valid: Bool[Tensor, "M U B J"]


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalMasks:
    """What is read of the local crops; indices are int64 in raster order, valid is False at padding."""

    seen_index: Int[Tensor, "G L U B J"]
    """Patches of the last U local crops that are context for a level of a global crop."""
    seen_valid: Bool[Tensor, "G L U B J"]
    masked: MaskedLocals | None = None
    """None where U is V."""


def encode_patches(
    encoder: VisionTransformer,
    crops: Float[Tensor, "U B 3 s s"],
    index: Int[Tensor, "X Y U B J"],
    valid: Bool[Tensor, "X Y U B J"],
) -> Float[Tensor, "X Y U B J D"]:
    """Tokens of the patches with these numbers, encoded anew for each X and Y from these patches alone."""
    first, second = index.shape[:2]
    num_crops, num_images = crops.shape[:2]
    length = index.shape[-1]
    index, valid = (part.permute(2, 3, 0, 1, 4).reshape(num_crops * num_images, -1, length) for part in (index, valid))
    tokens = gather_visible(encoder.embed(crops.flatten(0, 1)), index, valid)
    tokens = encoder.encode(tokens.flatten(0, 1), valid.flatten(0, 1))
    return tokens.view(num_crops, num_images, first, second, length, -1).permute(2, 3, 0, 1, 4, 5)


def place_tokens(
    tokens: Float[Tensor, "X Y U B J D"],
    index: Int[Tensor, "X Y U B J"],
    valid: Bool[Tensor, "X Y U B J"],
    places: PatchPlaces,
    *,
    own: bool = False,
) -> LocalTokens:
    """The tokens with their places in each global crop G (X is G, or 1 for all of them), as rows in the order G, B, Y.

    places are those of the U crops, of which patches outside of the global crop are not seen. own: they are those of Y crops,
    each of which is read (U = 1) for itself and as a whole.
    """
    sizes = (places.centre.shape[0], *index.shape[1:])
    index, valid = index.expand(sizes), valid.expand(sizes)
    axis = 2 if own else 1
    if not own:
        valid = valid & gather_patches(places.inside.unsqueeze(axis), index)
    place = gather_patches(places.centre.unsqueeze(axis), index)
    log_size = places.log_size.unsqueeze(axis).unsqueeze(-2).expand_as(place)
    return LocalTokens(
        tokens=_rows(tokens.expand(*sizes, -1)), place=_rows(place), log_size=_rows(log_size), valid=_rows(valid)
    )


def join_tokens(one: LocalTokens, other: LocalTokens) -> LocalTokens:
    """Both as the context of the same rows."""
    return LocalTokens(
        tokens=torch.cat([one.tokens, other.tokens], dim=1),
        place=torch.cat([one.place, other.place], dim=1),
        log_size=torch.cat([one.log_size, other.log_size], dim=1),
        valid=torch.cat([one.valid, other.valid], dim=1),
    )


def gather_patches(values: Tensor, index: Tensor) -> Tensor:
    """Values [..., n, *] of the patches int64 [..., J]: [..., J, *]; the axes before them broadcast, * is one axis or none."""
    if values.ndim == index.ndim:
        return values.expand(*index.shape[:-1], -1).gather(-1, index)
    wanted = index.unsqueeze(-1).expand(*index.shape, values.shape[-1])
    return values.expand(*index.shape[:-1], -1, -1).gather(-2, wanted)


def _rows(values: Tensor) -> Tensor:
    """[X, Y, U, B, J, *] as [X B Y, U J, *]."""
    return values.transpose(2, 3).transpose(1, 2).flatten(3, 4).flatten(0, 2)
