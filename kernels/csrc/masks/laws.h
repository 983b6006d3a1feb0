// The laws of block masks for one row: what draw_exact, draw_nested and draw_blocks do for all rows at once.

#pragma once

#include "chance.h"

namespace hjepa {

constexpr int kMostTargets = 32;

struct Setting {
    Grid grid;
    int num_targets;
    int min_keep;      // of the law exact
    int max_attempts;  // of the law reference
};

struct Row {
    Rectangle targets[kMostTargets];
    Rectangle context;
};

// law: 7 numbers of exact_law_tensor.
void draw_exact(uint64_t key, const float* law, const Setting& setting, Row& row);

// The targets inside those that `row` has, and their context; law is the finer level's.
void draw_inside(uint64_t key, const float* law, const Setting& setting, Row& row);

// law: 8 numbers of law_tensor.
void draw_reference(uint64_t key, const float* law, const Setting& setting, Row& row);

}  // namespace hjepa
