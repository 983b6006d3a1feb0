// Scratch memory, and the small functions that <algorithm> would bring for all builds in one (see simd.h).
#pragma once

#include <cstddef>
#include <cstdint>

#ifndef HJEPA_ISA
#define HJEPA_ISA plain
#endif

namespace hjepa {
namespace HJEPA_ISA {

template <typename T> inline T least(T a, T b) { return b < a ? b : a; }
template <typename T> inline T most(T a, T b) { return a < b ? b : a; }
inline int64_t round_up(int64_t count, int64_t step) { return (count + step - 1) / step * step; }

// Hands out parts of a piece of memory; with a null start it only counts.
class Arena {
  public:
    explicit Arena(char* start) : start_(start) {}
    template <typename T> T* take(int64_t count) {
        char* taken = start_ ? start_ + used_ : nullptr;
        used_ += static_cast<size_t>(round_up(count * static_cast<int64_t>(sizeof(T)), 64));
        return reinterpret_cast<T*>(taken);
    }
    size_t used() const { return used_; }

  private:
    char* start_;
    size_t used_ = 0;
};

}  // namespace HJEPA_ISA
}  // namespace hjepa
