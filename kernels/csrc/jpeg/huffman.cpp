#include "huffman.h"

#include <cstring>

namespace hjepa {

namespace {

constexpr int LONGEST_DC = 11, LONGEST_AC = 10;  // bits of a number, in images of 8 bits
constexpr int MOST_ZEROS = 15;  // before a coefficient; without one they are just zeros
constexpr uint32_t LOOKUPS = 1u << LOOKUP_BITS;

// False for a symbol that 8-bit images do not have.
bool read_symbol(Coefficient kind, int symbol, int code_length, Step& step) {
    const bool is_dc = kind == Coefficient::dc;
    int number_length = is_dc ? symbol : symbol & 15;
    const int zeros = is_dc ? 0 : symbol >> 4;
    if (number_length > (is_dc ? LONGEST_DC : LONGEST_AC)) return false;
    const bool ends = !is_dc && number_length == 0 && zeros < MOST_ZEROS;
    if (ends && kind == Coefficient::band) number_length = zeros;
    else if (ends && zeros > 0) return false;
    step = {};
    step.length = step.first_length = static_cast<uint8_t>(code_length + number_length);
    step.code_length = static_cast<uint8_t>(code_length);
    step.unused = static_cast<uint8_t>(63 - number_length);
    step.advance = step.first_advance = static_cast<uint8_t>(ends ? END_OF_BLOCK : zeros + 1);
    return true;
}

// What the last `length` bits say (T.81, table F.1).
int16_t number_in(uint32_t bits, int length) {
    const int number = static_cast<int>(bits & ((1u << length) - 1));
    return static_cast<int16_t>(length == 0 || number >> (length - 1) ? number : number - (1 << length) + 1);
}

// Adds the second coefficients to steps of one.
void add_seconds(HuffmanTable& table) {
    Step firsts[LOOKUPS];
    std::memcpy(firsts, table.steps, sizeof firsts);
    for (uint32_t bits = 0; bits < LOOKUPS; ++bits) {
        Step& step = table.steps[bits];
        const uint32_t rest = bits << step.length & (LOOKUPS - 1);
        const Step& next = firsts[rest];
        if (step.length == 0 || next.length == 0 || step.advance == END_OF_BLOCK) continue;
        if (step.length + next.length > LOOKUP_BITS) continue;
        step.second = number_in(rest >> (LOOKUP_BITS - next.length), 63 - next.unused);
        step.length = static_cast<uint8_t>(step.length + next.length);
        step.advance = static_cast<uint8_t>(step.advance + next.advance);
    }
}

bool build(HuffmanTable& table, Coefficient kind, const uint8_t* counts, const uint8_t* symbols) {
    std::memset(table.steps, 0, sizeof table.steps);
    uint32_t code = 0;
    int place = 0;
    for (int length = 1; length <= LONGEST_CODE; ++length, code <<= 1) {
        const int count = counts[length - 1];
        if (count > 0 && code + count >= 1u << length) return false;  // no code is all ones
        table.offsets[length] = place - static_cast<int32_t>(code);
        for (int i = 0; i < count; ++i, ++code, ++place) {
            Step& step = table.symbols[place];
            if (!read_symbol(kind, symbols[place], length, step)) return false;
            if (length > LOOKUP_BITS) continue;
            const int left = LOOKUP_BITS - length;
            for (uint32_t bits = code << left; bits < (code + 1) << left; ++bits) table.steps[bits] = step;
        }
        table.limits[length] = code << (LONGEST_CODE - length);
    }
    if (kind == Coefficient::ac) add_seconds(table);
    return true;
}

}  // namespace

const Step* long_step(const HuffmanTable& table, uint64_t bits) {
    const uint32_t next = static_cast<uint32_t>(bits >> (64 - LONGEST_CODE));
    for (int length = LOOKUP_BITS + 1; length <= LONGEST_CODE; ++length) {
        if (next >= table.limits[length]) continue;
        return &table.symbols[static_cast<int32_t>(next >> (LONGEST_CODE - length)) + table.offsets[length]];
    }
    return nullptr;
}

bool build_table(HuffmanTable& table, Coefficient kind, const uint8_t* definition, size_t count) {
    if (std::memcmp(table.definition, definition, LONGEST_CODE + count) == 0) return true;
    std::memset(table.definition, 0, LONGEST_CODE);
    if (!build(table, kind, definition, definition + LONGEST_CODE)) return false;
    std::memcpy(table.definition, definition, LONGEST_CODE + count);
    return true;
}

}  // namespace hjepa
