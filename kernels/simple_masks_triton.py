"""`simple_masks` in Triton, bit for bit: the lowest orders are found without sorting, edges are compared with patches."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, import-untyped, untyped-decorator"
# The arguments of a Triton kernel have types of its own language, and Triton carries no annotations.

# R rows, H x W grid, N = H * W patches, NP the next power of 2

import torch
import triton
import triton.language as tl
from torch import Tensor

from hjepa.kernels.chance_triton import ANY, on_its_device
from hjepa.kernels.mask_indices_triton import lowest, random_order
from hjepa.kernels.rectangles import Grid

ROWS = 1
"""Random masks made by one program: N orders of each are held at once."""
PAINTED = 4
"""Rectangles painted by one program."""
CHUNK = 256
"""Patches painted at a time."""


@triton.jit(**ANY)
def random_kernel(
    keys,  # int64 [R]
    masks,  # int8 [R, N]
    num_rows, N, K,
    NP: tl.constexpr,
    ROWS: tl.constexpr,
):  # fmt: skip
    """`simple_masks.random_masks` of ROWS rows, K patches in each."""
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    within = rows < num_rows
    key = tl.load(keys + rows, mask=within, other=0).to(tl.uint64, bitcast=True)
    patches = tl.arange(0, NP)[None, :]
    order = random_order(key, patches)
    order = tl.where((patches < N) & within[:, None], order, tl.full((1, 1), 1, tl.int64) << 60)
    hidden = lowest(order, tl.zeros_like(key).to(tl.int32) + K)
    tl.store(masks + rows[:, None] * N + patches, hidden.to(tl.int8), mask=within[:, None] & (patches < N))


@triton.jit(**ANY)
def rectangle_kernel(
    rectangles,  # int64 [R, 4]
    masks,  # int8 [R, N]
    num_rows, H, W,
    ROWS: tl.constexpr,
    CHUNK: tl.constexpr,
):  # fmt: skip
    """`simple_masks.paint_rectangles` of ROWS rows."""
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    within = rows < num_rows
    top = tl.load(rectangles + rows * 4, mask=within, other=0)[:, None]
    left = tl.load(rectangles + rows * 4 + 1, mask=within, other=0)[:, None]
    bottom = top + tl.load(rectangles + rows * 4 + 2, mask=within, other=0)[:, None]
    right = left + tl.load(rectangles + rows * 4 + 3, mask=within, other=0)[:, None]
    N = H * W
    for start in range(0, N, CHUNK):
        patches = start + tl.arange(0, CHUNK)[None, :]
        row, column = patches // W, patches % W
        hit = (row >= top) & (row < bottom) & (column >= left) & (column < right)
        tl.store(masks + rows[:, None] * N + patches, hit.to(tl.int8), mask=within[:, None] & (patches < N))


@on_its_device
def random_masks(keys: Tensor, num_patches: int, count: int) -> Tensor:
    """`simple_masks.random_masks` on a GPU, or anywhere under TRITON_INTERPRET=1."""
    masks = torch.empty(*keys.shape, num_patches, dtype=torch.bool, device=keys.device)
    if masks.numel():
        random_kernel[(triton.cdiv(keys.numel(), ROWS),)](
            keys.contiguous(), masks.view(torch.int8), keys.numel(), num_patches, count,
            NP=triton.next_power_of_2(num_patches), ROWS=ROWS, num_warps=4, enable_fp_fusion=False,
        )  # fmt: skip
    return masks


@on_its_device
def paint_rectangles(rectangles: Tensor, grid: Grid) -> Tensor:
    """`simple_masks.paint_rectangles` on a GPU, or anywhere under TRITON_INTERPRET=1."""
    masks = torch.empty(*rectangles.shape[:-1], grid[0] * grid[1], dtype=torch.bool, device=rectangles.device)
    if masks.numel():
        num_rows = rectangles.numel() // 4
        rectangle_kernel[(triton.cdiv(num_rows, PAINTED),)](
            rectangles.contiguous(), masks.view(torch.int8), num_rows, *grid,
            ROWS=PAINTED, CHUNK=CHUNK, num_warps=4, enable_fp_fusion=False,
        )  # fmt: skip
    return masks
