// Renders odd images into memory that is exactly as large as it must be, for the sanitizers to watch; every build that runs here.

#include <cstdint>
#include <cstdio>
#include <vector>

#include "builds.h"
#include "threads.h"

namespace {

struct Chance {
    uint32_t state = 1;
    uint32_t below(uint32_t end) {
        state = state * 1664525u + 1013904223u;
        return static_cast<uint32_t>((static_cast<uint64_t>(state) * end) >> 32);
    }
};

// A crop with everything switched on or off by chance; its output of `values` stores starts at `out`.
hjepa::Crop random_crop(Chance& chance, const std::vector<uint8_t>& pixels, int height, int width, int size, void* out) {
    hjepa::Crop crop{};
    crop.pixels = pixels.data();
    crop.image_height = height, crop.image_width = width;
    crop.height = 1 + chance.below(height), crop.width = 1 + chance.below(width);
    if (chance.below(2)) crop.height = height, crop.width = width;
    crop.top = chance.below(height - crop.height + 1), crop.left = chance.below(width - crop.width + 1);
    crop.flip = chance.below(2);
    crop.size = size;
    crop.filter = chance.below(2) ? hjepa::Filter::bicubic : hjepa::Filter::bilinear;
    for (int part = 0; part < 3; ++part) crop.jitter[part] = chance.below(2) ? 0.01f * chance.below(300) : 1.0f;
    crop.jitter[3] = chance.below(2) ? 0.001f * chance.below(1000) - 0.5f : 0.0f;
    for (int part = 0; part < 4; ++part) crop.order[part] = static_cast<uint8_t>((part + size) % 4);
    crop.gray = chance.below(4) == 0;
    crop.sigma = chance.below(2) ? 0.1f + 0.01f * chance.below(500) : 0.0f;
    crop.blur_window = 1 + 2 * static_cast<int>(chance.below(12));
    crop.solarize_threshold = static_cast<int>(chance.below(257));
    for (int colour = 0; colour < 3; ++colour) crop.scale[colour] = 1.0f / 255;
    crop.store = static_cast<hjepa::Store>(chance.below(3));
    crop.out = out;
    return crop;
}

}  // namespace

int main() {
    const int sizes[][2] = {{1, 1}, {1, 4000}, {4000, 3}, {7, 33}, {2, 2}, {17, 64}, {100, 131}, {375, 500}};
    Chance chance;
    hjepa::Threads threads(2);
    for (const hjepa::Build& build : hjepa::builds()) {
        for (const auto& size : sizes) {
            std::vector<uint8_t> pixels(3 * static_cast<size_t>(size[0]) * size[1]);
            for (uint8_t& level : pixels) level = static_cast<uint8_t>(chance.below(256));
            std::vector<std::vector<char>> outs;
            std::vector<hjepa::Crop> crops;
            for (int number = 0; number < 24; ++number) {
                const int side = number < 20 ? 1 + 2 * static_cast<int>(chance.below(33)) : 96;
                hjepa::Crop crop = random_crop(chance, pixels, size[0], size[1], side, nullptr);
                outs.emplace_back(3 * static_cast<size_t>(side) * side * (crop.store == hjepa::Store::float32 ? 4 : 2));
                crop.out = outs.back().data();
                crops.push_back(crop);
            }
            threads.render(build, crops);
        }
        std::printf("%s ", build.name);
    }
    std::puts("clean");
}
