// The masks as a Python module: tensors come as addresses of what native_masks.py has checked, and masks are written in place.

#include <pybind11/pybind11.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "blockwise.h"
#include "laws.h"
#include "shared.h"
#include "weighted.h"

namespace py = pybind11;

namespace {

using hjepa::Rectangle;
using hjepa::Row;
using hjepa::Setting;

// int64 [G, L, B] keys and float [L, width] laws.
struct Rows {
    int64_t keys, laws;
    int crops, levels, samples;

    uint64_t key(int crop, int level, int sample) const {
        return reinterpret_cast<const uint64_t*>(keys)[number(crop, level, sample)];
    }
    const float* law(int level, int width) const { return reinterpret_cast<const float*>(laws) + level * width; }
    int64_t number(int crop, int level, int sample) const { return (int64_t(crop) * levels + level) * samples + sample; }
};

void fill(uint8_t* mask, const Rectangle& block, int stride, int value) {
    const int left = static_cast<int>(block.left), width = static_cast<int>(block.right - block.left);
    for (int row = static_cast<int>(block.top); row < static_cast<int>(block.bottom); ++row) {
        std::memset(mask + row * stride + left, value, width);
    }
}

// Context bool [N], the targets removed, and targets bool [T, N].
void paint(const Row& row, const Setting& setting, uint8_t* context, uint8_t* targets) {
    const int patches = setting.grid.patches(), stride = setting.grid.width;
    std::memset(context, 0, patches);
    std::memset(targets, 0, static_cast<size_t>(setting.num_targets) * patches);
    fill(context, row.context, stride, 1);
    for (int t = 0; t < setting.num_targets; ++t) {
        fill(context, row.targets[t], stride, 0);
        fill(targets + static_cast<size_t>(t) * patches, row.targets[t], stride, 1);
    }
}

enum Law { exact, nested, reference };

void masks(const Rows& rows, const Setting& setting, int law, int64_t contexts, int64_t targets) {
    const py::gil_scoped_release others_may_run;
    const int64_t patches = setting.grid.patches();
    for (int crop = 0; crop < rows.crops; ++crop) {
        for (int sample = 0; sample < rows.samples; ++sample) {
            Row row;
            for (int level = rows.levels - 1; level >= 0; --level) {  // nested levels lie in the next coarser one
                const uint64_t key = rows.key(crop, level, sample);
                if (law == reference) {
                    hjepa::draw_reference(key, rows.law(level, 8), setting, row);
                } else if (law == nested && level < rows.levels - 1) {
                    hjepa::draw_inside(key, rows.law(level, 7), setting, row);
                } else {
                    hjepa::draw_exact(key, rows.law(level, 7), setting, row);
                }
                const int64_t place = rows.number(crop, level, sample) * patches;
                paint(row, setting, reinterpret_cast<uint8_t*>(contexts) + place,
                      reinterpret_cast<uint8_t*>(targets) + place * setting.num_targets);
            }
        }
    }
}

// sums: int64 [G or 1, B, (H + 1) * (W + 1)]; chosen: int64 [G, L, B], written.
void weigh(const Rows& rows, const Setting& setting, int law, const int64_t* sums, bool of_each_crop, int arrangements,
           uint64_t* chosen) {
    const py::gil_scoped_release others_may_run;
    const hjepa::Draw draw = law == reference ? hjepa::draw_reference : hjepa::draw_exact;
    const int64_t corners = int64_t(setting.grid.height + 1) * (setting.grid.width + 1);
    for (int crop = 0; crop < rows.crops; ++crop) {
        for (int level = 0; level < rows.levels; ++level) {
            for (int sample = 0; sample < rows.samples; ++sample) {
                const int64_t* own = sums + (int64_t(of_each_crop ? crop : 0) * rows.samples + sample) * corners;
                const float* numbers = rows.law(level, law == reference ? 8 : 7);
                chosen[rows.number(crop, level, sample)] =
                    hjepa::weighted_key(rows.key(crop, level, sample), draw, numbers, setting, own, arrangements);
            }
        }
    }
}

void blockwise(int64_t keys, int64_t counts, int64_t num_rows, const hjepa::Blockwise& law, int64_t masks) {
    const py::gil_scoped_release others_may_run;
    for (int64_t row = 0; row < num_rows; ++row) {
        hjepa::draw_blockwise(reinterpret_cast<const uint64_t*>(keys)[row],
                              static_cast<int>(reinterpret_cast<const int64_t*>(counts)[row]), law,
                              reinterpret_cast<uint8_t*>(masks) + row * law.grid.patches());
    }
}

// Targets bool [R, T, N] and contexts bool [R, N] of blocks in one frame, the targets removed.
void shared(int64_t keys, int64_t num_rows, const hjepa::Shared& law, const hjepa::Box& context, int64_t contexts,
            int64_t targets) {
    const py::gil_scoped_release others_may_run;
    const int64_t patches = law.grid.volume();
    std::vector<uint8_t> covered(patches);
    std::vector<int> places(law.count);
    for (int64_t row = 0; row < num_rows; ++row) {
        const uint64_t key = reinterpret_cast<const uint64_t*>(keys)[row];
        uint8_t* free = reinterpret_cast<uint8_t*>(contexts) + row * patches;
        uint8_t* hidden = reinterpret_cast<uint8_t*>(targets) + row * patches * law.count;
        hjepa::draw_places(key, law, covered.data(), places.data());
        float corner[2];
        hjepa::uniforms(hjepa::bits(key, 1 << 20), 0, 2, corner);  // shared_blocks.CONTEXT
        std::memset(free, 0, patches);
        std::memset(hidden, 0, patches * law.count);
        hjepa::paint_block(context, law.grid, hjepa::place_block(corner, context, law.grid, 2), 1, free);
        for (int block = 0; block < law.count; ++block) {
            hjepa::paint_block(law.block, law.grid, places[block], 0, free);
            hjepa::paint_block(law.block, law.grid, places[block], 1, hidden + block * patches);
        }
    }
}

// Their union and all that is not seen bool [R, N], and its complement.
void tubes(int64_t keys, int64_t num_rows, const hjepa::Shared& law, int64_t contexts, int64_t targets) {
    const py::gil_scoped_release others_may_run;
    const int64_t patches = law.grid.volume();
    std::vector<int> places(law.count);
    for (int64_t row = 0; row < num_rows; ++row) {
        uint8_t* free = reinterpret_cast<uint8_t*>(contexts) + row * patches;
        uint8_t* hidden = reinterpret_cast<uint8_t*>(targets) + row * patches;
        hjepa::draw_places(reinterpret_cast<const uint64_t*>(keys)[row], law, hidden, places.data());
        std::memset(hidden + law.seen, 1, patches - law.seen);
        for (int64_t patch = 0; patch < patches; ++patch) free[patch] = !hidden[patch];
    }
}

// masks and unions: bool [R, N]; unions is 0 where the index is not a context's; index int64 and valid bool [R, K].
void indices(int64_t masks, int64_t unions, int64_t keys, int64_t num_rows, int patches, int length, int min_keep, int64_t index,
             int64_t valid) {
    const py::gil_scoped_release others_may_run;
    std::vector<uint8_t> kinds(patches);
    for (int64_t row = 0; row < num_rows; ++row) {
        const uint8_t* mask = reinterpret_cast<const uint8_t*>(masks) + row * patches;
        const uint8_t* hidden = unions ? reinterpret_cast<const uint8_t*>(unions) + row * patches : nullptr;
        int count = 0;
        for (int patch = 0; patch < patches; ++patch) count += mask[patch];
        int64_t* own = reinterpret_cast<int64_t*>(index) + row * length;
        uint8_t* used = reinterpret_cast<uint8_t*>(valid) + row * length;
        if (min_keep <= count && count <= length) {
            hjepa::take_all(mask, patches, length, own, used);
            continue;
        }
        for (int patch = 0; patch < patches; ++patch) kinds[patch] = mask[patch] ? 0 : hidden ? 1 + hidden[patch] : 3;
        hjepa::take_lowest(reinterpret_cast<const uint64_t*>(keys)[row], kinds.data(), patches, std::max(count, min_keep), length,
                           own, used);
    }
}

}  // namespace

PYBIND11_MODULE(_masks, module) {
    module.doc() = "Draws the masks of a batch; see native_masks.py.";
    module.attr("MOST_TARGETS") = hjepa::kMostTargets;
    module.def("masks", [](int64_t keys, int64_t laws, int crops, int levels, int samples, int height, int width, int num_targets,
                           int min_keep, int max_attempts, int law, int64_t contexts, int64_t targets) {
        masks({keys, laws, crops, levels, samples}, {{height, width}, num_targets, min_keep, max_attempts}, law, contexts, targets);
    });
    module.def("weigh", [](int64_t keys, int64_t laws, int crops, int levels, int samples, int height, int width, int num_targets,
                           int min_keep, int max_attempts, int law, int64_t sums, bool of_each_crop, int arrangements,
                           int64_t chosen) {
        weigh({keys, laws, crops, levels, samples}, {{height, width}, num_targets, min_keep, max_attempts}, law,
              reinterpret_cast<const int64_t*>(sums), of_each_crop, arrangements, reinterpret_cast<uint64_t*>(chosen));
    });
    module.def("blockwise", [](int64_t keys, int64_t counts, int64_t num_rows, int height, int width, int min_patches, int most,
                               int rounds, float log_aspect, int64_t masks) {
        blockwise(keys, counts, num_rows, {{height, width}, min_patches, most, rounds, log_aspect}, masks);
    });
    module.def("shared", [](int64_t keys, int64_t num_rows, int block_height, int block_width, int height, int width, int count,
                            int min_outside, int context_height, int context_width, int64_t contexts, int64_t targets) {
        const hjepa::Shared law = {{{1, block_height, block_width}}, {{1, height, width}}, count, min_outside, height * width, 2};
        shared(keys, num_rows, law, {{1, context_height, context_width}}, contexts, targets);
    });
    module.def("tubes", [](int64_t keys, int64_t num_rows, int length, int block_height, int block_width, int frames, int height,
                           int width, int count, int context_frames, int64_t contexts, int64_t targets) {
        const hjepa::Box block = {{length, block_height, block_width}}, grid = {{frames, height, width}};
        tubes(keys, num_rows, {block, grid, count, 1, context_frames * height * width, 3}, contexts, targets);
    });
    module.def("indices", indices);
}
