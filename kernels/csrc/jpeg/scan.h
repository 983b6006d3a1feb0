// The entropy-coded bytes of a scan, one restart interval at a time, without the zeros that are stuffed behind each 0xFF.
#pragma once

#include <cstddef>
#include <cstdint>

namespace hjepa {

// Zeros behind an interval: more bytes than an MCU can ask for beyond its end.
constexpr size_t SCAN_SLACK = 4096;

constexpr int END_OF_IMAGE = 0xD9;  // a marker

struct Scan {
    const uint8_t *next, *end;  // of the file
    uint8_t* memory;  // [end - next + SCAN_SLACK] at first
    // The interval that was read last:
    size_t size;
    int marker;  // that ended it
};

// Reads an interval to `memory`. False where no marker follows.
bool read_interval(Scan& scan);

}  // namespace hjepa
