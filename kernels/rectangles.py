"""Rectangles on a grid of patches: what all laws of block masks share. They are painted, and they come from four uniforms.

Edges are top, bottom, left, right in patches, ends exclusive, whole numbers in float32, on the leading axis: [4, ...]. The
samples are the innermost axis until the painting, so that inner loops are long and loads coalesce.
"""

# H x W grid, N = H * W patches, K rectangles of a union, ... any axes

from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec

import torch
from torch import Tensor

from hjepa.kernels import chance

Grid = tuple[int, int]
"""Rows and columns of patches."""
EXP_HALVINGS = 6


@dataclass(frozen=True, kw_only=True, slots=True)
class Blocks:
    """The rectangles of L levels and B samples."""

    targets: Tensor
    """float32 [4, T, ..., L, B]"""
    context: Tensor
    """float32 [4, ..., L, B], before the targets are removed"""
    choice: Tensor
    """int64, where it came from: of each target the number of its candidate [T, ..., L, B], or of all their layout [..., L, B].
    The last number, max_attempts or `exact_blocks.num_layouts`, is the fallback."""


def masks_of(blocks: Blocks, grid: Grid) -> tuple[Tensor, Tensor]:
    """Context bool [..., L, B, N], the targets removed, and targets bool [..., L, B, T, N]; True = use."""
    targets = paint(blocks.targets.movedim(1, -1), grid)
    context = paint(blocks.context, grid)
    for target in targets.unbind(-2):  # targets.any(-2), a reduction of bytes, is many times slower on a CPU
        context &= ~target
    return context, targets


@lru_cache(maxsize=1)
def has_triton() -> bool:
    """Whether Triton, which does not come with every torch, is installed."""
    return find_spec("triton") is not None


def has_kernel(keys: Tensor, num_targets: int) -> bool:
    """Whether the masks for these keys are made by a Triton kernel. More targets than 16 would not fit into registers."""
    return keys.is_cuda and num_targets <= 16 and has_triton()


def has_patch_kernel(keys: Tensor, num_patches: int) -> bool:
    """The same of kernels that hold all patches of a row at once; more than 4096 would not fit into registers."""
    return keys.is_cuda and num_patches <= 4096 and has_triton()


def uniforms(keys: Tensor, count: int) -> Tensor:
    """Float32 in [0, 1), [count, ...], for keys int64 [...]: numbers 0 to count - 1, four from the quarters of each word.

    16 bits are 1.5e-5 off at most, and cost a quarter of the hashing.
    """
    counters = torch.arange(-(-count // 4), device=keys.device).view(-1, *[1] * keys.ndim)
    words = chance.bits_tensor(keys, counters)
    quarters = torch.empty(len(counters), 4, *keys.shape, dtype=torch.float32, device=keys.device)
    for number in range(4):
        quarters[:, number] = (words >> (48 - 16 * number)) & 0xFFFF
    return quarters.mul_(2.0**-16).flatten(0, 1)[:count]


def exponential(power: Tensor) -> Tensor:
    """e**power to 5e-5 of it for |power| < 4, by single multiplications and additions: the same bits on every device."""
    small = power * 2.0**-EXP_HALVINGS
    result = ((small * (1 / 6) + 0.5) * small + 1) * small + 1
    for _ in range(EXP_HALVINGS):
        result = result * result
    return result


def place(uniform: Tensor, height: Tensor, width: Tensor, grid: Grid) -> Tensor:
    """Edges of blocks of this size, [4, ...], uniformly anywhere in the grid, its last row and column included."""
    top = (uniform[0] * (grid[0] + 1 - height)).floor_()
    left = (uniform[1] * (grid[1] + 1 - width)).floor_()
    return torch.stack([top, top + height, left, left + width])


def any_target(targets: Tensor) -> Tensor:
    """Which patches lie in any target: bool [..., N] of targets bool [..., T, N]."""
    union = targets.new_zeros(*targets.shape[:-2], targets.shape[-1])
    for target in targets.unbind(-2):  # targets.any(-2), a reduction of bytes, is many times slower on a CPU
        union |= target
    return union


def common_area(one: Tensor, other: Tensor) -> Tensor:
    """Patches, float32 [...], in both of two rectangles with edges [4, ...] (they broadcast)."""
    rows = torch.minimum(one[1], other[1]) - torch.maximum(one[0], other[0])
    columns = torch.minimum(one[3], other[3]) - torch.maximum(one[2], other[2])
    return rows.clamp_min_(0) * columns.clamp_min_(0)


def paint(edges: Tensor, grid: Grid) -> Tensor:
    """bool [..., N] of rectangles with these edges [4, ...]: patch n lies in row n // W and column n % W."""
    above, before = _tables(grid, edges.device)
    top, bottom, left, right = edges.to(torch.int64).unbind(0)
    shape = top.shape
    # Whole masks are copied from tables: on a CPU many times faster than comparing rows and columns, whose loops are short.
    mask = above[top.flatten()].bitwise_xor_(above[bottom.flatten()])
    mask &= before[left.flatten()].bitwise_xor_(before[right.flatten()])
    return mask.view(*shape, grid[0] * grid[1])


@lru_cache(maxsize=64)
def _tables(grid: Grid, device: torch.device) -> tuple[Tensor, Tensor]:
    """Which patches lie above row r, bool [H + 1, N], and before column c, bool [W + 1, N]."""
    patches = torch.arange(grid[0] * grid[1], device=device)
    rows, columns = (torch.arange(side + 1, device=device).unsqueeze(-1) for side in grid)
    return patches // grid[1] < rows, patches % grid[1] < columns
