"""Masks without a law of blocks: a random subset of a fixed size, as in MAE (arXiv 2111.06377), and the user's rectangles."""

# N = H * W patches, K rectangles, ... any leading axes

from collections.abc import Sequence

import torch
from torch import Tensor

from hjepa.kernels.mask_indices import random_order
from hjepa.kernels.rectangles import Grid, has_patch_kernel, has_triton, paint


def random_masks(keys: Tensor, num_patches: int, count: int) -> Tensor:
    """bool [..., N] with exactly `count` true patches, each subset with the same chance, for keys int64 [...].

    Which ones depends on the key alone. Nothing waits for the device of the keys.
    """
    if not 0 <= count <= num_patches:
        raise ValueError(f"count={count} of {num_patches} patches cannot be masked; use 0 to {num_patches}")
    if has_patch_kernel(keys, num_patches):
        from hjepa.kernels import simple_masks_triton  # here: Triton may not be installed

        return simple_masks_triton.random_masks(keys, num_patches, count)
    return random_reference(keys, num_patches, count)


def random_reference(keys: Tensor, num_patches: int, count: int) -> Tensor:
    """The definition of `random_masks`: the patches of the lowest ranks in a random order."""
    order = random_order(keys, num_patches)
    if count == 0:
        return torch.zeros_like(order, dtype=torch.bool)
    return order <= order.topk(count, largest=False).values.amax(-1, keepdim=True)


def rectangle_masks(rectangles: Sequence[tuple[int, int, int, int]], grid: Grid, device: torch.device | str = "cpu") -> Tensor:
    """bool [K, N] of rectangles given as top, left, height and width in patches, all of them within the grid."""
    for rectangle in rectangles:
        top, left, height, width = rectangle
        if min(top, left) < 0 or min(height, width) < 1 or top + height > grid[0] or left + width > grid[1]:
            raise ValueError(
                f"rectangle {rectangle} (top, left, height, width) does not lie in {grid[0]}x{grid[1]} patches; "
                "use 1 patch or more, within the grid"
            )
    return paint_rectangles(torch.tensor(rectangles, dtype=torch.int64, device=device).view(-1, 4), grid)


def paint_rectangles(rectangles: Tensor, grid: Grid) -> Tensor:
    """bool [..., N] of rectangles int64 [..., 4], top, left, height and width in patches, on their device.

    Nothing waits for it, so nobody looks at them: what lies outside of the grid is left out, and what has no area is empty.
    """
    assert rectangles.dtype == torch.int64, rectangles.dtype
    assert rectangles.shape[-1] == 4, rectangles.shape
    if rectangles.is_cuda and has_triton():
        from hjepa.kernels import simple_masks_triton

        return simple_masks_triton.paint_rectangles(rectangles, grid)
    return paint_reference(rectangles, grid)


def paint_reference(rectangles: Tensor, grid: Grid) -> Tensor:
    """The definition of `paint_rectangles`."""
    top, left, height, width = rectangles.unbind(-1)
    bottom, right = top + height.clamp_min(0), left + width.clamp_min(0)
    rows = torch.stack([top, bottom]).clamp(0, grid[0])
    columns = torch.stack([left, right]).clamp(0, grid[1])
    return paint(torch.cat([rows, columns]), grid)
