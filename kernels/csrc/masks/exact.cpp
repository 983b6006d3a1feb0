// kernels/exact_blocks.py and kernels/nested_blocks.py, one row at a time: the same steps in the same arithmetic.

#include <algorithm>

#include "laws.h"

namespace hjepa {
namespace {

constexpr int kProposals = 4, kMostRows = 8, kMostLayouts = kProposals * 2 * kMostRows;
constexpr int kMostNumbers = kMostTargets * (1 + kProposals + 5) + kMostLayouts + 6;
constexpr int kInside = (1 << 20) + (1 << 10);

// How T blocks stand: `rows` rows, of which the first `longer` have one block more. With columns, sides are exchanged.
struct Layout {
    int rows;
    bool columns;
};

int size_of_row(int num_targets, int rows, int row) { return num_targets / rows + (row < num_targets % rows); }

void areas_of(const float* share, const float* law, int count, float* areas) {
    float wanted = 0;
    for (int t = 0; t < count; ++t) {
        areas[t] = floored(share[t] * (law[1] - law[0]) * 64) * (1.0f / 64);
        wanted += areas[t];
    }
    const float room = law[4] - law[0] * static_cast<float>(count);
    const float factor = wanted > room ? room / wanted : 1.0f;
    for (int t = 0; t < count; ++t) areas[t] = law[0] + floored(areas[t] * factor * 64) * (1.0f / 64);
}

void sides_of(float area, float ratio, Grid grid, float& height, float& width) {
    const float most = static_cast<float>(grid.width);
    height = clamped(rounded(std::sqrt(area / ratio)), 1, static_cast<float>(grid.height));
    height = std::max(height, ceiled(area / most));
    width = clamped(rounded(area / height), 1, most);
}

bool fits(const float* height, const float* width, int count, int rows, Grid grid) {
    float total = 0;
    for (int row = 0, slot = 0; row < rows; ++row) {
        float tallest = 0, together = 0;
        for (const int end = slot + size_of_row(count, rows, row); slot < end; ++slot) {
            tallest = std::max(tallest, height[slot]);
            together += width[slot];
        }
        if (together > static_cast<float>(grid.width)) return false;
        total += tallest;
    }
    return total <= static_cast<float>(grid.height);
}

// Of the layouts and proposals that fit, the one of the least priority; rows is 0 where none does.
Layout choose(const float (*height)[kMostTargets], const float (*width)[kMostTargets], const float* priority,
              const Setting& setting, int& proposal) {
    const Grid grid = setting.grid, turned = {grid.width, grid.height};
    const int count = setting.num_targets, layouts = kProposals * 2 * std::min(count, kMostRows);
    const float most = static_cast<float>(grid.patches() - setting.min_keep);
    bool allowed[kProposals];
    for (int p = 0; p < kProposals; ++p) {
        float total = 0;
        for (int t = 0; t < count; ++t) total += height[p][t] * width[p][t];
        allowed[p] = total <= most;
    }
    float least = 16777216.0f;
    Layout best = {0, false};
    for (int layout = 0; layout < layouts; ++layout) {
        const int p = layout % kProposals, rows = layout / (2 * kProposals) + 1;
        const bool columns = layout / kProposals % 2;
        const float order = priority[layout] * (65536.0f * static_cast<float>(layouts)) + static_cast<float>(layout);
        if (!allowed[p] || order >= least) continue;
        if (columns ? fits(width[p], height[p], count, rows, turned) : fits(height[p], width[p], count, rows, grid)) {
            least = order, best = {rows, columns}, proposal = p;
        }
    }
    return best;
}

// Lengths in proportion to areas, 1 or more each, which add up to the side.
void shares(const float* areas, int count, int side, float* lengths) {
    float total = 0, sum = 0, start = 0, greatest = 0;
    for (int k = 0; k < count; ++k) total += areas[k];
    for (int k = 0; k < count; ++k) {
        const float number = static_cast<float>(k);
        sum += areas[k];
        const float end = rounded(sum * static_cast<float>(side) / total) - number;
        greatest = std::max(greatest, clamped(end, 1, static_cast<float>(side - count + 1)));
        lengths[k] = greatest + number - start;
        start = greatest + number;
    }
}

Layout last_layout(int count, Grid grid) {
    Layout best = {0, false};
    double least = 0;
    for (int columns = 0; columns < 2; ++columns) {
        const int height = columns ? grid.width : grid.height, width = columns ? grid.height : grid.width;
        for (int rows = 1; rows <= std::min(count, height); ++rows) {
            const int across = (count + rows - 1) / rows;
            const double skew = std::abs(std::log(static_cast<double>(height) / rows * across / width));
            const bool better = skew < least || (skew == least && rows < best.rows);
            if (across <= width && (!best.rows || better)) least = skew, best = {rows, columns == 1};
        }
    }
    return best;
}

void last_resort(const float* areas, Layout layout, const Setting& setting, float* tall, float* wide) {
    const int count = setting.num_targets;
    const int height = layout.columns ? setting.grid.width : setting.grid.height;
    const int width = layout.columns ? setting.grid.height : setting.grid.width;
    const float most = static_cast<float>(setting.grid.patches() - setting.min_keep);
    float whole[kMostTargets], of_row[kMostTargets], heights[kMostTargets], nearest[kMostTargets], together = 0, covered = 0;
    for (int t = 0; t < count; ++t) together += rounded(areas[t]);
    for (int t = 0; t < count; ++t) whole[t] = together <= most ? rounded(areas[t]) : floored(areas[t]);
    for (int row = 0, slot = 0; row < layout.rows; ++row) {
        const int size = size_of_row(count, layout.rows, row);
        of_row[row] = 0;
        for (int t = slot; t < slot + size; ++t) of_row[row] += whole[t];
        shares(whole + slot, size, width, wide + slot);
        slot += size;
    }
    shares(of_row, layout.rows, height, heights);
    for (int row = 0, slot = 0; row < layout.rows; ++row) {
        for (const int end = slot + size_of_row(count, layout.rows, row); slot < end; ++slot) {
            tall[slot] = std::min(heights[row], ceiled(whole[slot] / wide[slot]));
            nearest[slot] = std::max(std::min(wide[slot], rounded(whole[slot] / tall[slot])), 1.0f);
            covered += tall[slot] * nearest[slot];
        }
    }
    for (int t = 0; t < count; ++t) {
        const float cut = std::max(std::min(wide[t], floored(whole[t] / tall[t])), 1.0f);
        wide[t] = covered <= most ? nearest[t] : cut;
    }
}

float inside_cell(float uniform, float start, float end, float length) {
    const float spare = end - start - length, way = uniform * uniform * (3 - 2 * uniform);
    return start + std::min(floored(way * (spare + 1)), spare);
}

// numbers: row cuts, slot cuts, down, across and order, T each, and two for mirroring.
void spread(const float* tall, const float* wide, Layout layout, const float* numbers, const Setting& setting, Row& row_out) {
    const int count = setting.num_targets;
    const float full_height = static_cast<float>(layout.columns ? setting.grid.width : setting.grid.height);
    const float full_width = static_cast<float>(layout.columns ? setting.grid.height : setting.grid.width);
    const float *row_cut = numbers, *slot_cut = numbers + count, *down = slot_cut + count, *across = down + count;
    const float *order = across + count, *mirror = order + count;
    float tallest[kMostTargets], cuts[kMostTargets], spare = full_height;
    for (int row = 0, slot = 0; row < layout.rows; ++row) {
        tallest[row] = 0;
        for (const int end = slot + size_of_row(count, layout.rows, row); slot < end; ++slot) {
            tallest[row] = std::max(tallest[row], tall[slot]);
        }
        spare -= tallest[row];
    }
    for (int row = 0; row < layout.rows; ++row) cuts[row] = row < layout.rows - 1 ? floored(row_cut[row] * (spare + 1)) : spare;
    std::sort(cuts, cuts + layout.rows);
    Rectangle blocks[kMostTargets];
    float top = 0, sum_of_rows = 0;
    for (int row = 0, slot = 0; row < layout.rows; ++row) {
        sum_of_rows += tallest[row];
        const float bottom = sum_of_rows + cuts[row];
        const int first = slot, end = slot + size_of_row(count, layout.rows, row);
        float free = full_width, in_row[kMostTargets], left = 0, sum_of_slots = 0;
        for (int t = first; t < end; ++t) free -= wide[t];
        for (int t = first; t < end; ++t) in_row[t - first] = t < end - 1 ? floored(slot_cut[t] * (free + 1)) : free;
        std::sort(in_row, in_row + (end - first));
        for (; slot < end; ++slot) {
            sum_of_slots += wide[slot];
            const float right = sum_of_slots + in_row[slot - first];
            float from_top = inside_cell(down[slot], top, bottom, tall[slot]);
            float from_left = inside_cell(across[slot], left, right, wide[slot]);
            if (mirror[0] >= 0.5f) from_top = full_height - tall[slot] - from_top;
            if (mirror[1] >= 0.5f) from_left = full_width - wide[slot] - from_left;
            blocks[slot] = {from_top, from_top + tall[slot], from_left, from_left + wide[slot]};
            if (layout.columns) blocks[slot] = {blocks[slot].left, blocks[slot].right, blocks[slot].top, blocks[slot].bottom};
            left = right;
        }
        top = bottom;
    }
    for (int t = 0; t < count; ++t) {  // distinct numbers, or the slot decides
        int rank = 0;
        for (int other = 0; other < count; ++other) {
            rank += order[other] < order[t] || (order[other] == order[t] && other < t);
        }
        row_out.targets[rank] = blocks[t];
    }
}

void draw_context(const float* numbers, const float* law, const Setting& setting, Row& row) {
    float height, width;
    const float area = law[2] + numbers[0] * (law[3] - law[2]);
    sides_of(area, law[5] * exponential(numbers[1] * law[6]), setting.grid, height, width);
    row.context = place(numbers + 2, height, width, setting.grid);
    float free = row.context.area();
    for (int t = 0; t < setting.num_targets; ++t) free -= common_area(row.context, row.targets[t]);
    if (free < static_cast<float>(setting.min_keep)) {
        row.context = {0, static_cast<float>(setting.grid.height), 0, static_cast<float>(setting.grid.width)};
    }
}

}  // namespace

void draw_exact(uint64_t key, const float* law, const Setting& setting, Row& row) {
    const int count = setting.num_targets, layouts = kProposals * 2 * std::min(count, kMostRows);
    float numbers[kMostNumbers + 4], areas[kMostTargets], height[kProposals][kMostTargets], width[kProposals][kMostTargets];
    const int before = count * (1 + kProposals) + layouts;
    uniforms(key, 0, before + 5 * count + 6, numbers);
    areas_of(numbers, law, count, areas);
    for (int t = 0; t < count; ++t) {
        for (int p = 0; p < kProposals; ++p) {
            const float ratio = law[5] * exponential(numbers[count + t * kProposals + p] * law[6]);
            sides_of(areas[t], ratio, setting.grid, height[p][t], width[p][t]);
        }
    }
    int proposal = 0;
    Layout layout = choose(height, width, numbers + count * (1 + kProposals), setting, proposal);
    if (layout.rows) {
        const auto &tall = layout.columns ? width : height, &wide = layout.columns ? height : width;
        spread(tall[proposal], wide[proposal], layout, numbers + before, setting, row);
    } else {
        layout = last_layout(count, setting.grid);
        last_resort(areas, layout, setting, height[0], width[0]);
        spread(height[0], width[0], layout, numbers + before, setting, row);
    }
    draw_context(numbers + before + 5 * count + 2, law, setting, row);
}

void draw_inside(uint64_t key, const float* law, const Setting& setting, Row& row) {
    const int count = setting.num_targets;
    float numbers[4 * kMostTargets + 4], areas[kMostTargets];
    uniforms(bits(key, kInside), 0, 4 * count + 4, numbers);
    areas_of(numbers, law, count, areas);
    for (int t = 0; t < count; ++t) {
        const Rectangle around = row.targets[t];
        const float tallest = around.bottom - around.top, widest = around.right - around.left;
        const float ratio = law[5] * exponential(numbers[count + t] * law[6]);
        float height = std::max(std::max(rounded(std::sqrt(areas[t] / ratio)), 1.0f), ceiled(areas[t] / widest));
        height = std::min(height, tallest);
        const float width = std::min(std::max(rounded(areas[t] / height), 1.0f), widest);
        const float top = around.top + floored(numbers[2 * count + t] * (tallest + 1 - height));
        const float left = around.left + floored(numbers[3 * count + t] * (widest + 1 - width));
        row.targets[t] = {top, top + height, left, left + width};
    }
    draw_context(numbers + 4 * count, law, setting, row);
}

}  // namespace hjepa
