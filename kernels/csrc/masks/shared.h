// The masks of kernels/shared_blocks.py and the indices of kernels/mask_indices.py, one row at a time.

#pragma once

#include "chance.h"

namespace hjepa {

// frames, height and width; one frame where there are none.
struct Box {
    int sides[3];
    int volume() const { return sides[0] * sides[1] * sides[2]; }
};

struct Shared {
    Box block, grid;
    int count;        // blocks
    int min_outside;  // patches that a set of places leaves free
    int seen;         // of the first so many
    int axes;         // 3: tubes; 2: blocks of one frame
};

// covered: bool [N], the blocks' union; places: the first patch of each block, [count]; both written.
void draw_places(uint64_t key, const Shared& law, uint8_t* covered, int* places);

// Paints a block whose first patch is `place` with a value.
void paint_block(const Box& block, const Box& grid, int place, uint8_t value, uint8_t* mask);

// The first patch of a block that is put somewhere by a uniform for each axis.
int place_block(const float* numbers, const Box& block, const Box& grid, int axes);

// Index int64 [length] and valid bool [length] of the `count` patches that are lowest in random order within the lowest kinds.
// kinds: uint8 [N], 3 for patches that are never taken.
void take_lowest(uint64_t key, const uint8_t* kinds, int patches, int count, int length, int64_t* index, uint8_t* valid);

// The same of a mask that is kept as it is, whatever the order: its patches, `length` at most.
void take_all(const uint8_t* mask, int patches, int length, int64_t* index, uint8_t* valid);

}  // namespace hjepa
