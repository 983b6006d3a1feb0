// PIL's antialiased weights (Resample.c, precompute_coeffs), with loops whose lanes are the output pixels.

#include "weights.h"

namespace hjepa {
namespace HJEPA_ISA {

namespace {

inline double filter_scale(int size, int64_t length) { return most(static_cast<double>(length) / size, 1.0); }

inline double support_of(int size, int64_t length, Filter filter) {
    return (filter == Filter::bicubic ? 2.0 : 1.0) * filter_scale(size, length);
}

inline int taps_of(int size, int64_t length, Filter filter) {
    const int64_t widest = static_cast<int64_t>(__builtin_ceil(support_of(size, length, filter))) * 2 + 1;
    return static_cast<int>(least(widest, length));
}

inline double bicubic(double distance) {  // Keys' cubic convolution with a = -1/2, as in PIL
    const double near = ((1.5 * distance - 2.5) * distance) * distance + 1.0;
    const double far = (((distance - 5.0) * distance + 8.0) * distance - 4.0) * -0.5;
    return distance < 1.0 ? near : distance < 2.0 ? far : 0.0;
}

inline double bilinear(double distance) { return distance < 1.0 ? 1.0 - distance : 0.0; }

// Sum of each output pixel's raw weights, and the raw weights [most_taps, size] themselves.
template <double (*filter)(double)>
void raw_weights(const Axis& axis, double* __restrict raw, double* __restrict sums) {
    const double scale = static_cast<double>(axis.length) / axis.size;
    const double inverse = 1.0 / filter_scale(axis.size, axis.length);
    for (int x = 0; x < axis.size; ++x) sums[x] = 0;
    for (int tap = 0; tap < axis.most_taps; ++tap) {
        double* __restrict row = raw + static_cast<int64_t>(tap) * axis.size;
        for (int x = 0; x < axis.size; ++x) {
            const int at = axis.first[x] + tap;
            const double offset = (at - (x + 0.5) * scale + 0.5) * inverse;
            const double weight = filter(offset < 0 ? -offset : offset);
            row[x] = at < axis.last[x] ? weight : 0.0;
            sums[x] += row[x];
        }
    }
}

}  // namespace

int64_t axis_doubles(int size, int64_t length, Filter filter) {
    return (taps_of(size, length, filter) + 2) * static_cast<int64_t>(size);
}

Axis take_axis(Arena& arena, int size, int64_t length, Filter filter) {
    Axis axis{};
    axis.size = size;
    axis.length = length;
    axis.most_taps = taps_of(size, length, filter);
    axis.stride = round_up(size, LANES);
    axis.first = arena.take<int32_t>(size);
    axis.last = arena.take<int32_t>(size);
    axis.weights = arena.take<float>(axis.most_taps * axis.stride);
    return axis;
}

void fill_axis(const Axis& axis, Filter filter, double* doubles) {
    const double scale = static_cast<double>(axis.length) / axis.size;
    const double support = support_of(axis.size, axis.length, filter);
    const double length = static_cast<double>(axis.length);
    for (int x = 0; x < axis.size; ++x) {
        const double center = (x + 0.5) * scale;
        axis.first[x] = static_cast<int32_t>(most(center - support + 0.5, 0.0));
        axis.last[x] = static_cast<int32_t>(least(center + support + 0.5, length));
    }
    double* sums = doubles;
    double* __restrict running = doubles + axis.size;
    const double* raw = doubles + 2 * static_cast<int64_t>(axis.size);
    if (filter == Filter::bicubic) {
        raw_weights<bicubic>(axis, doubles + 2 * static_cast<int64_t>(axis.size), sums);
    } else {
        raw_weights<bilinear>(axis, doubles + 2 * static_cast<int64_t>(axis.size), sums);
    }
    // The running sum is rounded, not the weights: they add up to exactly 1, and errors of neighbours cancel.
    constexpr double grid = 1 << GRID_BITS;
    for (int x = 0; x < axis.size; ++x) sums[x] = grid / sums[x];
    for (int x = 0; x < axis.size; ++x) running[x] = 0;
    for (int tap = 0; tap < axis.most_taps; ++tap) {
        const double* __restrict row = raw + static_cast<int64_t>(tap) * axis.size;
        float* __restrict weights = axis.weights + tap * axis.stride;
        for (int x = 0; x < axis.size; ++x) {
            const double before = __builtin_floor(running[x] + 0.5);
            running[x] += row[x] * sums[x];
            weights[x] = static_cast<float>((__builtin_floor(running[x] + 0.5) - before) / grid);
        }
    }
}

}  // namespace HJEPA_ISA
}  // namespace hjepa
