// What a crop must be before a pixel of it is touched.
#pragma once

#include "crop.h"

namespace hjepa {

// Pixels along a side of a box; the weights of more would not fit into 64 MiB of scratch memory.
constexpr int64_t MAX_SIDE = int64_t{1} << 19;

// Throws std::invalid_argument, which Python sees as a ValueError, where a crop cannot be rendered.
void check(const Crop& crop);

}  // namespace hjepa
