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

// Some rows of an image, [count, width, 3] levels, in rows that are so many bytes apart.
struct Rows {
    const uint8_t* levels;
    size_t stride;
    int first, count;  // the first one's number
};

// Writes the rows to where they belong in an image that has `height` rows of `width` pixels before it is turned; in `to` its rows
// are `stride` bytes apart.
void turn_rows(const Rows& rows, Turn turn, int height, int width, uint8_t* to, size_t stride);

}  // namespace hjepa
