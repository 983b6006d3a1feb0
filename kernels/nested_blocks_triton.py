"""`nested_blocks` in one Triton kernel, bit for bit: a program draws all levels of its rows, from coarse to fine."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, import-untyped, untyped-decorator"
# The arguments of a Triton kernel have types of its own language, and Triton carries no annotations.

# C rows (crops, samples), L levels, B samples, T targets = slots of a layout, H x W grid, N = H * W patches

import torch
import triton
import triton.language as tl
from torch import Tensor

from hjepa.kernels import exact_blocks, nested_blocks
from hjepa.kernels.block_masks_triton import CHUNK, empty_masks, paint
from hjepa.kernels.chance_triton import ANY, bits, exponential, on_its_device, rounded, uniform
from hjepa.kernels.exact_blocks_triton import constants, draw_areas, draw_context, draw_targets, load_law
from hjepa.kernels.rectangles import Grid

LAUNCH = {"ROWS": 1, "CHUNK": CHUNK, "num_warps": 1}
"""Crops of samples whose masks one program makes, patches painted at a time, and warps."""
INSIDE = tl.constexpr(nested_blocks.INSIDE)


@triton.jit
def inside(keys, number, areas, aspect, growth, top, bottom, left, right, real, T):
    """`nested_blocks._inside`: edges [ROWS, TP] of blocks inside others; number: which target each slot is."""
    ratio = aspect * exponential(uniform(keys, T + number) * growth)
    tallest, widest = tl.where(real, bottom - top, 1.0), tl.where(real, right - left, 1.0)
    height = tl.maximum(tl.maximum(rounded(tl.sqrt_rn(tl.div_rn(areas, ratio))), 1.0), tl.ceil(tl.div_rn(areas, widest)))
    height = tl.minimum(height, tallest)
    width = tl.minimum(tl.maximum(rounded(tl.div_rn(areas, height)), 1.0), widest)
    top = top + tl.floor(uniform(keys, 2 * T + number) * (tallest + 1.0 - height))
    left = left + tl.floor(uniform(keys, 3 * T + number) * (widest + 1.0 - width))
    return top, top + height, left, left + width


@triton.jit(**ANY)
def nested_kernel(
    keys,  # int64 [C / B, L, B]
    laws,  # float32 [L, 7]
    contexts,  # int8 [C / B, L, B, N]
    targets,  # int8 [C / B, L, B, T, N]
    num_rows,
    num_levels,
    num_samples,
    H, W, min_keep, last_rows, last_columns,
    T: tl.constexpr,
    TP: tl.constexpr,
    PROPOSALS: tl.constexpr,
    MAX_ROWS: tl.constexpr,  # of a layout, T at most
    ROWS: tl.constexpr,
    CHUNK: tl.constexpr,
):  # fmt: skip
    """`nested_blocks.nested_masks` of ROWS crops of samples."""
    numbers = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    within = numbers < num_rows
    count = num_rows * num_levels
    zeros = tl.zeros((ROWS,), tl.int32)
    rows = (numbers // num_samples * num_levels + num_levels - 1) * num_samples + numbers % num_samples  # the coarsest level's
    key = tl.load(keys + rows, mask=within, other=0).to(tl.uint64, bitcast=True)
    low, high, context_low, context_high, together, aspect, growth = load_law(laws, zeros + num_levels - 1, within)
    rank, top, bottom, left, right = draw_targets(
        key, low, high, together, aspect, growth, H, W, min_keep, last_rows, last_columns, T, TP, PROPOSALS, MAX_ROWS
    )
    real = rank < T
    first = T + T * PROPOSALS + PROPOSALS * 2 * MAX_ROWS + 5 * T + 2 + zeros
    a, b, c, d = draw_context(
        key, first, context_low, context_high, aspect, growth, top, bottom, left, right, real, H, W, min_keep
    )
    painted = tl.where(within, rows, count)
    paint(contexts, targets, painted, count, rank, top, bottom, left, right, a, b, c, d, H, W, T, CHUNK)
    for finer in range(1, num_levels):
        level = num_levels - 1 - finer
        rows -= num_samples
        key = bits(tl.load(keys + rows, mask=within, other=0).to(tl.uint64, bitcast=True), zeros + INSIDE)
        low, high, context_low, context_high, together, aspect, growth = load_law(laws, zeros + level, within)
        areas = draw_areas(uniform(key[:, None], rank), low[:, None], high[:, None], together[:, None], real, T)
        top, bottom, left, right = inside(
            key[:, None], rank, areas, aspect[:, None], growth[:, None], top, bottom, left, right, real, T
        )
        a, b, c, d = draw_context(
            key, 4 * T + zeros, context_low, context_high, aspect, growth, top, bottom, left, right, real, H, W, min_keep
        )
        painted = tl.where(within, rows, count)
        paint(contexts, targets, painted, count, rank, top, bottom, left, right, a, b, c, d, H, W, T, CHUNK)


@on_its_device
def nested_masks(keys: Tensor, laws: Tensor, grid: Grid, *, num_targets: int, min_keep: int) -> tuple[Tensor, Tensor]:
    """`nested_blocks.nested_masks` on a GPU, or anywhere under TRITON_INTERPRET=1."""
    contexts, targets = empty_masks(keys, grid, num_targets)
    num_rows = keys.numel() // max(1, keys.shape[-2])
    if num_rows:
        nested_kernel[(triton.cdiv(num_rows, LAUNCH["ROWS"]),)](
            keys.contiguous(), laws, contexts.view(torch.int8), targets.view(torch.int8),
            num_rows, keys.shape[-2], keys.shape[-1], *grid, min_keep, *exact_blocks.last_layout(num_targets, grid),
            **constants(num_targets), **LAUNCH, enable_fp_fusion=False,
        )  # fmt: skip
    return contexts, targets
