// Rows of brightness and colour as rows of red, green and blue: colour at half the resolution is smoothed ("fancy upsampling",
// jdsample.c) and converted (jdcolor.c) by libjpeg's whole numbers.
#pragma once

#include "shorts.h"

namespace hjepa {
namespace HJEPA_ISA {

constexpr int PIXELS = SHORTS;  // converted at once

// The colours of a row at twice the resolution: [count] -> [2 count]. Beside `from` is one more on either side. They are in units
// of 2^-SHIFT levels, a quarter of it from each pixel's farther neighbour. Goes on to a multiple of SHORTS with whatever is there.
template <int SHIFT> inline void smooth(const int16_t* from, int count, uint8_t* to) {
    constexpr uint16_t EVEN = SHIFT == 4 ? 8 : 1, ODD = SHIFT == 4 ? 7 : 2;  // rounding, up and down by turns
    for (int x = 0; x < count; x += SHORTS) {
        const WrappingShorts here = (WrappingShorts)load(from + x) * 3;
        const WrappingShorts even = (here + (WrappingShorts)load(from + x - 1) + EVEN) >> SHIFT;
        const WrappingShorts odd = (here + (WrappingShorts)load(from + x + 1) + ODD) >> SHIFT;
        store(reinterpret_cast<int16_t*>(to + 2 * x), (Shorts)(even | odd << 8));
    }
}

// Three rows of PIXELS levels, red, green, blue, red, green, blue, ...
inline void interleave(uint8_t* to, Shorts red, Shorts green, Shorts blue) {
#if defined(__AVX512VBMI__)
    alignas(64) static const struct Order {
        uint8_t of[3 * PIXELS];
        constexpr Order() : of{} {
            for (int i = 0; i < 3 * PIXELS; ++i) {
                // in levels(red, green): eight red, eight green, by turns; then 64 + the same of blue
                const int pixel = i / 3, place = pixel / 8 * 16 + pixel % 8;
                of[i] = static_cast<uint8_t>(i % 3 == 0 ? place : i % 3 == 1 ? place + 8 : place + 64);
            }
        }
    } order;
    const __m512i first = (__m512i)levels(red, green), second = (__m512i)levels(blue, blue);
    const __m512i start = _mm512_permutex2var_epi8(first, _mm512_load_si512(order.of), second);
    const __m256i order_of_rest = _mm256_load_si256(reinterpret_cast<const __m256i*>(order.of + 64));
    const __m512i rest = _mm512_permutex2var_epi8(first, _mm512_castsi256_si512(order_of_rest), second);
    _mm512_storeu_si512(to, start);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + 64), _mm512_castsi512_si256(rest));
#elif defined(__AVX2__) && !defined(__AVX512BW__)
    const __m256i first = (__m256i)levels(red, green), second = (__m256i)levels(blue, blue);  // of eight pixels in either half
    const auto ordered = [&](__m128i order, __m128i order_of_blue) {
        return _mm256_or_si256(_mm256_shuffle_epi8(first, _mm256_broadcastsi128_si256(order)),
                               _mm256_shuffle_epi8(second, _mm256_broadcastsi128_si256(order_of_blue)));
    };
    const __m256i start = ordered(_mm_setr_epi8(0, 8, -1, 1, 9, -1, 2, 10, -1, 3, 11, -1, 4, 12, -1, 5),
                                  _mm_setr_epi8(-1, -1, 0, -1, -1, 1, -1, -1, 2, -1, -1, 3, -1, -1, 4, -1));
    const __m256i rest = ordered(_mm_setr_epi8(13, -1, 6, 14, -1, 7, 15, -1, -1, -1, -1, -1, -1, -1, -1, -1),
                                 _mm_setr_epi8(-1, 5, -1, -1, 6, -1, -1, 7, -1, -1, -1, -1, -1, -1, -1, -1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm256_castsi256_si128(start));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(to + 16), _mm256_castsi256_si128(rest));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + 24), _mm256_extracti128_si256(start, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(to + 40), _mm256_extracti128_si256(rest, 1));
#else
    const Bytes first = levels(red, green), second = levels(blue, blue);
    for (int i = 0; i < PIXELS; ++i) {
        const int place = i / 8 * 16 + i % 8;
        to[3 * i] = first[place], to[3 * i + 1] = first[place + 8], to[3 * i + 2] = second[place];
    }
#endif
}

inline Shorts widen(const uint8_t* from) {
#if defined(__AVX512BW__)
    return (Shorts)_mm512_cvtepu8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
#elif defined(__AVX2__)  // GCC 12 does what is below by halves
    return (Shorts)_mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
#else
    typedef uint8_t Narrow __attribute__((vector_size(PIXELS)));
    Narrow levels;
    std::memcpy(&levels, from, sizeof levels);
    return __builtin_convertvector(levels, Shorts);
#endif
}

// 1.40200 - 1 and 1.77200 - 2, of 15 bits behind the point: they round as libjpeg's, which have 16.
constexpr int16_t RED = 13175, BLUE = -7471;
constexpr bool rounds_as(int factor, int by_libjpeg) {
    for (int colour = -128; colour < 128; ++colour) {
        if ((colour * factor + (1 << 14)) >> 15 != (colour * by_libjpeg + (1 << 15)) >> 16) return false;
    }
    return true;
}
static_assert(rounds_as(RED, 26345) && rounds_as(BLUE, -14942));

// PIXELS pixels. The factors are libjpeg's, less what is added in whole: that of green's 0.71414 is 1.
inline void convert_pixels(const uint8_t* brightness, const uint8_t* blueness, const uint8_t* redness, uint8_t* rgb) {
    const Shorts y = widen(brightness), cb = widen(blueness) - 128, cr = widen(redness) - 128;
    const Shorts red = y + cr + multiply_rounded(cr, RED);
    const Shorts blue = y + cb + cb + multiply_rounded(cb, BLUE);
    const int32_t weights = pair_of(-22554, 18734);
    const Ints low = (Ints)(multiply_pairs(low16(cb, cr), weights) + (1u << 15)) >> 16;
    const Ints high = (Ints)(multiply_pairs(high16(cb, cr), weights) + (1u << 15)) >> 16;
    interleave(rgb, red, y - cr + pack(low, high), blue);
}

// Writes a row of `width` pixels and nothing beyond it; the others are read up to PIXELS beyond.
inline void convert_row(const uint8_t* brightness, const uint8_t* blueness, const uint8_t* redness, int width, uint8_t* rgb) {
    int x = 0;
    for (; x + PIXELS <= width; x += PIXELS) convert_pixels(brightness + x, blueness + x, redness + x, rgb + 3 * x);
    if (x == width) return;
    uint8_t last[3 * PIXELS];
    convert_pixels(brightness + x, blueness + x, redness + x, last);
    std::memcpy(rgb + 3 * x, last, static_cast<size_t>(3 * (width - x)));
}

inline void gray_row(const uint8_t* brightness, int width, uint8_t* rgb) {
    for (int x = 0; x < width; ++x) rgb[3 * x] = rgb[3 * x + 1] = rgb[3 * x + 2] = brightness[x];
}

}  // namespace HJEPA_ISA
}  // namespace hjepa
