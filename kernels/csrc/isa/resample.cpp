// The resize goes over the source once, 16 rows at a time. A block of source pixels is transposed, so that the rows are the lanes
// of a vector and a tap is one multiply-add for 16 of them; its sums are transposed back and added to the output rows that use
// them. Memory depends on the output's size alone: sums are exact (weights.h), so they can be interrupted anywhere.

#include "resample.h"

namespace hjepa {
namespace HJEPA_ISA {

namespace {

constexpr int BLOCK = 128;  // source columns that are transposed at once; their floats fit into the first-level cache
constexpr int COLOURS = 3;

inline int64_t count_open_rows(int size, int64_t length, Filter filter) {
    const double scale = static_cast<double>(length) / size;
    const double support = (filter == Filter::bicubic ? 2.0 : 1.0) * most(scale, 1.0);
    return least<int64_t>(size, static_cast<int64_t>((2 * support + 2) / scale) + 2);
}

// Levels from 0 to 255 nearest to the sums, halves upwards: (sum + 1/2) cut off, as PIL does in integers.
inline void round_levels(const float* sums, uint8_t* levels, int64_t count) {
    for (int64_t i = 0; i < count; i += LANES) narrow(levels + i, clamp_level(load(sums + i)) + 0.5f);
}

// 16 rows of `count` bytes -> [count, 16 rows] as floats. Never reads beyond a row's bytes.
void transpose_rows(const uint8_t* const (&rows)[LANES], int64_t count, float* to) {
    constexpr int64_t step = SQUARES * LANES;
    for (int64_t at = 0; at < count && count >= step; at += step) {
        const int64_t column = least(at, count - step);  // the last squares overlap those before them
        Bytes squares[LANES];
        for (int row = 0; row < LANES; ++row) __builtin_memcpy(&squares[row], rows[row] + column, sizeof(Bytes));
        transpose(squares);
        for (int row = 0; row < LANES; ++row) {
            const uint8_t* bytes = reinterpret_cast<const uint8_t*>(&squares[row]);
            for (int square = 0; square < SQUARES; ++square) {
                store(to + (column + square * LANES + row) * LANES, widen(bytes + square * LANES));
            }
        }
    }
    for (int64_t at = 0; at < count && count < step; ++at) {
        for (int row = 0; row < LANES; ++row) to[at * LANES + row] = static_cast<float>(rows[row][at]);
    }
}

// Levels [count, 16 rows] -> 16 rows of `count`, as floats that lie `stride` apart. count is a multiple of 16.
void transpose_columns(const uint8_t* columns, int64_t count, float* to, int64_t stride) {
    for (int64_t at = 0; at < count; at += SQUARES * LANES) {
        const int used = static_cast<int>(least<int64_t>(SQUARES, (count - at) / LANES));
        Bytes squares[LANES] = {};
        for (int column = 0; column < LANES; ++column) {
            uint8_t* bytes = reinterpret_cast<uint8_t*>(&squares[column]);
            for (int square = 0; square < used; ++square) {
                __builtin_memcpy(bytes + square * LANES, columns + (at + square * LANES + column) * LANES, LANES);
            }
        }
        transpose(squares);
        for (int row = 0; row < LANES; ++row) {
            const uint8_t* bytes = reinterpret_cast<const uint8_t*>(&squares[row]);
            for (int square = 0; square < used; ++square) {
                store(to + row * stride + at + square * LANES, widen(bytes + square * LANES));
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
        float* sums = resampler.sums + static_cast<int64_t>(flip ? axis.size - 1 - x : x) * LANES;
        const int64_t plane = resampler.padded * LANES;
        Floats red{}, green{}, blue{};
        if (axis.first[x] < begin) {
            red = load(sums);
            green = load(sums + plane);
            blue = load(sums + 2 * plane);
        }
        const float* weight = axis.weights + (from - axis.first[x]) * axis.stride + x;
        const float* tile = resampler.tile + (from - begin) * COLOURS * LANES;
        for (int64_t column = from; column < to; ++column) {
            red = multiply_add(load(tile), *weight, red);
            green = multiply_add(load(tile + LANES), *weight, green);
            blue = multiply_add(load(tile + 2 * LANES), *weight, blue);
            tile += COLOURS * LANES;
            weight += axis.stride;
        }
        store(sums, red);
        store(sums + plane, green);
        store(sums + 2 * plane, blue);
    }
    return least(unfinished, x);
}

// 16 source rows from `top` on (those beyond the box repeat its last) -> rows [16, 3, P].
void resample_rows(const Resampler& resampler, const Crop& crop, int64_t top) {
    const uint8_t* starts[LANES];
    for (int row = 0; row < LANES; ++row) {
        const int64_t y = crop.top + least(top + row, crop.height - 1);
        starts[row] = crop.pixels + (y * crop.image_width + crop.left) * COLOURS;
    }
    int unfinished = 0;
    for (int64_t begin = 0; begin < crop.width; begin += BLOCK) {
        const int64_t end = least(begin + BLOCK, crop.width);
        transpose_rows(starts, (end - begin) * COLOURS, resampler.tile);
        unfinished = add_columns(resampler, crop.flip, unfinished, begin, end);
        for (int row = 0; row < LANES; ++row) starts[row] += BLOCK * COLOURS;
    }
    const int64_t width = COLOURS * resampler.padded;
    round_levels(resampler.sums, resampler.narrow, width * LANES);
    transpose_columns(resampler.narrow, width, resampler.rows, width);
}

// Adds source rows [begin, end) to one output row; rounds it when they hold its last tap.
void add_rows(const Resampler& resampler, int y, int64_t begin, int64_t end, uint8_t* resized) {
    const Axis& axis = resampler.vertical;
    const int64_t width = COLOURS * resampler.padded;
    const int64_t from = most<int64_t>(axis.first[y], begin), to = least<int64_t>(axis.last[y], end);
    const bool begun = axis.first[y] < begin, done = axis.last[y] <= end;
    float* open = resampler.open + (y % resampler.open_rows) * width;
    float* result = done ? resampler.finished : open;
    const float* first_weight = axis.weights + (from - axis.first[y]) * axis.stride + y;
    for (int64_t x = 0; x < width; x += COLOURS * LANES) {
        Floats a{}, b{}, c{};
        if (begun) {
            a = load(open + x);
            b = load(open + x + LANES);
            c = load(open + x + 2 * LANES);
        }
        const float* weight = first_weight;
        const float* row = resampler.rows + (from - begin) * width + x;
        for (int64_t tap = from; tap < to; ++tap) {
            a = multiply_add(load(row), *weight, a);
            b = multiply_add(load(row + LANES), *weight, b);
            c = multiply_add(load(row + 2 * LANES), *weight, c);
            row += width;
            weight += axis.stride;
        }
        store(result + x, a);
        store(result + x + LANES, b);
        store(result + x + 2 * LANES, c);
    }
    if (done) round_levels(resampler.finished, resized + y * width, width);
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
    resampler.tile = arena.take<float>(BLOCK * COLOURS * LANES);
    resampler.sums = arena.take<float>(width * LANES);
    resampler.narrow = arena.take<uint8_t>(width * LANES);
    resampler.rows = arena.take<float>(LANES * width);
    resampler.open = arena.take<float>(resampler.open_rows * width);
    resampler.finished = arena.take<float>(width);
    return resampler;
}

void resample(const Resampler& resampler, const Crop& crop, uint8_t* resized) {
    fill_axis(resampler.horizontal, crop.filter, resampler.doubles);
    fill_axis(resampler.vertical, crop.filter, resampler.doubles);
    for (int64_t i = 0; i < COLOURS * resampler.padded * LANES; ++i) resampler.sums[i] = 0;  // also the padding's
    const Axis& axis = resampler.vertical;
    int unfinished = 0;
    for (int64_t begin = 0; begin < crop.height; begin += LANES) {
        const int64_t end = least<int64_t>(begin + LANES, crop.height);
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
