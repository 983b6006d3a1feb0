// The filter along one axis of a resize: for each output pixel its taps, and their weights.
#pragma once

#include "../crop.h"
#include "simd.h"

namespace hjepa {
namespace HJEPA_ISA {

// Weights are multiples of 2^-GRID_BITS, held in 16 bits; their absolute sum is below 2, so that sums of products are exact.
constexpr int GRID_BITS = 14;

// Taps come in groups (quads.h), from a multiple of GROUP on; what pads them has no weight.
struct Axis {
    int size;  // output pixels
    int64_t length;  // input pixels
    int most_quads;
    int64_t stride;  // between the weights of one output pixel
    int32_t* first;  // [size] the first group's input pixel
    int32_t* last;  // [size] one past the last group's
    int32_t* weights;  // [most_quads, 2, stride] first_weights and second_weights of four taps, or those of two groups
};

// `doubles` is scratch memory of axis_doubles(size, length, filter) numbers.
int64_t axis_doubles(int size, int64_t length, Filter filter);
Axis take_axis(Arena& arena, int size, int64_t length, Filter filter);
void fill_axis(const Axis& axis, Filter filter, double* doubles);

}  // namespace HJEPA_ISA
}  // namespace hjepa
