// kernels/shared_blocks.py and kernels/mask_indices.py, one row at a time.

#include "shared.h"

#include <algorithm>
#include <cstring>
#include <vector>

namespace hjepa {
namespace {

constexpr int kAttempts = 10;

// What follows the `kept` indices is padding.
void pad(int kept, int length, int64_t* index, uint8_t* valid) {
    std::fill(index + kept, index + length, 0);
    std::fill(valid, valid + kept, 1);
    std::fill(valid + kept, valid + length, 0);
}

}  // namespace

int place_block(const float* numbers, const Box& block, const Box& grid, int axes) {
    int place = 0;
    for (int axis = 3 - axes; axis < 3; ++axis) {
        const float spare = static_cast<float>(grid.sides[axis] + 1 - block.sides[axis]);
        place = place * grid.sides[axis] + static_cast<int>(numbers[axis - (3 - axes)] * spare);
    }
    return place;
}

void paint_block(const Box& block, const Box& grid, int place, uint8_t value, uint8_t* mask) {
    for (int frame = 0; frame < block.sides[0]; ++frame) {
        for (int row = 0; row < block.sides[1]; ++row) {
            std::memset(mask + place + (frame * grid.sides[1] + row) * grid.sides[2], value, block.sides[2]);
        }
    }
}

void draw_places(uint64_t key, const Shared& law, uint8_t* covered, int* places) {
    const int patches = law.grid.volume();
    for (int attempt = 0; attempt <= kAttempts; ++attempt) {  // the last one: all blocks at one place
        std::memset(covered, 0, patches);
        for (int block = 0; block < law.count; ++block) {
            float numbers[3];
            const int set = attempt == kAttempts ? 0 : attempt * law.count + block;
            uniforms(key, set * law.axes, law.axes, numbers);
            places[block] = place_block(numbers, law.block, law.grid, law.axes);
            paint_block(law.block, law.grid, places[block], 1, covered);
        }
        int outside = law.seen;
        for (int patch = 0; patch < law.seen; ++patch) outside -= covered[patch];
        if (outside >= law.min_outside) return;
    }
}

void take_lowest(uint64_t key, const uint8_t* kinds, int patches, int count, int length, int64_t* index, uint8_t* valid) {
    thread_local std::vector<int64_t> order;
    order.clear();
    for (int patch = 0; patch < patches; ++patch) {
        if (kinds[patch] == 3) continue;
        const int64_t random = static_cast<int64_t>((bits(key, patch) & 0xFFFFFFFF) << 16 | patch);
        order.push_back(static_cast<int64_t>(kinds[patch]) << 48 | random);
    }
    const int kept = std::min({count, length, patches});
    if (kept < static_cast<int>(order.size())) std::nth_element(order.begin(), order.begin() + kept, order.end());
    for (int slot = 0; slot < kept; ++slot) index[slot] = order[slot] & 0xFFFF;
    std::sort(index, index + kept);
    pad(kept, length, index, valid);
}

void take_all(const uint8_t* mask, int patches, int length, int64_t* index, uint8_t* valid) {
    int kept = 0;
    for (int patch = 0; patch < patches; ++patch) {
        if (mask[patch]) index[kept++] = patch;
    }
    pad(kept, length, index, valid);
}

}  // namespace hjepa
