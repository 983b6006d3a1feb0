"""The blur of fused_crops in Triton: along the columns, then along the rows. Sums are integers, weights multiples of 2^-14."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, import-untyped, untyped-decorator"
# The arguments of a Triton kernel have types of its own language, and Triton carries no annotations.

# C crops, S pixels of a crop, I pieces of work, P programs; X columns at a time, Y rows of a piece, R the widest radius

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
    plane_of,
    store_levels,
)

# Between the passes levels have 7 bits of fraction, as in csrc/isa/blur.cpp.
DOWN_BITS, DOWN_HALF = tl.constexpr(14 - 7), tl.constexpr(1 << 6)
ACROSS_BITS, ACROSS_HALF = tl.constexpr(14 + 7), tl.constexpr(1 << 20)


@triton.jit
def reflect(position, size, reach):
    """Of -reach ... size - 1 + reach among 0 ... size - 1: mirrored at the borders' own pixels, as often as it takes."""
    period = tl.maximum(2 * (size - 1), 1)
    rest = tl.abs(position)
    if reach >= size:  # else one mirror does, and no division, which is slow
        rest = rest % period
    return tl.minimum(rest, period - rest)


@triton.jit
def blur_down(
    levels,  # uint8 [S, S]
    bell,  # int32 [R + 1]
    slot,  # int16 [Y, S]
    top, size, radius,
    X: tl.constexpr,
    Y: tl.constexpr,
):  # fmt: skip
    """Y rows from top on -> slot."""
    row = tl.arange(0, Y)
    rows = top + row
    for start in range(0, size, X):
        columns = start + tl.arange(0, X)
        inside = (rows < size)[:, None] & (columns < size)[None, :]
        total = tl.load(levels + rows[:, None].to(tl.int64) * size + columns[None, :], mask=inside, other=0).to(tl.int32)
        total *= tl.load(bell)
        for distance in range(1, radius + 1):
            above = reflect(rows - distance, size, radius)[:, None].to(tl.int64) * size + columns[None, :]
            below = reflect(rows + distance, size, radius)[:, None].to(tl.int64) * size + columns[None, :]
            both = tl.load(levels + above, mask=inside, other=0).to(tl.int32)
            both += tl.load(levels + below, mask=inside, other=0).to(tl.int32)
            total += both * tl.load(bell + distance)
        tl.store(
            slot + row[:, None].to(tl.int64) * size + columns[None, :],
            ((total + DOWN_HALF) >> DOWN_BITS).to(tl.int16),
            mask=inside,
        )


@triton.jit
def blurred_across(
    slot,  # int16 [Y, S]
    bell,  # int32 [R + 1]
    columns,  # int32 [X]
    inside, size, radius,
    Y: tl.constexpr,
):  # fmt: skip
    """slot -> levels, float32 [Y, X]."""
    row = slot + tl.arange(0, Y)[:, None].to(tl.int64) * size
    total = tl.load(row + columns[None, :], mask=inside, other=0).to(tl.int32) * tl.load(bell)
    for distance in range(1, radius + 1):
        both = tl.load(row + reflect(columns - distance, size, radius)[None, :], mask=inside, other=0).to(tl.int32)
        both += tl.load(row + reflect(columns + distance, size, radius)[None, :], mask=inside, other=0).to(tl.int32)
        total += both * tl.load(bell + distance)
    return ((total + ACROSS_HALF) >> ACROSS_BITS).to(tl.float32)


@triton.jit(do_not_specialize=["num_items", "bell_length", "slot_length"])  # as in fused_resize_triton.py
def blur_kernel(
    places,  # int64 [C, PLACES]
    numbers,  # int32 [C, NUMBERS]
    bells,  # int32 [C, R + 1]
    colours,  # float32 [2, 3]
    work,  # int32 [I, 2]: crop, and number of a colour's Y rows
    slots,  # int16 [P, slot_length]
    pictures,  # uint8
    num_items, bell_length, slot_length,
    STORE: tl.constexpr,  # fused_crops.STORES
    X: tl.constexpr,
    Y: tl.constexpr,
):  # fmt: skip
    """Every P-th piece: blurred, solarized, normalised and stored."""
    slot = slots + tl.program_id(0).to(tl.int64) * slot_length
    for item in range(tl.program_id(0), num_items, tl.num_programs(0)):
        crop, piece = tl.load(work + 2 * item).to(tl.int64), tl.load(work + 2 * item + 1)
        place, number = places + crop * PLACES, numbers + crop * NUMBERS
        size, radius, threshold = tl.load(number + SIZE), tl.load(number + RADIUS), tl.load(number + THRESHOLD)
        channel, top = piece % 3, piece // 3 * Y
        area, bell = size.to(tl.int64) * size, bells + crop * bell_length
        levels = pictures + tl.multiple_of(tl.load(place + PICTURE), ALIGNMENT) + channel * plane_of(size.to(tl.int64))
        blur_down(levels, bell, slot, top, size, radius, X, Y)
        tl.debug_barrier()  # what other threads of this program wrote is read now
        rows = top + tl.arange(0, Y)
        for start in range(0, size, X):
            columns = start + tl.arange(0, X)
            inside = (rows < size)[:, None] & (columns < size)[None, :]
            blurred = blurred_across(slot, bell, columns, inside, size, radius, Y)
            offsets = channel * area + rows[:, None].to(tl.int64) * size + columns[None, :]
            store_levels(tl.load(place + OUT), channel, offsets, blurred, threshold, colours, inside, STORE)
        tl.debug_barrier()  # before the next piece is written there
