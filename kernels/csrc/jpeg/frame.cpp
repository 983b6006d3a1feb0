#include "frame.h"

#include <cstring>

namespace hjepa {

namespace {

enum Marker : int {
    SOF0 = 0xC0, SOF1 = 0xC1, DHT = 0xC4, SOF15 = 0xCF, SOI = 0xD8, EOI = 0xD9, SOS = 0xDA, DQT = 0xDB, DNL = 0xDC, DRI = 0xDD,
    APP0 = 0xE0, APP14 = 0xEE, APP15 = 0xEF, COM = 0xFE
};

// The contents of a marker's segment, read from the front. Reading more than there is gives zeros, and is remembered.
class Segment {
  public:
    Segment(const uint8_t* start, size_t size) : next_(start), end_(start + size) {}
    size_t left() const { return static_cast<size_t>(end_ - next_); }
    bool overrun() const { return overrun_; }
    bool used_up() const { return next_ == end_ && !overrun_; }
    const uint8_t* take(size_t count) {
        static const uint8_t zeros[256] = {};
        if (count > left()) return overrun_ = true, zeros;
        const uint8_t* taken = next_;
        next_ += count;
        return taken;
    }
    int byte() { return *take(1); }
    int two_bytes() {
        const uint8_t* bytes = take(2);
        return bytes[0] << 8 | bytes[1];
    }

  private:
    const uint8_t *next_, *end_;
    bool overrun_ = false;
};

// Whether the three components are YCbCr is told as libjpeg tells it (default_decompress_parms).
struct Colours {
    bool jfif, adobe;
    int transform;  // Adobe's
    int ids[MAX_COMPONENTS];

    bool are_ycc() const {
        if (jfif) return true;
        return adobe ? transform == 1 : ids[0] == 1 && ids[1] == 2 && ids[2] == 3;
    }
};

// A table of Huffman codes as the file has it; it is built once a scan uses it.
struct Definition {
    const uint8_t* start;  // null: there is none
    size_t count;  // of symbols
};

struct Header {
    Tables& tables;
    Frame& frame;
    Colours colours{};
    Definition dc[Tables::COUNT]{}, ac[Tables::COUNT]{};
    bool has_quantization[Tables::COUNT]{};
    int quantization[MAX_COMPONENTS]{};  // tables' numbers
    bool has_frame = false;

    bool read_quantization(Segment segment) {
        while (segment.left()) {
            const int number = segment.byte();
            if (number >= Tables::COUNT) return false;  // the upper half is its precision: 8 bits
            const uint8_t* values = segment.take(COEFFICIENTS);
            for (int i = 0; i < COEFFICIENTS; ++i) tables.quantization[number][i] = values[i];
            has_quantization[number] = true;
        }
        return !segment.overrun();
    }

    bool read_huffman(Segment segment) {
        while (segment.left()) {
            const int kind = segment.byte(), number = kind & 15;
            if (kind >> 4 > 1 || number >= Tables::COUNT) return false;
            Definition read{segment.take(LONGEST_CODE), 0};
            for (int i = 0; i < LONGEST_CODE; ++i) read.count += read.start[i];
            if (read.count == 0 || read.count > MOST_SYMBOLS) return false;
            segment.take(read.count);  // behind the counts
            if (segment.overrun()) return false;
            (kind >> 4 ? ac : dc)[number] = read;
        }
        return true;
    }

    bool read_frame(Segment segment) {
        if (has_frame || segment.byte() != 8) return false;
        has_frame = true;
        frame.height = segment.two_bytes();
        frame.width = segment.two_bytes();
        frame.num_components = segment.byte();
        if (frame.num_components != 1 && frame.num_components != MAX_COMPONENTS) return false;
        for (int i = 0; i < frame.num_components; ++i) {
            colours.ids[i] = segment.byte();
            const int sampling = segment.byte();
            frame.components[i].across = sampling >> 4;
            frame.components[i].down = sampling & 15;
            frame.components[i].side = BLOCK;
            quantization[i] = segment.byte();
        }
        if (!segment.used_up() || !is_side(frame.width) || !is_side(frame.height) || !sampling_is_known()) return false;
        const int across = BLOCK * frame.components[0].across, down = BLOCK * frame.components[0].down;
        frame.mcus_across = (frame.width + across - 1) / across;
        frame.mcus_down = (frame.height + down - 1) / down;
        return true;
    }

    static bool is_side(int pixels) { return 0 < pixels && pixels <= LONGEST_SIDE; }

    bool sampling_is_known() {
        Component* components = frame.components;
        for (int i = 0; i < frame.num_components; ++i) {
            const Component& own = components[i];
            if (own.across < 1 || own.across > 4 || own.down < 1 || own.down > 4) return false;
        }
        if (frame.num_components == 1) {  // a scan of one component has no larger units than blocks
            components[0].across = components[0].down = 1;
            return true;
        }
        for (int i = 1; i < MAX_COMPONENTS; ++i) {
            if (components[i].across != 1 || components[i].down != 1) return false;
        }
        const int across = components[0].across, down = components[0].down;
        frame.half_columns = across == 2;
        frame.half_rows = down == 2;
        if (across == 2) return (down == 1 || down == 2) && frame.width > 4;  // libjpeg smooths no narrower colours
        return across == 1 && down == 1;
    }

    bool read_scan(Segment segment) {
        if (!has_frame || segment.byte() != frame.num_components) return false;
        for (int i = 0; i < frame.num_components; ++i) {
            const int id = segment.byte(), numbers = segment.byte();
            if (id != colours.ids[i] || !take_tables(frame.components[i], quantization[i], numbers >> 4, numbers & 15)) return false;
        }
        const bool sequential = segment.byte() == 0 && segment.byte() == COEFFICIENTS - 1 && segment.byte() == 0;
        return sequential && segment.used_up() && (frame.num_components == 1 || colours.are_ycc());
    }

    bool take_tables(Component& component, int own, int own_dc, int own_ac) {
        if (own >= Tables::COUNT || own_dc >= Tables::COUNT || own_ac >= Tables::COUNT) return false;
        if (!has_quantization[own] || !dc[own_dc].start || !ac[own_ac].start) return false;
        component.quantization = tables.quantization[own];
        component.dc = &tables.dc[own_dc];
        component.ac = &tables.ac[own_ac];
        return build_table(tables.dc[own_dc], Coefficient::dc, dc[own_dc].start, dc[own_dc].count) &&
               build_table(tables.ac[own_ac], Coefficient::ac, ac[own_ac].start, ac[own_ac].count);
    }

    bool read(int marker, Segment segment) {
        switch (marker) {
            case SOF0: case SOF1: return read_frame(segment);
            case DHT: return read_huffman(segment);
            case DQT: return read_quantization(segment);
            case DRI: frame.restart_interval = segment.two_bytes(); return segment.used_up();
            case APP0: colours.jfif |= segment.left() >= 14 && std::memcmp(segment.take(5), "JFIF", 5) == 0; return true;
            case APP14:
                if (segment.left() >= 12 && std::memcmp(segment.take(5), "Adobe", 5) == 0) {
                    colours.adobe = true;
                    colours.transform = segment.take(7)[6];
                }
                return true;
            default: return (marker > APP0 && marker <= APP15) || marker == COM;
        }
    }
};

}  // namespace

bool read_frame(const uint8_t* file, size_t size, Tables& tables, Frame& frame) {
    frame = {};
    Header header{tables, frame};
    Segment rest(file, size);
    if (rest.two_bytes() != (0xFF00 | SOI)) return false;
    while (true) {
        const int marker = rest.two_bytes() - 0xFF00, length = rest.two_bytes() - 2;
        if (marker < 0 || length < 0 || static_cast<size_t>(length) > rest.left()) return false;
        const Segment segment(rest.take(static_cast<size_t>(length)), static_cast<size_t>(length));
        if (marker != SOS) {
            if (!header.read(marker, segment)) return false;
            continue;
        }
        frame.scan = rest.take(0);
        frame.end = file + size;
        return header.read_scan(segment);
    }
}

bool reduce(Frame& frame, int reduction) {
    if (reduction == 1) return true;
    if (reduction != 2 && reduction != 4) return false;
    for (int i = 0; i < frame.num_components; ++i) {
        frame.components[i].side = (i > 0 && frame.half_rows ? 2 * BLOCK : BLOCK) / reduction;
    }
    if (frame.half_rows) frame.half_columns = frame.half_rows = false;
    frame.width = (frame.width + reduction - 1) / reduction;
    frame.height = (frame.height + reduction - 1) / reduction;
    return !frame.half_columns || frame.width > 4;  // as above
}

}  // namespace hjepa
