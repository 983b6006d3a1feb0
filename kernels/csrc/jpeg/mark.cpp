#include "mark.h"

#include <array>
#include <cstring>
#include <random>

namespace hjepa {

namespace {

using Number = std::array<uint8_t, MARK_BYTES - 1>;

constexpr uint8_t SEGMENT[] = {0xFF, 0xEF, 0, MARK_BYTES + 2};
constexpr size_t START_BYTES = 2;  // of an image

const Number& own_number() {
    static const Number drawn = [] {
        std::random_device chance;
        Number bytes;
        for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(chance());
        return bytes;
    }();
    return drawn;
}

}  // namespace

void write_mark(uint8_t* to, int reduction) {
    std::memcpy(to, own_number().data(), own_number().size());
    to[MARK_BYTES - 1] = static_cast<uint8_t>(reduction);
}

void write_segment(uint8_t* to, int reduction) {
    std::memcpy(to, SEGMENT, sizeof SEGMENT);
    write_mark(to + sizeof SEGMENT, reduction);
}

int read_mark(const uint8_t* from) {
    return std::memcmp(from, own_number().data(), own_number().size()) == 0 ? from[MARK_BYTES - 1] : 1;
}

int asked_reduction(const uint8_t* file, size_t size) {
    const uint8_t* segment = file + START_BYTES;
    if (size < START_BYTES + SEGMENT_BYTES || std::memcmp(segment, SEGMENT, sizeof SEGMENT) != 0) return 1;
    return read_mark(segment + sizeof SEGMENT);
}

}  // namespace hjepa
