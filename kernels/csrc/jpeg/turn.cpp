#include "turn.h"

#include <algorithm>
#include <cstring>

namespace hjepa {

constexpr size_t TILE = 16;  // pixels on a side; columns of more rows would push each other out of the cache

void turn_image(const uint8_t* from, Turn turn, size_t rows, size_t columns, uint8_t* to, size_t stride) {
    const size_t row_bytes = 3 * (turn.transposed ? rows : columns);  // of `from`
    const size_t down = turn.transposed ? 3 : row_bytes, across = turn.transposed ? row_bytes : 3;
    for (size_t top = 0; top < rows; top += TILE) {
        for (size_t left = 0; left < columns; left += TILE) {
            for (size_t y = top; y < std::min(top + TILE, rows); ++y) {
                const uint8_t* row = from + (turn.flip_y ? rows - 1 - y : y) * down;
                for (size_t x = left; x < std::min(left + TILE, columns); ++x) {
                    std::memcpy(to + y * stride + 3 * x, row + (turn.flip_x ? columns - 1 - x : x) * across, 3);
                }
            }
        }
    }
}

}  // namespace hjepa
