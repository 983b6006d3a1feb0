"""The resize of fused_crops in Triton, along the rows: what fused_resize_triton.py resamples along the columns then.

Tensors have one axis, because Triton chooses by itself how those of two are shared among threads, and each version otherwise.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, import-untyped, untyped-decorator"
# The arguments of a Triton kernel have types of its own language, and Triton carries no annotations.

# S pixels of a crop, X output columns of a tile, N threads; a group is of four rows

import triton
import triton.language as tl

from hjepa.kernels.fused_colour_triton import FLIP, HEIGHT, PIXELS, ROW_BYTES, TAPS_ACROSS, WIDTH
from hjepa.kernels.words_triton import add_pair, joined, packed, picked

GRID_BITS = tl.constexpr(14)
HALF = tl.constexpr(1 << 13)
"""Of a level: sums begin with it, and are rounded when they are cut off."""


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

    A thread makes four rows of a column. What it reads beyond the box's width is weighted by 0, and belongs to the next row.
    Only where there is none, or where rows are very short, every word is compared with the box's last.
    """
    lane = tl.arange(0, GROUPS * X)
    group = lane // X
    source = tl.minimum(left + lane % X, size - 1)
    source = tl.where(tl.load(number + FLIP) != 0, size - 1 - source, source)
    height, width, taps = tl.load(number + HEIGHT), tl.load(number + WIDTH), tl.load(number + TAPS_ACROSS)
    tl.assume(taps > 0)  # a loop that runs at all begins with fewer instructions
    address = tl.load(place + PIXELS) + first_row * tl.load(place + ROW_BYTES)
    words, odd = (address // 4 * 4).to(tl.pointer_type(tl.uint32)), (address % 4).to(tl.int32)
    row_bytes = tl.load(place + ROW_BYTES).to(tl.int32)  # fused_plan.MAX_WIDTH
    byte = odd + 4 * group * row_bytes + 3 * tl.load(firsts + source)
    to = slot + group * (3 * X) + lane % X
    for start in range(0, num_rows, 4 * GROUPS):
        follow = tl.minimum(height - first_row - start, 4 * GROUPS + 1)  # rows of the box from here on, or enough of them
        last = (odd + (follow - 1) * row_bytes + 3 * width - 1) // 4
        if (follow > 4 * GROUPS) & (row_bytes >= 3 * taps + 10):  # from a box's last column, four_rows reads so far
            reds, greens, blues = four_rows(words, byte, row_bytes, last, weights, source, taps, size, False)
        else:
            reds, greens, blues = four_rows(words, byte, row_bytes, last, weights, source, taps, size, True)
        within = start + 4 * group < num_rows
        tl.store(to, reds, mask=within)
        tl.store(to + X, greens, mask=within)
        tl.store(to + 2 * X, blues, mask=within)
        words += GROUPS * row_bytes  # of as many bytes as four rows have: a byte's place in its word stays the same
        to += GROUPS * (3 * X)


@triton.jit
def four_rows(
    words,  # uint32: bytes are counted from there
    byte,  # int32 [N]: the first of the first row's first tap
    row_bytes,
    last,  # of the words that may be read
    weights,  # int64 [taps / 4, S]
    source,  # int32 [N]: columns of the weights
    taps, size,
    CHECKED: tl.constexpr,  # words are compared with the last
):  # fmt: skip
    """Levels of red, green and blue, uint32 [N], four rows to a word."""
    first = begun(words, byte, last, CHECKED)
    second = begun(words, byte + row_bytes, last, CHECKED)
    third = begun(words, byte + 2 * row_bytes, last, CHECKED)
    fourth = begun(words, byte + 3 * row_bytes, last, CHECKED)
    for _ in range(0, taps, 4):
        four = tl.load(weights + source)  # beyond the box they are 0
        first = with_four_taps(first, four, words, byte, last, CHECKED)
        second = with_four_taps(second, four, words, byte + row_bytes, last, CHECKED)
        third = with_four_taps(third, four, words, byte + 2 * row_bytes, last, CHECKED)
        fourth = with_four_taps(fourth, four, words, byte + 3 * row_bytes, last, CHECKED)
        words += 3
        last -= 3
        weights += size
    return (
        packed_levels(first[0], second[0], third[0], fourth[0]),
        packed_levels(first[1], second[1], third[1], fourth[1]),
        packed_levels(first[2], second[2], third[2], fourth[2]),
    )


@triton.jit
def begun(words, byte, last, CHECKED: tl.constexpr):
    """Of a row before its first tap: sums of red, green and blue, int32 [N], and the word of its first byte."""
    half = tl.full(byte.shape, HALF, tl.int32)
    return half, half, half, word_at(words, byte // 4, last, CHECKED)


@triton.jit
def word_at(words, offset, last, CHECKED: tl.constexpr):
    """uint32 [N]; 0 behind the last, if that is looked at."""
    if CHECKED:
        return tl.load(words + offset, mask=offset <= last, other=0)
    return tl.load(words + offset)


@triton.jit
def with_four_taps(row, four, words, byte, last, CHECKED: tl.constexpr):
    """`begun`, four taps further. Their twelve bytes are three words, once they are shifted to where a word begins."""
    red, green, blue, word = row
    offset, shift = byte // 4, byte % 4 * 8
    second = word_at(words, offset + 1, last, CHECKED)
    third = word_at(words, offset + 2, last, CHECKED)
    fourth = word_at(words, offset + 3, last, CHECKED)
    one, two, three = joined(word, second, shift), joined(second, third, shift), joined(third, fourth, shift)
    red_blue, green_blue, red_green = picked(one, three, 0x7430), picked(one, two, 0x5241), picked(two, three, 0x6352)
    low, high = four.to(tl.uint32), (four >> 32).to(tl.uint32)
    red = add_pair(add_pair(red, low, red_blue, False), high, red_green, False)
    green = add_pair(add_pair(green, low, green_blue, False), high, red_green, True)
    blue = add_pair(add_pair(blue, low, green_blue, True), high, red_blue, True)
    return red, green, blue, fourth


@triton.jit
def packed_levels(first, second, third, fourth):
    """The levels of four sums that began with HALF, in a word, the first in the lowest byte."""
    return packed(first >> GRID_BITS, second >> GRID_BITS, third >> GRID_BITS, fourth >> GRID_BITS)
