// Huffman codes as look-ups of the next bits of a scan (ITU-T T.81, annexes C and F.2.2).
#pragma once

#include <cstdint>

namespace hjepa {

// How a code goes on, in four bytes, so that a step needs one look-up:
//   bits 0-7    length of the code and of the number behind it
//   bits 8-15   length of the code
//   bits 16-23  63 - length of the number
//   bits 24-31  coefficients to go on by: the zeros before the number, and itself
// 0 stands for a code that is longer than LOOKUP_BITS, or none.
using Step = uint32_t;

constexpr int LOOKUP_BITS = 11;
constexpr int LONGEST_CODE = 16;
constexpr int END_OF_BLOCK = 128;  // coefficients to go on by; beyond any block

struct HuffmanTable {
    Step steps[1 << LOOKUP_BITS];  // by the next bits
    // Of each length: one past the last code, as the upper bits of 16, and the first code's place in `symbols` less the code.
    uint32_t limits[LONGEST_CODE + 1];
    int32_t offsets[LONGEST_CODE + 1];
    Step symbols[256];
};

enum class Coefficient { dc, ac };

// counts [16]: codes of 1, 2, ... bits; symbols [sum of counts]. False for codes that do not fit, or symbols that 8-bit images
// do not have.
bool build_table(HuffmanTable& table, Coefficient kind, const uint8_t* counts, const uint8_t* symbols);

}  // namespace hjepa
