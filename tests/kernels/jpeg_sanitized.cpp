// Decodes the files it is given with every build that runs here, and turns them, from and into memory that is exactly as large as
// it must be.

#include <cstdint>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "decode.h"

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
                const size_t width = static_cast<size_t>((frame.width + reduction - 1) / reduction);
                std::vector<uint8_t> rgb(3 * width * static_cast<size_t>((frame.height + reduction - 1) / reduction));
                for (int kind = 0; kind < 8; ++kind) {
                    const hjepa::Turn turn{(kind & 1) != 0, (kind & 2) != 0, (kind & 4) != 0};
                    const size_t stride = turn.transposed ? rgb.size() / width : 3 * width;
                    const bool known = hjepa::decode_jpeg(
                        build, memory, file.data(), file.size(), frame.height, frame.width, reduction, turn, rgb.data(), stride);
                    ++(known ? decoded : refused);
                }
            }
        }
    }
    std::printf("%zu decoded %zu refused clean\n", decoded, refused);
    return 0;
}
