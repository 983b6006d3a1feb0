"""The blur of fused_crops in Triton: along the columns, then along the rows. Sums are integers, weights multiples of 2^-14.

At the borders a picture is mirrored. Instead of the levels there, the weights are: those that fall on one pixel are added.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, import-untyped, untyped-decorator"
# The arguments of a Triton kernel have types of its own language, and Triton carries no annotations.

# C crops, S pixels of a crop, P programs; X columns at a time, Y rows of a piece (fours of them, N threads); a group is of four
# rows or columns

import triton
import triton.language as tl

from hjepa.kernels.fused_colour_triton import (
    ALIGNMENT,
    NUMBERS,
    OUT,
    PICTURE,
    PLACES,
    RADIUS,
    SIZE,
    THRESHOLD,
    WEIGHTS_OF_BLUR,
    by_fours,
    crop_of,
    plane_of,
    store_levels,
)
from hjepa.kernels.words_triton import add_products, picked

# Between the passes levels have 7 bits of fraction, as in csrc/isa/blur.cpp.
DOWN_BITS, DOWN_HALF = tl.constexpr(14 - 7), tl.constexpr(1 << 6)
ACROSS_BITS, ACROSS_HALF = tl.constexpr(14 + 7), tl.constexpr(1 << 20)


@triton.jit
def groups_of(radius, size):
    """Groups of which a blurred pixel is made; the first of them is the one with the first pixel of its window."""
    return tl.minimum((2 * radius + 7) // 4, (size + 3) // 4)


@triton.jit
def first_group(pixel, radius):
    """The first group of a pixel's window."""
    return tl.maximum(pixel - radius, 0) // 4


@triton.jit
def blur_weights(
    place, number,  # the crop's rows of PLACES and NUMBERS
    bell,  # int32 [R + 1]
    weights, pixel,
):  # fmt: skip
    """Weights of the blur's groups, along either axis."""
    size, radius = tl.load(number + SIZE), tl.load(number + RADIUS)
    if radius > 0:
        to = weights + tl.load(place + WEIGHTS_OF_BLUR) + 4 * pixel
        period = tl.maximum(2 * (size - 1), 1)  # of the mirrored picture
        mirrors = radius // period + 1
        for tap in range(4 * groups_of(radius, size)):
            source = 4 * first_group(pixel, radius) + tap
            twice = (source > 0) & (source < size - 1)  # in a period, that is
            total = tl.zeros(pixel.shape, tl.int32)
            for mirror in range(-mirrors, mirrors + 1):
                there = tl.abs(source - pixel + mirror * period)
                back = tl.abs(source + pixel + mirror * period)
                total += tl.load(bell + there, mask=(source < size) & (there <= radius), other=0)
                total += tl.load(bell + back, mask=twice & (back <= radius), other=0)
            tl.store(to + tap // 4 * 4 * size + tap % 4, total.to(tl.int16), mask=pixel < size)


@triton.jit
def blur_down(
    levels,  # uint32 [groups, columns], of four rows each
    weights,  # int64 [groups of a window, S]
    slot,  # int16 [Y, slot_columns]
    top, size, radius, slot_columns,
    X: tl.constexpr,
    Y: tl.constexpr,
):  # fmt: skip
    """Y rows from top on -> slot."""
    row = tl.arange(0, Y)
    rows, padded = top + row, by_fours(size)
    weights += rows
    for start in range(0, size, X):
        columns = start + tl.arange(0, X)
        group, by = first_group(rows, radius), weights
        words = levels + (group * padded)[:, None] + columns[None, :]
        total = tl.full((Y, X), DOWN_HALF, tl.int32)
        for _ in range(groups_of(radius, size)):
            inside = ((rows < size) & (4 * group < size))[:, None] & (columns < padded)[None, :]
            four = tl.load(by, mask=rows < size, other=0)[:, None]
            total = add_products(total, four, tl.load(words, mask=inside, other=0))
            group += 1
            words += padded
            by += size
        tl.store(slot + (row * slot_columns)[:, None] + columns[None, :], (total >> DOWN_BITS).to(tl.int16))


@triton.jit
def blurred_across(
    slot,  # int64 [Y, slot_columns / 4], of four columns each
    weights,  # int64 [groups of a window, S]
    row, column,  # int32 [N]: of the slot; four rows from this one on
    size, radius, slot_columns,
):  # fmt: skip
    """slot -> four rows of levels, float32 [N] each: a thread's, so that the weights are the same."""
    words, pitch = slot + row * (slot_columns // 4) + first_group(column, radius), slot_columns // 4
    begun = tl.full(column.shape, ACROSS_HALF, tl.int32), tl.zeros(column.shape, tl.int32)
    first, second, third, fourth = begun, begun, begun, begun
    for _ in range(groups_of(radius, size)):
        four = tl.load(weights + column)
        low, high = four.to(tl.uint32), (four >> 32).to(tl.uint32)
        low, high = picked(low, high, 0x6420), picked(low, high, 0x7531)  # bytes of the weights
        first = with_group(first, words, low, high)
        second = with_group(second, words + pitch, low, high)
        third = with_group(third, words + 2 * pitch, low, high)
        fourth = with_group(fourth, words + 3 * pitch, low, high)
        words += 1
        weights += size
    return blurred_level(first), blurred_level(second), blurred_level(third), blurred_level(fourth)


@triton.jit
def with_group(sums, words, low, high):
    """Sums of numbers weighted by low bytes and by high bytes, with a group more."""
    numbers = tl.load(words)
    return add_products(sums[0], numbers, low), add_products(sums[1], numbers, high)


@triton.jit
def blurred_level(sums):
    """Of both sums; float32."""
    return ((sums[0] + (sums[1] << 8)) >> ACROSS_BITS).to(tl.float32)


@triton.jit
def store_row(out, channel, row, column, size, levels, threshold, colours, STORE: tl.constexpr):
    """`store_levels`, where there is such a row and column."""
    offsets, inside = (channel * size.to(tl.int64) + row) * size + column, (row < size) & (column < size)
    store_levels(out, channel, offsets, levels, threshold, colours, inside, STORE)


@triton.jit(do_not_specialize=["num_crops", "num_items", "slot_columns"])  # or it would be compiled anew for some batches
def blur_kernel(
    places,  # int64 [C, PLACES]
    numbers,  # int32 [C, NUMBERS]
    colours,  # float32 [2, 3]
    ends,  # int32 [C]: of a crop's pieces, which are Y rows of a colour
    weights,  # int64
    slots,  # int16 [P, Y, slot_columns]
    pictures,  # uint8
    num_crops, num_items, slot_columns,
    STORE: tl.constexpr,  # fused_crops.STORES
    X: tl.constexpr,
    Y: tl.constexpr,
):  # fmt: skip
    """Every P-th piece: blurred, solarized, normalised and stored."""
    slot_columns = slot_columns // X * X  # it is one already; the compiler may store several at a time where it knows
    slot = slots + tl.program_id(0).to(tl.int64) * (Y * slot_columns)
    pixel = tl.arange(0, Y // 4 * X)
    for item in range(tl.program_id(0), num_items, tl.num_programs(0)):
        crop, piece = crop_of(item, ends, num_crops)
        place, number = places + crop * PLACES, numbers + crop * NUMBERS
        size, radius, threshold = tl.load(number + SIZE), tl.load(number + RADIUS), tl.load(number + THRESHOLD)
        channel, top = piece % 3, piece // 3 * Y
        levels = pictures + tl.multiple_of(tl.load(place + PICTURE), ALIGNMENT) + channel * plane_of(size.to(tl.int64))
        own = weights + tl.load(place + WEIGHTS_OF_BLUR) // 4
        blur_down(levels.to(tl.pointer_type(tl.uint32)), own, slot, top, size, radius, slot_columns, X, Y)
        tl.debug_barrier()  # what other threads of this program wrote is read now
        out = tl.load(place + OUT)
        for start in range(0, size, X):
            row, column = pixel // X * 4, start + pixel % X
            first, second, third, fourth = blurred_across(
                slot.to(tl.pointer_type(tl.int64)), own, row, tl.minimum(column, size - 1), size, radius, slot_columns
            )
            store_row(out, channel, top + row, column, size, first, threshold, colours, STORE)
            store_row(out, channel, top + row + 1, column, size, second, threshold, colours, STORE)
            store_row(out, channel, top + row + 2, column, size, third, threshold, colours, STORE)
            store_row(out, channel, top + row + 3, column, size, fourth, threshold, colours, STORE)
        tl.debug_barrier()  # before the next piece is written there
