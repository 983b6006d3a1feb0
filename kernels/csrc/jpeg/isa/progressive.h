// The coefficients of progressive images, scan by scan (T.81, annex G): bands of them without their lower bits first, and then bit
// by bit what was left out. Which coefficients of a block are not zero is kept in one word: scans that refine ask little else.
#pragma once

#include "intervals.h"
#include "planes.h"

namespace hjepa {
namespace HJEPA_ISA {

// How many blocks have nothing more, from this one on, by the end of a block that was read.
inline uint32_t count_of_ended(const Step& step, uint64_t bits) {
    const uint64_t further = bits << step.code_length >> 1 >> step.unused;
    return (1u << (63 - step.unused)) + static_cast<uint32_t>(further);
}

inline bool read_dc(Intervals& scan, const HuffmanTable& table, int low, uint32_t& previous, int16_t* block) {
    Bits& now = scan.bits;
    now.refill();
    const Step* step;
    if (!next_step(table, now.bits, step)) return false;
    previous += number_of(*step, now.bits);
    block[0] = static_cast<int16_t>(previous << low);
    now.skip(step->length);
    return true;
}

inline bool refine_dc(Intervals& scan, int low, int16_t* block) {
    scan.bits.refill();
    block[0] = static_cast<int16_t>(block[0] | static_cast<int>(scan.bits.bits >> 63) << low);
    scan.bits.skip(1);
    return true;
}

[[gnu::noinline]] inline bool read_band(Intervals& scan, const HuffmanTable& table, const Part& part, int16_t* block,
                                        uint64_t& present) {
    if (scan.ended > 0) return --scan.ended, true;
    Bits now = scan.bits;  // in registers
    const uint64_t end = static_cast<uint64_t>(part.last) + 1;
    for (uint64_t place = static_cast<uint64_t>(part.first); place < end;) {
        now.refill();
        const uint64_t bits = now.bits;
        const Step* step;
        if (!next_step(table, bits, step)) return false;
        now.skip(step->length);
        if (step->advance == END_OF_BLOCK) {
            scan.ended = count_of_ended(*step, bits) - 1;
            break;
        }
        place += step->advance;
        if (place > end) return false;
        const uint32_t number = number_of(*step, bits);
        block[PLACES.of[place - 1]] = static_cast<int16_t>(number << part.low);
        present |= uint64_t{number != 0} << (place - 1);
    }
    scan.bits = now;
    return true;
}

// Bit number `number` of those that are set, from 0 on; none where there are fewer.
inline uint64_t numbered(int number, uint64_t bits) {
#if defined(__AVX512BW__)  // processors without have it in BMI2, too, but some take hundreds of cycles
    return _pdep_u64(uint64_t{1} << number, bits);
#else
    for (; number > 0; --number) bits &= bits - 1;
    return bits & -bits;
#endif
}

// Takes a bit for each of `which`: whether its size grows by the part's lowest bit.
inline void correct(Bits& now, uint64_t which, int low, int16_t* block) {
    for (int left = 0; which; --left, which &= which - 1) {
        if (left == 0) now.refill(), left = 56;
        int16_t& coefficient = block[PLACES.of[__builtin_ctzll(which)]];
        const int sign = coefficient >> 15, grown = static_cast<int>(now.bits >> 63) << low;
        coefficient = static_cast<int16_t>(coefficient + (grown ^ sign) - sign);
        now.skip(1);
    }
}

[[gnu::noinline]] inline bool refine_band(Intervals& scan, const HuffmanTable& table, const Part& part, int16_t* block,
                                          uint64_t& present) {
    const uint64_t band = (~uint64_t{0} >> (COEFFICIENTS - 1 - part.last)) & (~uint64_t{0} << part.first);
    const uint64_t known = present & band;
    uint64_t rest = band;  // places to come
    Bits now = scan.bits;
    while (scan.ended == 0 && rest) {
        now.refill();
        const uint64_t bits = now.bits;
        const Step* step;
        if (!next_step(table, bits, step)) return false;
        if (step->advance == END_OF_BLOCK) {
            now.skip(step->length);
            scan.ended = count_of_ended(*step, bits);
            break;
        }
        const bool is_new = step->unused < 63;
        if (step->unused < 62) return false;  // it is one bit of a number
        now.skip(step->length);
        const uint64_t place = numbered(step->advance - 1, rest & ~known);
        if (!place) return false;
        correct(now, rest & known & (place - 1), part.low, block);
        rest &= ~(place | (place - 1));
        if (!is_new) continue;
        present |= place;
        block[PLACES.of[__builtin_ctzll(place)]] = static_cast<int16_t>(number_of(*step, bits) << part.low);
    }
    correct(now, rest & known, part.low, block);
    scan.bits = now;
    scan.ended -= scan.ended > 0;
    return true;
}

// Calls read(component, block, present) for every block of the scan. A scan of one component has its blocks row by row, and none but
// those with pixels; others are in MCUs.
template <typename Read> inline bool each_block(const Frame& frame, const Work& work, Intervals& scan, const Read& read) {
    const Part& part = frame.part;
    if (part.num_components == 1) {
        const int number = part.components[0];
        const Plane& plane = work.planes[number];
        for (int row = 0; row < frame.components[number].blocks_down; ++row) {
            uint64_t* present = plane.present_in(row);
            for (int across = 0; across < frame.components[number].blocks_across; ++across) {
                if (!scan.next() || !read(number, plane.block(row, across), present[across])) return false;
            }
        }
        return true;
    }
    for (int mcu = 0; mcu < frame.mcus_down * frame.mcus_across; ++mcu) {
        if (!scan.next()) return false;
        for (int i = 0; i < part.num_components; ++i) {
            const int number = part.components[i], wide = frame.components[number].across, high = frame.components[number].down;
            const int row = mcu / frame.mcus_across * high, across = mcu % frame.mcus_across * wide;
            const Plane& plane = work.planes[number];
            for (int block = 0; block < wide * high; ++block) {
                const int y = row + block / wide, x = across + block % wide;
                if (!read(number, plane.block(y, x), plane.present_in(y)[x])) return false;
            }
        }
    }
    return true;
}

inline bool read_part(const Frame& frame, const Work& work, Intervals& scan) {
    const Part part = frame.part;
    const HuffmanTable* ac = frame.components[part.components[0]].ac;
    if (part.first == 0 && part.high == 0) {
        return each_block(frame, work, scan, [&](int component, int16_t* block, uint64_t&) {
            return read_dc(scan, *frame.components[component].dc, part.low, scan.previous[component], block);
        });
    }
    if (part.first == 0) {
        return each_block(frame, work, scan, [&](int, int16_t* block, uint64_t&) { return refine_dc(scan, part.low, block); });
    }
    if (part.high == 0) {
        return each_block(frame, work, scan, [&](int, int16_t* block, uint64_t& present) {
            return read_band(scan, *ac, part, block, present);
        });
    }
    return each_block(frame, work, scan, [&](int, int16_t* block, uint64_t& present) {
        return refine_band(scan, *ac, part, block, present);
    });
}

// All scans, up to the image's end.
inline bool read_scans(Frame& frame, Tables& tables, Scan& scan, const Work& work) {
    for (int i = 0; i < frame.num_components; ++i) {
        const Plane& plane = work.planes[i];
        const size_t rows = static_cast<size_t>(frame.mcus_down);
        std::memset(plane.coefficients, 0, rows * plane.num_coefficients() * sizeof(int16_t));
        std::memset(plane.present, 0, rows * plane.num_coefficients() / COEFFICIENTS * sizeof(uint64_t));
    }
    do {
        scan.next = frame.scan;
        const Component& first = frame.components[frame.part.components[0]];
        const bool single = frame.part.num_components == 1;
        const int64_t across = single ? first.blocks_across : frame.mcus_across;
        Intervals intervals(scan, across * (single ? first.blocks_down : frame.mcus_down), frame.restart_interval);
        if (!read_part(frame, work, intervals) || !intervals.finished()) return false;
    } while (scan.marker != END_OF_IMAGE && read_next_scan(scan.marker, scan.next, tables, frame));
    return scan.marker == END_OF_IMAGE && is_complete(frame);
}

}  // namespace HJEPA_ISA
}  // namespace hjepa
