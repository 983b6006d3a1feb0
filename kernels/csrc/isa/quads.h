// Four neighbouring levels in each of 16 lanes: how they are gathered from rows of pixels, multiplied, and turned into columns.
#pragma once

#include "pairs.h"
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

// Weights of 16 bits times levels of 8 bits, as the processor multiplies them, GROUP taps of a lane at once: four bytes, where
// weights are split into an upper and a lower byte; or two numbers of 16 bits. Sums are exact.
#if defined(__AVX512VNNI__)
constexpr int GROUP = 4;
using Taps = Quads;
struct Weights {
    int32_t upper, lower;
};
struct Sums {
    IntRegister upper, lower;
};
inline void split(const Quads& quads, Taps* to, int64_t) { *to = quads; }
inline void start(Sums& sums, const Ints& from) { sums = {IntRegister{}, from.parts[0]}; }
inline Ints total(const Sums& sums) { return {(sums.upper << 8) + sums.lower}; }
inline Weights load_weights(const int32_t* from, int64_t stride) { return {from[0], from[stride]}; }
inline void add_products(Sums& sums, const Taps& taps, const Weights& weights) {
    const __m512i levels = (__m512i)taps.parts[0];
    sums.upper = (IntRegister)_mm512_dpbusd_epi32((__m512i)sums.upper, levels, _mm512_set1_epi32(weights.upper));
    sums.lower = (IntRegister)_mm512_dpbusd_epi32((__m512i)sums.lower, levels, _mm512_set1_epi32(weights.lower));
}
inline uint32_t second_weights(uint32_t a, uint32_t b, uint32_t c, uint32_t d) {
    return (a & 0xff) | (b & 0xff) << 8 | (c & 0xff) << 16 | d << 24;
}
inline uint32_t first_weights(uint32_t a, uint32_t b, uint32_t c, uint32_t d) {  // the lower bytes count from -128 to 127
    return second_weights((a + 128) >> 8, (b + 128) >> 8, (c + 128) >> 8, (d + 128) >> 8);
}
#else
constexpr int GROUP = 2;
using Taps = Ints;
using Weights = int32_t;
using Sums = Ints;
inline void split(const Quads& quads, Taps* to, int64_t stride) {  // into bytes 0 and 2, then 1 and 3: see `swapped`
    typedef uint16_t Words __attribute__((vector_size(4 * WIDTH)));
    for (int i = 0; i < REGISTERS; ++i) {
        to[0].parts[i] = quads.parts[i] & 0x00ff00ff;
        to[stride].parts[i] = (IntRegister)((Words)quads.parts[i] >> 8);
    }
}
inline void start(Sums& sums, const Ints& from) { sums = from; }
inline Ints total(const Sums& sums) { return sums; }
inline Weights load_weights(const int32_t* from, int64_t) { return *from; }
inline void add_products(Sums& sums, const Taps& taps, Weights weights) { add_pairs(sums, taps, weights); }
inline uint32_t first_weights(uint32_t a, uint32_t b, uint32_t, uint32_t) { return (a & 0xffff) | b << 16; }
inline uint32_t second_weights(uint32_t, uint32_t, uint32_t c, uint32_t d) { return (c & 0xffff) | d << 16; }
#endif
constexpr int WEIGHTS = GROUP / 2;  // numbers that hold those of a group
constexpr int GROUPS = QUAD / GROUP;  // of a quad

// Which of four neighbours, pixels or rows, lies at a place of a quad, so that groups are neighbours.
constexpr int swapped(int place) { return GROUP == 2 && (place == 1 || place == 2) ? 3 - place : place; }

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
inline __m256i load_halves(const uint8_t* low, const uint8_t* high) {
    return _mm256_inserti128_si256(_mm256_castsi128_si256(load_bytes(low)), load_bytes(high), 1);
}

// R G B R G B R G B R G B of every fourth row -> R R R R G G G G B B B B in every 128 bits.
inline IntRegister load_colours(const uint8_t* from, int64_t stride) {
    constexpr int b = 3 * swapped(1), c = 3 * swapped(2);
    const __m128i by_colour = _mm_setr_epi8(0, b, c, 9, 1, b + 1, c + 1, 10, 2, b + 2, c + 2, 11, -1, -1, -1, -1);
    const __m256i low = load_halves(from, from + 4 * stride);
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
        for (int row = 0; row < QUAD; ++row) fourths[row] = load_colours(from + (i * WIDTH + swapped(row)) * stride, stride);
        transpose(fourths[0], fourths[1], fourths[2], fourths[3]);
        for (int colour = 0; colour < COLOURS; ++colour) colours[colour].parts[i] = fourths[colour];
    }
#else
    constexpr int b = 3 * swapped(1), c = 3 * swapped(2);
    for (int lane = 0; lane < LANES; ++lane) {
        for (int colour = 0; colour < COLOURS; ++colour) {
            const uint8_t* level = from + (lane / QUAD * QUAD + swapped(lane % QUAD)) * stride + colour;
            const uint32_t quad = level[0] | level[b] << 8 | level[c] << 16 | static_cast<uint32_t>(level[9]) << 24;
            colours[colour].parts[lane / WIDTH][lane % WIDTH] = static_cast<int32_t>(quad);
        }
    }
#endif
}

// Columns of 16 lanes, as levels: each has its slot, where `turn` finds it. They lie in three planes; but where a column fills
// two registers, its colours stay together as they were packed, 8 bytes of either half: a b a b, c c c c.
#if defined(__AVX2__) && !defined(__AVX512BW__)
constexpr int64_t SLOT_BYTES = 64;
inline int64_t slots_bytes(int64_t columns) { return columns * SLOT_BYTES; }
inline int slot_of(unsigned column) { return static_cast<int>(column * SLOT_BYTES); }

template <int BITS> inline void cut_column(uint8_t* slot, int64_t, const Ints (&sums)[COLOURS]) {
    const __m256i a = cut_words<BITS>(sums[0]), b = cut_words<BITS>(sums[1]), c = cut_words<BITS>(sums[2]);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(slot), _mm256_packus_epi16(a, b));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(slot + SLOT_BYTES / 2), _mm256_packus_epi16(c, c));
}

// 16 columns of a colour -> four times four rows, whose lanes are the columns in the order that cut_levels knows. `vectors`
// times 16 are those of three colours.
inline void turn(const uint8_t* slots, int64_t vector, int64_t vectors, Quads (&rows)[QUAD]) {
    const int64_t colour = COLOURS * vector / vectors, block = vector - colour * (vectors / COLOURS);
    const uint8_t* from = slots + block * LANES * SLOT_BYTES + (colour < 2 ? 8 * colour : SLOT_BYTES / 2);
    for (int i = 0; i < REGISTERS; ++i, from += QUAD * SLOT_BYTES) {
        for (int half = 0; half < 2; ++half) {
            IntRegister fourths[QUAD];
            for (int part = 0; part < QUAD; ++part) {
                const uint8_t* column = from + part * SLOT_BYTES + half * sizeof(__m128i);
                fourths[part] = (IntRegister)load_halves(column, column + WIDTH * SLOT_BYTES);
            }
            transpose(fourths[0], fourths[1], fourths[2], fourths[3]);
            rows[half].parts[i] = fourths[0];
            rows[half + 2].parts[i] = fourths[1];
        }
    }
}
#else
inline int64_t slots_bytes(int64_t columns) { return COLOURS * columns * LANES; }
inline int slot_of(unsigned column) {
#if defined(__AVX2__)
    constexpr int lanes = WIDTH / QUAD;
    return static_cast<int>((column / WIDTH * WIDTH + column % QUAD * lanes + column % WIDTH / QUAD) * LANES);
#else
    return static_cast<int>(column * LANES);
#endif
}

template <int BITS> inline void cut_column(uint8_t* slot, int64_t plane, const Ints (&sums)[COLOURS]) {
    cut_levels<BITS>({slot, slot + plane, slot + 2 * plane}, sums);
}

// 16 columns of a colour -> four times four rows, whose lanes are the columns.
inline void turn(const uint8_t* slots, int64_t vector, int64_t, Quads (&rows)[QUAD]) {
    slots += vector * LANES * LANES;
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
#endif

}  // namespace HJEPA_ISA
}  // namespace hjepa
