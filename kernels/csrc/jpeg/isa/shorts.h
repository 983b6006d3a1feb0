// Rows of several blocks at once: eight numbers of 16 bits in each 128-bit part of a register.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

#ifndef HJEPA_ISA
#define HJEPA_ISA plain
#endif

namespace hjepa {
namespace HJEPA_ISA {

#if defined(__AVX512BW__)
constexpr int BLOCKS = 4;
#elif defined(__AVX2__)
constexpr int BLOCKS = 2;
#else
constexpr int BLOCKS = 1;
#endif
constexpr int SHORTS = 8 * BLOCKS;

typedef int16_t Shorts __attribute__((vector_size(2 * SHORTS)));
typedef uint16_t WrappingShorts __attribute__((vector_size(2 * SHORTS)));
typedef int32_t Ints __attribute__((vector_size(2 * SHORTS)));  // half as many
typedef uint32_t Sums __attribute__((vector_size(2 * SHORTS)));  // the same, which may overflow
typedef uint8_t Bytes __attribute__((vector_size(2 * SHORTS)));  // twice as many
typedef int16_t LooseShorts __attribute__((vector_size(2 * SHORTS), aligned(2), may_alias));

inline Shorts load(const int16_t* from) { return *reinterpret_cast<const LooseShorts*>(from); }
inline void store(int16_t* to, Shorts values) { *reinterpret_cast<LooseShorts*>(to) = values; }

inline bool are_zero(Shorts values) {
#if defined(__AVX2__) && !defined(__AVX512BW__)
    return _mm256_testz_si256((__m256i)values, (__m256i)values);
#else
    int64_t parts[SHORTS / 4], any = 0;
    std::memcpy(parts, &values, sizeof parts);
    for (const int64_t part : parts) any |= part;
    return any == 0;
#endif
}

inline Shorts multiply(Shorts a, Shorts b) { return (Shorts)((WrappingShorts)a * (WrappingShorts)b); }

// One number of the pair `first`, `second`, beside the other.
inline int32_t pair_of(int first, int second) {
    return static_cast<int32_t>((static_cast<uint32_t>(first) & 0xffff) | static_cast<uint32_t>(second) << 16);
}

#if defined(__AVX512BW__)
#define HJEPA_OF(name) _mm512_##name
typedef __m512i Raw;
#elif defined(__AVX2__)
#define HJEPA_OF(name) _mm256_##name
typedef __m256i Raw;
#elif defined(__SSE2__)
#define HJEPA_OF(name) _mm_##name
typedef __m128i Raw;
#endif

#if defined(HJEPA_OF)
// a0 b0 a1 b1 ... of the lower and of the upper half of each part, by the width of what is interleaved.
inline Bytes low8(Bytes a, Bytes b) { return (Bytes)HJEPA_OF(unpacklo_epi8)((Raw)a, (Raw)b); }
inline Bytes high8(Bytes a, Bytes b) { return (Bytes)HJEPA_OF(unpackhi_epi8)((Raw)a, (Raw)b); }
inline Shorts low16(Shorts a, Shorts b) { return (Shorts)HJEPA_OF(unpacklo_epi16)((Raw)a, (Raw)b); }
inline Shorts high16(Shorts a, Shorts b) { return (Shorts)HJEPA_OF(unpackhi_epi16)((Raw)a, (Raw)b); }
inline Shorts low32(Shorts a, Shorts b) { return (Shorts)HJEPA_OF(unpacklo_epi32)((Raw)a, (Raw)b); }
inline Shorts high32(Shorts a, Shorts b) { return (Shorts)HJEPA_OF(unpackhi_epi32)((Raw)a, (Raw)b); }
inline Shorts low64(Shorts a, Shorts b) { return (Shorts)HJEPA_OF(unpacklo_epi64)((Raw)a, (Raw)b); }
inline Shorts high64(Shorts a, Shorts b) { return (Shorts)HJEPA_OF(unpackhi_epi64)((Raw)a, (Raw)b); }
// The inverse of low16 and high16 of 32-bit numbers, which are brought into the range of 16 bits.
inline Shorts pack(Ints low, Ints high) { return (Shorts)HJEPA_OF(packs_epi32)((Raw)low, (Raw)high); }
// The products of pairs with two weights, added up.
inline Sums multiply_pairs(Shorts pairs, int32_t weights) {
#if defined(__AVX512BW__)
    return (Sums)_mm512_madd_epi16((Raw)pairs, _mm512_set1_epi32(weights));
#else
    return (Sums)HJEPA_OF(madd_epi16)((Raw)pairs, HJEPA_OF(set1_epi32)(weights));
#endif
}
// The upper 16 of the product's 32 bits.
inline Shorts multiply_high(Shorts a, int16_t b) {
    return (Shorts)HJEPA_OF(mulhi_epi16)((Raw)a, HJEPA_OF(set1_epi16)(b));
}
#if defined(__AVX2__)
// The product with a factor of 15 bits behind the point, rounded.
inline Shorts multiply_rounded(Shorts a, int16_t b) {
    return (Shorts)HJEPA_OF(mulhrs_epi16)((Raw)a, HJEPA_OF(set1_epi16)(b));
}
#endif
// Levels, no less than 0 and no more than 255: eight of a and eight of b in each part.
inline Bytes levels(Shorts a, Shorts b) { return (Bytes)HJEPA_OF(packus_epi16)((Raw)a, (Raw)b); }
// The same of numbers around 0, which stands for level 128.
inline Bytes centred_levels(Shorts a, Shorts b) { return (Bytes)HJEPA_OF(packs_epi16)((Raw)a, (Raw)b) ^ 0x80; }
#undef HJEPA_OF
#else
inline Bytes low8(Bytes a, Bytes b) {
    Bytes both;
    for (int i = 0; i < 8; ++i) both[2 * i] = a[i], both[2 * i + 1] = b[i];
    return both;
}
inline Bytes high8(Bytes a, Bytes b) {
    Bytes both;
    for (int i = 0; i < 8; ++i) both[2 * i] = a[8 + i], both[2 * i + 1] = b[8 + i];
    return both;
}
inline Shorts low16(Shorts a, Shorts b) { return Shorts{a[0], b[0], a[1], b[1], a[2], b[2], a[3], b[3]}; }
inline Shorts high16(Shorts a, Shorts b) { return Shorts{a[4], b[4], a[5], b[5], a[6], b[6], a[7], b[7]}; }
inline Shorts low32(Shorts a, Shorts b) { return Shorts{a[0], a[1], b[0], b[1], a[2], a[3], b[2], b[3]}; }
inline Shorts high32(Shorts a, Shorts b) { return Shorts{a[4], a[5], b[4], b[5], a[6], a[7], b[6], b[7]}; }
inline Shorts low64(Shorts a, Shorts b) { return Shorts{a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3]}; }
inline Shorts high64(Shorts a, Shorts b) { return Shorts{a[4], a[5], a[6], a[7], b[4], b[5], b[6], b[7]}; }
inline int16_t to_short(int32_t number) {
    return static_cast<int16_t>(number < -32768 ? -32768 : number > 32767 ? 32767 : number);
}
inline Shorts pack(Ints low, Ints high) {
    Shorts packed;
    for (int i = 0; i < 4; ++i) packed[i] = to_short(low[i]), packed[4 + i] = to_short(high[i]);
    return packed;
}
inline Sums multiply_pairs(Shorts pairs, int32_t weights) {
    const int32_t first = static_cast<int16_t>(weights & 0xffff), second = weights >> 16;
    Sums sums;
    for (int i = 0; i < 4; ++i) {
        sums[i] = static_cast<uint32_t>(pairs[2 * i] * first) + static_cast<uint32_t>(pairs[2 * i + 1] * second);
    }
    return sums;
}
inline Shorts multiply_high(Shorts a, int16_t b) {
    for (int i = 0; i < 8; ++i) a[i] = static_cast<int16_t>((int32_t{a[i]} * b) >> 16);
    return a;
}
inline uint8_t to_level(int32_t number) { return static_cast<uint8_t>(number < 0 ? 0 : number > 255 ? 255 : number); }
inline Bytes levels(Shorts a, Shorts b) {
    Bytes both;
    for (int i = 0; i < 8; ++i) both[i] = to_level(a[i]), both[8 + i] = to_level(b[i]);
    return both;
}
inline Bytes centred_levels(Shorts a, Shorts b) {
    Bytes both;
    for (int i = 0; i < 8; ++i) both[i] = to_level(a[i] + 128), both[8 + i] = to_level(b[i] + 128);
    return both;
}
#endif

#if !defined(__AVX2__)
// For factors below a half, and numbers of 15 bits.
inline Shorts multiply_rounded(Shorts a, int16_t b) { return (multiply_high(a + a, static_cast<int16_t>(2 * b)) + 1) >> 1; }
#endif

}  // namespace HJEPA_ISA
}  // namespace hjepa
