// Four neighbouring levels in each of 16 lanes: how they are gathered from rows of pixels, multiplied, and turned into columns.
#pragma once

#include "simd.h"

namespace hjepa {
namespace HJEPA_ISA {

constexpr int COLOURS = 3;
constexpr int QUAD = 4;
constexpr int QUAD_BYTES = 16;  // that are read for four pixels; the last four are not used

// 4 bytes per lane.
struct Quads {
    IntRegister parts[REGISTERS];
};

// Weights of 16 bits times levels of 8 bits, as the processor multiplies them: four pairs of bytes at once, where weights are
// split into an upper and a lower byte; or two pairs of 16-bit numbers at once, taps 0 and 2, then 1 and 3. Sums are exact.
#if defined(__AVX512VNNI__)
using Taps = Quads;
struct Sums {
    IntRegister upper, lower;
};
inline Taps taps_of(const Quads& quads) { return quads; }
inline void start(Sums& sums, const Ints& from) { sums = {IntRegister{}, from.parts[0]}; }
inline Ints total(const Sums& sums) { return {(sums.upper << 8) + sums.lower}; }
inline void add_products(Sums& sums, const Taps& taps, int32_t upper, int32_t lower) {
    const __m512i levels = (__m512i)taps.parts[0];
    sums.upper = (IntRegister)_mm512_dpbusd_epi32((__m512i)sums.upper, levels, _mm512_set1_epi32(upper));
    sums.lower = (IntRegister)_mm512_dpbusd_epi32((__m512i)sums.lower, levels, _mm512_set1_epi32(lower));
}
inline uint32_t second_weights(uint32_t a, uint32_t b, uint32_t c, uint32_t d) {
    return (a & 0xff) | (b & 0xff) << 8 | (c & 0xff) << 16 | d << 24;
}
inline uint32_t first_weights(uint32_t a, uint32_t b, uint32_t c, uint32_t d) {  // the lower bytes count from -128 to 127
    return second_weights((a + 128) >> 8, (b + 128) >> 8, (c + 128) >> 8, (d + 128) >> 8);
}
#else
struct Taps {
    IntRegister even[REGISTERS], odd[REGISTERS];
};
using Sums = Ints;
inline Taps taps_of(const Quads& quads) {
    Taps taps;
    for (int i = 0; i < REGISTERS; ++i) {
        taps.even[i] = quads.parts[i] & 0x00ff00ff;
        taps.odd[i] = (quads.parts[i] >> 8) & 0x00ff00ff;
    }
    return taps;
}
inline void start(Sums& sums, const Ints& from) { sums = from; }
inline Ints total(const Sums& sums) { return sums; }
inline IntRegister multiply_pairs(IntRegister taps, int32_t weights) {
#if defined(__AVX512BW__)
    return (IntRegister)_mm512_madd_epi16((__m512i)taps, _mm512_set1_epi32(weights));
#elif defined(__AVX2__)
    return (IntRegister)_mm256_madd_epi16((__m256i)taps, _mm256_set1_epi32(weights));
#elif defined(__SSE2__)
    return (IntRegister)_mm_madd_epi16((__m128i)taps, _mm_set1_epi32(weights));
#else
    return (taps & 0xffff) * static_cast<int16_t>(weights & 0xffff) + (taps >> 16) * (weights >> 16);
#endif
}
inline void add_products(Sums& sums, const Taps& taps, int32_t even, int32_t odd) {
    for (int i = 0; i < REGISTERS; ++i) sums.parts[i] += multiply_pairs(taps.even[i], even) + multiply_pairs(taps.odd[i], odd);
}
inline uint32_t first_weights(uint32_t a, uint32_t, uint32_t c, uint32_t) { return (a & 0xffff) | c << 16; }
inline uint32_t second_weights(uint32_t, uint32_t b, uint32_t, uint32_t d) { return (b & 0xffff) | d << 16; }
#endif

#if defined(__AVX2__)
inline IntRegister low_halves(IntRegister a, IntRegister b) {
#if defined(__AVX512BW__)
    return (IntRegister)_mm512_unpacklo_epi32((__m512i)a, (__m512i)b);
#else
    return (IntRegister)_mm256_unpacklo_epi32((__m256i)a, (__m256i)b);
#endif
}
inline IntRegister high_halves(IntRegister a, IntRegister b) {
#if defined(__AVX512BW__)
    return (IntRegister)_mm512_unpackhi_epi32((__m512i)a, (__m512i)b);
#else
    return (IntRegister)_mm256_unpackhi_epi32((__m256i)a, (__m256i)b);
#endif
}

// 4 x 4 numbers in every 128 bits: rows become columns.
inline void transpose(IntRegister& a, IntRegister& b, IntRegister& c, IntRegister& d) {
    const IntRegister ac_low = low_halves(a, c), ac_high = high_halves(a, c);
    const IntRegister bd_low = low_halves(b, d), bd_high = high_halves(b, d);
    a = low_halves(ac_low, bd_low);
    b = high_halves(ac_low, bd_low);
    c = low_halves(ac_high, bd_high);
    d = high_halves(ac_high, bd_high);
}

inline __m128i load_bytes(const uint8_t* from) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from)); }

// R G B R G B R G B R G B of every fourth row -> R R R R G G G G B B B B in every 128 bits.
inline IntRegister load_colours(const uint8_t* from, int64_t stride) {
    const __m128i by_colour = _mm_setr_epi8(0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11, -1, -1, -1, -1);
    const __m256i low = _mm256_inserti128_si256(_mm256_castsi128_si256(load_bytes(from)), load_bytes(from + 4 * stride), 1);
#if defined(__AVX512BW__)
    __m512i pixels = _mm512_inserti32x4(_mm512_castsi256_si512(low), load_bytes(from + 8 * stride), 2);
    pixels = _mm512_inserti32x4(pixels, load_bytes(from + 12 * stride), 3);
    return (IntRegister)_mm512_shuffle_epi8(pixels, _mm512_broadcast_i32x4(by_colour));
#else
    return (IntRegister)_mm256_shuffle_epi8(low, _mm256_broadcastsi128_si256(by_colour));
#endif
}
#endif

// Four pixels of 16 rows, by colour; QUAD_BYTES of every row are read.
inline void gather(const uint8_t* from, int64_t stride, Quads (&colours)[COLOURS]) {
#if defined(__AVX2__)
    for (int i = 0; i < REGISTERS; ++i) {
        IntRegister fourths[QUAD];
        for (int row = 0; row < QUAD; ++row) fourths[row] = load_colours(from + (i * WIDTH + row) * stride, stride);
        transpose(fourths[0], fourths[1], fourths[2], fourths[3]);
        for (int colour = 0; colour < COLOURS; ++colour) colours[colour].parts[i] = fourths[colour];
    }
#else
    for (int row = 0; row < LANES; ++row) {
        for (int colour = 0; colour < COLOURS; ++colour) {
            const uint8_t* level = from + row * stride + colour;
            const uint32_t quad = level[0] | level[3] << 8 | level[6] << 16 | static_cast<uint32_t>(level[9]) << 24;
            colours[colour].parts[row / WIDTH][row % WIDTH] = static_cast<int32_t>(quad);
        }
    }
#endif
}

// Where the 16 levels of a column, among 16 columns, are written, for `turn` to find them.
inline int slot_of(unsigned column) {
#if defined(__AVX2__)
    constexpr int lanes = WIDTH / QUAD;
    return column / WIDTH * WIDTH + column % QUAD * lanes + column % WIDTH / QUAD;
#else
    return column;
#endif
}

// 16 columns of 16 levels, each in its slot -> four times four rows, whose lanes are the columns.
inline void turn(const uint8_t* slots, Quads (&rows)[QUAD]) {
#if defined(__AVX2__)
    for (int i = 0; i < REGISTERS; ++i) {
        IntRegister fourths[QUAD];
        for (int part = 0; part < QUAD; ++part) {
            fourths[part] = *reinterpret_cast<const LooseIntRegister*>(slots + (i * QUAD + part) * sizeof(IntRegister));
        }
        transpose(fourths[0], fourths[1], fourths[2], fourths[3]);
        for (int quad = 0; quad < QUAD; ++quad) rows[quad].parts[i] = fourths[quad];
    }
#else
    for (int column = 0; column < LANES; ++column) {
        for (int quad = 0; quad < QUAD; ++quad) {
            const uint8_t* from = slots + column * LANES + quad * QUAD;
            const uint32_t levels = from[0] | from[1] << 8 | from[2] << 16 | static_cast<uint32_t>(from[3]) << 24;
            rows[quad].parts[column / WIDTH][column % WIDTH] = static_cast<int32_t>(levels);
        }
    }
#endif
}

}  // namespace HJEPA_ISA
}  // namespace hjepa
