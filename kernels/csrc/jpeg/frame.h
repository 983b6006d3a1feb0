// What the headers of a JPEG say, of those that are decoded here: 8 bits, gray or YCbCr, Huffman codes, one scan or progressive.
#pragma once

#include <cstddef>
#include <cstdint>

#include "huffman.h"
#include "turn.h"

namespace hjepa {

constexpr int MAX_COMPONENTS = 3;
constexpr int BLOCK = 8;  // pixels on a side
constexpr int COEFFICIENTS = BLOCK * BLOCK;
constexpr int8_t NONE_CAME = -1;  // no bits of a coefficient
constexpr int MOST_PENDING = 5;  // bits; of more a number might not fit into 16
constexpr int LONGEST_SIDE = 65500;  // pixels; libjpeg's limit

struct Component {
    int id;
    int across, down;  // blocks in an MCU
    int blocks_across, blocks_down;  // that hold pixels; MCUs may have more
    int side;  // pixels on a side of a block once it is transformed: BLOCK, or fewer of an image that is reduced
    const uint16_t* quantization;  // [64], in the order of the file
    const HuffmanTable *dc, *ac;  // of the scan that comes now
    int8_t pending[COEFFICIENTS];  // of a progressive image: lower bits of each coefficient that are still to come, or NONE_CAME
};

// What a scan brings: coefficients [first, last] of some components, less `low` bits. Of a scan that refines what came before it,
// `high` is how many bits were pending then; it is 0 otherwise.
struct Part {
    int num_components;
    int components[MAX_COMPONENTS];  // numbers in the frame
    int first, last;
    int high, low;
};

struct Frame {
    int width, height;  // pixels
    int mcus_across, mcus_down;
    int num_components;  // 1: gray, 3: YCbCr
    Component components[MAX_COMPONENTS];
    bool progressive;
    Part part;  // of the scan that comes now
    bool half_columns, half_rows;  // of the colours against the brightness
    Turn turn;  // of what comes out; all else is of the image as it lies in the file
    int restart_interval;  // MCUs between two markers; 0: there are none
    const uint8_t *scan, *end;  // from the first entropy-coded byte to the end of the file
};

// A table of Huffman codes as the file has it; it is built once a scan uses it.
struct Definition {
    const uint8_t* start;  // null: there is none
    size_t count;  // of symbols
};

// What a frame points to.
struct Tables {
    static constexpr int COUNT = 4;
    uint16_t quantization[COUNT][COEFFICIENTS];
    HuffmanTable dc[COUNT], ac[COUNT], bands[COUNT];  // bands: AC coefficients of progressive images
    Definition dc_codes[COUNT], ac_codes[COUNT];
};

// Reads up to the first scan. False for whatever is not decoded here: arithmetic codes, 12 bits, CMYK, RGB, other sampling than
// 4:4:4, 4:2:2 and 4:2:0, several scans that are not progressive, or headers with an error in them.
bool read_frame(const uint8_t* file, size_t size, Tables& tables, Frame& frame);

// Reads from a marker behind a scan, whose segment begins at `next`, up to the next scan of a progressive image. False as above.
bool read_next_scan(int marker, const uint8_t* next, Tables& tables, Frame& frame);

// Whether all bits of all coefficients came: libjpeg smooths images of which some are missing.
bool is_complete(const Frame& frame);

// Of an image that is to come out at 1 / reduction of its size, 1, 2 or 4, rounded up: blocks are transformed to fewer pixels, as
// by libjpeg (scale_denom), which saves the smoothing of colours of half the rows, too. False where it cannot be done.
bool reduce(Frame& frame, int reduction);

}  // namespace hjepa
