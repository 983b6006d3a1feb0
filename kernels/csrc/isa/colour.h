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

constexpr float HIGHEST = 255;  // level

// Of every level (level * factor / 2^8 + offset) / 2^shift, cut off twice, 0 to 255; and what is added where that misses it.
struct Line {
    static constexpr int MOST = 16;
    struct Missed {
        int32_t level, by;
    };
    int32_t factor, offset, shift;
    int num_missed;
    Missed missed[MOST];
};

// What is done to every row, in order.
struct Steps {
    struct Step {
        Part part;
        float factor;  // 256ths of a turn, of the hue
        float from;  // the gray level that contrast keeps; 0 of brightness
        bool exact;
        Line line;  // of a blend, for 16-bit products
        alignas(64) uint8_t levels[256];  // of a blend, for tables of bytes
    };
    int count;
    Step steps[5];
};

Steps steps_of(const Parts& parts, int begin, int end, float mean);  // the parts [begin, end)

void apply_steps(const Steps& steps, uint8_t* row, int64_t padded);  // row [3, padded]
int64_t sum_gray(const uint8_t* row, int64_t padded, int64_t count);  // of the gray levels of the first `count` pixels

}  // namespace HJEPA_ISA
}  // namespace hjepa
