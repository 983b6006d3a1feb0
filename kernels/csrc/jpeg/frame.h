// What the headers of a JPEG say, of those that are decoded here: one scan of Huffman codes, 8 bits, gray or YCbCr.
#pragma once

#include <cstddef>
#include <cstdint>

#include "huffman.h"

namespace hjepa {

constexpr int MAX_COMPONENTS = 3;
constexpr int BLOCK = 8;  // pixels on a side
constexpr int COEFFICIENTS = BLOCK * BLOCK;
constexpr int LONGEST_SIDE = 65500;  // pixels; libjpeg's limit

struct Component {
    int across, down;  // blocks in an MCU
    int side;  // pixels on a side of a block once it is transformed: BLOCK, or fewer of an image that is reduced
    const uint16_t* quantization;  // [64], in the order of the file
    const HuffmanTable *dc, *ac;
};

struct Frame {
    int width, height;  // pixels
    int mcus_across, mcus_down;
    int num_components;  // 1: gray, 3: YCbCr
    Component components[MAX_COMPONENTS];
    bool half_columns, half_rows;  // of the colours against the brightness
    int restart_interval;  // MCUs between two markers; 0: there are none
    const uint8_t *scan, *end;  // from the first entropy-coded byte to the end of the file
};

// What a frame points to.
struct Tables {
    static constexpr int COUNT = 4;
    uint16_t quantization[COUNT][COEFFICIENTS];
    HuffmanTable dc[COUNT], ac[COUNT];
};

// False for whatever is not decoded here: other processes (progressive, arithmetic), 12 bits, CMYK, RGB, other sampling than
// 4:4:4, 4:2:2 and 4:2:0, several scans, or headers with an error in them.
bool read_frame(const uint8_t* file, size_t size, Tables& tables, Frame& frame);

// Of an image that is to come out at 1 / reduction of its size, 1, 2 or 4, rounded up: blocks are transformed to fewer pixels, as
// by libjpeg (scale_denom), which saves the smoothing of colours of half the rows, too. False where it cannot be done.
bool reduce(Frame& frame, int reduction);

}  // namespace hjepa
