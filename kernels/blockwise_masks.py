"""Blockwise masks of an exact size, as DINOv2 and DINOv3 hide patches from the student (iBOT's loss).

The law is BEiT's (arXiv 2106.08254, algorithm 1) as in dinov2/data/masking.py: rectangles are laid over each other until the
mask has its size; a rectangle is redrawn (area, aspect, place), at most A times, until it adds at least one patch and not more
than are missing. Where a round finds none, the rest are random single patches, as DINOv3 does and DINOv2 does not: so every
mask has exactly its size, and whoever chose the sizes knows the length of the index list without asking the device.
"""

# R rows, A attempts, N = H * W patches

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hjepa.kernels import chance, native_masks
from hjepa.kernels.mask_indices import random_order
from hjepa.kernels.rectangles import exponential, has_patch_kernel, uniforms

ATTEMPTS = 10
CHOSEN, SHARE, COMPLETED = 1 << 20, (1 << 20) + 1, (1 << 20) + 2
"""Counters of a row's key beyond those of the rectangles."""


def stratified_counts(
    keys: chance.Keys, num_patches: int, *, probability: float, ratio: tuple[float, float], at_most: bool
) -> tuple[npt.NDArray[np.int64], int]:
    """How many patches to hide in each row, int64 [R] from keys uint64 [R], and the greatest sum there can be.

    A share `probability` of the rows, chosen by key, is masked; the others have 0. The range of ratios is cut into as many
    strata as rows are masked, and each of these has a ratio of its own stratum: uniform in it (DINOv2), or its upper end
    (at_most false, DINOv3; the sum is then the greatest one). The strata belong to the batch, so a row's size depends on it.
    """
    masked = int(len(keys) * probability)
    # In float32, as upstream: the product with N may fall on either side of a whole number.
    ends = torch.linspace(*ratio, masked + 1, dtype=torch.float32, device="cpu")
    upper = (num_patches * ends[1:]).to(torch.int64).numpy()
    rows = np.argsort(chance.bits(keys, np.array(CHOSEN)), kind="stable")[:masked]
    counts = np.zeros(len(keys), dtype=np.int64)
    counts[rows] = upper
    if at_most:
        low, high = ends[:-1].numpy(), ends[1:].numpy()
        counts[rows] = num_patches * (low + (high - low) * chance.uniform(keys[rows], np.array(SHARE)))
    return counts, int(upper.sum())


def blockwise_masks(
    keys: Tensor,
    counts: Tensor,
    grid: tuple[int, int],
    *,
    min_patches: int = 4,
    max_share: float = 0.5,
    min_aspect: float = 0.3,
) -> Tensor:
    """Masks bool [R, N], True = hidden, with exactly counts int64 [R] true patches each, for keys int64 [R].

    Rectangles have an area from min_patches to max_share of the grid (less where less is missing), uniform, and an aspect
    ratio from min_aspect to 1 / min_aspect, log-uniform. There are 2 * log2(N) of them at most; the law has no bound, but of
    3 000 masks on 14 x 14, 16 x 16, 32 x 32 and 48 x 48 patches the longest took 13, 14, 20 and 21. A row depends on its key
    and its count alone. Nothing waits for the device.
    """
    height, width = grid
    # On a GPU the counts are not looked at: that would wait.
    if counts.device.type == "cpu" and bool(((counts < 0) | (counts > height * width)).any()):
        raise ValueError(
            f"counts from {counts.min()} to {counts.max()} cannot be masked of {height}x{width} patches; "
            f"use 0 to {height * width}"
        )
    rounds, most = 2 * math.ceil(math.log2(height * width + 1)), int(max_share * height * width)
    log_aspect = math.log(min_aspect)
    if has_patch_kernel(keys, height * width):
        from hjepa.kernels import blockwise_masks_triton  # here: Triton may not be installed

        draw = blockwise_masks_triton.blockwise_masks
    else:
        draw = native_masks.blockwise_masks if native_masks.has_native(keys) else reference_masks
    return draw(keys, counts, grid, min_patches=min_patches, most=most, rounds=rounds, log_aspect=log_aspect)


def reference_masks(
    keys: Tensor, counts: Tensor, grid: tuple[int, int], *, min_patches: int, most: int, rounds: int, log_aspect: float
) -> Tensor:
    """The definition: masks in so many rounds of rectangles of `most` patches at most."""
    mask = torch.zeros(len(keys), *grid, dtype=torch.bool, device=keys.device)
    growing = torch.ones(len(keys), dtype=torch.bool, device=keys.device)
    drawn = uniforms(keys, 4 * ATTEMPTS * rounds).T.view(len(keys), rounds, ATTEMPTS, 4).transpose(2, 3)
    for numbers in drawn.unbind(1):
        missing = counts - mask.sum((1, 2))
        room = missing.clamp_max(most).unsqueeze(-1)  # [R, 1]
        edges, fits = _rectangles(numbers, room, grid, min_patches, log_aspect)
        added = _count_inside(~mask, edges)
        accepted = fits & (added > 0) & (added <= room) & (growing & (missing > 0)).unsqueeze(-1)
        growing = accepted.any(-1)
        first = accepted.to(torch.int8).argmax(-1)  # argmax of equals is the first
        mask |= _paint(edges.gather(-1, first.view(-1, 1, 1).expand(-1, 4, 1)), grid) & growing.view(-1, 1, 1)
    return _complete(mask.flatten(1), counts, chance.fold_tensor(keys, COMPLETED))


def _rectangles(
    numbers: Tensor, room: Tensor, grid: tuple[int, int], min_patches: int, log_aspect: float
) -> tuple[Tensor, Tensor]:
    """Edges int64 [R, 4, A] (top, bottom, left, right) from uniforms [R, 4, A], and which of them, [R, A], fit the grid."""
    area = min_patches + numbers[:, 0] * (room - min_patches)  # room < min_patches: between the two, as upstream
    aspect = exponential(log_aspect * (1 - 2 * numbers[:, 1]))
    height, width = (area * aspect).sqrt_().round_(), (area / aspect).sqrt_().round_()
    fits = (height < grid[0]) & (width < grid[1])  # never the grid's full side: part of the law
    top = (numbers[:, 2] * (grid[0] + 1 - height)).floor_()
    left = (numbers[:, 3] * (grid[1] + 1 - width)).floor_()
    edges = torch.stack([top, top + height, left, left + width], dim=1).to(torch.int64)
    return edges.masked_fill(~fits.unsqueeze(1), 0), fits


def _count_inside(mask: Tensor, edges: Tensor) -> Tensor:
    """int64 [R, A]: true patches of mask [R, H, W] inside the rectangles [R, 4, A], from its summed-area table."""
    table = torch.nn.functional.pad(mask.to(torch.int64).cumsum(1).cumsum(2), (1, 0, 1, 0))
    flat, stride = table.flatten(1), table.shape[-1]
    top, bottom, left, right = edges.unbind(1)
    above, below = flat.gather(1, top * stride + right), flat.gather(1, bottom * stride + right)
    return below - above - flat.gather(1, bottom * stride + left) + flat.gather(1, top * stride + left)


def _paint(edges: Tensor, grid: tuple[int, int]) -> Tensor:
    """bool [R, H, W] of one rectangle [R, 4, 1] each."""
    top, bottom, left, right = edges.unbind(1)
    rows, columns = (torch.arange(side, device=edges.device) for side in grid)
    return ((rows >= top) & (rows < bottom)).unsqueeze(-1) & ((columns >= left) & (columns < right)).unsqueeze(-2)


def _complete(mask: Tensor, counts: Tensor, keys: Tensor) -> Tensor:
    """The mask [R, N] with random patches added until there are `counts` [R] of them."""
    order = random_order(keys, mask.shape[-1]).masked_fill(mask, -1)
    ascending = torch.cat([order.new_full((len(order), 1), -2), order.sort(-1).values], dim=-1)
    return order <= ascending.gather(-1, counts.unsqueeze(-1))
