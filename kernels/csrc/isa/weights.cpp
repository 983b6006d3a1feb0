// PIL's antialiased weights (Resample.c, precompute_coeffs), with loops whose lanes are the output pixels.

#include "weights.h"

#include "quads.h"

namespace hjepa {
namespace HJEPA_ISA {

namespace {

inline double filter_scale(int size, int64_t length) { return most(static_cast<double>(length) / size, 1.0); }

inline double support_of(int size, int64_t length, Filter filter) {
    return (filter == Filter::bicubic ? 2.0 : 1.0) * filter_scale(size, length);
}

inline int quads_of(int size, int64_t length, Filter filter) {
    const int64_t widest = static_cast<int64_t>(__builtin_ceil(support_of(size, length, filter))) * 2 + 1;
    return static_cast<int>((least(widest, length) + GROUP - 1 + QUAD - 1) / QUAD);
}

inline double bicubic(double distance) {  // Keys' cubic convolution with a = -1/2, as in PIL
    const double near = ((1.5 * distance - 2.5) * distance) * distance + 1.0;
    const double far = (((distance - 5.0) * distance + 8.0) * distance - 4.0) * -0.5;
    return distance < 1.0 ? near : distance < 2.0 ? far : 0.0;
}

inline double bilinear(double distance) { return distance < 1.0 ? 1.0 - distance : 0.0; }

// Halves upwards, plus 2^15; the running sum is above -2^15, so that what is cut off is never negative.
inline uint32_t nearest(double sum) { return static_cast<uint32_t>(static_cast<int32_t>(sum + (32768 + 0.5))); }

// One number for each output pixel [size], and the raw weights of its taps [4 most_quads, size]. All are doubles, also the counts:
// loops over numbers of two widths would not be vectorised.
struct Numbers {
    double *start, *begin, *end;  // the first tap's distance from the centre, PIL's first tap, and one past its last
    double *sums, *running, *raw;
};

Numbers take_numbers(double* memory, int64_t size) {
    return {memory, memory + size, memory + 2 * size, memory + 3 * size, memory + 4 * size, memory + 5 * size};
}

template <double (*filter)(double)> void raw_weights(const Numbers& numbers, int64_t size, int num_taps, double inverse) {
    const double *__restrict start = numbers.start, *__restrict begin = numbers.begin, *__restrict end = numbers.end;
    double* __restrict sums = numbers.sums;
    for (int64_t x = 0; x < size; ++x) sums[x] = 0;
    for (int number = 0; number < num_taps; ++number) {
        const double tap = number;
        double* __restrict row = numbers.raw + number * size;
        for (int64_t x = 0; x < size; ++x) {
            const double weight = filter(__builtin_fabs((tap + start[x]) * inverse));
            const double from_begin = tap >= begin[x] ? weight : 0.0;
            row[x] = tap < end[x] ? from_begin : 0.0;
            sums[x] += row[x];
        }
    }
}

// The weights of four taps of every output pixel: how far they take the rounded running sum. raw [4, size], weights [2, stride]
void add_quad(const Axis& axis, const double* __restrict raw, const double* __restrict factors, double* __restrict running,
              int32_t* __restrict weights) {
    const int64_t size = axis.size, stride = axis.stride;
    for (int64_t x = 0; x < size; ++x) {
        const double sum1 = running[x] + raw[x] * factors[x], sum2 = sum1 + raw[x + size] * factors[x];
        const double sum3 = sum2 + raw[x + 2 * size] * factors[x], sum4 = sum3 + raw[x + 3 * size] * factors[x];
        const uint32_t end1 = nearest(sum1), end2 = nearest(sum2), end3 = nearest(sum3);
        const uint32_t a = end1 - nearest(running[x]), b = end2 - end1, c = end3 - end2, d = nearest(sum4) - end3;
        weights[x] = static_cast<int32_t>(first_weights(a, b, c, d));
        weights[x + stride] = static_cast<int32_t>(second_weights(a, b, c, d));
        running[x] = sum4;
    }
}

}  // namespace

int64_t axis_doubles(int size, int64_t length, Filter filter) {
    return (QUAD * quads_of(size, length, filter) + 5) * static_cast<int64_t>(size);
}

Axis take_axis(Arena& arena, int size, int64_t length, Filter filter) {
    Axis axis{};
    axis.size = size;
    axis.length = length;
    axis.most_quads = quads_of(size, length, filter);
    axis.stride = round_up(size, LANES);
    axis.first = arena.take<int32_t>(size);
    axis.last = arena.take<int32_t>(size);
    axis.weights = arena.take<int32_t>(2 * axis.most_quads * axis.stride);
    return axis;
}

void fill_axis(const Axis& axis, Filter filter, double* doubles) {
    const double scale = static_cast<double>(axis.length) / axis.size;
    const double support = support_of(axis.size, axis.length, filter);
    const double length = static_cast<double>(axis.length);
    const Numbers numbers = take_numbers(doubles, axis.size);
    for (int x = 0; x < axis.size; ++x) {
        const double center = (x + 0.5) * scale;
        const int32_t begin = static_cast<int32_t>(most(center - support + 0.5, 0.0));
        const int32_t end = static_cast<int32_t>(least(center + support + 0.5, length));
        axis.first[x] = begin & -GROUP;
        axis.last[x] = (end + GROUP - 1) & -GROUP;
        numbers.start[x] = axis.first[x] - center + 0.5;
        numbers.begin[x] = begin - axis.first[x];
        numbers.end[x] = end - axis.first[x];
    }
    const double inverse = 1.0 / filter_scale(axis.size, axis.length);
    const auto fill = filter == Filter::bicubic ? raw_weights<bicubic> : raw_weights<bilinear>;
    fill(numbers, axis.size, QUAD * axis.most_quads, inverse);
    // The running sum is rounded, not the weights: they add up to exactly 1, and errors of neighbours cancel.
    constexpr double grid = 1 << GRID_BITS;
    for (int x = 0; x < axis.size; ++x) numbers.sums[x] = grid / numbers.sums[x];
    for (int x = 0; x < axis.size; ++x) numbers.running[x] = 0;
    for (int quad = 0; quad < axis.most_quads; ++quad) {
        const double* four = numbers.raw + static_cast<int64_t>(QUAD * quad) * axis.size;
        add_quad(axis, four, numbers.sums, numbers.running, axis.weights + 2 * quad * axis.stride);
    }
}

}  // namespace HJEPA_ISA
}  // namespace hjepa
