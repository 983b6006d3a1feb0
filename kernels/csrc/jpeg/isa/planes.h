// What is worked on while an image is decoded, and where it lies in a thread's memory.
#pragma once

#include "../../isa/arena.h"
#include "entropy.h"

namespace hjepa {
namespace HJEPA_ISA {

constexpr int GROUP = COEFFICIENTS * BLOCKS;  // coefficients of blocks that are transformed at once

// Rows of a component's levels. Row 0 is the last one of the MCUs above; the row behind the last one is for colours, which are
// smoothed downwards beyond the image's end.
struct Plane {
    int side;  // pixels on a side of a block
    int down;  // blocks in a row of MCUs
    int groups;  // across
    size_t stride;
    uint8_t* levels;  // [rows() + 2, stride]
    int16_t* coefficients;  // [down, groups, 8, BLOCKS, 8]; all of a progressive image: [rows of MCUs, down, ...]
    uint64_t* present;  // of a progressive image, [rows of MCUs, down, groups, BLOCKS]: a bit for each coefficient that is not zero
    int16_t* quantization;  // [8, BLOCKS, 8]

    int rows() const { return side * down; }
    uint8_t* row(int number) const { return levels + static_cast<size_t>(number + 1) * stride; }  // -1: of the MCUs above
    size_t num_coefficients() const { return static_cast<size_t>(down) * static_cast<size_t>(groups) * GROUP; }
    // Block number `across` of row `row`: its coefficients, eight at a distance of SHORTS.
    int16_t* block(int row, int across) const {
        const size_t number = static_cast<size_t>(across);
        const size_t group = static_cast<size_t>(row) * static_cast<size_t>(groups) + number / BLOCKS;
        return coefficients + group * GROUP + BLOCK * (number % BLOCKS);
    }
    uint64_t* present_in(int row) const { return present + static_cast<size_t>(row) * static_cast<size_t>(groups * BLOCKS); }
};

struct Work {
    Plane planes[MAX_COMPONENTS];
    int16_t* sums;  // a row of colours, SHORTS behind the start: there is one more on either side
    uint8_t* smoothed[2];  // rows of colours at the image's resolution
    size_t band_stride;
    uint8_t* band;  // pixels of the rows that are known with a row of MCUs, before they are turned; null where they are not
};

inline Work take_work(Arena& arena, const Frame& frame) {
    Work work{};
    for (int i = 0; i < frame.num_components; ++i) {
        Plane& plane = work.planes[i];
        const int blocks = frame.mcus_across * frame.components[i].across;
        plane.side = frame.components[i].side;
        plane.down = frame.components[i].down;
        plane.groups = (blocks + BLOCKS - 1) / BLOCKS;
        plane.stride = static_cast<size_t>(round_up(plane.groups * BLOCKS * plane.side + PIXELS, 64));
        plane.levels = arena.take<uint8_t>(static_cast<int64_t>(plane.stride) * (plane.rows() + 2));
        const int64_t kept = frame.progressive ? frame.mcus_down : 1;  // rows of MCUs
        plane.coefficients = arena.take<int16_t>(kept * static_cast<int64_t>(plane.num_coefficients()));
        if (frame.progressive) plane.present = arena.take<uint64_t>(kept * plane.down * plane.groups * BLOCKS);
        plane.quantization = arena.take<int16_t>(GROUP);
    }
    const int64_t width = static_cast<int64_t>(work.planes[0].stride);
    work.sums = arena.take<int16_t>(width + 2 * SHORTS);
    for (uint8_t*& row : work.smoothed) row = arena.take<uint8_t>(2 * width);
    work.band_stride = static_cast<size_t>(3 * frame.width + 64);  // rows of 4096 pixels would push each other out of the cache
    const int64_t most_known = work.planes[0].rows() + 1;
    if (!frame.turn.is_none()) work.band = arena.take<uint8_t>(most_known * static_cast<int64_t>(work.band_stride));
    return work;
}

inline void spread(const uint16_t* quantization, int16_t* to) {
    for (int number = 0; number < COEFFICIENTS; ++number) {
        for (int block = 0; block < BLOCKS; ++block) {
            to[PLACES.of[number] + BLOCK * block] = static_cast<int16_t>(quantization[number]);
        }
    }
}

}  // namespace HJEPA_ISA
}  // namespace hjepa
