"""Tokens of some patches out of all of them, and back: what a model that drops tokens needs, with gradients.

Gathering and combining are each other's gradients, so both read only, in a fixed order: no atomic additions, the same bits in
every run. The gradient of torch's gather scatters with atomics, and its index has to be expanded to the tokens' width.
"""

# R rows, G groups of indices of a row, K slots of a group, N patches, D channels

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hjepa.kernels.rectangles import has_triton


def gather_reference(tokens: Tensor, index: Tensor, valid: Tensor) -> Tensor:
    """[R, G, K, D]: of tokens [R, N, D] those with these numbers, 0 at padding."""
    rows, groups, slots = index.shape
    flat = index.flatten(1).unsqueeze(-1).expand(-1, -1, tokens.shape[-1])
    return tokens.gather(1, flat).view(rows, groups, slots, -1).masked_fill(~valid.unsqueeze(-1), 0)


def combine_reference(parts: Tensor, slots: Tensor) -> Tensor:
    """[R, N, D]: of each patch the sum over its slots int64 [R, G, N] of parts [R, G, K, D], in order; K is no slot."""
    padded = torch.nn.functional.pad(parts, (0, 0, 0, 1))
    total = torch.zeros_like(padded[:, 0, :1]).expand(-1, slots.shape[-1], -1)
    for group in range(slots.shape[1]):
        index = slots[:, group].unsqueeze(-1).expand(-1, -1, parts.shape[-1])
        total = total + padded[:, group].gather(1, index)
    return total


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
        return _combine(gradient, slots_of(index, valid, ctx.num_patches)), None, None


class _Combine(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, parts: Tensor, index: Tensor, valid: Tensor, num_patches: int) -> Tensor:
        ctx.save_for_backward(index, valid)
        return _combine(parts, slots_of(index, valid, num_patches))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        return _gather(gradient, *ctx.saved_tensors), None, None, None


def gather_visible(
    tokens: Float[Tensor, "R N D"], index: Int[Tensor, "R G K"], valid: Bool[Tensor, "R G K"]
) -> Float[Tensor, "R G K D"]:
    """The tokens with these numbers (int64), 0 at padding. The valid indices of a group are distinct."""
    gathered: Tensor = _Gather.apply(tokens, index, valid)
    return gathered


def scatter_predictions(
    parts: Float[Tensor, "R G K D"], index: Int[Tensor, "R G K"], valid: Bool[Tensor, "R G K"], num_patches: int
) -> Float[Tensor, "R N D"]:
    """Tokens put where their indices say, added up where groups meet, 0 elsewhere."""
    combined: Tensor = _Combine.apply(parts, index, valid, num_patches)
    return combined


def _gather(tokens: Tensor, index: Tensor, valid: Tensor) -> Tensor:
    if tokens.is_cuda and has_triton():
        from hjepa.kernels import token_gather_triton  # here: Triton may not be installed

        return token_gather_triton.gather(tokens, index, valid)
    return gather_reference(tokens, index, valid)


def _combine(parts: Tensor, slots: Tensor) -> Tensor:
    if parts.is_cuda and has_triton():
        from hjepa.kernels import token_gather_triton  # here: Triton may not be installed

        return token_gather_triton.combine(parts, slots)
    return combine_reference(parts, slots)
