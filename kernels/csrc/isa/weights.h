// The filter along one axis of a resize: for each output pixel its taps, and their weights.
#pragma once

#include "../crop.h"
#include "simd.h"

namespace hjepa {
namespace HJEPA_ISA {

// Weights are multiples of 2^-GRID_BITS. A pixel has 8 bits and the weights' absolute sum is below 2, so every sum of products
// is exact in a float's 24 bits: whatever the order of the terms, the instruction set or the number of threads.
constexpr int GRID_BITS = 15;

struct Axis {
    int size;  // output pixels
    int64_t length;  // input pixels
    int most_taps;
    int64_t stride;  // between the weights of one output pixel: tap j of pixel x is weights[j * stride + x]
    int32_t* first;  // [size] the first tap's input pixel
    int32_t* last;  // [size] one past the last one's
    float* weights;
};

// `doubles` is scratch memory of at least axis_doubles(size, length, filter) numbers.
int64_t axis_doubles(int size, int64_t length, Filter filter);
Axis take_axis(Arena& arena, int size, int64_t length, Filter filter);
void fill_axis(const Axis& axis, Filter filter, double* doubles);

}  // namespace HJEPA_ISA
}  // namespace hjepa
