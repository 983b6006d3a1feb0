"""Boolean masks as index tensors of a fixed length, so that shapes do not depend on chance and nothing waits for the device.

Where a mask has more patches than fit, a random subset is kept: dropping the last ones in raster order, as I-JEPA's collator
does, would hide the bottom rows of every image. Where it has fewer, the rest is padding.
"""

# N patches, K = length; ... any leading axes

import torch
from torch import Tensor

from hjepa.kernels import chance, native_masks
from hjepa.kernels.rectangles import any_target, has_patch_kernel


def mask_indices(mask: Tensor, length: int, keys: Tensor) -> tuple[Tensor, Tensor]:
    """Index int64 [..., K] and valid bool [..., K] of the true patches of a mask bool [..., N].

    Valid indices ascend and stand first; padding has index 0. Of a mask with more than K patches, which K are kept depends on
    its key alone. keys: int64, broadcasting against [...]; masks that share a key share the order in which patches go.
    They must not be the keys the masks were drawn with, or which patches go would depend on where the blocks are: fold a part.
    """
    assert mask.dtype == torch.bool, mask.dtype
    if has_patch_kernel(mask, mask.shape[-1]):
        from hjepa.kernels import mask_indices_triton  # here: Triton may not be installed

        return mask_indices_triton.indices(mask, None, length, 0, keys)
    if native_masks.has_native(mask):
        return native_masks.indices(mask, None, length, 0, keys)
    return mask_reference(mask, length, keys)


def mask_reference(mask: Tensor, length: int, keys: Tensor) -> tuple[Tensor, Tensor]:
    """The definition of `mask_indices`."""
    order = random_order(keys, mask.shape[-1]).masked_fill(~mask, _LAST)
    return _first_in_order(order, mask.sum(-1), length)


def context_indices(context: Tensor, targets_union: Tensor, length: int, min_keep: int, keys: Tensor) -> tuple[Tensor, Tensor]:
    """`mask_indices` of a context bool [..., N], with at least min_keep valid patches in each row.

    A context that is too small is filled up with random patches outside the context and outside every target
    (targets_union bool [..., N]), and only when there are none left, with random patches of the targets.
    """
    num_patches = context.shape[-1]
    assert context.dtype == targets_union.dtype == torch.bool, (context.dtype, targets_union.dtype)
    _check_least(min_keep, length, num_patches)
    if has_patch_kernel(context, num_patches):
        from hjepa.kernels import mask_indices_triton

        return mask_indices_triton.indices(context, targets_union, length, min_keep, keys)
    if native_masks.has_native(context):
        return native_masks.indices(context, targets_union, length, min_keep, keys)
    return context_reference(context, targets_union, length, min_keep, keys)


def context_reference(
    context: Tensor, targets_union: Tensor, length: int, min_keep: int, keys: Tensor
) -> tuple[Tensor, Tensor]:
    """The definition of `context_indices`."""
    order = random_order(keys, context.shape[-1])
    order = order + torch.where(context, 0, torch.where(targets_union, 2, 1)) * _CLASS  # context, then outside, then targets
    return _first_in_order(order, context.sum(-1).clamp_min(min_keep), length)


def block_indices(
    context: Tensor, targets: Tensor, context_length: int, target_length: int, min_keep: int, keys: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`context_indices` of contexts bool [..., N] beside their targets bool [..., T, N], and `mask_indices` of the targets.

    Index and valid of the contexts [..., K], then of the targets [..., T, K]. keys: int64, broadcasting against [...], the same
    for both. On a GPU it is one launch.
    """
    num_patches = context.shape[-1]
    assert context.dtype == targets.dtype == torch.bool, (context.dtype, targets.dtype)
    _check_least(min_keep, context_length, num_patches)
    if has_patch_kernel(context, num_patches):
        from hjepa.kernels import mask_indices_triton

        return mask_indices_triton.block_indices(context, targets, context_length, target_length, min_keep, keys)
    of_context = context_indices(context, any_target(targets), context_length, min_keep, keys)
    return *of_context, *mask_indices(targets, target_length, keys.unsqueeze(-1))


def _check_least(min_keep: int, length: int, num_patches: int) -> None:
    if not 0 <= min_keep <= min(length, num_patches):
        raise ValueError(
            f"min_keep={min_keep} does not fit into length={length} and {num_patches} patches; "
            f"use 0 to {min(length, num_patches)}"
        )


_CLASS = 1 << 48
_LAST = 3 * _CLASS


def random_order(keys: Tensor, num_patches: int) -> Tensor:
    """Distinct int64 in [0, 2**48) for each patch, [..., N]: 32 random bits, and the patch's number to break ties."""
    assert num_patches <= 1 << 16, num_patches
    patches = torch.arange(num_patches, device=keys.device)
    return ((chance.bits_tensor(keys.unsqueeze(-1), patches) & 0xFFFFFFFF) << 16) | patches


def _first_in_order(order: Tensor, counts: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Index and valid [..., K] of the `counts` [...] patches lowest in order [..., N], K at most, ascending."""
    longest = min(length, order.shape[-1])
    counts = counts.clamp_max(longest).unsqueeze(-1)
    lowest = order.topk(longest, largest=False, sorted=True).values
    # Number k is the order of the last of k patches; number 0, for rows with none, is below every order.
    bounds = torch.cat([order.new_full((*order.shape[:-1], 1), -1), lowest], dim=-1)
    kept = order <= bounds.gather(-1, counts)
    slots = torch.arange(1, length + 1, device=order.device).expand(*order.shape[:-1], length)
    # The patch of slot k is the first at which k patches have been kept; without a scatter, which CUDA does in any order.
    index = torch.searchsorted(kept.cumsum(-1), slots.contiguous())
    valid = slots <= counts
    return index.masked_fill(~valid, 0), valid
