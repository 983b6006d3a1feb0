"""The law "exact" of `exact_blocks` in one Triton kernel: from keys to painted masks, bit for bit what the torch text gives.

The steps and their order are those of the torch text.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, import-untyped, untyped-decorator"
# The arguments of a Triton kernel have types of its own language, and Triton carries no annotations.

# R rows (crops, levels, samples), T targets = slots of a layout, TP the next power of 2, H x W grid, N = H * W patches

import torch
import triton
import triton.language as tl
from torch import Tensor

from hjepa.kernels import exact_blocks
from hjepa.kernels.block_masks_triton import CHUNK, empty_masks, paint, place
from hjepa.kernels.chance_triton import ANY, exponential, on_its_device, uniform
from hjepa.kernels.exact_layouts_triton import fits, last_resort, row_of, sides, spread
from hjepa.kernels.rectangles import Grid

LAUNCH = {"ROWS": 1, "CHUNK": CHUNK, "num_warps": 1}
"""Rows of masks made by one program, patches painted at a time, and warps."""
NO_LAYOUT = tl.constexpr(exact_blocks.NO_LAYOUT)


@triton.jit
def load_law(laws, level, within):
    """The seven numbers of each row's law: least and greatest area of targets and of context, their sum, aspect, growth."""
    law = laws + level * 7
    low, high = tl.load(law, mask=within, other=1.0), tl.load(law + 1, mask=within, other=1.0)
    context_low, context_high = tl.load(law + 2, mask=within, other=1.0), tl.load(law + 3, mask=within, other=1.0)
    together = tl.load(law + 4, mask=within, other=1.0)
    return (
        low,
        high,
        context_low,
        context_high,
        together,
        tl.load(law + 5, mask=within, other=1.0),
        tl.load(law + 6, mask=within, other=0.0),
    )


@triton.jit
def draw_areas(share, low, high, together, real, T):
    """`exact_blocks.draw_areas`: [ROWS, TP]."""
    extra = tl.where(real, tl.floor((share * (high - low)) * 64.0) * (1.0 / 64), 0.0)
    room, wanted = together - low * T, tl.sum(extra, axis=1)[:, None]
    factor = tl.where(wanted > room, tl.div_rn(room, tl.maximum(wanted, 1.0 / 64)), 1.0)
    return tl.where(real, low + tl.floor(extra * factor * 64.0) * (1.0 / 64), 0.0)


@triton.jit
def choose(
    key, areas, aspect, growth,
    height, width, most,  # float32
    slots, real, T_float,
    T: tl.constexpr,
    PROPOSALS: tl.constexpr,
    MAX_ROWS: tl.constexpr,
):  # fmt: skip
    """`exact_blocks._choose`: least priority [ROWS] of a layout that fits, its sides [ROWS, TP], rows, and 1 for columns."""
    LAYOUTS: tl.constexpr = PROPOSALS * 2 * MAX_ROWS
    best = tl.zeros_like(aspect) + NO_LAYOUT
    tall, wide = tl.zeros_like(areas), tl.zeros_like(areas)
    rows, columns = tl.zeros_like(aspect), tl.zeros_like(aspect).to(tl.int32)
    order = slots.to(tl.int32)
    for proposal in range(PROPOSALS):
        ratio = aspect[:, None] * exponential(uniform(key[:, None], T + order * PROPOSALS + proposal) * growth[:, None])
        h, w = sides(tl.where(real, areas, 1.0), ratio, height, width)
        h, w = tl.where(real, h, 0.0), tl.where(real, w, 0.0)
        allowed = tl.sum(h * w, axis=1) <= most
        for number in range(2 * MAX_ROWS):
            row = row_of(slots, tl.full((1, 1), 1, tl.float32) + number // 2, T_float)
            as_columns = number % 2
            a, b = tl.where(as_columns == 1, w, h), tl.where(as_columns == 1, h, w)
            c, d = tl.where(as_columns == 1, width, height), tl.where(as_columns == 1, height, width)
            layout = number * PROPOSALS + proposal
            numbered = T + T * PROPOSALS + layout + tl.zeros_like(columns)
            priority = uniform(key, numbered) * (65536.0 * LAYOUTS) + layout
            taken = fits(a, b, row, slots, c, d) & allowed & (priority < best)
            best = tl.where(taken, priority, best)
            tall, wide = tl.where(taken[:, None], a, tall), tl.where(taken[:, None], b, wide)
            rows = tl.where(taken, 1.0 + number // 2, rows)
            columns = tl.where(taken, as_columns, columns)
    return best, tall, wide, rows, columns


@triton.jit
def draw_targets(
    key, low, high, together, aspect, growth,  # [ROWS]
    H, W, min_keep, last_rows, last_columns,
    T: tl.constexpr,
    TP: tl.constexpr,
    PROPOSALS: tl.constexpr,
    MAX_ROWS: tl.constexpr,
):  # fmt: skip
    """Edges [ROWS, TP] of the slots' blocks, and which target each of them is; T for what is beyond T."""
    height, width = H.to(tl.float32), W.to(tl.float32)
    most = height * width - min_keep.to(tl.float32)
    order = tl.arange(0, TP)[None, :]
    slots = order.to(tl.float32)
    real = slots < T
    keyed = key[:, None]
    T_float = tl.full((1, 1), T, tl.float32)
    areas = draw_areas(uniform(keyed, order), low[:, None], high[:, None], together[:, None], real, T)
    best, tall, wide, rows, columns = choose(
        key, areas, aspect, growth, height, width, most, slots, real, T_float, T, PROPOSALS, MAX_ROWS
    )
    last = best == NO_LAYOUT
    a, b = tl.where(last_columns == 1, width, height), tl.where(last_columns == 1, height, width)
    last_tall, last_wide = last_resort(areas, tl.full((1, 1), 0, tl.float32) + last_rows, a, b, most, slots, T_float)
    tall, wide = tl.where(last[:, None], last_tall, tall), tl.where(last[:, None], last_wide, wide)
    rows = tl.where(last, last_rows.to(tl.float32), rows)
    columns = tl.where(last, last_columns, columns) == 1
    first = T + T * PROPOSALS + PROPOSALS * 2 * MAX_ROWS
    full_height, full_width = tl.where(columns, width, height), tl.where(columns, height, width)
    down, across = spread(keyed, first, tall, wide, rows[:, None], full_height, full_width, slots, T_float)
    top, bottom = tl.where(columns[:, None], across, down), tl.where(columns[:, None], across + wide, down + tall)
    left, right = tl.where(columns[:, None], down, across), tl.where(columns[:, None], down + tall, across + wide)
    drawn = uniform(keyed, first + 4 * T + order) * (65536.0 * T) + slots
    lower = (drawn[:, None, :] < drawn[:, :, None]) & real[:, None, :]
    return tl.where(real, tl.sum(lower.to(tl.int32), axis=2), T), top, bottom, left, right


@triton.jit
def draw_context(key, first, low, high, aspect, growth, top, bottom, left, right, real, H, W, min_keep):
    """`exact_blocks.context_block`: edges [ROWS], from the uniforms at number first [ROWS] of the keys."""
    height, width = H.to(tl.float32), W.to(tl.float32)
    area = low + uniform(key, first) * (high - low)
    h, w = sides(area, aspect * exponential(uniform(key, first + 1) * growth), height, width)
    a, b, c, d = place(key, first + 2, h, w, H, W)
    common = tl.maximum(tl.minimum(b[:, None], bottom) - tl.maximum(a[:, None], top), 0.0)
    common *= tl.maximum(tl.minimum(d[:, None], right) - tl.maximum(c[:, None], left), 0.0)
    whole = h * w - tl.sum(tl.where(real, common, 0.0), axis=1) < min_keep.to(tl.float32)
    a, b = tl.where(whole, 0.0, a), tl.where(whole, height, b)
    return a, b, tl.where(whole, 0.0, c), tl.where(whole, width, d)


@triton.jit(**ANY)
def exact_kernel(
    keys,  # int64 [R]
    laws,  # float32 [L, 7]
    contexts,  # int8 [R, N]
    targets,  # int8 [R, T, N]
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
    """`exact_blocks.exact_masks` of ROWS rows."""
    numbers = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    within = numbers < num_rows
    key = tl.load(keys + numbers, mask=within, other=0).to(tl.uint64, bitcast=True)
    level = (numbers // num_samples) % num_levels
    low, high, context_low, context_high, together, aspect, growth = load_law(laws, level, within)
    rank, top, bottom, left, right = draw_targets(
        key, low, high, together, aspect, growth, H, W, min_keep, last_rows, last_columns, T, TP, PROPOSALS, MAX_ROWS
    )
    first = T + T * PROPOSALS + PROPOSALS * 2 * MAX_ROWS + 5 * T + 2 + tl.zeros((ROWS,), tl.int32)
    a, b, c, d = draw_context(
        key, first, context_low, context_high, aspect, growth, top, bottom, left, right, rank < T, H, W, min_keep
    )
    paint(contexts, targets, numbers, num_rows, rank, top, bottom, left, right, a, b, c, d, H, W, T, CHUNK)


@on_its_device
def exact_masks(keys: Tensor, laws: Tensor, grid: Grid, *, num_targets: int, min_keep: int) -> tuple[Tensor, Tensor]:
    """`exact_blocks.exact_masks` on a GPU, or anywhere under TRITON_INTERPRET=1."""
    contexts, targets = empty_masks(keys, grid, num_targets)
    if keys.numel():
        exact_kernel[(triton.cdiv(keys.numel(), LAUNCH["ROWS"]),)](
            keys.contiguous(), laws, contexts.view(torch.int8), targets.view(torch.int8),
            keys.numel(), keys.shape[-2], keys.shape[-1], *grid, min_keep, *exact_blocks.last_layout(num_targets, grid),
            **constants(num_targets), **LAUNCH, enable_fp_fusion=False,
        )  # fmt: skip
    return contexts, targets


def constants(num_targets: int) -> dict[str, int]:
    """What `draw_targets` is compiled for."""
    return {
        "T": num_targets,
        "TP": triton.next_power_of_2(num_targets),
        "PROPOSALS": exact_blocks.PROPOSALS,
        "MAX_ROWS": min(num_targets, exact_blocks.MAX_ROWS),
    }
