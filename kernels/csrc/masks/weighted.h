// The choice of kernels/weighted_blocks.py for one row.

#pragma once

#include "laws.h"

namespace hjepa {

using Draw = void (*)(uint64_t key, const float* law, const Setting& setting, Row& row);

// The key of the arrangement that is taken; sums: int64 [(H + 1) * (W + 1)] of weight_sums.
uint64_t weighted_key(uint64_t key, Draw draw, const float* law, const Setting& setting, const int64_t* sums, int arrangements);

}  // namespace hjepa
