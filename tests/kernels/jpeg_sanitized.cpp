// Decodes the files it is given with every build that runs here, from and into memory that is exactly as large as it must be.

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
        const size_t stride = 3 * static_cast<size_t>(frame.width);
        for (const hjepa::JpegBuild& build : hjepa::jpeg_builds()) {
            std::vector<uint8_t> rgb(stride * static_cast<size_t>(frame.height));
            const bool known = hjepa::decode_jpeg(
                build, memory, file.data(), file.size(), frame.height, frame.width, rgb.data(), stride);
            ++(known ? decoded : refused);
        }
    }
    std::printf("%zu decoded %zu refused clean\n", decoded, refused);
    return 0;
}
