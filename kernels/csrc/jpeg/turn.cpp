#include "turn.h"

#include <cstring>

namespace hjepa {

constexpr int AHEAD = 16;  // rows; each is on another page, and waiting for them takes longer than all else

void turn_rows(const Rows& rows, Turn turn, int height, int width, uint8_t* to, size_t stride) {
    ptrdiff_t next_row = static_cast<ptrdiff_t>(stride), next_pixel = 3;  // of what is written
    if (turn.flip_y) to += next_row * ((turn.transposed ? width : height) - 1), next_row = -next_row;
    if (turn.flip_x) to += next_pixel * ((turn.transposed ? height : width) - 1), next_pixel = -next_pixel;
    if (!turn.transposed) {
        for (int y = 0; y < rows.count; ++y) {
            const uint8_t* from = rows.levels + static_cast<size_t>(y) * rows.stride;
            uint8_t* row = to + next_row * (rows.first + y);
            for (int x = 0; x < width; ++x, from += 3, row += next_pixel) std::memcpy(row, from, 3);
        }
        return;
    }
    for (int x = 0; x < width; ++x) {
        const uint8_t* from = rows.levels + 3 * x;
        uint8_t* row = to + next_row * x + next_pixel * rows.first;
        if (x + AHEAD < width) {
            __builtin_prefetch(row + next_row * AHEAD, 1);
            __builtin_prefetch(row + next_row * AHEAD + next_pixel * (rows.count - 1), 1);
        }
        for (int y = 0; y < rows.count; ++y, from += rows.stride, row += next_pixel) std::memcpy(row, from, 3);
    }
}

}  // namespace hjepa
