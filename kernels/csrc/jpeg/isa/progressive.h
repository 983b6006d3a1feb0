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
    uint64_t length;
    if (!next_step(table, now.bits, step, length)) return false;
    previous += number_of(*step, now.bits);
    block[0] = static_cast<int16_t>(previous << low);
    now.skip(length);
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
    Bits now = scan.bits;  // in registers
    now.refill();
    const uint64_t end = static_cast<uint64_t>(part.last) + 1;
    const int low = part.low;
    uint64_t added = 0;
    for (uint64_t place = static_cast<uint64_t>(part.first); place < end;) {
        const Step* step;
        uint64_t length;
        if (!next_step(table, now.bits, step, length)) return false;
        now.refill();
        const uint64_t bits = now.bits;
        now.skip(length);
        if (step->advance == END_OF_BLOCK) {
            scan.ended = count_of_ended(*step, bits) - 1;
            break;
        }
        place += step->advance;
        if (place > end) return false;
        const uint32_t number = number_of(*step, bits);
        block[PLACES.of[place - 1]] = static_cast<int16_t>(number << low);
        added |= uint64_t{number != 0} << (place - 1);
    }
    present |= added;
    scan.bits = now;
    return true;
}

#if !defined(__AVX512BW__)
struct ClearOfByte {
    uint64_t before[256];  // as ClearBefore says, one in each byte
    constexpr ClearOfByte() : before{} {
        for (int byte = 0; byte < 256; ++byte) {
            for (int bit = 0, set = 0; bit < 8; ++bit) {
                if (byte >> bit & 1) before[byte] |= static_cast<uint64_t>(bit - set) << 8 * set, ++set;
            }
        }
    }
};
constexpr ClearOfByte CLEAR{};
#endif

// Of a word, how many bits are clear before each that is set.
class ClearBefore {
  public:
#if defined(__AVX512BW__)  // processors without have it in BMI2, too, but some take hundreds of cycles
    explicit ClearBefore(uint64_t bits) : bits_(bits) {}
    uint64_t operator[](uint64_t number) const {
        return static_cast<uint64_t>(__builtin_ctzll(_pdep_u64(uint64_t{1} << number, bits_))) - number;
    }

  private:
    uint64_t bits_;
#else
    explicit ClearBefore(uint64_t bits) {
        for (uint64_t bit = 0, set = 0; bit < 64; bit += 8, bits >>= 8) {
            const uint64_t eight = CLEAR.before[bits & 255] + (bit - set) * 0x0101010101010101;
            std::memcpy(before_ + set, &eight, sizeof eight);
            set += static_cast<uint64_t>(__builtin_popcountll(bits & 255));
        }
    }
    uint64_t operator[](uint64_t number) const { return before_[number]; }

  private:
    uint8_t before_[64 + 8];
#endif
};

// The bits that say of each coefficient of a block that is known whether its size grows; the last one is lowest.
struct Corrections {
    uint64_t bits = 0;

    // 39 must be there; 16 are afterwards.
    void take(Bits& now, uint64_t count) {
        for (; __builtin_expect(count > 23, 0); count -= 23) take_some(now, 23), now.refill();
        take_some(now, count);
    }
    void take_some(Bits& now, uint64_t count) {
        bits = bits << count | now.bits >> 1 >> (63 - count);
        now.skip(count);
    }
    // To coefficients `known`, of which there are `count`.
    void add(uint64_t known, uint64_t count, int low, int16_t* block) const {
        uint64_t rest = bits << 1 << (63 - count);
        for (; known; known &= known - 1, rest <<= 1) {
            int16_t& coefficient = block[PLACES.of[__builtin_ctzll(known)]];
            const int sign = coefficient >> 15, grown = static_cast<int>(rest >> 63) << low;
            coefficient = static_cast<int16_t>(coefficient + (grown ^ sign) - sign);
        }
    }
};

[[gnu::noinline]] inline bool refine_band(Intervals& scan, const HuffmanTable& table, const Part& part, int16_t* block,
                                          uint64_t& present) {
    const uint64_t band = (~uint64_t{0} >> (COEFFICIENTS - 1 - part.last)) & (~uint64_t{0} << part.first);
    const uint64_t known = present & band, num_known = static_cast<uint64_t>(__builtin_popcountll(known));
    const uint64_t first = static_cast<uint64_t>(part.first), end = static_cast<uint64_t>(part.last) + 1;
    const int low = part.low;
    Bits now = scan.bits;
    now.refill();
    Corrections corrections;
    uint64_t corrected = first, added = 0;
    if (scan.ended == 0) {
        const ClearBefore clear_before(band & ~known);  // those below the band, and known ones
        for (uint64_t place = first, passed = 0; place < end;) {
            const Step* step;
            uint64_t length;
            if (!next_step(table, now.bits, step, length)) return false;
            now.refill();
            const uint64_t bits = now.bits;
            now.skip(length);
            if (step->advance == END_OF_BLOCK) {
                scan.ended = count_of_ended(*step, bits);
                break;
            }
            passed += step->advance;
            if (step->unused < 62) return false;  // it is one bit of a number
            if (passed > end - first - num_known) return false;
            const uint64_t clear = clear_before[passed - 1];
            corrections.take(now, clear - corrected);
            corrected = clear, place = clear + passed;
            const uint32_t number = number_of(*step, bits);
            block[PLACES.of[place - 1]] = static_cast<int16_t>(number << low);
            added |= uint64_t{number != 0} << (place - 1);
        }
        now.refill();
    }
    corrections.take(now, first + num_known - corrected);
    corrections.add(known, num_known, low, block);
    present |= added;
    scan.bits = now;
    scan.ended -= scan.ended > 0;
    return true;
}

// As each_block, of one MCU and component.
template <typename Read>
inline bool each_of_mcu(const Frame& frame, const Work& work, int number, int row, int mcu, const Read& read) {
    const int wide = frame.components[number].across, high = frame.components[number].down;
    const Plane& plane = work.planes[number];
    for (int y = row * high; y < (row + 1) * high; ++y) {
        for (int x = mcu * wide; x < (mcu + 1) * wide; ++x) {
            if (!read(number, plane.block(y, x), plane.present_in(y)[x])) return false;
        }
    }
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
                int16_t* block = plane.block(row, across);
                __builtin_prefetch(block + 4 * GROUP, 1);  // large images do not stay in a cache from scan to scan
                if (!scan.next() || !read(number, block, present[across])) return false;
            }
        }
        return true;
    }
    for (int row = 0; row < frame.mcus_down; ++row) {
        for (int mcu = 0; mcu < frame.mcus_across; ++mcu) {
            if (!scan.next()) return false;
            for (int i = 0; i < part.num_components; ++i) {
                if (!each_of_mcu(frame, work, part.components[i], row, mcu, read)) return false;
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
            if (scan.ended > 0) return --scan.ended, true;
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
