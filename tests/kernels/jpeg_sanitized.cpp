// Decodes the files it is given with every build that runs here, and turns them, from and into memory that is exactly as large as
// it must be.

#include <cstdint>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "decode.h"
#include "turn.h"

static void turn_all(const std::vector<uint8_t>& rgb, size_t width) {
    const size_t height = rgb.size() / 3 / width;
    for (const bool transposed : {false, true}) {
        const size_t rows = transposed ? width : height, columns = transposed ? height : width;
        std::vector<uint8_t> turned(rgb.size());
        for (const bool flip : {false, true}) {
            hjepa::turn_image(rgb.data(), {transposed, flip, !flip}, rows, columns, turned.data(), 3 * columns);
        }
    }
}

int main(int, char** names) {
    size_t decoded = 0, refused = 0;
    hjepa::JpegMemory memory;
    while (*++names) {
        std::ifstream stream(*names, std::ios::binary);
        const std::vector<uint8_t> file{std::istreambuf_iterator<char>(stream), {}};
        hjepa::Frame frame;
        if (!hjepa::read_frame(file.data(), file.size(), memory.tables, frame)) {
            ++refused;
            continue;
        }
        for (const hjepa::JpegBuild& build : hjepa::jpeg_builds()) {
            for (const int reduction : {1, 2, 4}) {
                const size_t stride = 3 * static_cast<size_t>((frame.width + reduction - 1) / reduction);
                std::vector<uint8_t> rgb(stride * static_cast<size_t>((frame.height + reduction - 1) / reduction));
                const bool known = hjepa::decode_jpeg(
                    build, memory, file.data(), file.size(), frame.height, frame.width, reduction, rgb.data(), stride);
                ++(known ? decoded : refused);
                if (known) turn_all(rgb, stride / 3);
            }
        }
    }
    std::printf("%zu decoded %zu refused clean\n", decoded, refused);
    return 0;
}
