// kernels/blockwise_masks.py, one row at a time: it ends where its mask has its size.

#include "blockwise.h"

#include <algorithm>
#include <cstring>
#include <vector>

namespace hjepa {
namespace {

constexpr int kAttempts = 10;
constexpr uint64_t kCompleted = (1 << 20) + 2;

struct Block {
    int top, left, height, width;
};

int free_inside(const uint8_t* mask, const Block& block, int stride) {
    int free = 0;
    for (int row = block.top; row < block.top + block.height; ++row) {
        const uint8_t* line = mask + row * stride + block.left;
        for (int column = 0; column < block.width; ++column) free += !line[column];
    }
    return free;
}

// The first of a round's rectangles that adds at least one patch and not more than room; how many it adds, or 0.
int add_block(uint64_t key, int round, int room, const Blockwise& law, uint8_t* mask) {
    for (int attempt = 0; attempt < kAttempts; ++attempt) {
        float numbers[4] = {};  // some compilers do not see that uniforms fills them
        uniforms(key, 4 * (round * kAttempts + attempt), 4, numbers);
        const float least = static_cast<float>(law.min_patches);
        const float area = least + numbers[0] * static_cast<float>(room - law.min_patches);
        const float aspect = exponential(law.log_aspect * (1 - 2 * numbers[1]));
        const float height = rounded(std::sqrt(area * aspect)), width = rounded(std::sqrt(area / aspect));
        if (height >= static_cast<float>(law.grid.height) || width >= static_cast<float>(law.grid.width)) continue;
        const Rectangle found = place(numbers + 2, height, width, law.grid);
        const Block block = {static_cast<int>(found.top), static_cast<int>(found.left), static_cast<int>(height),
                             static_cast<int>(width)};
        const int added = free_inside(mask, block, law.grid.width);
        if (added == 0 || added > room) continue;
        for (int row = block.top; row < block.top + block.height; ++row) {
            std::memset(mask + row * law.grid.width + block.left, 1, block.width);
        }
        return added;
    }
    return 0;
}

void complete(uint64_t key, int missing, int patches, uint8_t* mask) {
    thread_local std::vector<int64_t> order;
    order.clear();
    for (int patch = 0; patch < patches; ++patch) {
        if (!mask[patch]) order.push_back(static_cast<int64_t>((bits(key, patch) & 0xFFFFFFFF) << 16 | patch));
    }
    std::nth_element(order.begin(), order.begin() + (missing - 1), order.end());
    for (int number = 0; number < missing; ++number) mask[order[number] & 0xFFFF] = 1;
}

}  // namespace

void draw_blockwise(uint64_t key, int count, const Blockwise& law, uint8_t* mask) {
    std::memset(mask, 0, law.grid.patches());
    int missing = count;
    for (int round = 0, added = 1; round < law.rounds && missing > 0 && added > 0; ++round) {
        added = add_block(key, round, std::min(missing, law.most), law, mask);
        missing -= added;
    }
    if (missing > 0) complete(bits(key, kCompleted), missing, law.grid.patches(), mask);
}

}  // namespace hjepa
