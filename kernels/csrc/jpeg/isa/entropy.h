// The coefficients of a scan, symbol by symbol. This is most of the time of decoding: each symbol waits for the one before it,
// so that what counts is how few steps there are between two.
#pragma once

#include "../frame.h"
#include "shorts.h"

namespace hjepa {
namespace HJEPA_ISA {

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "bits are read, and colours stored, as x86 and ARM have them");

// The next bits of an interval, the first one uppermost.
struct Bits {
    uint64_t bits;
    uint64_t count;  // of them that are there
    const uint8_t* next;  // the first byte that is not wholly among them

    // At least 56 are there afterwards: a step and the code behind it take no more. Reads eight bytes.
    void refill() {
        uint64_t more;
        std::memcpy(&more, next, sizeof more);
        bits |= __builtin_bswap64(more) >> count;
        next += (63 - count) >> 3;
        count |= 56;
    }
    void skip(uint64_t length) {
        bits <<= length;
        count -= length;
    }
};

// Where the numbered coefficients of a block go, in [8, BLOCKS, 8]: zigzag order. Those beyond the last one, which only an error
// or the end of a block asks for, share its place.
struct Places {
    uint8_t of[COEFFICIENTS + 2 * END_OF_BLOCK];
};

constexpr Places zigzag() {
    Places places{};
    int x = 0, y = 0;
    for (int number = 0; number < COEFFICIENTS; ++number) {
        places.of[number] = static_cast<uint8_t>(y * SHORTS + x);
        const bool up = (x + y) % 2 == 0;
        if (up && x < BLOCK - 1) {
            ++x;
            if (y > 0) --y;
        } else if (up) {
            ++y;
        } else if (y < BLOCK - 1) {
            ++y;
            if (x > 0) --x;
        } else {
            ++x;
        }
    }
    for (int number = COEFFICIENTS; number < COEFFICIENTS + 2 * END_OF_BLOCK; ++number) places.of[number] = places.of[COEFFICIENTS - 1];
    return places;
}

constexpr Places PLACES = zigzag();

// The step that the next bits ask for, and its length, which what follows waits for: it is read by its number in the table, before
// the step's address is known. False for an error.
inline bool next_step(const HuffmanTable& table, uint64_t bits, const Step*& step, uint64_t& length) {
    const uint64_t next = bits >> (64 - LOOKUP_BITS);
    length = table.steps[next].length;
    step = &table.steps[next];
    if (__builtin_expect(length != 0, 1)) return true;
    step = long_step(table, bits);
    if (!step) return false;
    length = step->length;
    return true;
}

// The number behind a code. An upper bit of 0 says that it is negative, and that its bits are inverted (T.81, table F.1).
inline uint32_t number_of(const Step& step, uint64_t bits) {
    const uint64_t from_number = bits << step.code_length;
    const uint64_t inverted = static_cast<uint64_t>(static_cast<int64_t>(~from_number) >> 63);  // all ones, or none
    const uint64_t size = (from_number ^ inverted) >> 1 >> step.unused;
    return static_cast<uint32_t>((size ^ inverted) - inverted);
}

// Adds a block's coefficients to zeros. `previous` is the last DC coefficient of the component. False for an error.
inline bool decode_block(Bits& reader, const HuffmanTable& dc, const HuffmanTable& ac, uint32_t& previous, int16_t* block) {
    Bits now = reader;  // in registers
    now.refill();
    const Step* step;
    uint64_t length;
    if (!next_step(dc, now.bits, step, length)) return false;
    previous += number_of(*step, now.bits);
    block[0] = static_cast<int16_t>(previous);
    now.skip(length);
    Bits before;
    uint64_t place = 1, first;  // behind one or two coefficients, and behind the first of two
    do {
        if (!next_step(ac, now.bits, step, length)) return false;
        now.refill();  // while the step is on its way; there are enough bits for its code
        before = now;
        first = place + step->first_advance;
        place += step->advance;
        now.skip(length);
        block[PLACES.of[place - 1]] = step->second;  // before the first, whose place it may share
        block[PLACES.of[first - 1]] = static_cast<int16_t>(number_of(*step, before.bits));
    } while (place < COEFFICIENTS);
    const bool full = first >= COEFFICIENTS;  // what follows is another block's
    before.skip(full ? step->first_length : length);
    place = full ? first : place;
    reader = before;
    return place == COEFFICIENTS || place > END_OF_BLOCK;
}

}  // namespace HJEPA_ISA
}  // namespace hjepa
