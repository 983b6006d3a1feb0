"""The law "exact" of `exact_blocks` in one Triton kernel: from keys to painted masks, bit for bit what the torch text gives.

The steps and their order are those of the torch text. Where that sorts or gathers, the few slots of a layout are compared with
each other here: [ROWS, TP, TP], the second axis the slot or row that is asked about, the third those it is compared with.
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
from hjepa.kernels.chance_triton import clamp, exponential, rounded, uniform
from hjepa.kernels.rectangles import Grid

ROWS = 4
"""Rows of masks made by one program."""
SORTED = tl.constexpr(exact_blocks.SORTED)
NO_LAYOUT = tl.constexpr(exact_blocks.NO_LAYOUT)


@triton.jit
def row_of(slots, num_rows, T):
    """Row of each slot, float32, where num_rows rows share T slots and the first ones have one more."""
    quotient = tl.floor(tl.div_rn(T + num_rows * 0.0, num_rows))
    rest = T - quotient * num_rows
    longer = rest * (quotient + 1)
    early = tl.floor(tl.div_rn(slots + quotient * 0.0, quotient + 1))
    late = rest + tl.floor(tl.div_rn(slots - longer, quotient))
    return tl.where(slots < longer, early, late)


@triton.jit
def total(values, mask):
    """Of values [ROWS, TP] those in the mask [..., TP, TP], added up: [ROWS, TP]."""
    return tl.sum(tl.where(mask, values[:, None, :], 0.0), axis=2)


@triton.jit
def greatest(values, mask):
    """Of values [ROWS, TP], 0 or more, the greatest in the mask [..., TP, TP]: [ROWS, TP]."""
    return tl.max(tl.where(mask, values[:, None, :], 0.0), axis=2)


@triton.jit
def ascending(values, slots):
    """The values [ROWS, TP] sorted."""
    mine, other = values[:, :, None], values[:, None, :]
    lower = (other < mine) | ((other == mine) & (slots[:, None, :] < slots[:, :, None]))
    rank = tl.sum(lower.to(tl.float32), axis=2)
    return total(values, rank[:, None, :] == slots[:, :, None])


@triton.jit
def sides(area, ratio, height, width):
    """`exact_blocks._sides` for a grid of float32 height and width."""
    tall = clamp(rounded(tl.sqrt_rn(tl.div_rn(area, ratio))), 1.0, height)
    tall = tl.maximum(tall, tl.ceil(tl.div_rn(area, width + tall * 0.0)))
    return tall, clamp(rounded(tl.div_rn(area, tall)), 1.0, width)


@triton.jit
def fits(height, width, row, slots, grid_height, grid_width):
    """`exact_blocks._fits`: bool [ROWS] for blocks [ROWS, TP] in these rows [1, TP]."""
    members = row[:, None, :] == slots[:, :, None]
    tall = tl.sum(greatest(height, members), axis=1) <= grid_height
    return tall & (tl.max(total(width, members), axis=1) <= grid_width)


@triton.jit
def shares(areas, members, number, count, side):
    """`exact_blocks._shares` within groups: length and 1 or more of each area [ROWS, TP], in groups that share a side.

    members [..., TP, TP]: of the same group; number and count [..., TP]: place in the group, and its size.
    """
    mine, other = number[:, :, None], number[:, None, :]
    ends = rounded(tl.div_rn(total(areas, members & (other <= mine)) * side, tl.maximum(total(areas, members), 1.0))) - number
    ends = clamp(ends, 1.0, side - count + 1.0)
    end = greatest(ends, members & (other <= mine)) + number
    start = greatest(ends, members & (other < mine)) + number - 1.0
    return end - tl.where(number > 0, start, 0.0)


@triton.jit
def last_resort(areas, num_rows, grid_height, grid_width, most, slots, T):
    """`exact_blocks._last_resort` in rows: sides [ROWS, TP]."""
    real = slots < T
    nearest = rounded(areas)
    whole = tl.where((tl.sum(nearest, axis=1) <= most)[:, None], nearest, tl.floor(areas))
    row = row_of(slots, num_rows, T)
    members = (row[:, None, :] == slots[:, :, None]) & real[:, None, :]  # of row r
    everywhere = (slots < num_rows)[:, None, :] & (slots < num_rows)[:, :, None]
    heights = shares(total(whole, members), everywhere, slots, num_rows, grid_height)
    same = (row[:, None, :] == row[:, :, None]) & real[:, None, :] & real[:, :, None]
    number = tl.sum((same & (slots[:, None, :] < slots[:, :, None])).to(tl.float32), axis=2)
    count = tl.sum(same.to(tl.float32), axis=2)
    wide = tl.maximum(shares(whole, same, number, count, grid_width), 1.0)
    tall = total(heights, row[:, :, None] == slots[:, None, :])
    tall = tl.maximum(tl.minimum(tall, tl.ceil(tl.div_rn(whole, wide))), tl.where(real, 0.0, 1.0))
    nearest = tl.where(real, tl.maximum(tl.minimum(wide, rounded(tl.div_rn(whole, tall))), 1.0), 0.0)
    cut = tl.where(real, tl.maximum(tl.minimum(wide, tl.floor(tl.div_rn(whole, tall))), 1.0), 0.0)
    fitting = tl.sum(tall * nearest, axis=1) <= most
    return tl.where(real, tall, 0.0), tl.where(fitting[:, None], nearest, cut)


@triton.jit
def inside_cell(numbers, start, end, length):
    """`exact_blocks._inside_cell`."""
    spare = end - start - length
    way = numbers * numbers * (3.0 - 2.0 * numbers)
    return start + tl.minimum(tl.floor(way * (spare + 1.0)), spare)


@triton.jit
def spread(keys, first, height, width, rows, full_height, full_width, slots, T):
    """`exact_blocks._spread` in rows: top and left [ROWS, TP], from the uniforms at number first (int32) of the keys."""
    real = slots < T
    order = slots.to(tl.int32)
    count = T.to(tl.int32)
    row = row_of(slots, rows, T)
    tallest = greatest(height, row[:, None, :] == slots[:, :, None])
    spare = (full_height - tl.sum(tallest, axis=1))[:, None]
    cuts = tl.where(slots < rows - 1, tl.floor(uniform(keys, first + order) * (spare + 1.0)), spare)
    cuts = ascending(tl.where(real, cuts, 2.0 * SORTED), slots)
    bottoms = total(tallest, slots[:, None, :] <= slots[:, :, None]) + cuts
    bottom = total(bottoms, row[:, :, None] == slots[:, None, :])
    top = total(bottoms, row[:, :, None] - 1.0 == slots[:, None, :])
    same = row[:, None, :] == row[:, :, None]
    spare = full_width[:, None] - total(width, same)
    following = (row == row_of(slots + 1.0, rows, T)) & (slots + 1.0 < T)
    cuts = tl.where(following, tl.floor(uniform(keys, first + count + order) * (spare + 1.0)), spare)
    cuts = ascending(tl.where(real, row * SORTED + cuts, 1e9), slots) - row * SORTED
    right = total(width, same & (slots[:, None, :] <= slots[:, :, None])) + cuts
    left = total(right, same & (slots[:, None, :] == slots[:, :, None] - 1.0))
    down = inside_cell(uniform(keys, first + 2 * count + order), top, bottom, height)
    across = inside_cell(uniform(keys, first + 3 * count + order), left, right, width)
    mirror = uniform(keys, first + 5 * count + order * 0) < 0.5
    down = tl.where(mirror, down, full_height[:, None] - height - down)
    mirror = uniform(keys, first + 5 * count + 1 + order * 0) < 0.5
    return down, tl.where(mirror, across, full_width[:, None] - width - across)


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
    # The layout of the least priority among those that fit.
    LAYOUTS: tl.constexpr = PROPOSALS * 2 * MAX_ROWS
    best = tl.zeros_like(low) + NO_LAYOUT
    tall = tl.zeros_like(areas)
    wide = tl.zeros_like(areas)
    rows = tl.zeros_like(low)
    columns = tl.zeros_like(low).to(tl.int32)
    for proposal in range(PROPOSALS):
        ratio = aspect[:, None] * exponential(uniform(keyed, T + order * PROPOSALS + proposal) * growth[:, None])
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
    last = best == NO_LAYOUT
    a, b = tl.where(last_columns == 1, width, height), tl.where(last_columns == 1, height, width)
    last_rows_float = tl.full((1, 1), 0, tl.float32) + last_rows
    last_tall, last_wide = last_resort(areas, last_rows_float, a, b, most, slots, T_float)
    tall, wide = tl.where(last[:, None], last_tall, tall), tl.where(last[:, None], last_wide, wide)
    rows = tl.where(last, last_rows.to(tl.float32), rows)
    columns = tl.where(last, last_columns, columns) == 1
    # Places.
    first = T + T * PROPOSALS + LAYOUTS
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


@triton.jit
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


def exact_masks(keys: Tensor, laws: Tensor, grid: Grid, *, num_targets: int, min_keep: int) -> tuple[Tensor, Tensor]:
    """`exact_blocks.exact_masks` on a GPU, or anywhere under TRITON_INTERPRET=1."""
    contexts, targets = empty_masks(keys, grid, num_targets)
    if keys.numel():
        exact_kernel[(triton.cdiv(keys.numel(), ROWS),)](
            keys.contiguous(), laws, contexts.view(torch.int8), targets.view(torch.int8),
            keys.numel(), keys.shape[-2], keys.shape[-1], *grid, min_keep, *exact_blocks.last_layout(num_targets, grid),
            **constants(num_targets), ROWS=ROWS, CHUNK=CHUNK, num_warps=4, enable_fp_fusion=False,
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
