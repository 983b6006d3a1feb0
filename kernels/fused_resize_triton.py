"""The resize of fused_crops in Triton: weights of both axes, then both passes, and the colours up to the contrast.

A program makes tiles of Y x X output pixels, one after the other. It resamples the rows that a tile is made of along the rows,
into a piece of memory of its own, and then those along the columns. That memory is used again and again and stays in the cache;
there are as many pieces of it as programs run at once. Sums are integers, weights are multiples of 2^-14; four levels in a word
are weighted at a time, by two instructions (dp2a).
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, import-untyped, untyped-decorator"
# The arguments of a Triton kernel have types of its own language, and Triton carries no annotations.

# C crops, S pixels of a crop, R the widest radius of a blur, P programs; X output columns and Y output rows
# of a tile; a group is of four rows

import triton
import triton.language as tl

from hjepa.kernels.fused_blur_triton import blur_weights
from hjepa.kernels.fused_colour_triton import (
    CONTRAST_PLACE,
    FIRSTS,
    FLIP,
    HEIGHT,
    NUM_PARTS,
    NUMBERS,
    PARTS_COUNT,
    PIXELS,
    PLACES,
    RADIUS,
    ROW_BYTES,
    SIZE,
    SUPPORT,
    TAPS_ACROSS,
    TAPS_DOWN,
    WEIGHTS_ACROSS,
    WEIGHTS_DOWN,
    WIDTH,
    apply_parts,
    by_fours,
    crop_of,
    gray_levels,
    integers,
    keep,
    leave,
)
from hjepa.kernels.words_triton import add_products, joined, picked

GRID_BITS = tl.constexpr(14)
HALF = tl.constexpr(1 << 13)


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
    for tap in range(taps):
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
def rounded_level(total):
    """Of a sum of weighted levels."""
    return tl.minimum(tl.maximum((total + HALF) >> GRID_BITS, 0), 255)


@triton.jit
def resample_across(
    place, number,  # the crop's rows of PLACES and NUMBERS
    weights,  # int64 [taps / 4, S]
    firsts,  # int32 [S]
    slot,  # uint32 [groups, 3, X]
    first_row, num_rows,
    left, size,
    X: tl.constexpr,
    GROUPS: tl.constexpr,
):  # fmt: skip
    """Rows first_row to first_row + num_rows of the box, for the output's columns from left on -> slot, four rows to a word.

    Four taps at a time: their twelve bytes are three words, once they are shifted to where a word begins.
    """
    lane, of_group = tl.arange(0, GROUPS * X), tl.arange(0, 4)[:, None]  # a thread makes four rows of a column
    column, group = lane % X, lane // X
    source = left + column
    across = source < size
    source = tl.where(tl.load(number + FLIP) != 0, size - 1 - source, source)
    width, taps = tl.load(number + WIDTH), tl.load(number + TAPS_ACROSS)
    row_bytes, pixels = tl.load(place + ROW_BYTES), tl.load(place + PIXELS)
    words, odd = (pixels // 4 * 4).to(tl.pointer_type(tl.uint32)), pixels % 4
    begin = tl.load(firsts + source, mask=across, other=0)[None, :]
    weights += source
    for start in range(0, num_rows, 4 * GROUPS):
        rows = start + 4 * group[None, :] + of_group
        line = odd + (first_row + rows).to(tl.int64) * row_bytes
        line, odd_of_line = words + line // 4, (line % 4).to(tl.int32)
        byte = odd_of_line + 3 * begin
        word, shift = line + byte // 4, byte % 4 * 8
        last = (odd_of_line + 3 * width - 1) // 4 - byte // 4
        remaining = tl.where(across[None, :] & (rows < num_rows), last, -1)  # words of the box that follow
        rest = tl.load(word, mask=remaining >= 0, other=0)
        red = tl.zeros((4, GROUPS * X), tl.int32)
        green = tl.zeros((4, GROUPS * X), tl.int32)
        blue = tl.zeros((4, GROUPS * X), tl.int32)
        by = weights
        for _ in range(0, taps, 4):
            second = tl.load(word + 1, mask=remaining >= 1, other=0)
            third = tl.load(word + 2, mask=remaining >= 2, other=0)
            fourth = tl.load(word + 3, mask=remaining >= 3, other=0)
            four = tl.load(by, mask=across, other=0)[None, :]  # beyond the box they are 0
            one, two, three = joined(rest, second, shift), joined(second, third, shift), joined(third, fourth, shift)
            red = add_products(red, four, picked(picked(one, two, 0x0630), three, 0x5210))
            green = add_products(green, four, picked(picked(one, two, 0x0741), three, 0x6210))
            blue = add_products(blue, four, picked(picked(one, two, 0x0052), three, 0x7410))
            rest = fourth
            word += 3
            remaining -= 3
            by += size
        to = slot + (start // 4 + group) * (3 * X) + column
        within = start + 4 * group < num_rows
        tl.store(to, packed(rounded_level(red)), mask=within)
        tl.store(to + X, packed(rounded_level(green)), mask=within)
        tl.store(to + 2 * X, packed(rounded_level(blue)), mask=within)


@triton.jit
def packed(levels):
    """int32 [4, N] of 0 to 255 -> uint32 [N], the first in the lowest byte."""
    return tl.sum(levels << (8 * tl.arange(0, 4))[:, None], axis=0).to(tl.uint32)


@triton.jit
def resample_down(
    slot,  # uint32 [groups, 3, X], of four rows each
    weights,  # int64 [taps / 4, S]
    begin,  # int32 [Y]: first taps, rows of the slot
    rows,  # int32 [Y]: of the output
    taps, size,
    X: tl.constexpr,
    Y: tl.constexpr,
):  # fmt: skip
    """slot -> three colours of levels, float32 [Y, X]. Up to taps + 4 rows beyond the last are read, and weighted by 0."""
    red = tl.zeros((Y, X), tl.int32)
    green = tl.zeros((Y, X), tl.int32)
    blue = tl.zeros((Y, X), tl.int32)
    words, shift = slot + (begin // 4 * (3 * X))[:, None] + tl.arange(0, X)[None, :], (begin % 4 * 8)[:, None]
    weights += rows
    last_red, last_green, last_blue = tl.load(words), tl.load(words + X), tl.load(words + 2 * X)
    for _ in range(0, taps, 4):
        four = tl.load(weights, mask=rows < size, other=0)[:, None]
        words += 3 * X
        next_red, next_green, next_blue = tl.load(words), tl.load(words + X), tl.load(words + 2 * X)
        red = add_products(red, four, joined(last_red, next_red, shift))
        green = add_products(green, four, joined(last_green, next_green, shift))
        blue = add_products(blue, four, joined(last_blue, next_blue, shift))
        last_red, last_green, last_blue = next_red, next_green, next_blue
        weights += size
    return rounded_level(red).to(tl.float32), rounded_level(green).to(tl.float32), rounded_level(blue).to(tl.float32)


@triton.jit
def finish_tile(
    red, green, blue,  # float32 levels [Y, X]
    rows, columns,  # int32 [Y] and [X]
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
):  # fmt: skip
    """Every P-th tile: resized, and coloured up to the contrast."""
    slot = slots + tl.program_id(0).to(tl.int64) * most_groups * (3 * X)
    for item in range(tl.program_id(0), num_items, tl.num_programs(0)):
        crop, tile = crop_of(item, ends, num_crops)
        place, number = places + crop * PLACES, numbers + crop * NUMBERS
        size, taps = tl.load(number + SIZE), tl.load(number + TAPS_DOWN)
        tiles_across = (size + (X - 1)) // X
        top, left = tile // tiles_across * Y, tile % tiles_across * X
        rows, columns = top + tl.arange(0, Y), left + tl.arange(0, X)
        first = firsts + tl.load(place + FIRSTS)
        first_row = tl.load(first + top)
        end = tl.minimum(tl.load(first + tl.minimum(top + Y, size) - 1) + taps, tl.load(number + HEIGHT))
        across, down = weights + tl.load(place + WEIGHTS_ACROSS) // 4, weights + tl.load(place + WEIGHTS_DOWN) // 4
        resample_across(place, number, across, first + size, slot, first_row, end - first_row, left, size, X, GROUPS)
        tl.debug_barrier()  # what other threads of this program wrote is read now
        begin = tl.load(first + rows, mask=rows < size, other=first_row) - first_row
        red, green, blue = resample_down(slot, down, begin, rows, taps, size, X, Y)
        tl.debug_barrier()  # before the next tile is written there
        finish_tile(
            red, green, blue, rows, columns, place, number, factors + crop * NUM_PARTS, colours, pictures, sums + crop, STORE
        )
