// The masks of kernels/blockwise_masks.py, one row at a time.

#pragma once

#include "chance.h"

namespace hjepa {

struct Blockwise {
    Grid grid;
    int min_patches, most, rounds;
    float log_aspect;  // of the least aspect ratio
};

// mask: bool [N], written; count of its patches become true.
void draw_blockwise(uint64_t key, int count, const Blockwise& law, uint8_t* mask);

}  // namespace hjepa
