// Huffman codes as look-ups of the next bits of a scan (ITU-T T.81, annexes C and F.2.2).
#pragma once

#include <cstddef>
#include <cstdint>

namespace hjepa {

constexpr int LOOKUP_BITS = 10;
constexpr int LONGEST_CODE = 16;
constexpr int MOST_SYMBOLS = 256;
constexpr int END_OF_BLOCK = 128;  // coefficients to go on by; beyond any block

// What the next bits begin with: a code, and the number behind it, which may go on beyond LOOKUP_BITS. Of AC coefficients also a
// second one, if all of it is among these bits, which holds in most cases; without it its length and advance are 0. The second
// one is there because each step waits for the one before it, and no case is told from another by a branch, because a processor
// cannot foresee which it will be: these two are what decoding takes its time for.
struct Step {
    int16_t second;  // the coefficient itself
    uint8_t length;  // of both; 0: of no code, or one of more than LOOKUP_BITS
    uint8_t first_length;
    uint8_t code_length;  // the first one's
    uint8_t unused;  // 63 - length of the number behind it
    uint8_t advance, first_advance;  // coefficients to go on by: the zeros before one, and itself
};

struct HuffmanTable {
    Step steps[1 << LOOKUP_BITS];  // by the next bits
    // Of each length: one past the last code, as the upper bits of 16, and the first code's place in `symbols` less the code.
    uint32_t limits[LONGEST_CODE + 1];
    int32_t offsets[LONGEST_CODE + 1];
    Step symbols[MOST_SYMBOLS];  // by the order of their codes
    uint8_t definition[LONGEST_CODE + MOST_SYMBOLS];  // that it was built from; all counts are 0 where there is none
};

// A step by a code of more than LOOKUP_BITS, from the next bits, the first one uppermost; null for none.
const Step* long_step(const HuffmanTable& table, uint64_t bits);

// `band`: AC coefficients of progressive images. There the end of a block may be that of others, too: of as many as the number
// behind its code says. They have no steps of two.
enum class Coefficient { dc, ac, band };

// definition [16 + count]: counts of codes of 1, 2, ... bits, and their `count` symbols, which are not none. False for codes that
// do not fit, or symbols that 8-bit images do not have. Most files have the same tables: one that is there is not built again.
bool build_table(HuffmanTable& table, Coefficient kind, const uint8_t* definition, size_t count);

}  // namespace hjepa
