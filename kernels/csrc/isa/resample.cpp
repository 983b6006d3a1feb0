// The resize goes over the source once, 16 rows at a time. A block of source pixels is transposed, so that the rows are the lanes
// of a vector and two taps are one multiply-add for 16 of them; its sums are transposed back and added to the output rows that use
// them. Memory depends on the output's size alone: sums are exact (weights.h), so they can be interrupted anywhere.

#include "resample.h"

namespace hjepa {
namespace HJEPA_ISA {

namespace {

constexpr int BLOCK = 128;  // source columns that are transposed at once; even, and little enough for the first-level cache
constexpr int COLOURS = 3;

inline int64_t count_open_rows(int size, int64_t length, Filter filter) {
    const double scale = static_cast<double>(length) / size;
    const double support = (filter == Filter::bicubic ? 2.0 : 1.0) * most(scale, 1.0);
    return least<int64_t>(size, static_cast<int64_t>((2 * support + 2) / scale) + 2);
}

// 16 rows of `count` bytes -> [count, 16 rows]. Never reads beyond a row's bytes.
void transpose_rows(const uint8_t* const (&rows)[LANES], int64_t count, uint8_t* to) {
    constexpr int64_t step = SQUARES * LANES;
    for (int64_t at = 0; at < count && count >= step; at += step) {
        const int64_t column = least(at, count - step);  // the last squares overlap those before them
        Bytes squares[LANES];
        for (int row = 0; row < LANES; ++row) __builtin_memcpy(&squares[row], rows[row] + column, sizeof(Bytes));
        transpose(squares);
        for (int row = 0; row < LANES; ++row) {
            const uint8_t* bytes = reinterpret_cast<const uint8_t*>(&squares[row]);
            for (int square = 0; square < SQUARES; ++square) {
                __builtin_memcpy(to + (column + square * LANES + row) * LANES, bytes + square * LANES, LANES);
            }
        }
    }
    for (int64_t at = 0; at < count && count < step; ++at) {
        for (int row = 0; row < LANES; ++row) to[at * LANES + row] = rows[row][at];
    }
}

// Levels [count, 16 rows] -> 8 pairs of rows of `count`; count is a multiple of 16.
void transpose_columns(const uint8_t* columns, int64_t count, Pairs* to) {
    const int64_t stride = count / LANES;
    for (int64_t at = 0; at < stride; at += SQUARES) {
        const int used = static_cast<int>(least<int64_t>(SQUARES, stride - at));
        Bytes squares[LANES];
        for (int column = 0; column < LANES; ++column) {
            uint8_t* bytes = reinterpret_cast<uint8_t*>(&squares[column]);
            for (int square = 0; square < SQUARES; ++square) {  // beyond those that are used, the first one again
                const int64_t place = at + (square < used ? square : 0);
                __builtin_memcpy(bytes + square * LANES, columns + (place * LANES + column) * LANES, LANES);
            }
        }
        transpose(squares);
        for (int row = 0; row < LANES; row += 2) {
            const uint8_t* even = reinterpret_cast<const uint8_t*>(&squares[row]);
            const uint8_t* odd = reinterpret_cast<const uint8_t*>(&squares[row + 1]);
            for (int square = 0; square < used; ++square) {
                to[row / 2 * stride + at + square] = pair_up(even + square * LANES, odd + square * LANES);
            }
        }
    }
}

// Adds the block's columns [begin, end) to the output columns that use them, from `x` on; returns the first unfinished one.
int add_columns(const Resampler& resampler, bool flip, int x, int64_t begin, int64_t end) {
    const Axis& axis = resampler.horizontal;
    int unfinished = axis.size;
    for (; x < axis.size && axis.first[x] < end; ++x) {
        const int64_t from = most<int64_t>(axis.first[x], begin), to = least<int64_t>(axis.last[x], end);
        if (axis.last[x] > end && unfinished == axis.size) unfinished = x;
        int32_t* sums = resampler.sums + static_cast<int64_t>(flip ? axis.size - 1 - x : x) * LANES;
        const int64_t plane = resampler.padded * LANES;
        Ints red{}, green{}, blue{};
        if (axis.first[x] < begin) {
            red = load(sums);
            green = load(sums + plane);
            blue = load(sums + 2 * plane);
        }
        const int32_t* weights = axis.pairs + (from - axis.first[x]) / 2 * axis.stride + x;
        const Pairs* tile = resampler.tile + (from - begin) / 2 * COLOURS;
        for (int64_t column = from; column < to; column += 2) {
            red = add_products(red, tile[0], *weights);
            green = add_products(green, tile[1], *weights);
            blue = add_products(blue, tile[2], *weights);
            tile += COLOURS;
            weights += axis.stride;
        }
        store(sums, red);
        store(sums + plane, green);
        store(sums + 2 * plane, blue);
    }
    return least(unfinished, x);
}

// 16 source rows from `top` on (those beyond the box repeat its last) -> rows.
void resample_rows(const Resampler& resampler, const Crop& crop, int64_t top) {
    const uint8_t* starts[LANES];
    for (int row = 0; row < LANES; ++row) {
        const int64_t y = crop.top + least(top + row, crop.height - 1);
        starts[row] = crop.pixels + (y * crop.image_width + crop.left) * COLOURS;
    }
    int unfinished = 0;
    for (int64_t begin = 0; begin < crop.width; begin += BLOCK) {
        const int64_t count = least<int64_t>(BLOCK, crop.width - begin);
        transpose_rows(starts, count * COLOURS, resampler.columns);
        for (int64_t column = 0; column < count; column += 2) {
            for (int colour = 0; colour < COLOURS; ++colour) {
                const uint8_t* even = resampler.columns + (column * COLOURS + colour) * LANES;
                resampler.tile[column / 2 * COLOURS + colour] = pair_up(even, even + COLOURS * LANES);
            }
        }
        unfinished = add_columns(resampler, crop.flip, unfinished, begin, round_up(begin + count, 2));
        for (int row = 0; row < LANES; ++row) starts[row] += BLOCK * COLOURS;
    }
    const int64_t width = COLOURS * resampler.padded;
    for (int64_t i = 0; i < width * LANES; i += LANES) {
        round_levels<GRID_BITS>(resampler.narrow + i, load(resampler.sums + i));
    }
    transpose_columns(resampler.narrow, width, resampler.rows);
}

// Adds source rows [begin, end) to one output row; rounds it when they hold its last tap.
void add_rows(const Resampler& resampler, int y, int64_t begin, int64_t end, uint8_t* resized) {
    const Axis& axis = resampler.vertical;
    const int64_t width = COLOURS * resampler.padded, vectors = width / LANES;
    const int64_t from = most<int64_t>(axis.first[y], begin), to = least<int64_t>(axis.last[y], end);
    const bool begun = axis.first[y] < begin, done = axis.last[y] <= end;
    int32_t* open = resampler.open + (y % resampler.open_rows) * width;
    const int32_t* first_weights = axis.pairs + (from - axis.first[y]) / 2 * axis.stride + y;
    const Pairs* first_rows = resampler.rows + (from - begin) / 2 * vectors;
    for (int64_t x = 0; x < width; x += COLOURS * LANES) {
        Ints a{}, b{}, c{};
        if (begun) {
            a = load(open + x);
            b = load(open + x + LANES);
            c = load(open + x + 2 * LANES);
        }
        const int32_t* weights = first_weights;
        const Pairs* rows = first_rows + x / LANES;
        for (int64_t tap = from; tap < to; tap += 2) {
            a = add_products(a, rows[0], *weights);
            b = add_products(b, rows[1], *weights);
            c = add_products(c, rows[2], *weights);
            rows += vectors;
            weights += axis.stride;
        }
        if (done) {
            round_levels<GRID_BITS>(resized + y * width + x, a);
            round_levels<GRID_BITS>(resized + y * width + x + LANES, b);
            round_levels<GRID_BITS>(resized + y * width + x + 2 * LANES, c);
        } else {
            store(open + x, a);
            store(open + x + LANES, b);
            store(open + x + 2 * LANES, c);
        }
    }
}

}  // namespace

Resampler take_resampler(Arena& arena, const Crop& crop) {
    Resampler resampler{};
    resampler.horizontal = take_axis(arena, crop.size, crop.width, crop.filter);
    resampler.vertical = take_axis(arena, crop.size, crop.height, crop.filter);
    resampler.padded = round_up(crop.size, LANES);
    resampler.open_rows = static_cast<int>(count_open_rows(crop.size, crop.height, crop.filter));
    const int64_t width = COLOURS * resampler.padded;
    resampler.doubles = arena.take<double>(
        most(axis_doubles(crop.size, crop.width, crop.filter), axis_doubles(crop.size, crop.height, crop.filter)));
    resampler.columns = arena.take<uint8_t>((BLOCK + 1) * COLOURS * LANES);  // one more: the last of an odd number has a partner
    resampler.tile = arena.take<Pairs>(BLOCK / 2 * COLOURS);
    resampler.sums = arena.take<int32_t>(width * LANES);
    resampler.narrow = arena.take<uint8_t>(width * LANES);
    resampler.rows = arena.take<Pairs>(LANES / 2 * width / LANES);
    resampler.open = arena.take<int32_t>(resampler.open_rows * width);
    return resampler;
}

void resample(const Resampler& resampler, const Crop& crop, uint8_t* resized) {
    fill_axis(resampler.horizontal, crop.filter, resampler.doubles);
    fill_axis(resampler.vertical, crop.filter, resampler.doubles);
    for (int64_t i = 0; i < COLOURS * resampler.padded * LANES; ++i) resampler.sums[i] = 0;  // also the padding's
    const Axis& axis = resampler.vertical;
    int unfinished = 0;
    for (int64_t begin = 0; begin < crop.height; begin += LANES) {
        const int64_t end = least<int64_t>(begin + LANES, round_up(crop.height, 2));
        resample_rows(resampler, crop, begin);
        int y = unfinished;
        for (; y < axis.size && axis.first[y] < end; ++y) {
            add_rows(resampler, y, begin, end, resized);
            if (axis.last[y] <= end && y == unfinished) ++unfinished;
        }
    }
}

}  // namespace HJEPA_ISA
}  // namespace hjepa
