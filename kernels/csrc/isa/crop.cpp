// One crop from beginning to end: resize, colours, blur, store. Between the resize and the store it is a small picture of 8-bit
// levels, which stays in the second-level cache; the stages work on one row at a time.

#include "../crop.h"
#include "blur.h"
#include "colour.h"
#include "resample.h"
#include "store.h"

namespace hjepa {
namespace HJEPA_ISA {

namespace {

struct Stages {
    Resampler resampler;
    Blur blur;
    uint8_t* picture;  // [size, 3, padded]
    uint8_t *blurred, *next_blurred;  // [3, padded] and slack
};

Stages take_stages(Arena& arena, const Crop& crop) {
    Stages stages{};
    stages.resampler = take_resampler(arena, crop);
    const int64_t padded = stages.resampler.padded;
    stages.picture = arena.take<uint8_t>(crop.size * 3 * padded);
    if (crop.sigma > 0) {
        stages.blur = take_blur(arena, crop, padded);
        stages.blurred = arena.take<uint8_t>(3 * padded + BLURRED_SLACK);
        stages.next_blurred = arena.take<uint8_t>(3 * padded + BLURRED_SLACK);
    }
    return stages;
}

// Applies the parts before the contrast, whose mean is that of the whole picture as it is then; returns where to go on.
int apply_until_contrast(const Stages& stages, const Crop& crop, const Parts& parts, float* mean) {
    int contrast = 0;
    while (contrast < parts.count && parts.parts[contrast] != Part::contrast) ++contrast;
    if (contrast == parts.count) return 0;
    const int64_t padded = stages.resampler.padded, width = 3 * padded;
    const Steps steps = steps_of(parts, 0, contrast, 0);
    int64_t sum = 0;
    for (int y = 0; y < crop.size; ++y) {
        uint8_t* levels = stages.picture + y * width;
        apply_steps(steps, levels, padded);
        sum += sum_gray(levels, padded, crop.size);
    }
    const double count = static_cast<double>(crop.size) * crop.size;
    *mean = static_cast<float>(static_cast<int32_t>(static_cast<double>(sum) / count + 0.5));
    return contrast;
}

}  // namespace

size_t scratch_bytes(const Crop& crop) {
    Arena arena(nullptr);
    take_stages(arena, crop);
    return arena.used();
}

void render_crop(const Crop& crop, char* scratch) {
    Arena arena(scratch);
    Stages stages = take_stages(arena, crop);
    const int64_t padded = stages.resampler.padded, width = 3 * padded;
    resample(stages.resampler, crop, stages.picture);
    const Parts parts = parts_of(crop);
    float mean = 0;
    const int begin = apply_until_contrast(stages, crop, parts, &mean);
    const Steps steps = steps_of(parts, begin, parts.count, mean);
    for (int y = 0; y < crop.size; ++y) {
        uint8_t* levels = stages.picture + y * width;
        apply_steps(steps, levels, padded);
        if (crop.sigma <= 0) store_row(crop, y, levels, padded);
    }
    if (crop.sigma <= 0) return finish_stores();
    fill_weights(stages.blur, crop.sigma);
    for (int y = 0; y < crop.size; y += 2) {
        blur_rows(stages.blur, stages.picture, crop.size, y, stages.blurred, stages.next_blurred);
        store_row(crop, y, stages.blurred, padded);
        if (y + 1 < crop.size) store_row(crop, y + 1, stages.next_blurred, padded);
    }
    finish_stores();
}

}  // namespace HJEPA_ISA
}  // namespace hjepa
