// The random numbers and the roundings of the masks, with the bits of kernels/chance.py and kernels/rectangles.py.

#pragma once

#include <cmath>
#include <cstdint>

namespace hjepa {

// Edges in patches, ends exclusive; whole numbers in float, as in the torch text.
struct Rectangle {
    float top, bottom, left, right;
    float area() const { return (bottom - top) * (right - left); }
};

struct Grid {
    int height, width;
    int patches() const { return height * width; }
};

inline uint64_t bits(uint64_t key, uint64_t counter) {
    uint64_t state = key + (counter + 1) * 0x9E3779B97F4A7C15u;
    state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9u;
    state = (state ^ (state >> 27)) * 0x94D049BB133111EBu;
    return state ^ (state >> 31);
}

// rectangles.uniforms: numbers first to first + count - 1 of a key.
inline void uniforms(uint64_t key, int first, int count, float* numbers) {
    uint64_t word = 0;
    for (int number = first; number < first + count; ++number) {
        if (number == first || number % 4 == 0) word = bits(key, number / 4);
        numbers[number - first] = static_cast<float>((word >> (48 - 16 * (number % 4))) & 0xFFFF) * (1.0f / 65536);
    }
}

// To the nearest whole number, half to even, for |value| < 2^22: beyond 2^23 float has no fractions.
inline float rounded(float value) { return (value + 12582912.0f) - 12582912.0f; }

// Of values that are not negative.
inline float floored(float value) { return static_cast<float>(static_cast<int>(value)); }
inline float ceiled(float value) {
    const float whole = floored(value);
    return whole < value ? whole + 1 : whole;
}

inline float clamped(float value, float low, float high) {
    const float raised = value < low ? low : value;
    return raised > high ? high : raised;
}

inline float exponential(float power) {
    const float small = power * (1.0f / 64);
    float result = ((small * static_cast<float>(1.0 / 6) + 0.5f) * small + 1) * small + 1;
    for (int halving = 0; halving < 6; ++halving) result = result * result;
    return result;
}

inline Rectangle place(const float* numbers, float height, float width, Grid grid) {
    const float top = floored(numbers[0] * (static_cast<float>(grid.height + 1) - height));
    const float left = floored(numbers[1] * (static_cast<float>(grid.width + 1) - width));
    return {top, top + height, left, left + width};
}

inline float common_area(const Rectangle& one, const Rectangle& other) {
    const float rows = std::fmin(one.bottom, other.bottom) - std::fmax(one.top, other.top);
    const float columns = std::fmin(one.right, other.right) - std::fmax(one.left, other.left);
    return rows > 0 && columns > 0 ? rows * columns : 0;
}

}  // namespace hjepa
