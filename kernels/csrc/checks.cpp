// Floats are compared by their bits: the kernel is compiled as if NaN and infinity did not exist, and here they must be found.
#include "checks.h"

#include <cfloat>
#include <cstring>
#include <stdexcept>
#include <string>

namespace hjepa {
namespace {

constexpr float MAX_FACTOR = 1e6f, MAX_TURN = 0.5f;

void require(bool holds, const char* message) {
    if (!holds) throw std::invalid_argument(message);
}

uint32_t bits_of(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}

uint32_t magnitude(float value) { return bits_of(value) & 0x7fffffffu; }

// 0 (of either sign) <= value <= limit. The bits of floats that are not negative are in the floats' order, NaN's above all.
bool within(float value, float limit) { return bits_of(value) <= bits_of(limit) || magnitude(value) == 0; }

bool inside(int64_t start, int64_t length, int64_t end) {
    return start >= 0 && length >= 1 && length <= MAX_SIDE && start + length <= end;
}

}  // namespace

void check(const Crop& crop) {
    if (!inside(crop.top, crop.height, crop.image_height) || !inside(crop.left, crop.width, crop.image_width)) {
        throw std::invalid_argument("a box is not within its image, or longer than " + std::to_string(MAX_SIDE) + " pixels");
    }
    unsigned parts = 0;
    for (const uint8_t part : crop.order) parts |= part < 4 ? 1u << part : 0u;
    require(parts == 0b1111u, "order must hold 0, 1, 2 and 3 for every crop");
    for (int part = 0; part < 3; ++part) {
        require(within(crop.jitter[part], MAX_FACTOR), "jitter's factors must be between 0 and 1e6");
    }
    require(magnitude(crop.jitter[3]) <= bits_of(MAX_TURN), "jitter's hue must be between -0.5 and 0.5 turns");
    require(within(crop.sigma, FLT_MAX), "sigma must be finite, and 0 or more");
}

}  // namespace hjepa
