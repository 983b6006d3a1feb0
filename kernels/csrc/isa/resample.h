// Crop and antialiased resize, as PIL does them: along the rows first, to levels of 8 bits; then along the columns.
#pragma once

#include "../crop.h"
#include "quads.h"
#include "weights.h"

namespace hjepa {
namespace HJEPA_ISA {

// S output pixels; P = S rounded up to whole vectors. A row of the resized crop is [3, P] levels, the padding without meaning.
struct Resampler {
    Axis horizontal, vertical;
    int64_t padded;  // P
    int open_rows;  // output rows that may be unfinished at once
    double* doubles;
    uint8_t* copy;  // [16, bytes of a block] rows that may not be read where they lie
    int32_t* slots;  // [S] where an output column starts in `narrow`, from the left or, flipped, from the right
    Taps* tile;  // [groups of columns, 3] of 16 rows
    int32_t* sums;  // [3, P, 16 rows] of output columns that are not finished
    uint8_t* narrow;  // [slots_bytes(P)] those that are, as levels, each in its slot
    Taps* rows;  // [groups of 16 rows, 3 P / 16] of 16 columns, resized along x
    int32_t* open;  // [open_rows, 3, P]
};

Resampler take_resampler(Arena& arena, const Crop& crop);
void resample(const Resampler& resampler, const Crop& crop, uint8_t* resized);  // [S, 3, P]

}  // namespace HJEPA_ISA
}  // namespace hjepa
