// Vectors of one build. The files of this folder are compiled once per instruction set, each time into another namespace.
//
// They include nothing that has inline functions of its own (no <algorithm>, no <vector>): the linker would keep one copy of
// such a function for all builds, and it might be one that this processor cannot run. Most loops are plain, for the compiler
// to vectorise; vector types are spelt out only where sums have to stay in registers.
#pragma once

#include "arena.h"

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace hjepa {
namespace HJEPA_ISA {

constexpr int LANES = 16;
#if defined(__AVX512F__)
constexpr int WIDTH = 16;  // floats in a register
#elif defined(__AVX__)
constexpr int WIDTH = 8;
#else
constexpr int WIDTH = 4;
#endif
constexpr int REGISTERS = LANES / WIDTH;

typedef float Register __attribute__((vector_size(4 * WIDTH)));
typedef int32_t IntRegister __attribute__((vector_size(4 * WIDTH)));
typedef int32_t LooseIntRegister __attribute__((vector_size(4 * WIDTH), aligned(4), may_alias));
typedef float LooseRegister __attribute__((vector_size(4 * WIDTH), aligned(4), may_alias));

// 16 floats.
struct Floats {
    Register parts[REGISTERS];
};

inline Floats load(const float* from) {
    Floats values;
    for (int i = 0; i < REGISTERS; ++i) values.parts[i] = *reinterpret_cast<const LooseRegister*>(from + i * WIDTH);
    return values;
}
inline void store(float* to, const Floats& values) {
    for (int i = 0; i < REGISTERS; ++i) *reinterpret_cast<LooseRegister*>(to + i * WIDTH) = values.parts[i];
}

// 16 bytes as floats.
inline Floats widen(const uint8_t* from) {
    Floats wide;
#if defined(__AVX512F__)
    wide.parts[0] = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))));
#elif defined(__AVX2__)
    for (int i = 0; i < REGISTERS; ++i) {
        const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from + i * WIDTH));
        wide.parts[i] = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes));
    }
#else
    float values[LANES];
    for (int i = 0; i < LANES; ++i) values[i] = static_cast<float>(from[i]);
    wide = load(values);
#endif
    return wide;
}

// 16 floats from 0 to below 256 as bytes, cut off.
inline void narrow(uint8_t* to, const Floats& values) {
#if defined(__AVX512F__)
    const __m128i bytes = _mm512_cvtepi32_epi8(_mm512_cvttps_epi32(values.parts[0]));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), bytes);
#elif defined(__AVX2__)
    const __m256i low = _mm256_cvttps_epi32(values.parts[0]), high = _mm256_cvttps_epi32(values.parts[1]);
    const __m256i words = _mm256_permute4x64_epi64(_mm256_packus_epi32(low, high), 0xd8);
    const __m128i bytes = _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), bytes);
#else
    float unpacked[LANES];
    store(unpacked, values);
    for (int i = 0; i < LANES; ++i) to[i] = static_cast<uint8_t>(static_cast<int32_t>(unpacked[i]));
#endif
}

// 16 sums.
struct Ints {
    IntRegister parts[REGISTERS];
};
inline Ints load(const int32_t* from) {
    Ints values;
    for (int i = 0; i < REGISTERS; ++i) values.parts[i] = *reinterpret_cast<const LooseIntRegister*>(from + i * WIDTH);
    return values;
}
inline void store(int32_t* to, const Ints& values) {
    for (int i = 0; i < REGISTERS; ++i) *reinterpret_cast<LooseIntRegister*>(to + i * WIDTH) = values.parts[i];
}

#if defined(__AVX2__) && !defined(__AVX512BW__)
// 16 sums in units of 2^-BITS as 16-bit numbers, cut off: those of lanes 0-3 and 8-11, then 4-7 and 12-15.
template <int BITS> inline __m256i cut_words(const Ints& sums) {
    return _mm256_packs_epi32((__m256i)(sums.parts[0] >> BITS), (__m256i)(sums.parts[1] >> BITS));
}
#endif

// Three times 16 sums in units of 2^-BITS as levels, cut off, no less than 0 and no more than 255. With AVX2 lanes 4-7 are of
// columns 8-11 and the reverse, so that packing puts them in order.
template <int BITS> inline void cut_levels(uint8_t* const (&to)[3], const Ints (&sums)[3]) {
#if defined(__AVX512BW__)
    const __m512i a = (__m512i)(sums[0].parts[0] >> BITS), b = (__m512i)(sums[1].parts[0] >> BITS);
    const __m512i c = (__m512i)(sums[2].parts[0] >> BITS);
    const __m512i mixed = _mm512_packus_epi16(_mm512_packs_epi32(a, b), _mm512_packs_epi32(c, c));  // a b c c, four of each
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const __m512i levels = _mm512_permutexvar_epi32(order, mixed);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to[0]), _mm512_castsi512_si128(levels));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to[1]), _mm512_extracti32x4_epi32(levels, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to[2]), _mm512_extracti32x4_epi32(levels, 2));
#elif defined(__AVX2__)
    for (int number = 0; number < 3; ++number) {
        const __m256i words = cut_words<BITS>(sums[number]);
        const __m128i levels = _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to[number]), levels);
    }
#else
    for (int number = 0; number < 3; ++number) {
        for (int i = 0; i < LANES; ++i) {
            const int32_t level = sums[number].parts[i / WIDTH][i % WIDTH] >> BITS;
            to[number][i] = static_cast<uint8_t>(level < 0 ? 0 : level > 255 ? 255 : level);
        }
    }
#endif
}

}  // namespace HJEPA_ISA
}  // namespace hjepa
