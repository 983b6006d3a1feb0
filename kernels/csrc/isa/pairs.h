// Two neighbouring numbers of 16 bits in each of 16 lanes, multiplied by two weights and added up: exact sums.
#pragma once

#include "simd.h"

namespace hjepa {
namespace HJEPA_ISA {

constexpr int PAIR = 2;

inline int32_t pair_of(int32_t first, int32_t second) {
    return static_cast<int32_t>((static_cast<uint32_t>(first) & 0xffff) | static_cast<uint32_t>(second) << 16);
}

inline IntRegister add_pairs(IntRegister sum, IntRegister pairs, int32_t weights) {
#if defined(__AVX512VNNI__)
    return (IntRegister)_mm512_dpwssd_epi32((__m512i)sum, (__m512i)pairs, _mm512_set1_epi32(weights));
#elif defined(__AVX512BW__)
    return sum + (IntRegister)_mm512_madd_epi16((__m512i)pairs, _mm512_set1_epi32(weights));
#elif defined(__AVX2__)
    return sum + (IntRegister)_mm256_madd_epi16((__m256i)pairs, _mm256_set1_epi32(weights));
#elif defined(__SSE2__)
    return sum + (IntRegister)_mm_madd_epi16((__m128i)pairs, _mm_set1_epi32(weights));
#else
    return sum + (pairs & 0xffff) * static_cast<int16_t>(weights & 0xffff) + (pairs >> 16) * (weights >> 16);
#endif
}

inline void add_pairs(Ints& sums, const Ints& pairs, int32_t weights) {
    for (int i = 0; i < REGISTERS; ++i) sums.parts[i] = add_pairs(sums.parts[i], pairs.parts[i], weights);
}

inline Ints all(int32_t number) {
    Ints numbers;
    for (int i = 0; i < REGISTERS; ++i) numbers.parts[i] = IntRegister{} + number;
    return numbers;
}

// 16 numbers of 0 to 2^15 - 1 in units of 2^-BITS, cut off, as 16-bit numbers; they are columns as store_pairs writes them.
template <int BITS> inline void store_shorts(int16_t* to, Ints sums) {
    for (int i = 0; i < REGISTERS; ++i) sums.parts[i] = sums.parts[i] >> BITS;
#if defined(__AVX512BW__)
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtepi32_epi16((__m512i)sums.parts[0]));
#elif defined(__AVX2__)
    const __m256i shorts = _mm256_packs_epi32((__m256i)sums.parts[0], (__m256i)sums.parts[1]);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), shorts);
#else
    for (int i = 0; i < LANES; ++i) to[i] = static_cast<int16_t>(sums.parts[i / WIDTH][i % WIDTH]);
#endif
}

// 32 levels, 0 to 255 in units of 2^-BITS, cut off: first of even, first of odd, second of even, ...
template <int BITS> inline void store_levels(uint8_t* to, const Ints& even, const Ints& odd) {
    IntRegister both[REGISTERS];  // 16-bit numbers
    for (int i = 0; i < REGISTERS; ++i) {
#if defined(__AVX2__) && !defined(__AVX512BW__)
        const __m256i low = (__m256i)(even.parts[i] >> BITS), high = (__m256i)(odd.parts[i] >> (BITS - 16));
        both[i] = (IntRegister)_mm256_blend_epi16(low, high, 0xaa);
#else
        both[i] = (even.parts[i] >> BITS) | ((odd.parts[i] >> BITS) << 16);
#endif
    }
#if defined(__AVX512BW__)
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtepi16_epi8((__m512i)both[0]));
#elif defined(__AVX2__)
    const __m256i mixed = _mm256_packus_epi16((__m256i)both[0], (__m256i)both[1]);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm256_permute4x64_epi64(mixed, 0xd8));
#else
    for (int i = 0; i < LANES; ++i) {
        to[2 * i] = static_cast<uint8_t>(both[i / WIDTH][i % WIDTH] & 0xff);
        to[2 * i + 1] = static_cast<uint8_t>(both[i / WIDTH][i % WIDTH] >> 16);
    }
#endif
}

// Pairs of two rows of bytes, 16 columns; where two registers hold them, in the order in which these are packed.
inline void store_pairs(int32_t* to, const uint8_t* first, const uint8_t* second) {
#if defined(__AVX512BW__)
    const __m512i low = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(first)));
    const __m512i high = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(second)));
    _mm512_storeu_si512(to, _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
#elif defined(__AVX2__)
    const __m256i low = _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(first)));
    const __m256i high = _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(second)));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm256_unpacklo_epi16(low, high));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + WIDTH), _mm256_unpackhi_epi16(low, high));
#else
    for (int i = 0; i < LANES; ++i) to[i] = first[i] | second[i] << 16;
#endif
}

// Pairs that start at even and odd addresses.
inline Ints load_pairs(const int16_t* from) {
    typedef int32_t LoosePairs __attribute__((vector_size(4 * WIDTH), aligned(2), may_alias));
    Ints values;
    for (int i = 0; i < REGISTERS; ++i) values.parts[i] = *reinterpret_cast<const LoosePairs*>(from + PAIR * i * WIDTH);
    return values;
}

}  // namespace HJEPA_ISA
}  // namespace hjepa
