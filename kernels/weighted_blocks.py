"""Blocks drawn towards weights, such as attention or saliency: of several arrangements of a law, one by what its targets cover.

A row has ARRANGEMENTS keys, its own and others folded from it. Each gives the targets of the law, which differ in nothing but
chance; one is taken with a probability proportional to the product, over its targets, of the mean weight of their patches. So a
block lies where it lies under the law, times the weight there, and all that the law promises (scales, no overlap, min_keep)
holds. Where all arrangements weigh the same, the row's own is taken: equal weights give the masks without weights, bit for bit.

The more arrangements, the nearer the products come to what is drawn; weights to the power p lean p times as strongly. Weights
are rounded to 255ths of the greatest in their row, and 1 at least, so that sums under blocks are whole and exact in any order.
Resampling by importance: Rubin, "The SIR algorithm", in Bayesian Statistics 3, 1988.
"""

# G crops, L levels, B samples, A arrangements, T targets, H x W grid, N = H * W patches

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from hjepa.kernels import chance, native_masks
from hjepa.kernels.block_masks import draw_blocks
from hjepa.kernels.exact_blocks import draw_exact
from hjepa.kernels.rectangles import Blocks, Grid, has_kernel, uniforms

ARRANGEMENTS = 16
CHOICE = 1 << 20
"""Counter of a row's key, beyond those of the laws: the arrangements' keys are CHOICE + 1 to CHOICE + A - 1 folded in."""
LEVELS = 255
"""Of a weight."""
SHARES = 4096
"""Of the greatest product: to these the products are rounded down, so that they add up exactly."""
LEAST = 2.0**-100
"""Of a product: far above what is rounded to 0."""


def weight_sums(weights: Tensor, grid: Grid) -> Tensor:
    """int64 [..., (H + 1) * (W + 1)] of weights, floating [..., N]: sums of their LEVELS above and left of each corner."""
    greatest = weights.amax(-1, keepdim=True)
    levels = (weights / greatest * LEVELS).to(torch.int64).clamp_(1, LEVELS).view(*weights.shape[:-1], *grid)
    return torch.nn.functional.pad(levels.cumsum(-1).cumsum(-2), (1, 0, 1, 0)).flatten(-2)


def weighted_exact(
    keys: Tensor,
    laws: Tensor,
    sums: Tensor,
    grid: Grid,
    *,
    num_targets: int,
    min_keep: int,
    arrangements: int = ARRANGEMENTS,
) -> Tensor:
    """For keys int64 [G, L, B], the key in each row's stead with which `exact_masks` gives what the weights choose.

    sums: `weight_sums` [G or 1, B, ...]; laws: as for `exact_masks`; all on one device. Nothing waits for it.
    """
    numbers = {"num_targets": num_targets, "min_keep": min_keep, "arrangements": arrangements}
    if has_kernel(keys, num_targets):
        from hjepa.kernels import weighted_blocks_triton  # here: Triton may not be installed

        return weighted_blocks_triton.weighted_exact(keys, laws, sums, grid, **numbers)
    if native_masks.has_native(keys, num_targets):
        return native_masks.weighted_keys(keys, laws, grid, "exact", sums, **numbers)
    draw = partial(draw_exact, laws=laws, grid=grid, num_targets=num_targets, min_keep=min_keep)
    return choose_keys(keys, sums, grid, draw, arrangements)


def weighted_reference(
    keys: Tensor,
    laws: Tensor,
    sums: Tensor,
    grid: Grid,
    *,
    num_targets: int,
    max_attempts: int,
    arrangements: int = ARRANGEMENTS,
) -> Tensor:
    """As `weighted_exact`, for `block_masks`."""
    numbers = {"num_targets": num_targets, "max_attempts": max_attempts, "arrangements": arrangements}
    if has_kernel(keys, num_targets):
        from hjepa.kernels import weighted_blocks_triton  # here: Triton may not be installed

        return weighted_blocks_triton.weighted_reference(keys, laws, sums, grid, **numbers)
    if native_masks.has_native(keys, num_targets):
        return native_masks.weighted_keys(keys, laws, grid, "reference", sums, **numbers)
    draw = partial(draw_blocks, laws=laws, grid=grid, num_targets=num_targets, max_attempts=max_attempts)
    return choose_keys(keys, sums, grid, draw, arrangements)


def choose_keys(keys: Tensor, sums: Tensor, grid: Grid, draw: Callable[[Tensor], Blocks], arrangements: int) -> Tensor:
    """The definition of both: of the keys of the arrangements that `draw` makes, the one that is taken."""
    folded = chance.fold_tensor(keys, torch.arange(CHOICE + 1, CHOICE + arrangements, device=keys.device).view(-1, 1, 1, 1))
    candidates = torch.cat([keys.unsqueeze(0), folded])  # [A, G, L, B]
    uniform = uniforms(chance.fold_tensor(keys, CHOICE), 1)[0]
    taken = _take(_shares(draw(candidates).targets, sums, grid), uniform)
    return candidates.gather(0, taken.unsqueeze(0)).squeeze(0)


def _shares(targets: Tensor, sums: Tensor, grid: Grid) -> Tensor:
    """int64 [A, G, L, B], 1 to SHARES: the products of the targets' [4, T, A, G, L, B] mean weights, against the greatest."""
    top, bottom, left, right = targets.to(torch.int64).unbind(0)
    stride = grid[1] + 1
    corners = torch.stack([bottom * stride + right, top * stride + left, top * stride + right, bottom * stride + left])
    rows = corners.movedim((3, 5), (0, 1)).flatten(2)  # [G, B, 4 * T * A * L]
    found = sums.expand(len(rows), -1, -1).gather(-1, rows).movedim(-1, 0)
    found = found.view(*corners.shape[:3], corners.shape[4], *rows.shape[:2]).movedim(3, 4)  # [4, T, A, G, L, B]
    under = (found[0] + found[1] - found[2] - found[3]).to(torch.float32)
    means = under / ((bottom - top) * (right - left)).to(torch.float32) * (1 / 256)
    product = torch.ones_like(means[0])
    for mean in means.unbind(0):
        product = (product * mean).clamp_min_(LEAST)
    return (product / product.amax(0) * SHARES).to(torch.int64).clamp_min_(1)


def _take(shares: Tensor, uniform: Tensor) -> Tensor:
    """Number int64 [...] of the arrangement taken, each in proportion to its share int64 [A, ...], by one uniform [...].

    The arrangements stand in a circle, turned by the same uniform; all being alike, it does not matter where each stands. So
    with equal shares the place that is hit is always number 0's.
    """
    count = len(shares)
    numbers = torch.arange(count, device=shares.device).view(-1, *[1] * uniform.ndim)
    turned = (numbers - (uniform * count).to(torch.int64)) % count
    ends = shares.gather(0, turned).cumsum(0)
    hit = (uniform * ends[-1].to(torch.float32)).to(torch.int64)
    place = (ends <= hit).sum(0).clamp_max_(count - 1)
    return turned.gather(0, place.unsqueeze(0)).squeeze(0)
