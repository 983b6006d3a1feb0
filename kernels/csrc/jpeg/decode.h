// Decodes the JPEGs that most data sets are made of, to the levels that libjpeg-turbo gives, bit for bit.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "frame.h"
#include "scan.h"

namespace hjepa {

// One copy of isa/.
struct JpegBuild {
    const char* name;  // of the instruction set
    size_t (*scratch_bytes)(const Frame& frame);
    // scratch: aligned to 64
    bool (*decode_scans)(Frame& frame, Tables& tables, Scan& scan, char* scratch, uint8_t* rgb, size_t stride);
};

// Memory of one thread, reused from image to image.
struct JpegMemory {
    Tables tables{};
    std::vector<uint8_t> scan;
    std::unique_ptr<char[]> scratch;  // a vector would be zeroed first, a quarter of the time of some large images
    size_t scratch_bytes = 0;
};

// What this processor runs, the fastest first; the last one is "plain".
const std::vector<JpegBuild>& jpeg_builds();

// Writes [height, width, 3] levels of red, green and blue, turned, to rows that are `stride` bytes apart, both sides divided by
// `reduction` and rounded up (frame.h; 1 leaves the image as it is); the size is that before it is turned. False, and levels
// without meaning, for a file that is not decoded here, is not of that size, or has the slightest error in it: libjpeg-turbo shall
// say what becomes of it.
bool decode_jpeg(const JpegBuild& build, JpegMemory& memory, const uint8_t* file, size_t size, int height, int width,
                 int reduction, Turn turn, uint8_t* rgb, size_t stride);

}  // namespace hjepa
