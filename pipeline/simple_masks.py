"""Masks without a law of blocks: a random subset of a fixed size, and rectangles that the user gives."""

# N = H * W patches, K rectangles, ... any leading axes

from collections.abc import Sequence

import torch
from torch import Tensor

from hjepa.kernels.mask_indices import random_order
from hjepa.kernels.rectangles import Grid, paint


def random_masks(keys: Tensor, num_patches: int, count: int) -> Tensor:
    """bool [..., N] with exactly `count` true patches, each subset with the same chance, for keys int64 [...]."""
    if not 0 <= count <= num_patches:
        raise ValueError(f"count={count} of {num_patches} patches cannot be masked; use 0 to {num_patches}")
    order = random_order(keys, num_patches)
    if count == 0:
        return torch.zeros_like(order, dtype=torch.bool)
    return order <= order.topk(count, largest=False).values.amax(-1, keepdim=True)


def rectangle_masks(rectangles: Sequence[tuple[int, int, int, int]], grid: Grid, device: torch.device | str = "cpu") -> Tensor:
    """bool [K, N] of rectangles given as top, left, height and width in patches."""
    for rectangle in rectangles:
        top, left, height, width = rectangle
        if min(top, left) < 0 or min(height, width) < 1 or top + height > grid[0] or left + width > grid[1]:
            raise ValueError(
                f"rectangle {rectangle} (top, left, height, width) does not lie in {grid[0]}x{grid[1]} patches; "
                "use 1 patch or more, within the grid"
            )
    edges = [(top, top + height, left, left + width) for top, left, height, width in rectangles]
    return paint(torch.tensor(edges, dtype=torch.float32, device=device).view(-1, 4).T, grid)
