// How a file that goes through DALI asks for a reduced image, and how the image tells that it is one: by the same bytes behind the
// file, where every decoder stops before them, and at the end of the memory for the whole image, which begins with the reduced one.
#pragma once

#include <cstddef>
#include <cstdint>

namespace hjepa {

constexpr size_t MARK_BYTES = 17;

// Writes the mark of a reduction: a number of this process's, so that no file says so by itself, and the reduction.
void write_mark(uint8_t* to, int reduction);

// The reduction whose mark lies in the last bytes before `end`; 1 where none does. At least `size` bytes lie there.
int read_mark(const uint8_t* end, size_t size);

}  // namespace hjepa
