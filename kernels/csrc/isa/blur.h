// Gaussian blur, as torchvision blurs: a window of normalised weights, reflected at the borders, rounded to levels.
#pragma once

#include "../crop.h"
#include "simd.h"

namespace hjepa {
namespace HJEPA_ISA {

struct Blur {
    int radius;  // of the window that the recipe asks for
    int64_t padded;
    float* weights;  // [radius + 1], from the centre on
    const float** above;  // [radius + 1] rows at that distance
    const float** below;
    float* ring;  // [least(2 radius + 1, size), 3, padded] the rows of the window
    int64_t border;  // pixels on either side of the line
    float* line;  // [border + padded + border] one colour of a row
};

Blur take_blur(Arena& arena, const Crop& crop, int64_t padded);

// Sets the weights; returns the radius outside of which they do not count.
int fill_weights(const Blur& blur, float sigma);

// Row y of the blurred crop, [3, padded] levels, from rows [size, 3, padded]; y comes in order, from 0 on.
void blur_row(const Blur& blur, int radius, const uint8_t* rows, int size, int y, float* blurred);

}  // namespace HJEPA_ISA
}  // namespace hjepa
