// The inverse DCT in whole numbers that libjpeg calls "islow" (jidctint.c, after Loeffler, Ligtenberg and Moschytz), of several
// blocks at once: exact sums, rounded where libjpeg rounds them, so that any order of adding gives the same levels.
#pragma once

#include "../frame.h"
#include "shorts.h"

namespace hjepa {
namespace HJEPA_ISA {

constexpr int CONSTANT_BITS = 13, PASS_BITS = 2;
constexpr int FIRST_SHIFT = CONSTANT_BITS - PASS_BITS, SECOND_SHIFT = CONSTANT_BITS + PASS_BITS + 3;

// Half of a pass: the numbers of four columns of each block, as pairs of the rows 0 and 4, 2 and 6, 1 and 7, 3 and 5.
template <int SHIFT> inline void transform_half(Shorts rows04, Shorts rows26, Shorts rows17, Shorts rows35, Ints (&out)[8]) {
    constexpr int ONE = 1 << CONSTANT_BITS;
    constexpr uint32_t ROUND = 1 << (SHIFT - 1);
    const Sums sum = multiply_pairs(rows04, pair_of(ONE, ONE)) + ROUND;
    const Sums difference = multiply_pairs(rows04, pair_of(ONE, -ONE)) + ROUND;
    const Sums outer = multiply_pairs(rows26, pair_of(10703, 4433)), inner = multiply_pairs(rows26, pair_of(4433, -10704));
    const Sums even[4] = {sum + outer, difference + inner, difference - inner, sum - outer};
    const Sums odd[4] = {
        multiply_pairs(rows17, pair_of(11363, 2260)) + multiply_pairs(rows35, pair_of(9633, 6437)),
        multiply_pairs(rows17, pair_of(9633, -6436)) + multiply_pairs(rows35, pair_of(-2259, -11362)),
        multiply_pairs(rows17, pair_of(6437, 9633)) + multiply_pairs(rows35, pair_of(-11362, 2261)),
        multiply_pairs(rows17, pair_of(2260, -11363)) + multiply_pairs(rows35, pair_of(-6436, 9633)),
    };
    for (int i = 0; i < 4; ++i) {
        out[i] = (Ints)(even[i] + odd[i]) >> SHIFT;
        out[7 - i] = (Ints)(even[i] - odd[i]) >> SHIFT;
    }
}

// Along the columns of each block.
template <int SHIFT> inline void transform(Shorts (&rows)[8]) {
    Ints low[8], high[8];
    transform_half<SHIFT>(low16(rows[0], rows[4]), low16(rows[2], rows[6]), low16(rows[1], rows[7]), low16(rows[3], rows[5]), low);
    transform_half<SHIFT>(
        high16(rows[0], rows[4]), high16(rows[2], rows[6]), high16(rows[1], rows[7]), high16(rows[3], rows[5]), high);
    for (int i = 0; i < 8; ++i) rows[i] = pack(low[i], high[i]);
}

// Rows of each block for its columns.
inline void transpose(Shorts (&rows)[8]) {
    Shorts pairs[8], fours[8];
    for (int i = 0; i < 4; ++i) {
        pairs[2 * i] = low16(rows[2 * i], rows[2 * i + 1]);
        pairs[2 * i + 1] = high16(rows[2 * i], rows[2 * i + 1]);
    }
    for (int i = 0; i < 2; ++i) {
        for (int half = 0; half < 2; ++half) {
            fours[4 * i + 2 * half] = low32(pairs[4 * i + half], pairs[4 * i + 2 + half]);
            fours[4 * i + 2 * half + 1] = high32(pairs[4 * i + half], pairs[4 * i + 2 + half]);
        }
    }
    for (int i = 0; i < 4; ++i) {
        rows[2 * i] = low64(fours[i], fours[4 + i]);
        rows[2 * i + 1] = high64(fours[i], fours[4 + i]);
    }
}

// Rows y and y + 1 of BLOCKS blocks side by side, of each block eight levels of one and eight of the other.
inline void store_rows(uint8_t* row, uint8_t* next_row, Bytes both) {
#if defined(__AVX512BW__)
    const __m512i order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
    const __m512i sorted = _mm512_permutexvar_epi64(order, (__m512i)both);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(row), _mm512_castsi512_si256(sorted));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(next_row), _mm512_extracti64x4_epi64(sorted, 1));
#elif defined(__AVX2__)
    const __m256i sorted = _mm256_permute4x64_epi64((__m256i)both, 0xd8);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(row), _mm256_castsi256_si128(sorted));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(next_row), _mm256_extracti128_si256(sorted, 1));
#else
    std::memcpy(row, &both, 8);
    std::memcpy(next_row, reinterpret_cast<const uint8_t*>(&both) + 8, 8);
#endif
}

// Columns of each block as rows of levels.
inline void store_columns(const Shorts (&columns)[8], uint8_t* to, size_t stride) {
    const Bytes two[4] = {centred_levels(columns[0], columns[4]), centred_levels(columns[1], columns[5]),
                          centred_levels(columns[2], columns[6]), centred_levels(columns[3], columns[7])};
    const Shorts left[2] = {(Shorts)low8(two[0], two[1]), (Shorts)low8(two[2], two[3])};
    const Shorts right[2] = {(Shorts)high8(two[0], two[1]), (Shorts)high8(two[2], two[3])};
    const Shorts upper[2] = {low16(left[0], left[1]), low16(right[0], right[1])};
    const Shorts lower[2] = {high16(left[0], left[1]), high16(right[0], right[1])};
    store_rows(to, to + stride, (Bytes)low32(upper[0], upper[1]));
    store_rows(to + 2 * stride, to + 3 * stride, (Bytes)high32(upper[0], upper[1]));
    store_rows(to + 4 * stride, to + 5 * stride, (Bytes)low32(lower[0], lower[1]));
    store_rows(to + 6 * stride, to + 7 * stride, (Bytes)high32(lower[0], lower[1]));
}

// Sets bits of `sizes`, those of each number's absolute value and perhaps lower ones.
inline void add_size(Shorts row, Shorts& sizes) { sizes |= row ^ (row >> 15); }
inline void add_sizes(const Shorts (&rows)[8], Shorts& sizes) {
    for (const Shorts& row : rows) add_size(row, sizes);
}

// Half of a pass whose rows 4 to 7 are zeros, as pairs of the rows 0 and 2, 1 and 3: the same sums.
template <int SHIFT> inline void transform_half_of_four(Shorts rows02, Shorts rows13, Ints (&out)[8]) {
    constexpr int ONE = 1 << CONSTANT_BITS;
    constexpr uint32_t ROUND = 1 << (SHIFT - 1);
    const Sums even[4] = {
        multiply_pairs(rows02, pair_of(ONE, 10703)) + ROUND, multiply_pairs(rows02, pair_of(ONE, 4433)) + ROUND,
        multiply_pairs(rows02, pair_of(ONE, -4433)) + ROUND, multiply_pairs(rows02, pair_of(ONE, -10703)) + ROUND};
    const Sums odd[4] = {multiply_pairs(rows13, pair_of(11363, 9633)), multiply_pairs(rows13, pair_of(9633, -2259)),
                         multiply_pairs(rows13, pair_of(6437, -11362)), multiply_pairs(rows13, pair_of(2260, -6436))};
    for (int i = 0; i < 4; ++i) {
        out[i] = (Ints)(even[i] + odd[i]) >> SHIFT;
        out[7 - i] = (Ints)(even[i] - odd[i]) >> SHIFT;
    }
}

// Whether no block has coefficients but in its first four rows and columns, as most of colours.
inline bool is_low(const int16_t* coefficients) {
    const Shorts lower = load(coefficients + 4 * SHORTS) | load(coefficients + 5 * SHORTS) | load(coefficients + 6 * SHORTS) |
                         load(coefficients + 7 * SHORTS);
    const Shorts upper = load(coefficients) | load(coefficients + SHORTS) | load(coefficients + 2 * SHORTS) |
                         load(coefficients + 3 * SHORTS);
    return are_zero(lower | high64(upper, upper));
}

// As inverse_dct, of such blocks.
inline void low_inverse_dct(const int16_t* coefficients, const int16_t* quantization, uint8_t* to, size_t stride,
                            Shorts& sizes) {
    Shorts rows[8];
    for (int i = 0; i < 4; ++i) {
        rows[i] = multiply(load(coefficients + i * SHORTS), load(quantization + i * SHORTS));
        add_size(rows[i], sizes);
    }
    Ints low[8], high[8];
    transform_half_of_four<FIRST_SHIFT>(low16(rows[0], rows[2]), low16(rows[1], rows[3]), low);
    Shorts columns02[2], columns13[2];  // of rows 0 to 3, of rows 4 to 7
    for (int i = 0; i < 2; ++i) {
        const Shorts rows01 = pack(low[4 * i], low[4 * i + 1]), rows23 = pack(low[4 * i + 2], low[4 * i + 3]);
        const Shorts even = low16(rows01, rows23), odd = high16(rows01, rows23);
        const Shorts columns01 = low16(even, odd), columns23 = high16(even, odd);
        add_size(columns01, sizes), add_size(columns23, sizes);
        columns02[i] = low16(columns01, columns23), columns13[i] = high16(columns01, columns23);
    }
    transform_half_of_four<SECOND_SHIFT>(columns02[0], columns13[0], low);
    transform_half_of_four<SECOND_SHIFT>(columns02[1], columns13[1], high);
    for (int i = 0; i < 8; ++i) rows[i] = pack(low[i], high[i]);
    store_columns(rows, to, stride);
}

// coefficients [8, BLOCKS, 8], quantization the same -> levels, at `to`, of rows that are `stride` bytes apart. Products
// are cut off to 16 bits, as by libjpeg-turbo's vectors. Numbers from MOST_SIZE on, which no image's pixels have but errors do,
// overflow elsewhere in libjpeg-turbo: `sizes` tells of them.
constexpr int16_t MOST_SIZE = 1 << 13;
inline void inverse_dct(const int16_t* coefficients, const int16_t* quantization, uint8_t* to, size_t stride, Shorts& sizes) {
    // Four blocks are all low too seldom to pay for the question.
    if (BLOCKS <= 2 && is_low(coefficients)) return low_inverse_dct(coefficients, quantization, to, stride, sizes);
    Shorts rows[8];
    for (int i = 0; i < 8; ++i) rows[i] = multiply(load(coefficients + i * SHORTS), load(quantization + i * SHORTS));
    add_sizes(rows, sizes);
    transform<FIRST_SHIFT>(rows);
    add_sizes(rows, sizes);
    transpose(rows);
    transform<SECOND_SHIFT>(rows);
    store_columns(rows, to, stride);
}

}  // namespace HJEPA_ISA
}  // namespace hjepa
