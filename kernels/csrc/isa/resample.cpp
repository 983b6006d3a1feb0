// The resize goes over the source once, 16 rows at a time. A block of source pixels is regrouped, so that the rows are the lanes
// of a vector and two taps are one multiply-add for 16 of them; what it gives is turned back and added to the output rows that use
// it. Memory depends on the output's size alone: sums are exact (weights.h), so they can be interrupted anywhere.

#include "resample.h"

namespace hjepa {
namespace HJEPA_ISA {

namespace {

constexpr int BLOCK = 256;  // source columns that are regrouped at once; of fours, and little enough for the first-level cache
constexpr bool WHOLE_COLUMNS = GROUP == 2;  // see add_whole_columns; not measured with groups of four

inline int64_t count_open_rows(int size, int64_t length, Filter filter) {
    const double scale = static_cast<double>(length) / size;
    const double support = (filter == Filter::bicubic ? 2.0 : 1.0) * most(scale, 1.0);
    return least<int64_t>(size, static_cast<int64_t>((2 * support + 2) / scale) + 2);
}

// A sum with nothing in it but the half that rounds it.
inline Sums fresh() {
    Ints halves;
    for (int i = 0; i < REGISTERS; ++i) halves.parts[i] = IntRegister{} + (1 << (GRID_BITS - 1));
    Sums sums;
    start(sums, halves);
    return sums;
}

// Where 16 rows of pixels start, and how many bytes apart.
struct Rows {
    const uint8_t* first;
    int64_t stride;
};

// 16 source rows of a block of `count` columns from `column` on: where they lie, or copied, where not all that may be read is
// the image's. Rows beyond the box are the image's next ones or its last one; they have no weight.
Rows find_rows(const Resampler& resampler, const Crop& crop, int64_t top, int64_t column, int64_t count) {
    const int64_t stride = crop.image_width * COLOURS;
    const int64_t first = (crop.top + top) * stride + (crop.left + column) * COLOURS, end = crop.image_height * stride;
    const int64_t read = round_up(count, QUAD) * COLOURS + QUAD_BYTES - QUAD * COLOURS;
    if (first + (LANES - 1) * stride + read <= end) return {crop.pixels + first, stride};
    constexpr int64_t copied = BLOCK * COLOURS + QUAD_BYTES;
    for (int64_t row = 0; row < LANES; ++row) {
        const int64_t start = first + least(row, crop.image_height - 1 - crop.top - top) * stride;
        __builtin_memcpy(resampler.copy + row * copied, crop.pixels + start, static_cast<size_t>(least(read, end - start)));
    }
    return {resampler.copy, copied};
}

// Of the output pixel that has the most taps.
int most_groups(const Axis& axis) {
    int32_t most_taps = 0;
    for (int x = 0; x < axis.size; ++x) most_taps = most(most_taps, axis.last[x] - axis.first[x]);
    return most_taps / GROUP;
}

// The finished output column x, as levels.
inline void finish(const Resampler& resampler, int x, const Sums& red, const Sums& green, const Sums& blue) {
    uint8_t* slot = resampler.narrow + resampler.slots[x];
    cut_column<GRID_BITS>(slot, resampler.padded * LANES, {total(red), total(green), total(blue)});
}

// Output columns from `x` on, as long as `groups` groups from their first on lie in the block's columns [begin, end): all that
// they have, and others without weight, so that each column takes as many turns as the last and the processor foresees the end.
// Returns the first column that is left. The resampler is a copy: as levels are stored, it would have to be read again.
int add_whole_columns(const Resampler resampler, int x, int64_t begin, int64_t end, int groups) {
    const Axis& axis = resampler.horizontal;
    const int64_t stride = axis.stride, last = end - groups * GROUP;
    for (; x < axis.size && axis.first[x] <= last; ++x) {
        Sums red = fresh(), green = fresh(), blue = fresh();
        const Taps* tile = resampler.tile + static_cast<uint64_t>(axis.first[x] - begin) / GROUP * COLOURS;
        const int32_t* weights = axis.weights + x;
        int number = 0;
        do {
            const Weights group = load_weights(weights, stride);
            add_products(red, tile[0], group);
            add_products(green, tile[1], group);
            add_products(blue, tile[2], group);
            tile += COLOURS;
            weights += WEIGHTS * stride;
        } while (++number < groups);
        finish(resampler, x, red, green, blue);
    }
    return x;
}

// Adds the block's columns [begin, end) to the output columns that use them, from `x` on; returns the first unfinished one.
int add_columns(const Resampler& resampler, int x, int64_t begin, int64_t end, int groups) {
    const Axis& axis = resampler.horizontal;
    const int64_t plane = resampler.padded * LANES;
    int unfinished = axis.size;
    for (; x < axis.size && axis.first[x] < end; ++x) {
        if (WHOLE_COLUMNS && axis.first[x] >= begin) {
            x = add_whole_columns(resampler, x, begin, end, groups);
            if (x == axis.size || axis.first[x] >= end) break;
        }
        const int64_t from = most<int64_t>(axis.first[x], begin), to = least<int64_t>(axis.last[x], end);
        int32_t* sums = resampler.sums + static_cast<int64_t>(x) * LANES;
        Sums red = fresh(), green = fresh(), blue = fresh();
        if (axis.first[x] < begin) {
            start(red, load(sums));
            start(green, load(sums + plane));
            start(blue, load(sums + 2 * plane));
        }
        const int32_t* weights = axis.weights + (from - axis.first[x]) / GROUP * WEIGHTS * axis.stride + x;
        const Taps* tile = resampler.tile + (from - begin) / GROUP * COLOURS;
        for (int64_t column = from; column < to; column += GROUP) {
            const Weights group = load_weights(weights, axis.stride);
            add_products(red, tile[0], group);
            add_products(green, tile[1], group);
            add_products(blue, tile[2], group);
            tile += COLOURS;
            weights += WEIGHTS * axis.stride;
        }
        if (axis.last[x] <= end) {
            finish(resampler, x, red, green, blue);
        } else {
            unfinished = least(unfinished, x);
            store(sums, total(red));
            store(sums + plane, total(green));
            store(sums + 2 * plane, total(blue));
        }
    }
    return least(unfinished, x);
}

// 16 source rows from `top` on -> rows.
void resample_rows(const Resampler& resampler, const Crop& crop, int64_t top, int groups) {
    int unfinished = 0;
    for (int64_t begin = 0; begin < crop.width; begin += BLOCK) {
        const int64_t count = least<int64_t>(BLOCK, crop.width - begin), end = begin + round_up(count, QUAD);
        const Rows rows = find_rows(resampler, crop, top, begin, count);
        for (int64_t quad = 0; quad < (end - begin) / QUAD; ++quad) {
            Quads colours[COLOURS];
            gather(rows.first + quad * QUAD * COLOURS, rows.stride, colours);
            Taps* tile = resampler.tile + quad * GROUPS * COLOURS;
            for (int colour = 0; colour < COLOURS; ++colour) split(colours[colour], tile + colour, COLOURS);
        }
        unfinished = add_columns(resampler, unfinished, begin, end, groups);
    }
    const int64_t vectors = COLOURS * resampler.padded / LANES;
    for (int64_t vector = 0; vector < vectors; ++vector) {
        Quads rows[QUAD];
        turn(resampler.narrow, vector, vectors, rows);
        for (int quad = 0; quad < QUAD; ++quad) split(rows[quad], resampler.rows + quad * GROUPS * vectors + vector, vectors);
    }
}

// Adds source rows [begin, end) to one output row; rounds it when they hold its last tap.
void add_rows(const Resampler& resampler, int y, int64_t begin, int64_t end, uint8_t* resized) {
    const Axis& axis = resampler.vertical;
    const int64_t width = COLOURS * resampler.padded, vectors = width / LANES;
    const int64_t from = most<int64_t>(axis.first[y], begin), to = least<int64_t>(axis.last[y], end);
    const bool begun = axis.first[y] < begin, done = axis.last[y] <= end;
    int32_t* open = resampler.open + (y % resampler.open_rows) * width;
    const int32_t* first_weights = axis.weights + (from - axis.first[y]) / GROUP * WEIGHTS * axis.stride + y;
    const Taps* first_rows = resampler.rows + (from - begin) / GROUP * vectors;
    for (int64_t x = 0; x < width; x += COLOURS * LANES) {
        Sums a = fresh(), b = fresh(), c = fresh();
        if (begun) {
            start(a, load(open + x));
            start(b, load(open + x + LANES));
            start(c, load(open + x + 2 * LANES));
        }
        const int32_t* weights = first_weights;
        const Taps* rows = first_rows + x / LANES;
        for (int64_t tap = from; tap < to; tap += GROUP) {
            const Weights group = load_weights(weights, axis.stride);
            add_products(a, rows[0], group);
            add_products(b, rows[1], group);
            add_products(c, rows[2], group);
            rows += vectors;
            weights += WEIGHTS * axis.stride;
        }
        if (done) {
            uint8_t* levels = resized + y * width + x;
            cut_levels<GRID_BITS>({levels, levels + LANES, levels + 2 * LANES}, {total(a), total(b), total(c)});
        } else {
            store(open + x, total(a));
            store(open + x + LANES, total(b));
            store(open + x + 2 * LANES, total(c));
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
    resampler.copy = arena.take<uint8_t>(LANES * (BLOCK * COLOURS + QUAD_BYTES));
    resampler.slots = arena.take<int32_t>(crop.size);
    resampler.tile = arena.take<Taps>(BLOCK / GROUP * COLOURS);
    resampler.sums = arena.take<int32_t>(width * LANES);
    resampler.narrow = arena.take<uint8_t>(slots_bytes(resampler.padded));
    resampler.rows = arena.take<Taps>(LANES / GROUP * width / LANES);
    resampler.open = arena.take<int32_t>(resampler.open_rows * width);
    return resampler;
}

void resample(const Resampler& resampler, const Crop& crop, uint8_t* resized) {
    fill_axis(resampler.horizontal, crop.filter, resampler.doubles);
    fill_axis(resampler.vertical, crop.filter, resampler.doubles);
    const int groups = WHOLE_COLUMNS ? most_groups(resampler.horizontal) : 0;
    __builtin_memset(resampler.narrow, 0, static_cast<size_t>(slots_bytes(resampler.padded)));  // also the padding's
    for (int x = 0; x < crop.size; ++x) {
        const int column = crop.flip ? crop.size - 1 - x : x;
        resampler.slots[x] = slot_of(static_cast<unsigned>(column));
    }
    const Axis& axis = resampler.vertical;
    int unfinished = 0;
    for (int64_t begin = 0; begin < crop.height; begin += LANES) {
        const int64_t end = least<int64_t>(begin + LANES, round_up(crop.height, QUAD));
        resample_rows(resampler, crop, begin, groups);
        int y = unfinished;
        for (; y < axis.size && axis.first[y] < end; ++y) {
            add_rows(resampler, y, begin, end, resized);
            if (axis.last[y] <= end && y == unfinished) ++unfinished;
        }
    }
}

}  // namespace HJEPA_ISA
}  // namespace hjepa
