"""`blockwise_masks` in one Triton kernel: a program holds the masks of its rows from the first rectangle to the last patch."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, import-untyped, untyped-decorator"
# The arguments of a Triton kernel have types of its own language, and Triton carries no annotations.

# R rows, H x W grid, N = H * W patches, NP the next power of 2

import torch
import triton
import triton.language as tl
from torch import Tensor

from hjepa.kernels import blockwise_masks as definition
from hjepa.kernels.chance_triton import ANY, bits, exponential, on_its_device, rounded, uniform
from hjepa.kernels.mask_indices_triton import lowest, random_order
from hjepa.kernels.rectangles import Grid

ROWS = 1
"""Masks made by one program."""
ATTEMPTS = tl.constexpr(definition.ATTEMPTS)
COMPLETED = tl.constexpr(definition.COMPLETED)


@triton.jit
def rectangle(key, first, room, min_patches, log_aspect, H, W):
    """`blockwise_masks._rectangles`: edges [ROWS] from the four uniforms at number first, and whether they fit the grid."""
    numbers = tl.zeros_like(key).to(tl.int32) + first
    area = min_patches + uniform(key, numbers) * (room - min_patches).to(tl.float32)
    aspect = exponential(log_aspect * (1.0 - 2.0 * uniform(key, numbers + 1)))
    height = rounded(tl.sqrt_rn(area * aspect))
    width = rounded(tl.sqrt_rn(tl.div_rn(area, aspect)))
    fits = (height < H) & (width < W)
    top = tl.floor(uniform(key, numbers + 2) * ((H + 1).to(tl.float32) - height))
    left = tl.floor(uniform(key, numbers + 3) * ((W + 1).to(tl.float32) - width))
    return top, top + height, left, left + width, fits


@triton.jit(**ANY)
def blockwise_kernel(
    keys,  # int64 [R]
    counts,  # int64 [R]
    masks,  # int8 [R, N]
    num_rows, H, W, min_patches, most, rounds,
    log_aspect,  # float32
    NP: tl.constexpr,
    ROWS: tl.constexpr,
):  # fmt: skip
    """`blockwise_masks.blockwise_masks` of ROWS rows."""
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    within = rows < num_rows
    key = tl.load(keys + rows, mask=within, other=0).to(tl.uint64, bitcast=True)
    missing = tl.load(counts + rows, mask=within, other=0).to(tl.int32)
    N = H * W
    patches = tl.arange(0, NP)[None, :]
    row, column = (patches // W).to(tl.float32), (patches % W).to(tl.float32)
    mask = (patches + tl.zeros((ROWS, 1), tl.int32)) < 0
    growing = within
    for number in range(rounds):
        room = tl.minimum(missing, most)
        searching = growing & (missing > 0)
        growing = growing & (missing < 0)  # until one is found
        for attempt in range(ATTEMPTS):
            first = 4 * (number * ATTEMPTS + attempt)
            top, bottom, left, right, fits = rectangle(key, first, room, min_patches, log_aspect, H, W)
            inside = (row >= top[:, None]) & (row < bottom[:, None])
            inside = inside & (column >= left[:, None]) & (column < right[:, None])
            added = tl.sum((inside & ~mask).to(tl.int32), axis=1)
            accepted = searching & fits & (added > 0) & (added <= room)
            mask = mask | (inside & accepted[:, None])
            missing = tl.where(accepted, missing - added, missing)
            growing = growing | accepted
            searching = searching & ~accepted
    order = random_order(bits(key, tl.zeros_like(missing) + COMPLETED), patches)
    order = tl.where(mask | (patches >= N), tl.full((1, 1), 1, tl.int64) << 60, order)
    mask = mask | lowest(order, missing)
    tl.store(masks + rows[:, None] * N + patches, mask.to(tl.int8), mask=within[:, None] & (patches < N))


@on_its_device
def blockwise_masks(
    keys: Tensor, counts: Tensor, grid: Grid, *, min_patches: int, most: int, rounds: int, log_aspect: float
) -> Tensor:
    """`blockwise_masks.blockwise_masks` on a GPU, or anywhere under TRITON_INTERPRET=1."""
    masks = torch.empty(len(keys), grid[0] * grid[1], dtype=torch.bool, device=keys.device)
    if masks.numel():
        blockwise_kernel[(triton.cdiv(len(keys), ROWS),)](
            keys.contiguous(), counts.contiguous(), masks.view(torch.int8), len(keys), *grid, min_patches, most, rounds,
            log_aspect, NP=triton.next_power_of_2(masks.shape[1]), ROWS=ROWS, num_warps=4, enable_fp_fusion=False,
        )  # fmt: skip
    return masks
