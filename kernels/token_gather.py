"""Tokens of some patches out of all of them: what a model that drops tokens needs, with its gradient.

Both go by rows: whole tokens are gathered, and for the gradient combined, which adds them up in a fixed order. The index of
torch's gather has to be expanded to the tokens' width, and on a GPU its gradient adds with atomics, in any order; the Triton
kernels read only, so that every run has the same bits.
"""

# R rows, G groups of indices of a row, K slots of a group, N patches, D channels

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hjepa.kernels.rectangles import has_triton


def gather_reference(tokens: Tensor, index: Tensor, valid: Tensor) -> Tensor:
    """[R, G, K, D]: of tokens [R, N, D] those with these numbers, 0 at padding."""
    found = tokens.flatten(0, 1).index_select(0, _flat(index, tokens.shape[1]).flatten())
    return found.view(*index.shape, -1).masked_fill_(~valid.unsqueeze(-1), 0)


def combine_reference(parts: Tensor, index: Tensor, valid: Tensor, num_patches: int) -> Tensor:
    """[R, N, D]: of each patch the sum of the parts [R, G, K, D] with its number, in the order of the groups."""
    rows, width = len(parts), parts.shape[-1]
    total = parts.new_zeros(rows * num_patches + 1, width)  # padding goes to the last
    place = torch.where(valid, _flat(index, num_patches), rows * num_patches)
    return total.index_add_(0, place.flatten(), parts.flatten(0, 2))[:-1].view(rows, num_patches, width)


def _flat(index: Tensor, num_patches: int) -> Tensor:
    """Numbers int64 [R, G, K] among the tokens of all rows."""
    return index + torch.arange(len(index), device=index.device).view(-1, 1, 1) * num_patches


def slots_of(index: Tensor, valid: Tensor, num_patches: int) -> Tensor:
    """int64 [R, G, N]: which slot of each group holds a patch; K where none does."""
    rows, groups, length = index.shape
    slots = torch.full((rows, groups, num_patches + 1), length, dtype=torch.int64, device=index.device)
    numbers = torch.arange(length, device=index.device).expand_as(index)
    slots.scatter_(2, index.masked_fill(~valid, num_patches), numbers)  # valid indices are distinct; padding goes to the last
    return slots[..., :num_patches]


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tokens: Tensor, index: Tensor, valid: Tensor) -> Tensor:
        ctx.save_for_backward(index, valid)
        ctx.num_patches = tokens.shape[1]
        return _gather(tokens, index, valid)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        index, valid = ctx.saved_tensors
        return _combine(gradient, index, valid, ctx.num_patches), None, None


def gather_visible(
    tokens: Float[Tensor, "R N D"], index: Int[Tensor, "R G K"], valid: Bool[Tensor, "R G K"]
) -> Float[Tensor, "R G K D"]:
    """The tokens with these numbers (int64), 0 at padding. The valid indices of a group are distinct."""
    gathered: Tensor = _Gather.apply(tokens, index, valid)
    return gathered


def _gather(tokens: Tensor, index: Tensor, valid: Tensor) -> Tensor:
    if tokens.is_cuda and has_triton():
        from hjepa.kernels import token_gather_triton  # here: Triton may not be installed

        return token_gather_triton.gather(tokens, index, valid)
    return gather_reference(tokens, index, valid)


def _combine(parts: Tensor, index: Tensor, valid: Tensor, num_patches: int) -> Tensor:
    if parts.is_cuda and has_triton():
        from hjepa.kernels import token_gather_triton  # here: Triton may not be installed

        return token_gather_triton.combine(parts, slots_of(index, valid, num_patches))
    return combine_reference(parts, index, valid, num_patches)
