// One crop to render: where its pixels are, what was decided for it, and where it goes. Plain data, shared by every build.
#pragma once

#include <cstddef>
#include <cstdint>

namespace hjepa {

enum class Filter { bicubic, bilinear };
enum class Store { float32, float16, bfloat16 };

struct Crop {
    const uint8_t* pixels;  // RGB, [image height, image width, 3], without gaps
    int64_t image_height, image_width;
    int64_t top, left, height, width;  // the box, within the image
    bool flip;
    int size;  // of the square output
    Filter filter;
    float jitter[4];  // factors of brightness, contrast, saturation; hue in turns
    uint8_t order[4];  // of the four
    bool gray;
    float sigma;  // 0: no blur
    int blur_window;  // odd
    int solarize_threshold;  // levels from this one on are inverted; 256: none
    float scale[3], bias[3];  // level -> normalised value, by colour
    Store store;
    void* out;  // [3, size, size]
};

// Bytes of scratch memory that a crop needs; render_crop takes them from `scratch`, aligned to ALIGNMENT.
constexpr size_t ALIGNMENT = 64;
using ScratchBytes = size_t (*)(const Crop&);
using RenderCrop = void (*)(const Crop&, char* scratch);

struct Build {
    const char* name;  // of the instruction set
    ScratchBytes scratch_bytes;
    RenderCrop render_crop;
};

}  // namespace hjepa
