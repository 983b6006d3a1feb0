// PIL's antialiased weights (Resample.c, precompute_coeffs), with loops whose lanes are the output pixels.

#include "weights.h"

namespace hjepa {
namespace HJEPA_ISA {

namespace {

inline double filter_scale(int size, int64_t length) { return most(static_cast<double>(length) / size, 1.0); }

inline double support_of(int size, int64_t length, Filter filter) {
    return (filter == Filter::bicubic ? 2.0 : 1.0) * filter_scale(size, length);
}

inline int pairs_of(int size, int64_t length, Filter filter) {
    const int64_t widest = static_cast<int64_t>(__builtin_ceil(support_of(size, length, filter))) * 2 + 1;
    return static_cast<int>(least(widest, length) / 2 + 1);
}

inline double bicubic(double distance) {  // Keys' cubic convolution with a = -1/2, as in PIL
    const double near = ((1.5 * distance - 2.5) * distance) * distance + 1.0;
    const double far = (((distance - 5.0) * distance + 8.0) * distance - 4.0) * -0.5;
    return distance < 1.0 ? near : distance < 2.0 ? far : 0.0;
}

inline double bilinear(double distance) { return distance < 1.0 ? 1.0 - distance : 0.0; }

// Halves upwards; the running sum is above -2^15, so that what is cut off is never negative.
inline int32_t nearest(double sum) { return static_cast<int32_t>(sum + (32768 + 0.5)) - 32768; }

// Sum of each output pixel's raw weights, and the raw weights [2 most_pairs, size] themselves.
template <double (*filter)(double)>
void raw_weights(const Axis& axis, double* __restrict raw, double* __restrict sums) {
    const double scale = static_cast<double>(axis.length) / axis.size;
    const double inverse = 1.0 / filter_scale(axis.size, axis.length);
    for (int x = 0; x < axis.size; ++x) sums[x] = 0;
    for (int tap = 0; tap < 2 * axis.most_pairs; ++tap) {
        double* __restrict row = raw + static_cast<int64_t>(tap) * axis.size;
        for (int x = 0; x < axis.size; ++x) {
            const int at = axis.first[x] + tap;
            const double offset = (at - (x + 0.5) * scale + 0.5) * inverse;
            const double weight = filter(offset < 0 ? -offset : offset);
            row[x] = at >= axis.begin[x] && at < axis.end[x] ? weight : 0.0;
            sums[x] += row[x];
        }
    }
}

// The weights of two taps of every output pixel: how far they take the rounded running sum.
void add_pair(const double* __restrict even, const double* __restrict odd, const double* __restrict factors,
              double* __restrict running, int32_t* __restrict pairs, int size) {
    for (int x = 0; x < size; ++x) {
        const double between = running[x] + even[x] * factors[x], after = between + odd[x] * factors[x];
        const int32_t middle = nearest(between);
        const int32_t low = middle - nearest(running[x]), high = nearest(after) - middle;
        pairs[x] = (low & 0xffff) | (high * 65536);
        running[x] = after;
    }
}

}  // namespace

int64_t axis_doubles(int size, int64_t length, Filter filter) {
    return (2 * pairs_of(size, length, filter) + 2) * static_cast<int64_t>(size);
}

Axis take_axis(Arena& arena, int size, int64_t length, Filter filter) {
    Axis axis{};
    axis.size = size;
    axis.length = length;
    axis.most_pairs = pairs_of(size, length, filter);
    axis.stride = round_up(size, LANES);
    axis.first = arena.take<int32_t>(size);
    axis.last = arena.take<int32_t>(size);
    axis.begin = arena.take<int32_t>(size);
    axis.end = arena.take<int32_t>(size);
    axis.pairs = arena.take<int32_t>(axis.most_pairs * axis.stride);
    return axis;
}

void fill_axis(const Axis& axis, Filter filter, double* doubles) {
    const double scale = static_cast<double>(axis.length) / axis.size;
    const double support = support_of(axis.size, axis.length, filter);
    const double length = static_cast<double>(axis.length);
    for (int x = 0; x < axis.size; ++x) {
        const double center = (x + 0.5) * scale;
        axis.begin[x] = static_cast<int32_t>(most(center - support + 0.5, 0.0));
        axis.end[x] = static_cast<int32_t>(least(center + support + 0.5, length));
        axis.first[x] = axis.begin[x] & ~1;
        axis.last[x] = (axis.end[x] + 1) & ~1;
    }
    double* sums = doubles;
    double* running = doubles + axis.size;
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
    for (int pair = 0; pair < axis.most_pairs; ++pair) {
        const double* even = raw + static_cast<int64_t>(2 * pair) * axis.size;
        const double* odd = even + axis.size;
        add_pair(even, odd, sums, running, axis.pairs + pair * axis.stride, axis.size);
    }
}

}  // namespace HJEPA_ISA
}  // namespace hjepa
