// The inverse DCT of an image that comes out at half or a quarter of its size: libjpeg's own (jidctred.c), which makes 4 x 4 or
// 2 x 2 pixels of a block's lower frequencies. Exact sums, as in idct.h.
#pragma once

#include "idct.h"

namespace hjepa {
namespace HJEPA_ISA {

constexpr int extra_shift(int side) { return side == 4 ? 1 : 2; }  // what its sums are scaled by beyond those of idct.h

// Half of a pass: the numbers of four columns of each block, as pairs of the rows 0 and 4, 2 and 6, 1 and 7, 3 and 5.
template <int SIDE, int SHIFT>
inline void reduce_half(Shorts rows04, Shorts rows26, Shorts rows17, Shorts rows35, Ints (&out)[SIDE]) {
    constexpr uint32_t ROUND = 1 << (SHIFT - 1);
    const Sums first = multiply_pairs(rows04, pair_of(1 << (CONSTANT_BITS + 1), 0));
    if constexpr (SIDE == 4) {
        const Sums even = multiply_pairs(rows26, pair_of(15137, -6270));
        const Sums outer = multiply_pairs(rows17, pair_of(20995, -4176)) + multiply_pairs(rows35, pair_of(7373, -4926));
        const Sums inner = multiply_pairs(rows17, pair_of(8697, -1730)) + multiply_pairs(rows35, pair_of(-17799, 11893));
        const Sums sum = first + even + ROUND, difference = first - even + ROUND;
        out[0] = (Ints)(sum + outer) >> SHIFT;
        out[1] = (Ints)(difference + inner) >> SHIFT;
        out[2] = (Ints)(difference - inner) >> SHIFT;
        out[3] = (Ints)(sum - outer) >> SHIFT;
    } else {
        const Sums odd = multiply_pairs(rows17, pair_of(29692, -5906)) + multiply_pairs(rows35, pair_of(-10426, 6967));
        out[0] = (Ints)(2 * first + ROUND + odd) >> SHIFT;
        out[1] = (Ints)(2 * first + ROUND - odd) >> SHIFT;
    }
}

// Columns of numbers, four of each block, as rows of levels: SIDE bytes of row 0, SIDE of row 1, ...
inline Bytes rows_of(const Ints (&columns)[4]) {
    const Shorts left = pack(columns[0], columns[1]), right = pack(columns[2], columns[3]);
    const Shorts even = low16(left, right), odd = high16(left, right);  // columns
    return centred_levels(low16(even, odd), high16(even, odd));
}
inline Bytes rows_of(const Ints (&columns)[2]) {
    const Shorts both = pack(columns[0], columns[1]), rows = low16(both, high64(both, both));
    return centred_levels(rows, rows);
}

// As inverse_dct, to SIDE rows of SIDE levels of each block.
template <int SIDE>
inline void reduced_inverse_dct(const int16_t* coefficients, const int16_t* quantization, uint8_t* to, size_t stride,
                                Shorts& sizes) {
    constexpr int FIRST = FIRST_SHIFT + extra_shift(SIDE), SECOND = SECOND_SHIFT + extra_shift(SIDE);
    Shorts rows[8];
    for (int i = 0; i < 8; ++i) rows[i] = multiply(load(coefficients + i * SHORTS), load(quantization + i * SHORTS));
    add_sizes(rows, sizes);
    Ints low[SIDE], high[SIDE];
    reduce_half<SIDE, FIRST>(
        low16(rows[0], rows[4]), low16(rows[2], rows[6]), low16(rows[1], rows[7]), low16(rows[3], rows[5]), low);
    reduce_half<SIDE, FIRST>(
        high16(rows[0], rows[4]), high16(rows[2], rows[6]), high16(rows[1], rows[7]), high16(rows[3], rows[5]), high);
    for (int i = 0; i < 8; ++i) rows[i] = i < SIDE ? pack(low[i], high[i]) : Shorts{};
    add_sizes(rows, sizes);
    transpose(rows);
    reduce_half<SIDE, SECOND>(
        low16(rows[0], rows[4]), low16(rows[2], rows[6]), low16(rows[1], rows[7]), low16(rows[3], rows[5]), low);
    const Bytes levels = rows_of(low);
    for (int block = 0; block < BLOCKS; ++block) {
        const uint8_t* from = reinterpret_cast<const uint8_t*>(&levels) + 16 * block;
        for (int row = 0; row < SIDE; ++row) std::memcpy(to + row * stride + SIDE * block, from + SIDE * row, SIDE);
    }
}

}  // namespace HJEPA_ISA
}  // namespace hjepa
