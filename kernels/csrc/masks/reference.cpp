// kernels/block_masks.py, one row at a time: candidates are drawn until one is clear, so most are never drawn at all.

#include <algorithm>

#include "laws.h"

namespace hjepa {
namespace {

Rectangle candidate(uint64_t key, int first, float low, float high, const float* law, Grid grid) {
    float numbers[4];
    uniforms(key, first, 4, numbers);
    const float area = (low + numbers[0] * (high - low)) * static_cast<float>(grid.patches());
    const float ratio = law[4] + numbers[1] * (law[5] - law[4]);
    const float height = rounded(std::sqrt(area / ratio));
    const float width = rounded(height * ratio);
    return place(numbers + 2, clamped(height, 1, static_cast<float>(grid.height)),
                 clamped(width, 1, static_cast<float>(grid.width)), grid);
}

bool is_clear(const Rectangle& block, const Rectangle* others, int count) {
    for (int other = 0; other < count; ++other) {
        if (block.top < others[other].bottom && block.bottom > others[other].top && block.left < others[other].right &&
            block.right > others[other].left) {
            return false;
        }
    }
    return true;
}

}  // namespace

void draw_reference(uint64_t key, const float* law, const Setting& setting, Row& row) {
    const Grid grid = setting.grid;
    const int candidates = setting.max_attempts + 1;
    for (int t = 0; t < setting.num_targets; ++t) {
        bool found = false;
        for (int attempt = 0; attempt < setting.max_attempts && !found; ++attempt) {
            row.targets[t] = candidate(key, 4 * (t * candidates + attempt), law[0], law[1], law, grid);
            found = is_clear(row.targets[t], row.targets, t);
        }
        if (!found) {
            float numbers[2];
            uniforms(key, 4 * (t * candidates + setting.max_attempts) + 2, 2, numbers);
            const float height = std::min(law[6], static_cast<float>(grid.height));
            row.targets[t] = place(numbers, height, std::min(law[7], static_cast<float>(grid.width)), grid);
        }
    }
    row.context = candidate(key, 4 * setting.num_targets * candidates, law[2], law[3], law, grid);
}

}  // namespace hjepa
