#include "entropy.h"

namespace hjepa {
namespace HJEPA_ISA {

Step long_step(const HuffmanTable& table, uint64_t bits) {
    const uint32_t next = static_cast<uint32_t>(bits >> (64 - LONGEST_CODE));
    for (int length = LOOKUP_BITS + 1; length <= LONGEST_CODE; ++length) {
        if (next >= table.limits[length]) continue;
        const int32_t code = static_cast<int32_t>(next >> (LONGEST_CODE - length));
        return table.symbols[code + table.offsets[length]];
    }
    return 0;
}

}  // namespace HJEPA_ISA
}  // namespace hjepa
