// Turns an image as its EXIF orientation says.
#pragma once

#include <cstddef>
#include <cstdint>

namespace hjepa {

// Rows for columns first, and then the flips.
struct Turn {
    bool transposed, flip_x, flip_y;
    bool is_none() const { return !transposed && !flip_x && !flip_y; }
};

// An image without gaps between its rows -> [rows, columns, 3] levels in rows that are `stride` bytes apart.
void turn_image(const uint8_t* from, Turn turn, size_t rows, size_t columns, uint8_t* to, size_t stride);

}  // namespace hjepa
