#include "huffman.h"

namespace hjepa {

namespace {

constexpr int LONGEST_DC = 11, LONGEST_AC = 10;  // bits of a number, in images of 8 bits

Step step_of(int code_length, int number_length, int advance) {
    return static_cast<Step>(code_length + number_length) | static_cast<Step>(code_length) << 8 |
           static_cast<Step>(63 - number_length) << 16 | static_cast<Step>(advance) << 24;
}

}  // namespace

bool build_table(HuffmanTable& table, Coefficient kind, const uint8_t* counts, const uint8_t* symbols) {
    table = {};
    uint32_t code = 0;
    int place = 0;
    for (int length = 1; length <= LONGEST_CODE; ++length, code <<= 1) {
        const int count = counts[length - 1];
        if (code + count > 1u << length || place + count > 256) return false;
        table.offsets[length] = place - static_cast<int32_t>(code);
        for (int i = 0; i < count; ++i, ++code, ++place) {
            const int symbol = symbols[place];
            const int number_length = kind == Coefficient::dc ? symbol : symbol & 15, zeros = symbol >> 4;
            if (number_length > (kind == Coefficient::dc ? LONGEST_DC : LONGEST_AC)) return false;
            if (kind == Coefficient::ac && number_length == 0 && zeros != 0 && zeros != 15) return false;
            const int advance = kind == Coefficient::dc ? 1 : symbol == 0 ? END_OF_BLOCK : zeros + 1;
            const Step step = step_of(length, number_length, advance);
            table.symbols[place] = step;
            if (length > LOOKUP_BITS) continue;
            const uint32_t first = code << (LOOKUP_BITS - length);
            for (uint32_t rest = 0; rest < 1u << (LOOKUP_BITS - length); ++rest) table.steps[first + rest] = step;
        }
        table.limits[length] = code << (LONGEST_CODE - length);
    }
    return true;
}

}  // namespace hjepa
