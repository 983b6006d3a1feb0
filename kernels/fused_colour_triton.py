"""The colours of fused_crops in Triton: the parts of the jitter, gray, what is stored; and the kernel from the contrast on.

The arithmetic is that of csrc/isa/colour_floats.h: levels are held as float32, in which all of it is exact or rounds as PIL's
does.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, import-untyped, untyped-decorator"
# The arguments of a Triton kernel have types of its own language, and Triton carries no annotations.

# C crops, S pixels of a crop; N pixels of a piece of one

import triton
import triton.language as tl

from hjepa.kernels import fused_plan
from hjepa.kernels.words_triton import INTERPRETED

PIXELS, ROW_BYTES, OUT, PICTURE, WEIGHTS_DOWN, WEIGHTS_ACROSS, WEIGHTS_OF_BLUR, FIRSTS = map(tl.constexpr, range(8))
(
    HEIGHT,
    WIDTH,
    SIZE,
    TAPS_DOWN,
    TAPS_ACROSS,
    SUPPORT,
    FLIP,
    CONTRAST_PLACE,
    PARTS_COUNT,
    RADIUS,
    THRESHOLD,
    FIRST_PART,
) = map(tl.constexpr, range(12))
PLACES = tl.constexpr(len(fused_plan.PLACES))
NUM_PARTS = tl.constexpr(fused_plan.NUM_PARTS)
NUMBERS = tl.constexpr(len(fused_plan.NUMBERS) + fused_plan.NUM_PARTS)
assert (PLACES.value, FIRST_PART.value) == (8, len(fused_plan.NUMBERS))
BRIGHTNESS, CONTRAST, SATURATION, HUE = map(
    tl.constexpr, (fused_plan.BRIGHTNESS, fused_plan.CONTRAST, fused_plan.SATURATION, fused_plan.HUE)
)
ALIGNMENT = tl.constexpr(fused_plan.ALIGNMENT)
UNIT = tl.constexpr(float(1 << 23))
"""The next float32 is greater by 1."""
TINY = tl.constexpr(1.0 / 1024)
"""More than a product with an approximate reciprocal can miss an integer by, and less than a quotient that is none does."""


@triton.jit
def crop_of(item, ends, num_crops):
    """The crop of a piece of work, int64, and the piece's number in it; ends: how many pieces there are up to a crop's last."""
    low = item - item  # a tensor, as what a loop changes must be
    high = low + num_crops - 1
    while low < high:
        middle = (low + high) // 2
        is_behind = tl.load(ends + middle) <= item
        low, high = tl.where(is_behind, middle + 1, low), tl.where(is_behind, high, middle)
    return low.to(tl.int64), item - tl.load(ends + low - 1, mask=low > 0, other=0)


@triton.jit
def whole(values):
    """Cut off to whole numbers, from 0 to less than UNIT: without conversions, which a GPU is slow at."""
    if INTERPRETED:
        return values.to(tl.int32).to(tl.float32)
    raised = tl.inline_asm_elementwise(
        "add.rz.f32 $0, $1, 0f4B000000;", "=f,f", [values], dtype=tl.float32, is_pure=True, pack=1
    )
    return raised - UNIT


@triton.jit
def integers(values):
    """Whole numbers from 0 to less than UNIT, as int32."""
    return (values + UNIT).to(tl.int32, bitcast=True) & 0x7FFFFF


@triton.jit
def inverses(values):
    """1 / values, wrong by a unit in the last place at most: without what a division does for values near float32's limits."""
    if INTERPRETED:
        return 1.0 / values
    return tl.inline_asm_elementwise("rcp.approx.ftz.f32 $0, $1;", "=f,f", [values], dtype=tl.float32, is_pure=True, pack=1)


@triton.jit
def cut(levels):
    """Cut off to levels."""
    return whole(tl.minimum(tl.maximum(levels, 0.0), 255.0))


@triton.jit
def gray_levels(red, green, blue):
    """`fused_reference.gray_levels`; sums are below 2**24, so exact."""
    return whole((19595.0 * red + 38470.0 * green + 7471.0 * blue + 32768.0) * (1.0 / 65536))


@triton.jit
def stretch(levels, centre, factor):
    """Away from centre, or towards it."""
    return cut(centre + factor * (levels - centre))


@triton.jit
def turn_hue(red, green, blue, steps):
    """`fused_reference.hue`, by so many of 256 steps."""
    value = tl.maximum(red, tl.maximum(green, blue))
    chroma = value - tl.minimum(red, tl.minimum(green, blue))
    some_value, some_chroma = tl.maximum(value, 1.0), tl.maximum(chroma, 1.0)
    inverse = inverses(some_chroma * some_value)  # of both
    sixths = tl.where(green == value, 2.0 * chroma + (blue - red), 4.0 * chroma + (red - green))
    sixths = tl.where(red == value, green - blue, sixths)  # of a turn, times chroma
    sixths = tl.where(sixths < 0.0, sixths + 6.0 * chroma, sixths)
    angle = whole(42.5 * sixths * (inverse * some_value) + TINY) + steps
    angle = tl.where(angle < 256.0, angle, angle - 256.0)
    saturation = whole(255.0 * chroma * (inverse * some_chroma) + TINY)
    whole_sector = whole(angle * (2.0 / 85) + TINY)
    rest = 2.0 * angle - 85.0 * whole_sector
    sector = integers(whole_sector)
    share = tl.where(sector % 2 == 1, rest, 85.0 - rest)
    low = whole(value * (255.0 - saturation) * (1.0 / 255) + 0.5)
    middle = whole(value * (21675.0 - saturation * share) * (1.0 / 21675) + 0.5)
    # Which colour is the greatest, and which the one between, in sectors 0 to 6: as bits.
    red = tl.where((97 >> sector) % 2 == 1, value, tl.where((18 >> sector) % 2 == 1, middle, low))
    green = tl.where((6 >> sector) % 2 == 1, value, tl.where((73 >> sector) % 2 == 1, middle, low))
    blue = tl.where((24 >> sector) % 2 == 1, value, tl.where((36 >> sector) % 2 == 1, middle, low))
    return red, green, blue


@triton.jit
def apply_parts(red, green, blue, number, factor, begin, end, mean):
    """The crop's parts from begin to end; number and factor: its rows of NUMBERS and of factors."""
    for place in range(begin, end):
        part, by = tl.load(number + FIRST_PART + place), tl.load(factor + place)
        if part == BRIGHTNESS:
            red, green, blue = cut(by * red), cut(by * green), cut(by * blue)
        elif part == CONTRAST:
            red, green, blue = stretch(red, mean, by), stretch(green, mean, by), stretch(blue, mean, by)
        elif part == HUE:
            red, green, blue = turn_hue(red, green, blue, by)
        else:
            gray = gray_levels(red, green, blue)
            if part == SATURATION:
                red, green, blue = stretch(red, gray, by), stretch(green, gray, by), stretch(blue, gray, by)
            else:
                red, green, blue = gray, gray, gray
    return red, green, blue


@triton.jit
def store_levels(out, channel, offsets, levels, threshold, colours, inside, STORE: tl.constexpr):
    """Solarizes, normalises and stores levels of one colour; out: address as int64, offsets: in values."""
    level = tl.where(levels >= threshold.to(tl.float32), 255.0 - levels, levels)
    value = level * tl.load(colours + channel) + tl.load(colours + 3 + channel)
    if STORE == 0:
        tl.store(out.to(tl.pointer_type(tl.float32)) + offsets, value, mask=inside)
    elif STORE == 1:
        tl.store(out.to(tl.pointer_type(tl.float16)) + offsets, value.to(tl.float16), mask=inside)
    else:
        tl.store(out.to(tl.pointer_type(tl.bfloat16)) + offsets, value.to(tl.bfloat16), mask=inside)


@triton.jit
def leave(
    red, green, blue,  # float32 levels
    place, number,  # the crop's rows of PLACES and NUMBERS
    colours, pictures,
    offsets, places_kept,  # int64: within a colour, of what is stored, and of levels that are kept
    inside, kept,  # masks of the two
    STORE: tl.constexpr,
):  # fmt: skip
    """Stores finished crops, and the levels of crops that wait for their blur."""
    size = tl.load(number + SIZE).to(tl.int64)
    if tl.load(number + RADIUS) > 0:
        keep(red, green, blue, place, size, pictures, places_kept, kept)
    else:
        out, threshold = tl.load(place + OUT), tl.load(number + THRESHOLD)
        store_levels(out, 0, offsets, red, threshold, colours, inside, STORE)
        store_levels(out, 1, size * size + offsets, green, threshold, colours, inside, STORE)
        store_levels(out, 2, 2 * size * size + offsets, blue, threshold, colours, inside, STORE)


@triton.jit
def by_fours(size):
    """Rows or columns of whole groups of four."""
    return (size + 3) // 4 * 4


@triton.jit
def plane_of(size):
    """Levels from one colour to the next."""
    return by_fours(size) * by_fours(size)


@triton.jit
def keep(red, green, blue, place, size, pictures, places_kept, kept):
    """Stores levels for the next kernel; places_kept [...] int64, within a colour."""
    picture, plane = pictures + tl.multiple_of(tl.load(place + PICTURE), ALIGNMENT), plane_of(size)
    tl.store(picture + places_kept, integers(red).to(tl.uint8), mask=kept)
    tl.store(picture + plane + places_kept, integers(green).to(tl.uint8), mask=kept)
    tl.store(picture + 2 * plane + places_kept, integers(blue).to(tl.uint8), mask=kept)


@triton.jit(do_not_specialize=["num_crops"])
def contrast_kernel(
    places,  # int64 [C, PLACES]
    numbers,  # int32 [C, NUMBERS]
    factors,  # float32 [C, NUM_PARTS]
    colours,  # float32 [2, 3]
    ends,  # int32 [C]: of a crop's pieces of N pixels
    pictures,  # uint8
    sums,  # int64 [C]: of the gray levels
    num_crops,
    STORE: tl.constexpr,  # fused_crops.STORES
    N: tl.constexpr,
):  # fmt: skip
    """The contrast and the parts after it. Levels are read in the order in which they were kept, whichever that is."""
    crop, piece = crop_of(tl.program_id(0), ends, num_crops)
    place, number = places + crop * PLACES, numbers + crop * NUMBERS
    size = tl.load(number + SIZE).to(tl.int64)
    offsets = piece.to(tl.int64) * N + tl.arange(0, N)
    picture, plane = pictures + tl.multiple_of(tl.load(place + PICTURE), ALIGNMENT), plane_of(size)
    inside, kept = offsets < size * size, offsets < plane  # a mask by whole sixteens leaves the compiler wide loads
    red = tl.load(picture + offsets, mask=kept, other=0).to(tl.float32)
    green = tl.load(picture + plane + offsets, mask=kept, other=0).to(tl.float32)
    blue = tl.load(picture + 2 * plane + offsets, mask=kept, other=0).to(tl.float32)
    mean = ((2 * tl.load(sums + crop) + size * size) // (2 * size * size)).to(tl.float32)  # halves upwards
    begin, end = tl.load(number + CONTRAST_PLACE), tl.load(number + PARTS_COUNT)
    red, green, blue = apply_parts(red, green, blue, number, factors + crop * NUM_PARTS, begin, end, mean)
    leave(red, green, blue, place, number, colours, pictures, offsets, offsets, inside, kept, STORE)
