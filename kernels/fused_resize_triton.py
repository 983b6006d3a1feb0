"""The resize of fused_crops in Triton: weights of both axes, then both passes, and the colours up to the contrast.

A program makes tiles of Y x X output pixels, one after the other. It resamples the rows that a tile is made of along the rows
(fused_across_triton.py), into a piece of memory of its own, and then those along the columns, some of the tile's rows at a
time. That memory is used again and again and stays in the cache; there are as many pieces of it as programs run at once. Sums
are integers, weights are multiples of 2^-14; two instructions (dp2a) weight the four levels in a word.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, import-untyped, untyped-decorator"
# The arguments of a Triton kernel have types of its own language, and Triton carries no annotations.

# C crops, S pixels of a crop, R the widest radius of a blur, P programs; X output columns and Y output rows
# of a tile, ROWS of them at a time; a group is of four rows

import triton
import triton.language as tl

from hjepa.kernels.fused_across_triton import GRID_BITS, HALF, resample_across
from hjepa.kernels.fused_blur_triton import blur_weights
from hjepa.kernels.fused_colour_triton import (
    CONTRAST_PLACE,
    FIRSTS,
    HEIGHT,
    NUM_PARTS,
    NUMBERS,
    PARTS_COUNT,
    PLACES,
    RADIUS,
    SIZE,
    SUPPORT,
    TAPS_DOWN,
    WEIGHTS_ACROSS,
    WEIGHTS_DOWN,
    apply_parts,
    by_fours,
    crop_of,
    gray_levels,
    integers,
    keep,
    leave,
)
from hjepa.kernels.words_triton import add_products, joined, level


@triton.jit
def filter_of(distance, support):
    """Keys' cubic with a = -1/2 if support is 2, or a triangle; float64."""
    near = (1.5 * distance - 2.5) * distance * distance + 1.0
    far = (((distance - 5.0) * distance + 8.0) * distance - 4.0) * -0.5
    cubic = tl.where(distance < 1.0, near, tl.where(distance < 2.0, far, 0.0))
    return tl.where(support == 2, cubic, tl.maximum(1.0 - distance, 0.0))


@triton.jit
def resize_weights(
    place, number,  # the crop's rows of PLACES and NUMBERS
    weights, firsts, axis, pixel,
):  # fmt: skip
    """`fused_reference.resize_weights` of output pixels along an axis (0: down)."""
    size, support = tl.load(number + SIZE), tl.load(number + SUPPORT)
    length, taps = tl.load(number + HEIGHT + axis), tl.load(number + TAPS_DOWN + axis)
    inside = pixel < size
    scale = length.to(tl.float64) / size.to(tl.float64)
    spread = tl.maximum(scale, 1.0)
    center = (tl.minimum(pixel, size - 1).to(tl.float64) + 0.5) * scale
    reach = support.to(tl.float64) * spread
    begin = tl.maximum(center - reach + 0.5, 0.0).to(tl.int32)
    end = tl.minimum(center + reach + 0.5, length.to(tl.float64)).to(tl.int32)
    inverse = 1.0 / spread
    total = tl.zeros(pixel.shape, tl.float64)
    for tap in range(taps + 1):  # rounding may leave one more, whose weight is 0
        raw = filter_of(tl.abs(((begin + tap).to(tl.float64) - center + 0.5) * inverse), support)
        total += tl.where(begin + tap < end, raw, 0.0)
    factor = 16384.0 / total
    running = tl.zeros(pixel.shape, tl.float64)
    before = tl.zeros(pixel.shape, tl.int32) + 32768  # what is cut off is never negative
    to = weights + tl.load(place + WEIGHTS_DOWN + axis) + 4 * pixel
    for tap in range((taps + 3) // 4 * 4):  # those beyond the last are 0
        raw = filter_of(tl.abs(((begin + tap).to(tl.float64) - center + 0.5) * inverse), support)
        running += tl.where(begin + tap < end, raw, 0.0) * factor
        after = (running + 32768.5).to(tl.int32)
        tl.store(to + tap // 4 * 4 * size + tap % 4, (after - before).to(tl.int16), mask=inside)
        before = after
    tl.store(firsts + tl.load(place + FIRSTS) + axis * size + pixel, begin, mask=inside)


@triton.jit
def weights_kernel(
    places,  # int64 [C, PLACES]
    numbers,  # int32 [C, NUMBERS]
    bells,  # int32 [C, R + 1]
    weights,  # int16: by crop, for either axis of its resize and for its blur [taps / 4, S, 4]
    firsts,  # int32: by crop [2, S]
    sums,  # int64 [C]
    bell_length,
    X: tl.constexpr,
):  # fmt: skip
    """Weights of X output pixels of a crop: of its resize, or of its blur; clears the crop's sum of grays."""
    crop, kind = tl.program_id(0).to(tl.int64), tl.program_id(1)
    place, number = places + crop * PLACES, numbers + crop * NUMBERS
    pixel = tl.program_id(2) * X + tl.arange(0, X)
    if kind < 2:
        resize_weights(place, number, weights, firsts, kind, pixel)
    else:
        blur_weights(place, number, bells + crop * bell_length, weights, pixel)
    tl.store(sums + crop, tl.zeros((), tl.int64), mask=(kind == 0) & (tl.program_id(2) == 0))


@triton.jit
def resample_down(
    slot,  # uint32 [groups, 3, X], of four rows each
    weights,  # int64 [taps / 4, S]
    begin,  # int32 [ROWS]: first taps, rows of the slot
    rows,  # int32 [ROWS]: of the output
    taps, size,
    X: tl.constexpr,
    ROWS: tl.constexpr,
):  # fmt: skip
    """slot -> three colours of levels, float32 [ROWS, X]. Up to taps + 4 rows beyond the last are read, and weighted by 0."""
    red = tl.full((ROWS, X), HALF, tl.int32)
    green = tl.full((ROWS, X), HALF, tl.int32)
    blue = tl.full((ROWS, X), HALF, tl.int32)
    words, shift = slot + (begin // 4 * (3 * X))[:, None] + tl.arange(0, X)[None, :], (begin % 4 * 8)[:, None]
    weights += rows
    for _ in range(0, taps, 4):
        four = tl.load(weights)[:, None]
        red = add_products(red, four, joined(tl.load(words), tl.load(words + 3 * X), shift))
        green = add_products(green, four, joined(tl.load(words + X), tl.load(words + 4 * X), shift))
        blue = add_products(blue, four, joined(tl.load(words + 2 * X), tl.load(words + 5 * X), shift))
        words += 3 * X
        weights += size
    return rounded_level(red), rounded_level(green), rounded_level(blue)


@triton.jit
def rounded_level(total):
    """Of a sum of weighted levels that began with HALF; float32."""
    return level(total >> GRID_BITS).to(tl.float32)


@triton.jit
def finish_tile(
    red, green, blue,  # float32 levels [ROWS, X]
    rows, columns,  # int32 [ROWS] and [X]
    place, number, factor,  # the crop's rows of PLACES, NUMBERS and factors
    colours, pictures, sum_of_grays,
    STORE: tl.constexpr,
):  # fmt: skip
    """Colours up to the contrast; stored if there is none, else kept and added to the crop's sum of grays."""
    size = tl.load(number + SIZE).to(tl.int64)
    contrast, num_parts = tl.load(number + CONTRAST_PLACE), tl.load(number + PARTS_COUNT)
    red, green, blue = apply_parts(red, green, blue, number, factor, 0, contrast, 0.0)
    inside = (rows < size)[:, None] & (columns < size)[None, :]
    row, column = rows[:, None].to(tl.int64), columns[None, :]
    offsets = row * size + column
    places_kept = offsets
    if tl.load(number + RADIUS) > 0:  # four rows to a word, for the blur
        places_kept = (row // 4 * by_fours(size) + column) * 4 + row % 4
    if contrast < num_parts:
        keep(red, green, blue, place, size, pictures, places_kept, inside)
        gray = tl.where(inside, integers(gray_levels(red, green, blue)), 0)
        tl.atomic_add(sum_of_grays, tl.sum(tl.sum(gray, axis=1), axis=0).to(tl.int64), sem="relaxed")
    else:
        leave(red, green, blue, place, number, colours, pictures, offsets, places_kept, inside, inside, STORE)


@triton.jit(do_not_specialize=["num_crops", "num_items", "most_groups"])  # or it would be compiled anew for some batches
def resize_kernel(
    places,  # int64 [C, PLACES]
    numbers,  # int32 [C, NUMBERS]
    factors,  # float32 [C, NUM_PARTS]
    colours,  # float32 [2, 3]
    ends,  # int32 [C]: of a crop's tiles
    weights,  # int64
    firsts,  # int32
    slots,  # uint32 [P, most_groups, 3, X]
    pictures,  # uint8
    sums,  # int64 [C]
    num_crops, num_items, most_groups,
    STORE: tl.constexpr,  # fused_crops.STORES
    X: tl.constexpr,
    Y: tl.constexpr,
    GROUPS: tl.constexpr,  # of rows of the box, at a time
    ROWS: tl.constexpr,  # of the output, at a time: a divisor of Y
):  # fmt: skip
    """Every P-th tile: resized, and coloured up to the contrast."""
    slot = slots + tl.program_id(0).to(tl.int64) * most_groups * (3 * X)
    for item in range(tl.program_id(0), num_items, tl.num_programs(0)):
        crop, tile = crop_of(item, ends, num_crops)
        place, number, factor = places + crop * PLACES, numbers + crop * NUMBERS, factors + crop * NUM_PARTS
        size, taps = tl.load(number + SIZE), tl.load(number + TAPS_DOWN)
        tl.assume(taps > 0)
        tiles_across = (size + (X - 1)) // X
        top, left = tile // tiles_across * Y, tile % tiles_across * X
        first = firsts + tl.load(place + FIRSTS)
        first_row, last = tl.load(first + top), tl.minimum(top + Y, size) - 1
        end = tl.minimum(tl.load(first + last) + taps, tl.load(number + HEIGHT))
        across, down = weights + tl.load(place + WEIGHTS_ACROSS) // 4, weights + tl.load(place + WEIGHTS_DOWN) // 4
        resample_across(place, number, across, first + size, slot, first_row, end - first_row, left, size, X, GROUPS)
        tl.debug_barrier()  # what other threads of this program wrote is read now
        for some in range(top, last + 1, ROWS):
            rows, columns = some + tl.arange(0, ROWS), left + tl.arange(0, X)
            within = tl.minimum(rows, last)
            begin = tl.load(first + within) - first_row
            red, green, blue = resample_down(slot, down, begin, within, taps, size, X, ROWS)
            finish_tile(red, green, blue, rows, columns, place, number, factor, colours, pictures, sums + crop, STORE)
        tl.debug_barrier()  # before the next tile is written there
