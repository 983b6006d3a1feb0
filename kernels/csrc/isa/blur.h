// Gaussian blur, as torchvision blurs: a window of normalised weights, reflected at the borders, rounded to levels.
#pragma once

#include "../crop.h"
#include "pairs.h"

namespace hjepa {
namespace HJEPA_ISA {

// Two output rows, or two neighbouring output pixels, share one window of `radius + 1` pairs: the first's weights are `even`,
// the second's, one place further, are `odd`.
struct Blur {
    int radius;  // of the weights that count
    int64_t padded;
    int32_t* weights;  // [radius + 1], from the centre on
    int32_t *even, *odd;  // [radius + 1] two weights in 16 bits each
    int ring_pairs;  // of the window, or of as many rows as there are before they repeat, forth and back
    int32_t* ring;  // [ring_pairs, 3, padded] pairs of rows
    const int32_t** pairs;  // [radius + 1] those of the window
    int64_t border;  // pixels on either side of a line
    int16_t* lines;  // [2, line_length] one colour of two rows, in units of 2^-LINE_BITS
    int64_t line_length;
};

Blur take_blur(Arena& arena, const Crop& crop, int64_t padded);

// Sets the weights, and the radius outside of which there are none.
void fill_weights(Blur& blur, float sigma);

constexpr int64_t BLURRED_SLACK = LANES;  // levels that may be written beyond a row

// Rows y and y + 1 of the blurred crop, [3, padded] each, from rows [size, 3, padded]; even y come in order, from 0 on.
void blur_rows(const Blur& blur, const uint8_t* rows, int size, int y, uint8_t* blurred, uint8_t* next_blurred);

}  // namespace HJEPA_ISA
}  // namespace hjepa
