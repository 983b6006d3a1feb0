#include "mark.h"

#include <array>
#include <cstring>
#include <random>

namespace hjepa {

namespace {

using Number = std::array<uint8_t, MARK_BYTES - 1>;

// Without 0xFF, with which JPEG's markers begin.
const Number& own_number() {
    static const Number drawn = [] {
        std::random_device chance;
        Number bytes;
        for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(chance() & 0x7F);
        return bytes;
    }();
    return drawn;
}

}  // namespace

void write_mark(uint8_t* to, int reduction) {
    std::memcpy(to, own_number().data(), own_number().size());
    to[MARK_BYTES - 1] = static_cast<uint8_t>(reduction);
}

int read_mark(const uint8_t* end, size_t size) {
    const uint8_t* mark = end - MARK_BYTES;
    return size >= MARK_BYTES && std::memcmp(mark, own_number().data(), own_number().size()) == 0 ? mark[MARK_BYTES - 1] : 1;
}

}  // namespace hjepa
