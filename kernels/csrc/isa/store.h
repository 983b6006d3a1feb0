// Solarize, normalise, and write a row of a crop in the type that was asked for.
#pragma once

#include "../crop.h"
#include "simd.h"

namespace hjepa {
namespace HJEPA_ISA {

// Row y of the output, from [3, padded] levels, which are solarized in place.
void store_row(const Crop& crop, int y, uint8_t* levels, int64_t padded);
void finish_stores();  // before another thread reads what was stored

}  // namespace HJEPA_ISA
}  // namespace hjepa
