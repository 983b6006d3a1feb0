// How a file that goes through DALI asks for a reduced image, and how the image tells that it is one: by a segment of the file's own
// that every decoder passes over, and by the same mark at the end of the memory for the whole image, which begins with the reduced one.
#pragma once

#include <cstddef>
#include <cstdint>

namespace hjepa {

constexpr size_t MARK_BYTES = 17;
constexpr size_t SEGMENT_BYTES = 4 + MARK_BYTES;  // APP15, its length, and the mark; it comes behind the start of the image

// A mark is a number of this process's, so that no file has it by itself, and the reduction.
void write_mark(uint8_t* to, int reduction);
void write_segment(uint8_t* to, int reduction);

// The reduction of the mark at `from`; 1 where none is.
int read_mark(const uint8_t* from);

// The reduction that a file asks for.
int asked_reduction(const uint8_t* file, size_t size);

}  // namespace hjepa
