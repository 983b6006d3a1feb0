"""The layouts of the law "exact" in Triton: blocks in rows, whether they fit, the last resort, and their places.

Where the torch text sorts or gathers, the few slots of a layout are compared with each other here: [ROWS, TP, TP], the second
axis the slot or row that is asked about, the third those it is compared with.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, import-untyped, untyped-decorator"
# The arguments of a Triton kernel have types of its own language, and Triton carries no annotations.

# T targets = slots of a layout, TP the next power of 2

import triton
import triton.language as tl

from hjepa.kernels import exact_blocks
from hjepa.kernels.chance_triton import clamp, rounded, uniform

SORTED = tl.constexpr(exact_blocks.SORTED)


@triton.jit
def row_of(slots, num_rows, T):
    """Row of each slot, float32, where num_rows rows share T slots and the first ones have one more."""
    num_rows = num_rows + slots * 0.0  # one shape from here on: with two, Triton 3.6 loses a value and compiles nothing
    quotient = tl.floor(tl.div_rn(T + num_rows * 0.0, num_rows))
    rest = T - quotient * num_rows
    longer = rest * (quotient + 1)
    early = slots < longer
    within = tl.where(early, slots, slots - longer)
    length = tl.where(early, quotient + 1, quotient)
    return tl.where(early, 0.0, rest) + tl.floor(tl.div_rn(within, length))


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
