// What DALI has had decoded here, for whoever wants to know that it was.
#pragma once

#include <atomic>
#include <cstdint>

namespace hjepa {

extern std::atomic<int64_t> num_decoded;  // files, since the module was loaded

}  // namespace hjepa
