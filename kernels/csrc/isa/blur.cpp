// Along the columns first, on a ring of rows, then along the row, which is cheaper than the two-dimensional window by half its side.
// Sums have one order and no multiply-add, so that all builds agree.

#include "blur.h"

namespace hjepa {
namespace HJEPA_ISA {

namespace {

constexpr double NEGLIGIBLE = 1e-8;  // of the central weight: far below a float's 24 bits of a level

// Place of -1, -2, ... and of size, size + 1, ... among 0 ... size - 1: mirrored at the borders' own pixels, again and again.
inline int reflect(int place, int size) {
    if (size == 1) return 0;
    const int period = 2 * (size - 1);
    const int rest = ((place % period) + period) % period;
    return rest < size ? rest : period - rest;
}

inline float* row_of(const Blur& blur, int size, int y) {
    return blur.ring + static_cast<int64_t>(y % least(2 * blur.radius + 1, size)) * 3 * blur.padded;
}

void enter_row(const Blur& blur, const uint8_t* rows, int size, int y) {
    float* row = row_of(blur, size, y);
    const int64_t width = 3 * blur.padded;
    for (int64_t i = 0; i < width; i += LANES) store(row + i, widen(rows + y * width + i));
}

// KNOWN is the radius where the compiler is to know it, for loops without branches; else 0.
template <int KNOWN> void blur_columns(const Blur& blur, int radius, const float* center, int64_t plane, float* to) {
    if (KNOWN) radius = KNOWN;
    for (int64_t x = plane; x < plane + blur.padded; x += LANES) {
        Floats sum = load(center + x) * blur.weights[0];
        for (int k = 1; k <= radius; ++k) sum = sum + (load(blur.above[k] + x) + load(blur.below[k] + x)) * blur.weights[k];
        store(to + x - plane, sum);
    }
}

// One colour of a row, which has room for `blur.border` pixels on either side, along the row.
template <int KNOWN> void blur_line(const Blur& blur, int radius, int size, float* line, float* to) {
    if (KNOWN) radius = KNOWN;
    for (int k = 1; k <= radius; ++k) {
        line[-k] = line[reflect(-k, size)];
        line[size - 1 + k] = line[reflect(size - 1 + k, size)];
    }
    for (int64_t x = 0; x < blur.padded; x += LANES) {
        Floats sum = load(line + x) * blur.weights[0];
        for (int k = 1; k <= radius; ++k) sum = sum + (load(line + x - k) + load(line + x + k)) * blur.weights[k];
        store(to + x, round_even(sum));  // halves to even, as torch rounds
    }
}

template <int KNOWN> void blur_both(const Blur& blur, int radius, int size, const float* center, float* blurred) {
    for (int colour = 0; colour < 3; ++colour) {
        const int64_t plane = colour * blur.padded;
        float* line = blur.line + blur.border;
        blur_columns<KNOWN>(blur, radius, center, plane, line);
        blur_line<KNOWN>(blur, radius, size, line, blurred + plane);
    }
}

}  // namespace

Blur take_blur(Arena& arena, const Crop& crop, int64_t padded) {
    Blur blur{};
    blur.radius = crop.blur_window / 2;
    blur.padded = padded;
    blur.weights = arena.take<float>(blur.radius + 1);
    blur.above = arena.take<const float*>(blur.radius + 1);
    blur.below = arena.take<const float*>(blur.radius + 1);
    blur.ring = arena.take<float>(static_cast<int64_t>(least(2 * blur.radius + 1, crop.size)) * 3 * padded);
    blur.border = round_up(blur.radius, LANES);
    blur.line = arena.take<float>(blur.border + padded + blur.border);
    return blur;
}

int fill_weights(const Blur& blur, float sigma) {
    const auto bell = [sigma](int k) { return __builtin_exp(-0.5 * (k / double{sigma}) * (k / double{sigma})); };
    double sum = 0;
    for (int k = -blur.radius; k <= blur.radius; ++k) sum += bell(k);
    int radius = 0;
    for (int k = 0; k <= blur.radius; ++k) {
        blur.weights[k] = static_cast<float>(bell(k) / sum);
        if (bell(k) > NEGLIGIBLE) radius = k;
    }
    return radius;
}

void blur_row(const Blur& blur, int radius, const uint8_t* rows, int size, int y, float* blurred) {
    const int ahead = least(size - 1, y + blur.radius);
    for (int row = y == 0 ? 0 : y + blur.radius; row <= ahead; ++row) enter_row(blur, rows, size, row);
    for (int k = 1; k <= radius; ++k) {
        blur.above[k] = row_of(blur, size, reflect(y - k, size));
        blur.below[k] = row_of(blur, size, reflect(y + k, size));
    }
    const auto blur_it = radius == 4 ? blur_both<4> : radius == 3 ? blur_both<3> : radius == 2 ? blur_both<2> : blur_both<0>;
    blur_it(blur, radius, size, row_of(blur, size, y), blurred);
}

}  // namespace HJEPA_ISA
}  // namespace hjepa
