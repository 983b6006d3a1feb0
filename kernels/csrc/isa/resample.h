// Crop and antialiased resize, as PIL does them: along the rows first, to levels of 8 bits; then along the columns.
#pragma once

#include "../crop.h"
#include "weights.h"

namespace hjepa {
namespace HJEPA_ISA {

// S output pixels; P = S rounded up to whole vectors. A row of the resized crop is [3, P] levels, the padding without meaning.
struct Resampler {
    Axis horizontal, vertical;
    int64_t padded;  // P
    int open_rows;  // output rows that may be unfinished at once
    double* doubles;
    uint8_t* columns;  // [columns of a block, 3, 16 rows]
    Pairs* tile;  // [pairs of columns, 3] of 16 rows
    int32_t* sums;  // [3, P, 16 rows] of an output row, columns first
    uint8_t* narrow;  // the same, rounded
    Pairs* rows;  // [8, 3 P / 16] of 16 columns: 16 rows resized along x
    int32_t* open;  // [open_rows, 3, P]
};

Resampler take_resampler(Arena& arena, const Crop& crop);
void resample(const Resampler& resampler, const Crop& crop, uint8_t* resized);  // [S, 3, P]

}  // namespace HJEPA_ISA
}  // namespace hjepa
