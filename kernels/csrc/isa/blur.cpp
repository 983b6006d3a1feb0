// Along the columns first, on a ring of rows, then along the row, which is cheaper than the two-dimensional window by half its side.
// All in integers: two taps are one multiply-add, and sums are exact, so that all builds agree.

#include "blur.h"

#include "weights.h"

namespace hjepa {
namespace HJEPA_ISA {

namespace {

constexpr int LINE_BITS = 7;  // of a level's fraction between the two passes, for 15 bits in all

// Place of -1, -2, ... and of size, size + 1, ... among 0 ... size - 1: mirrored at the borders' own pixels, again and again.
inline int reflect(int place, int size) {
    const int mirrored = place < 0 ? -place : place < size ? place : 2 * (size - 1) - place;
    if (mirrored >= 0 && mirrored < size) return mirrored;  // nearly always; a division takes as long as a vector of levels
    if (size == 1) return 0;
    const int period = 2 * (size - 1);
    const int rest = ((place % period) + period) % period;
    return rest < size ? rest : period - rest;
}

inline int32_t* pair_row(const Blur& blur, int number) {
    return blur.ring + static_cast<int64_t>(number % blur.ring_pairs) * 3 * blur.padded;
}

// Of the window's places 0, 1, ..., 2 radius, and none beside it.
inline int32_t weight_at(const Blur& blur, int place) {
    const int distance = place < blur.radius ? blur.radius - place : place - blur.radius;
    return distance <= blur.radius ? blur.weights[distance] : 0;
}

// Pair `number` of the rows -radius, -radius + 1, ...
void enter_pair(const Blur& blur, const uint8_t* rows, int size, int number) {
    const int64_t width = 3 * blur.padded;
    const uint8_t* first = rows + reflect(PAIR * number - blur.radius, size) * width;
    const uint8_t* second = rows + reflect(PAIR * number + 1 - blur.radius, size) * width;
    int32_t* to = pair_row(blur, number);
    for (int64_t i = 0; i < width; i += LANES) store_pairs(to + i, first + i, second + i);
}

// Both rows of one colour. KNOWN is the radius where the compiler is to know it, for loops without branches; else -1.
template <int KNOWN> void blur_columns(const Blur& blur, int64_t plane, int16_t* line, int16_t* next_line) {
    const int radius = KNOWN < 0 ? blur.radius : KNOWN;
    for (int64_t x = 0; x < blur.padded; x += LANES) {
        Ints sums = all(1 << (GRID_BITS - LINE_BITS - 1)), next_sums = sums;
        for (int k = 0; k <= radius; ++k) {
            const Ints pairs = load(blur.pairs[k] + plane + x);
            add_pairs(sums, pairs, blur.even[k]);
            add_pairs(next_sums, pairs, blur.odd[k]);
        }
        store_shorts<GRID_BITS - LINE_BITS>(line + x, sums);
        store_shorts<GRID_BITS - LINE_BITS>(next_line + x, next_sums);
    }
}

// One colour of a row, which has room for `blur.border` pixels on either side, along the row.
template <int KNOWN> void blur_line(const Blur& blur, int size, int16_t* line, uint8_t* to) {
    const int radius = KNOWN < 0 ? blur.radius : KNOWN;
    for (int k = 1; k <= radius; ++k) {
        line[-k] = line[reflect(-k, size)];
        line[size - 1 + k] = line[reflect(size - 1 + k, size)];
    }
    for (int64_t x = 0; x < blur.padded; x += PAIR * LANES) {
        Ints even = all(1 << (GRID_BITS + LINE_BITS - 1)), odd = even;
        for (int k = 0; k <= radius; ++k) {
            const Ints pairs = load_pairs(line + x - radius + PAIR * k);
            add_pairs(even, pairs, blur.even[k]);
            add_pairs(odd, pairs, blur.odd[k]);
        }
        store_levels<GRID_BITS + LINE_BITS>(to + x, even, odd);
    }
}

template <int KNOWN> void blur_both(const Blur& blur, int size, uint8_t* blurred, uint8_t* next_blurred) {
    int16_t *line = blur.lines + blur.border, *next_line = line + blur.line_length;
    for (int colour = 0; colour < 3; ++colour) {
        const int64_t plane = colour * blur.padded;
        blur_columns<KNOWN>(blur, plane, line, next_line);
        blur_line<KNOWN>(blur, size, line, blurred + plane);
        blur_line<KNOWN>(blur, size, next_line, next_blurred + plane);
    }
}

}  // namespace

Blur take_blur(Arena& arena, const Crop& crop, int64_t padded) {
    Blur blur{};
    blur.radius = crop.blur_window / 2;
    blur.padded = padded;
    blur.weights = arena.take<int32_t>(blur.radius + 1);
    blur.even = arena.take<int32_t>(blur.radius + 1);
    blur.odd = arena.take<int32_t>(blur.radius + 1);
    blur.pairs = arena.take<const int32_t*>(blur.radius + 1);
    blur.ring_pairs = least(blur.radius + 1, most(crop.size - 1, 1));
    blur.ring = arena.take<int32_t>(blur.ring_pairs * 3 * padded);
    blur.border = round_up(blur.radius, PAIR * LANES);
    blur.line_length = blur.border + padded + blur.border + 2 * PAIR * LANES;
    blur.lines = arena.take<int16_t>(2 * blur.line_length);
    return blur;
}

void fill_weights(Blur& blur, float sigma) {
    const auto bell = [sigma](int k) { return __builtin_exp(-0.5 * (k / double{sigma}) * (k / double{sigma})); };
    double sum = 0;
    for (int k = -blur.radius; k <= blur.radius; ++k) sum += bell(k);
    // As in the resize, the running sum is rounded: from the outside on, and the centre has what is left of 1.
    double running = 0;
    int32_t outside = 0;
    for (int k = blur.radius; k > 0; --k) {
        running += bell(k) / sum * (1 << GRID_BITS);
        blur.weights[k] = static_cast<int32_t>(running + 0.5) - outside;
        outside += blur.weights[k];
    }
    blur.weights[0] = (1 << GRID_BITS) - 2 * outside;
    while (blur.radius > 0 && blur.weights[blur.radius] == 0) --blur.radius;
    for (int k = 0; k <= blur.radius; ++k) {
        const int32_t center = weight_at(blur, PAIR * k);
        blur.even[k] = pair_of(center, weight_at(blur, PAIR * k + 1));
        blur.odd[k] = pair_of(weight_at(blur, PAIR * k - 1), center);
    }
}

void blur_rows(const Blur& blur, const uint8_t* rows, int size, int y, uint8_t* blurred, uint8_t* next_blurred) {
    const int first = y / PAIR;
    for (int k = y == 0 ? 0 : blur.radius; k <= blur.radius; ++k) enter_pair(blur, rows, size, first + k);
    for (int k = 0; k <= blur.radius; ++k) blur.pairs[k] = pair_row(blur, first + k);
    switch (blur.radius) {
        case 1: return blur_both<1>(blur, size, blurred, next_blurred);
        case 2: return blur_both<2>(blur, size, blurred, next_blurred);
        case 3: return blur_both<3>(blur, size, blurred, next_blurred);
        case 4: return blur_both<4>(blur, size, blurred, next_blurred);
        default: return blur_both<-1>(blur, size, blurred, next_blurred);
    }
}

}  // namespace HJEPA_ISA
}  // namespace hjepa
