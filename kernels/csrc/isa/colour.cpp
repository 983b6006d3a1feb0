// PIL's arithmetic (Blend.c, Convert.c): blends are single-precision and cut off; gray is ITU-R 601 in 16 bits. Levels are held as
// floats, in which all of it is exact or rounds as PIL's does; hence no multiply-add here.

#include "colour.h"

namespace hjepa {
namespace HJEPA_ISA {

namespace {

inline float whole(float number) { return static_cast<float>(static_cast<int32_t>(number)); }
inline float cut(float level) { return whole(least(most(level, 0.0f), 255.0f)); }

// (19595 R + 38470 G + 7471 B + 2^15) / 2^16, cut off; below 2^24, so exact.
inline float gray_level(float red, float green, float blue) {
    const float sum = 19595.0f * red + 38470.0f * green + 7471.0f * blue + 32768.0f;
    return whole(sum * (1.0f / 65536));
}

void brighten(float* __restrict row, int64_t padded, float factor) {
    for (int64_t i = 0; i < 3 * padded; ++i) row[i] = cut(factor * row[i]);
}

void stretch(float* __restrict row, int64_t padded, float factor, float mean) {
    for (int64_t i = 0; i < 3 * padded; ++i) row[i] = cut(mean + factor * (row[i] - mean));
}

void saturate(float* __restrict red, float* __restrict green, float* __restrict blue, int64_t padded, float factor) {
    for (int64_t i = 0; i < padded; ++i) {
        const float gray = gray_level(red[i], green[i], blue[i]);
        red[i] = cut(gray + factor * (red[i] - gray));
        green[i] = cut(gray + factor * (green[i] - gray));
        blue[i] = cut(gray + factor * (blue[i] - gray));
    }
}

void turn_gray(float* __restrict red, float* __restrict green, float* __restrict blue, int64_t padded) {
    for (int64_t i = 0; i < padded; ++i) red[i] = green[i] = blue[i] = gray_level(red[i], green[i], blue[i]);
}

}  // namespace

Parts parts_of(const Crop& crop) {
    constexpr float neutral[4] = {1, 1, 1, 0};
    Parts found{};
    for (int place = 0; place < 4; ++place) {
        const int part = crop.order[place];
        if (crop.jitter[part] == neutral[part]) continue;
        found.parts[found.count] = static_cast<Part>(part);
        found.factors[found.count++] = crop.jitter[part];
    }
    if (crop.gray) found.parts[found.count++] = Part::gray;
    return found;
}

void apply_parts(const Parts& parts, int begin, int end, float mean, float* row, int64_t padded) {
    float *red = row, *green = row + padded, *blue = row + 2 * padded;
    for (int number = begin; number < end; ++number) {
        const float factor = parts.factors[number];
        switch (parts.parts[number]) {
            case Part::brightness: brighten(row, padded, factor); break;
            case Part::contrast: stretch(row, padded, factor, mean); break;
            case Part::saturation: saturate(red, green, blue, padded, factor); break;
            case Part::hue: turn_hue(red, green, blue, padded, factor); break;
            case Part::gray: turn_gray(red, green, blue, padded); break;
        }
    }
}

int64_t sum_gray(const float* row, int64_t padded, int64_t count) {
    const float *red = row, *green = row + padded, *blue = row + 2 * padded;
    int32_t sum = 0;  // of a row of at most 2^23 pixels
    for (int64_t i = 0; i < count; ++i) sum += static_cast<int32_t>(gray_level(red[i], green[i], blue[i]));
    return sum;
}

}  // namespace HJEPA_ISA
}  // namespace hjepa
