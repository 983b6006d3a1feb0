// The parts of the jitter as floats, in which all of it is exact or rounds as PIL's does. A row is taken in pieces that stay in
// the first-level cache, each through all steps.
#pragma once

#include "choice.h"
#include "colour.h"

namespace hjepa {
namespace HJEPA_ISA {

namespace {

constexpr int PIECE = 256;  // pixels

inline float whole_part(float number) { return static_cast<float>(static_cast<int32_t>(number)); }
inline float cut(float level) { return whole_part(least(most(level, 0.0f), HIGHEST)); }

// (19595 R + 38470 G + 7471 B + 2^15) / 2^16, cut off; below 2^24 before that, so exact.
inline float gray_level(float red, float green, float blue) {
    const float sum = 19595.0f * red + 38470.0f * green + 7471.0f * blue + 32768.0f;
    return whole_part(sum * (1.0f / 65536));
}

// A product and a sum, rounded one after the other, as in PIL: no multiply-add.
void blend(float* __restrict levels, int64_t count, float from, float factor) {
    for (int64_t i = 0; i < count; ++i) levels[i] = cut(from + factor * (levels[i] - from));
}

void saturate(float* __restrict red, float* __restrict green, float* __restrict blue, int64_t count, float factor) {
    for (int64_t i = 0; i < count; ++i) {
        const float gray = gray_level(red[i], green[i], blue[i]);
        red[i] = cut(gray + factor * (red[i] - gray));
        green[i] = cut(gray + factor * (green[i] - gray));
        blue[i] = cut(gray + factor * (blue[i] - gray));
    }
}

void turn_gray(float* __restrict red, float* __restrict green, float* __restrict blue, int64_t count) {
    for (int64_t i = 0; i < count; ++i) red[i] = green[i] = blue[i] = gray_level(red[i], green[i], blue[i]);
}

// RGB -> HSV of 8 bits (Convert.c), hue turned by `shift` 256ths of a turn, -> RGB.
//
// Quotients are what they are in exact arithmetic: products with a rounded reciprocal, added with one rounding or with two, are
// less than TINY away, and no quotient that is not an integer is as near to the integer above it. (Tried for every numerator and
// denominator that occurs.)
void turn_hue(float* __restrict red, float* __restrict green, float* __restrict blue, int64_t count, float shift) {
    constexpr float TINY = 1.0f / 1024;
    const Register zero{}, one = zero + 1.0f, tiny = zero + TINY, half = zero + 0.5f;
    for (int64_t i = 0; i < count; i += WIDTH) {
        const Register r = load_register(red + i), g = load_register(green + i), b = load_register(blue + i);
        const Register value = most(r, most(g, b)), chroma = value - least(r, least(g, b));
        const Register some_value = most(value, one), some_chroma = most(chroma, one);
        const Register inverse = 1.0f / (some_chroma * some_value);  // of both: one division
        const Mask is_red = equal(r, value), is_green = equal(g, value);
        const Register aside = choose(is_red, g - b, choose(is_green, b - r, r - g));
        const Register red_turn = choose(below(g, b), zero + 6.0f, zero);
        const Register turn = choose(is_red, red_turn, choose(is_green, zero + 2.0f, zero + 4.0f));
        const Register sixths = multiply_add(turn, chroma, aside);  // of a turn, times chroma
        const Register angle = whole(multiply_add(42.5f * sixths, inverse * some_value, tiny)) + shift;
        const Register hue = choose(below(angle, zero + 256.0f), angle, angle - 256.0f);
        const Register saturation = whole(multiply_add(255.0f * chroma, inverse * some_chroma, tiny));
        const Register sector = whole(multiply_add(hue, zero + 2.0f / 85, tiny));
        const Register rest = multiply_add(sector, zero - 85.0f, hue + hue);
        // Sectors 0 to 6 as bits: of which are odd, of which one colour is the greatest, and of which it is the one between.
        const IntRegister bit = power_of_two(sector);
        const Register part = choose(any_bit(bit, 42), rest, 85.0f - rest);
        const Register low = whole(multiply_add(value * (255.0f - saturation), zero + 1.0f / 255, half));
        const Register share = multiply_add(saturation, -part, zero + 21675.0f);
        const Register middle = whole(multiply_add(value * share, zero + 1.0f / 21675, half));
        store_register(red + i, choose(any_bit(bit, 97), value, choose(any_bit(bit, 18), middle, low)));
        store_register(green + i, choose(any_bit(bit, 6), value, choose(any_bit(bit, 73), middle, low)));
        store_register(blue + i, choose(any_bit(bit, 24), value, choose(any_bit(bit, 36), middle, low)));
    }
}

void apply_step(const Steps::Step& step, float* levels, int64_t count) {  // levels [3, count]
    float *red = levels, *green = levels + count, *blue = levels + 2 * count;
    switch (step.part) {
        case Part::brightness:
        case Part::contrast: return blend(levels, 3 * count, step.from, step.factor);
        case Part::saturation: return saturate(red, green, blue, count, step.factor);
        case Part::hue: return turn_hue(red, green, blue, count, step.factor);
        case Part::gray: return turn_gray(red, green, blue, count);
    }
}

void apply_in_floats(const Steps::Step* steps, int num_steps, uint8_t* row, int64_t padded) {
    alignas(64) float levels[3 * PIECE];
    for (int64_t begin = 0; begin < padded; begin += PIECE) {
        const int64_t count = least<int64_t>(padded - begin, PIECE);
        for (int colour = 0; colour < 3; ++colour) {
            const uint8_t* from = row + colour * padded + begin;
            for (int64_t i = 0; i < count; i += LANES) store(levels + colour * count + i, widen(from + i));
        }
        for (int number = 0; number < num_steps; ++number) apply_step(steps[number], levels, count);
        for (int colour = 0; colour < 3; ++colour) {
            uint8_t* to = row + colour * padded + begin;
            for (int64_t i = 0; i < count; i += LANES) narrow(to + i, load(levels + colour * count + i));
        }
    }
}

#if !defined(__AVX2__)  // colour_words.h and colour_bytes.h have them
void append(Steps& steps, const Steps::Step& step) { steps.steps[steps.count++] = step; }
#endif

}  // namespace

#if !defined(__AVX2__)
void apply_steps(const Steps& steps, uint8_t* row, int64_t padded) {
    if (steps.count > 0) apply_in_floats(steps.steps, steps.count, row, padded);
}

int64_t sum_gray(const uint8_t* row, int64_t padded, int64_t count) {
    const uint8_t *red = row, *green = row + padded, *blue = row + 2 * padded;
    int32_t sum = 0;  // of a row of at most 2^23 pixels
    for (int64_t i = 0; i < count; ++i) {
        const float r = red[i], g = green[i], b = blue[i];
        sum += static_cast<int32_t>(gray_level(r, g, b));
    }
    return sum;
}
#endif

}  // namespace HJEPA_ISA
}  // namespace hjepa
