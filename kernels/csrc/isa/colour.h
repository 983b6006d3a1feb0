// Colour jitter and grayscale, as torchvision applies them to PIL images: every part leaves whole levels, 0 to 255.
#pragma once

#include "../crop.h"
#include "simd.h"

namespace hjepa {
namespace HJEPA_ISA {

enum class Part { brightness, contrast, saturation, hue, gray };

// What is applied to a crop, in order; parts that change nothing are left out, as PIL's way to HSV and back would.
struct Parts {
    int count;
    Part parts[5];
    float factors[5];
};

Parts parts_of(const Crop& crop);

// Sum of the gray levels of `count` pixels of a row [3, padded] of levels, after the parts [begin, end).
void apply_parts(const Parts& parts, int begin, int end, float mean, float* row, int64_t padded);
int64_t sum_gray(const float* row, int64_t padded, int64_t count);

// Of one row; `turns` of the circle of hues.
void turn_hue(float* red, float* green, float* blue, int64_t padded, float turns);

}  // namespace HJEPA_ISA
}  // namespace hjepa
