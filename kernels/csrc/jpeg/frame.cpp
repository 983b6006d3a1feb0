#include "frame.h"

#include <cstring>

namespace hjepa {

namespace {

enum Marker : int {
    SOF0 = 0xC0, SOF1 = 0xC1, SOF2 = 0xC2, DHT = 0xC4, SOI = 0xD8, SOS = 0xDA, DQT = 0xDB, DRI = 0xDD, APP0 = 0xE0, APP14 = 0xEE,
    APP15 = 0xEF, COM = 0xFE
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

    bool are_ycc(const Component* components) const {
        if (jfif) return true;
        return adobe ? transform == 1 : components[0].id == 1 && components[1].id == 2 && components[2].id == 3;
    }
};

struct Header {
    Tables& tables;
    Frame& frame;
    Colours colours{};
    bool has_quantization[Tables::COUNT]{};
    int quantization[MAX_COMPONENTS]{};  // tables' numbers
    bool has_frame = false, has_scan = false;

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
            (kind >> 4 ? tables.ac_codes : tables.dc_codes)[number] = read;
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
            Component& component = frame.components[i];
            component.id = segment.byte();
            const int sampling = segment.byte();
            component.across = sampling >> 4;
            component.down = sampling & 15;
            component.side = BLOCK;
            for (int8_t& bits : component.pending) bits = NONE_CAME;
            quantization[i] = segment.byte();
        }
        if (!segment.used_up() || !is_side(frame.width) || !is_side(frame.height) || !sampling_is_known()) return false;
        const int across = BLOCK * frame.components[0].across, down = BLOCK * frame.components[0].down;
        frame.mcus_across = (frame.width + across - 1) / across;
        frame.mcus_down = (frame.height + down - 1) / down;
        for (int i = 0; i < frame.num_components; ++i) {
            Component& component = frame.components[i];
            component.blocks_across = (frame.width * component.across + across - 1) / across;
            component.blocks_down = (frame.height * component.down + down - 1) / down;
        }
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
        if (!has_frame || (!has_scan && !take_quantization())) return false;
        Part& part = frame.part;
        part.num_components = segment.byte();
        if (part.num_components < 1 || part.num_components > frame.num_components) return false;
        int numbers[MAX_COMPONENTS];  // of the tables of codes
        for (int i = 0, next = 0; i < part.num_components; ++i, ++next) {
            const int id = segment.byte();
            numbers[i] = segment.byte();
            while (next < frame.num_components && frame.components[next].id != id) ++next;
            if (next >= frame.num_components) return false;
            part.components[i] = next;
        }
        part.first = segment.byte();
        part.last = segment.byte();
        const int bits = segment.byte();
        part.high = bits >> 4;
        part.low = bits & 15;
        if (!segment.used_up() || !(frame.progressive ? take_bits() : is_whole())) return false;
        for (int i = 0; i < part.num_components; ++i) {
            if (!take_codes(frame.components[part.components[i]], numbers[i] >> 4, numbers[i] & 15)) return false;
        }
        return frame.num_components == 1 || has_scan || colours.are_ycc(frame.components);
    }

    bool take_quantization() {
        for (int i = 0; i < frame.num_components; ++i) {
            const int number = quantization[i];
            if (number >= Tables::COUNT || !has_quantization[number]) return false;
            frame.components[i].quantization = tables.quantization[number];
        }
        return true;
    }

    bool is_whole() const {
        const Part& part = frame.part;
        const bool every = part.num_components == frame.num_components && part.first == 0 && part.last == COEFFICIENTS - 1;
        return every && part.high == 0 && part.low == 0;
    }

    // Whether what a scan of a progressive image brings follows what came before (T.81, G.1.1.1.1).
    bool take_bits() {
        const Part& part = frame.part;
        const bool is_dc = part.first == 0;
        if (is_dc && part.last != 0) return false;
        if (!is_dc && (part.last < part.first || part.last >= COEFFICIENTS || part.num_components > 1)) return false;
        if (part.low > MOST_PENDING || (part.high != 0 && part.high != part.low + 1)) return false;
        for (int i = 0; i < part.num_components; ++i) {
            int8_t* pending = frame.components[part.components[i]].pending;
            if (!is_dc && pending[0] == NONE_CAME) return false;
            for (int number = part.first; number <= part.last; ++number) {
                if (pending[number] != (part.high ? part.high : NONE_CAME)) return false;
                pending[number] = static_cast<int8_t>(part.low);
            }
        }
        return true;
    }

    bool take_codes(Component& component, int dc, int ac) {
        const bool takes_dc = frame.part.first == 0 && frame.part.high == 0, takes_ac = frame.part.last > 0;
        if (dc >= Tables::COUNT || ac >= Tables::COUNT) return false;
        component.dc = &tables.dc[dc];
        component.ac = &(frame.progressive ? tables.bands : tables.ac)[ac];
        const Coefficient kind = frame.progressive ? Coefficient::band : Coefficient::ac;
        return (!takes_dc || build(tables.dc[dc], Coefficient::dc, tables.dc_codes[dc])) &&
               (!takes_ac || build((frame.progressive ? tables.bands : tables.ac)[ac], kind, tables.ac_codes[ac]));
    }

    static bool build(HuffmanTable& table, Coefficient kind, const Definition& codes) {
        return codes.start && build_table(table, kind, codes.start, codes.count);
    }

    bool read(int marker, Segment segment) {
        switch (marker) {
            case SOF0: case SOF1: case SOF2: frame.progressive = marker == SOF2; return read_frame(segment);
            case DHT: return read_huffman(segment);
            case DQT: return !has_scan && read_quantization(segment);
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

    // From a marker, whose segment comes next, up to a scan.
    bool read_segments(int marker, Segment rest) {
        for (;; marker = rest.two_bytes() - 0xFF00) {
            const int length = rest.two_bytes() - 2;
            if (marker < 0 || length < 0 || static_cast<size_t>(length) > rest.left()) return false;
            const Segment segment(rest.take(static_cast<size_t>(length)), static_cast<size_t>(length));
            if (marker == SOS) {
                frame.scan = rest.take(0);
                return read_scan(segment);
            }
            if (!read(marker, segment)) return false;
        }
    }
};

}  // namespace

bool read_frame(const uint8_t* file, size_t size, Tables& tables, Frame& frame) {
    frame = {};
    frame.end = file + size;
    for (int i = 0; i < Tables::COUNT; ++i) tables.dc_codes[i] = tables.ac_codes[i] = {};
    Header header{tables, frame};
    Segment rest(file, size);
    return rest.two_bytes() == (0xFF00 | SOI) && header.read_segments(rest.two_bytes() - 0xFF00, rest);
}

bool read_next_scan(int marker, const uint8_t* next, Tables& tables, Frame& frame) {
    Header header{tables, frame};
    header.has_frame = header.has_scan = true;
    return header.read_segments(marker, Segment(next, static_cast<size_t>(frame.end - next)));
}

bool is_complete(const Frame& frame) {
    for (int i = 0; i < frame.num_components; ++i) {
        for (const int8_t bits : frame.components[i].pending) {
            if (bits != 0) return false;
        }
    }
    return true;
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
