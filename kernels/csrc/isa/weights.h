// The filter along one axis of a resize: for each output pixel its taps, and their weights.
#pragma once

#include "../crop.h"
#include "simd.h"

namespace hjepa {
namespace HJEPA_ISA {

// Weights are multiples of 2^-GRID_BITS, held in 16 bits; their absolute sum is below 2, so that sums of products are exact.
constexpr int GRID_BITS = 14;

// Taps come in pairs, from an even place on; what pads them has no weight.
struct Axis {
    int size;  // output pixels
    int64_t length;  // input pixels
    int most_pairs;
    int64_t stride;  // between the pairs of one output pixel: pair p of pixel x is pairs[p * stride + x]
    int32_t* first;  // [size] even; the first pair's input pixel
    int32_t* last;  // [size] even; one past the last pair's
    int32_t* pairs;  // the weight of the even place in the lower 16 bits, of the odd one in the upper
    int32_t* begin;  // [size] PIL's first tap
    int32_t* end;  // [size] one past PIL's last tap
};

// `doubles` is scratch memory of axis_doubles(size, length, filter) numbers.
int64_t axis_doubles(int size, int64_t length, Filter filter);
Axis take_axis(Arena& arena, int size, int64_t length, Filter filter);
void fill_axis(const Axis& axis, Filter filter, double* doubles);

}  // namespace HJEPA_ISA
}  // namespace hjepa
