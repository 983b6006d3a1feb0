"""Blocks of one size for the whole batch, each sample with its own places: the masks of I-JEPA and of V-JEPA 2.

Laws: ijepa/src/masks/multiblock.py (arXiv 2301.08243) and vjepa2/src/masks/multiseq_multiblock3d.py (arXiv 2506.09985). One
size for all makes the target blocks of a batch a tensor without padding. What is not upstream's here, and why:

* I-JEPA's code never uses the last row and column of the grid, nor a block as large as it; here every place counts.
* I-JEPA draws scale and aspect from one number, which ties them; here, as in V-JEPA 2, from two.
* Neither code cuts a mask to the batch's smallest by chance but in raster order, which takes the bottom rows (or the last
  frames) from every sample; `kernels.mask_indices` takes random ones.
* Both redraw until a mask has a solution; I-JEPA's gives way by letting context and targets overlap, and may never end. Here
  there are A sets of places to choose from and then all blocks at one place, which leaves most, and `block_areas` tells which
  settings have no solution even so.
"""

# B samples, T target blocks, A attempts, P patches of a block, H x W grid or F x H x W with frames, N patches

import math
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from hjepa.kernels import chance, native_masks
from hjepa.kernels.rectangles import has_patch_kernel, uniforms

Range = tuple[float, float]
Sides = tuple[int, ...]
"""Of a block or a grid: frames where there are any, rows, columns."""
ATTEMPTS = 10
"""Sets of places of which the first that leaves enough patches free is taken."""
CONTEXT = 1 << 20
"""Counter of a sample's key, beyond those of the places of the targets, from which the context's place comes."""
FRAMES = 2
"""Counter of the batch's key, beyond those of a block's area and aspect, from which a tube's length comes."""


def block_size(key: chance.Keys, scale: Range, aspect_ratio: Range, grid: tuple[int, int]) -> tuple[int, int]:
    """Height and width of the batch's blocks: area a uniform share of the grid, height / width uniform."""
    share, aspect = chance.uniform(key, np.arange(2))
    area = int(grid[0] * grid[1] * (scale[0] + share * (scale[1] - scale[0])))
    return _sides(area, aspect_ratio[0] + aspect * (aspect_ratio[1] - aspect_ratio[0]), grid)


def block_areas(scale: Range, aspect_ratio: Range, grid: tuple[int, int]) -> tuple[int, int]:
    """The smallest and the largest area in patches that `block_size` gives."""
    low, high = aspect_ratio
    products: set[int] = set()
    for area in range(int(math.prod(grid) * scale[0]), int(math.prod(grid) * scale[1]) + 1):
        halves = [side + 0.5 for side in range(max(grid) + 1)]  # where a height or a width is rounded the other way
        turns = [half**2 / max(1, area) for half in halves] + [area / half**2 for half in halves]
        ends = [low, *sorted(turn for turn in turns if low < turn < high), high]
        between = [(first + second) / 2 for first, second in pairwise(ends)]
        products |= {math.prod(_sides(area, aspect, grid)) for aspect in (*ends, *between)}
    return min(products), max(products)


def block_masks(
    keys: Tensor,
    context: tuple[int, int],
    target: tuple[int, int],
    grid: tuple[int, int],
    *,
    num_targets: int,
    min_outside: int,
) -> tuple[Tensor, Tensor]:
    """I-JEPA's masks for keys int64 [B]: context bool [B, N], clear of all targets, and targets bool [B, T, N].

    context, target: height and width of the blocks. Targets may overlap each other, and leave at least min_outside patches of
    the grid free wherever one block does; the context may be left small or empty. A sample's masks depend on its key, the two
    sizes and min_outside alone. Nothing waits for the device.
    """
    _check_fits(context, grid)
    _check_fits(target, grid)
    if has_patch_kernel(keys, math.prod(grid)):
        from hjepa.kernels import shared_blocks_triton  # here: Triton may not be installed

        return shared_blocks_triton.block_masks(keys, context, target, grid, num_targets=num_targets, min_outside=min_outside)
    if native_masks.has_native(keys):
        return native_masks.shared_blocks(keys, context, target, grid, num_targets=num_targets, min_outside=min_outside)
    return block_reference(keys, context, target, grid, num_targets=num_targets, min_outside=min_outside)


def block_reference(
    keys: Tensor,
    context: tuple[int, int],
    target: tuple[int, int],
    grid: tuple[int, int],
    *,
    num_targets: int,
    min_outside: int,
) -> tuple[Tensor, Tensor]:
    """The definition of `block_masks`."""
    places, _ = _places(keys, target, grid, num_targets, min_outside)
    targets = _scatter(places, grid)
    corner = uniforms(chance.fold_tensor(keys, CONTEXT), 2).movedim(0, -1)
    return _scatter(_patches(corner, context, grid), grid) & ~targets.any(1), targets


def tube_length(key: chance.Keys, scale: Range, num_frames: int) -> int:
    """Frames that the batch's blocks span: a uniform share of all, rounded down, 1 at least."""
    share = scale[0] + float(chance.uniform(key, np.array(FRAMES))) * (scale[1] - scale[0])
    return most_frames((share, share), num_frames)


def most_frames(scale: Range, num_frames: int) -> int:
    """The greatest `tube_length` there may be."""
    return max(1, int(num_frames * scale[1] + 1e-9))


def context_length(ratio: float, num_frames: int) -> int:
    """Frames, from the first on, that the context may lie in: a share of all, rounded down, 1 at least."""
    return max(1, int(num_frames * ratio))


def tube_masks(
    keys: Tensor, block: tuple[int, int, int], grid: tuple[int, int, int], num_blocks: int, context_frames: int | None = None
) -> tuple[Tensor, Tensor]:
    """V-JEPA 2's masks for keys int64 [B]: context bool [B, N], and its complement, the targets, patches frame by frame.

    block and grid: frames, height and width. The targets are the union of the blocks, each anywhere in time and space, and
    all that follows the first context_frames frames (None: nothing does). There always is a context, for any block smaller
    than the first context_frames frames of the grid.
    """
    frames = grid[0] if context_frames is None else context_frames
    assert 1 <= frames <= grid[0], context_frames
    _check_fits(block, grid)
    if has_patch_kernel(keys, math.prod(grid)):
        from hjepa.kernels import shared_blocks_triton

        return shared_blocks_triton.tube_masks(keys, block, grid, num_blocks, frames)
    if native_masks.has_native(keys):
        return native_masks.tube_masks(keys, block, grid, num_blocks, frames)
    return tube_reference(keys, block, grid, num_blocks, frames)


def tube_reference(
    keys: Tensor, block: tuple[int, int, int], grid: tuple[int, int, int], num_blocks: int, context_frames: int
) -> tuple[Tensor, Tensor]:
    """The definition of `tube_masks`."""
    seen = context_frames * grid[1] * grid[2]
    _, targets = _places(keys, block, grid, num_blocks, 1, seen)
    targets[:, seen:] = True
    return ~targets, targets


def _places(
    keys: Tensor, block: Sides, grid: Sides, count: int, min_outside: int, seen: int | None = None
) -> tuple[Tensor, Tensor]:
    """Patches int64 [B, T, P] of T blocks, and their union bool [B, N].

    They are the first of A sets of places that leaves min_outside of the first `seen` patches (None: of all) free, and in
    default of one, T times one place.
    """
    axes = len(grid)
    numbers = uniforms(keys, ATTEMPTS * count * axes).view(ATTEMPTS, count, axes, -1).movedim(-1, 0)
    sets = _patches(numbers, block, grid)  # [B, A, T, P]
    sets = torch.cat([sets, sets[:, :1, :1].expand_as(sets[:, :1])], dim=1)
    unions = _scatter(sets.flatten(2), grid)  # [B, A + 1, N]
    enough = (~unions[..., :seen]).sum(-1) >= min_outside
    enough[:, -1] = True
    first = enough.to(torch.int8).argmax(-1)  # argmax of equals is the first
    rows = torch.arange(len(keys), device=keys.device)
    return sets[rows, first], unions[rows, first]


def _check_fits(block: Sides, grid: Sides) -> None:
    assert all(1 <= side <= whole for side, whole in zip(block, grid, strict=True)), (block, grid)


def _sides(area: int, aspect: float, grid: tuple[int, int]) -> tuple[int, int]:
    height, width = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
    return min(max(height, 1), grid[0]), min(max(width, 1), grid[1])


def _patches(numbers: Tensor, block: Sides, grid: Sides) -> Tensor:
    """int64 [..., P], ascending: the patches of a block at a place given by a uniform for each axis, anywhere in the grid."""
    start = torch.zeros_like(numbers[..., 0], dtype=torch.int64)
    inside = torch.zeros(1, dtype=torch.int64, device=numbers.device)
    for axis, (side, whole) in enumerate(zip(block, grid, strict=True)):
        start = start * whole + (numbers[..., axis] * (whole + 1 - side)).to(torch.int64)
        inside = (inside.unsqueeze(-1) * whole + torch.arange(side, device=numbers.device)).flatten()
    return start.unsqueeze(-1) + inside


def _scatter(patches: Tensor, grid: Sides) -> Tensor:
    """bool [..., N], true at the patches [..., P]."""
    mask = torch.zeros(*patches.shape[:-1], math.prod(grid), dtype=torch.bool, device=patches.device)
    return mask.scatter_(-1, patches, True)
