// Vectors of one build. The files of this folder are compiled once per instruction set, each time into another namespace.
//
// They include nothing that has inline functions of its own (no <algorithm>, no <vector>): the linker would keep one copy of
// such a function for all builds, and it might be one that this processor cannot run. Most loops are plain, for the compiler
// to vectorise; vector types are spelt out only where sums have to stay in registers.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

#ifndef HJEPA_ISA
#define HJEPA_ISA plain
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
inline Floats operator+(Floats a, const Floats& b) {
    for (int i = 0; i < REGISTERS; ++i) a.parts[i] += b.parts[i];
    return a;
}
inline Floats operator*(Floats a, float b) {
    for (int i = 0; i < REGISTERS; ++i) a.parts[i] *= b;
    return a;
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

// 16 sums, and 16 pairs of 16-bit numbers, one pair for each sum.
struct Ints {
    IntRegister parts[REGISTERS];
};
struct Pairs {
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

// sums + pair . pair, which no order of terms can change.
inline Ints add_products(Ints sums, const Pairs& pairs, int32_t weights) {
    for (int i = 0; i < REGISTERS; ++i) {
#if defined(__AVX512BW__)
        sums.parts[i] += (IntRegister)_mm512_madd_epi16((__m512i)pairs.parts[i], _mm512_set1_epi32(weights));
#elif defined(__AVX2__)
        sums.parts[i] += (IntRegister)_mm256_madd_epi16((__m256i)pairs.parts[i], _mm256_set1_epi32(weights));
#elif defined(__SSE2__)
        sums.parts[i] += (IntRegister)_mm_madd_epi16((__m128i)pairs.parts[i], _mm_set1_epi32(weights));
#else
        const IntRegister low = (pairs.parts[i] << 16) >> 16, high = pairs.parts[i] >> 16;
        sums.parts[i] += low * static_cast<int16_t>(weights & 0xffff) + high * (weights >> 16);
#endif
    }
    return sums;
}

// 16 bytes of each: (first[0], second[0]), (first[1], second[1]), ...
inline Pairs pair_up(const uint8_t* first, const uint8_t* second) {
    Pairs pairs;
#if defined(__SSE2__)
    const __m128i a = _mm_loadu_si128(reinterpret_cast<const __m128i*>(first));
    const __m128i b = _mm_loadu_si128(reinterpret_cast<const __m128i*>(second));
    const __m128i low = _mm_unpacklo_epi8(a, b), high = _mm_unpackhi_epi8(a, b);
#if defined(__AVX512BW__)
    pairs.parts[0] = (IntRegister)_mm512_cvtepu8_epi16(_mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1));
#elif defined(__AVX2__)
    pairs.parts[0] = (IntRegister)_mm256_cvtepu8_epi16(low);
    pairs.parts[1] = (IntRegister)_mm256_cvtepu8_epi16(high);
#else
    const __m128i zero = _mm_setzero_si128();
    pairs.parts[0] = (IntRegister)_mm_unpacklo_epi8(low, zero);
    pairs.parts[1] = (IntRegister)_mm_unpackhi_epi8(low, zero);
    pairs.parts[2] = (IntRegister)_mm_unpacklo_epi8(high, zero);
    pairs.parts[3] = (IntRegister)_mm_unpackhi_epi8(high, zero);
#endif
#else
    for (int i = 0; i < LANES; ++i) pairs.parts[i / WIDTH][i % WIDTH] = first[i] | (second[i] << 16);
#endif
    return pairs;
}

// The levels nearest to sums in units of 2^-BITS, halves upwards, no less than 0 and no more than 255.
template <int BITS> inline void round_levels(uint8_t* to, Ints sums) {
    for (int i = 0; i < REGISTERS; ++i) sums.parts[i] = (sums.parts[i] + (1 << (BITS - 1))) >> BITS;
#if defined(__AVX512BW__)
    const __m512i positive = _mm512_max_epi32((__m512i)sums.parts[0], _mm512_setzero_si512());
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm512_cvtusepi32_epi8(positive));
#elif defined(__AVX2__)
    const __m256i words =
        _mm256_permute4x64_epi64(_mm256_packs_epi32((__m256i)sums.parts[0], (__m256i)sums.parts[1]), 0xd8);
    const __m128i bytes = _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), bytes);
#else
    for (int i = 0; i < LANES; ++i) {
        const int32_t level = sums.parts[i / WIDTH][i % WIDTH];
        to[i] = static_cast<uint8_t>(level < 0 ? 0 : level > 255 ? 255 : level);
    }
#endif
}

// One or several lanes of 16 bytes.
#if defined(__AVX512BW__)
typedef __m512i Bytes;
inline Bytes interleave_low(Bytes a, Bytes b) { return _mm512_unpacklo_epi8(a, b); }
inline Bytes interleave_high(Bytes a, Bytes b) { return _mm512_unpackhi_epi8(a, b); }
#elif defined(__AVX2__)
typedef __m256i Bytes;
inline Bytes interleave_low(Bytes a, Bytes b) { return _mm256_unpacklo_epi8(a, b); }
inline Bytes interleave_high(Bytes a, Bytes b) { return _mm256_unpackhi_epi8(a, b); }
#else
typedef uint8_t Bytes __attribute__((vector_size(LANES)));
#if defined(__clang__)
#define HJEPA_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define HJEPA_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, Bytes{__VA_ARGS__})
#endif
inline Bytes interleave_low(Bytes a, Bytes b) {
    return HJEPA_SHUFFLE(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
}
inline Bytes interleave_high(Bytes a, Bytes b) {
    return HJEPA_SHUFFLE(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
}
#endif
constexpr int SQUARES = static_cast<int>(sizeof(Bytes)) / LANES;  // that are transposed at once

// Rows become columns, SQUARES times 16 x 16 bytes: interleaving the upper with the lower half of the rows, four times over.
inline void transpose(Bytes (&rows)[LANES]) {
    for (int round = 0; round < 4; ++round) {
        Bytes mixed[LANES];
        for (int pair = 0; pair < LANES / 2; ++pair) {
            mixed[2 * pair] = interleave_low(rows[pair], rows[pair + LANES / 2]);
            mixed[2 * pair + 1] = interleave_high(rows[pair], rows[pair + LANES / 2]);
        }
        for (int row = 0; row < LANES; ++row) rows[row] = mixed[row];
    }
}

template <typename T> inline T least(T a, T b) { return b < a ? b : a; }
template <typename T> inline T most(T a, T b) { return a < b ? b : a; }
inline int64_t round_up(int64_t count, int64_t step) { return (count + step - 1) / step * step; }

// Hands out parts of a piece of memory; with a null start it only counts.
class Arena {
  public:
    explicit Arena(char* start) : start_(start) {}
    template <typename T> T* take(int64_t count) {
        char* taken = start_ ? start_ + used_ : nullptr;
        used_ += static_cast<size_t>(round_up(count * static_cast<int64_t>(sizeof(T)), 64));
        return reinterpret_cast<T*>(taken);
    }
    size_t used() const { return used_; }

  private:
    char* start_;
    size_t used_ = 0;
};

}  // namespace HJEPA_ISA
}  // namespace hjepa
