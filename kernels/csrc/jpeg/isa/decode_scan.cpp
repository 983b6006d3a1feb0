// A row of MCUs at a time: coefficients, then levels of brightness and colours, then pixels; what is worked on fits into a cache.

#include "../../isa/arena.h"
#include "../scan.h"
#include "colour.h"
#include "entropy.h"
#include "idct.h"
#include "reduced_idct.h"

namespace hjepa {
namespace HJEPA_ISA {

namespace {

constexpr int GROUP = COEFFICIENTS * BLOCKS;  // coefficients of blocks that are transformed at once

// Rows of a component's levels. Row 0 is the last one of the MCUs above; the row behind the last one is for colours, which are
// smoothed downwards beyond the image's end.
struct Plane {
    int side;  // pixels on a side of a block
    int down;  // blocks in a row of MCUs
    int groups;  // across
    size_t stride;
    uint8_t* levels;  // [rows() + 2, stride]
    int16_t* coefficients;  // [down, groups, 8, BLOCKS, 8]
    int16_t* quantization;  // [8, BLOCKS, 8]

    int rows() const { return side * down; }
    uint8_t* row(int number) const { return levels + static_cast<size_t>(number + 1) * stride; }  // -1: of the MCUs above
    size_t num_coefficients() const { return static_cast<size_t>(down) * static_cast<size_t>(groups) * GROUP; }
};

struct Work {
    Plane planes[MAX_COMPONENTS];
    int16_t* sums;  // a row of colours, SHORTS behind the start: there is one more on either side
    uint8_t* smoothed[2];  // rows of colours at the image's resolution
};

Work take_work(Arena& arena, const Frame& frame) {
    Work work{};
    for (int i = 0; i < frame.num_components; ++i) {
        Plane& plane = work.planes[i];
        const int blocks = frame.mcus_across * frame.components[i].across;
        plane.side = frame.components[i].side;
        plane.down = frame.components[i].down;
        plane.groups = (blocks + BLOCKS - 1) / BLOCKS;
        plane.stride = static_cast<size_t>(round_up(plane.groups * BLOCKS * plane.side + PIXELS, 64));
        plane.levels = arena.take<uint8_t>(static_cast<int64_t>(plane.stride) * (plane.rows() + 2));
        plane.coefficients = arena.take<int16_t>(static_cast<int64_t>(plane.num_coefficients()));
        plane.quantization = arena.take<int16_t>(GROUP);
    }
    const int64_t width = static_cast<int64_t>(work.planes[0].stride);
    work.sums = arena.take<int16_t>(width + 2 * SHORTS);
    for (uint8_t*& row : work.smoothed) row = arena.take<uint8_t>(2 * width);
    return work;
}

void spread(const uint16_t* quantization, int16_t* to) {
    for (int number = 0; number < COEFFICIENTS; ++number) {
        for (int block = 0; block < BLOCKS; ++block) {
            to[PLACES.of[number] + BLOCK * block] = static_cast<int16_t>(quantization[number]);
        }
    }
}

// The coefficients of one scan, from restart interval to restart interval.
class Reader {
  public:
    Reader(const Frame& frame, Scan& scan) : frame_(frame), scan_(scan) {}

    bool read_row(const Work& work) {
        for (int i = 0; i < frame_.num_components; ++i) {
            const Plane& plane = work.planes[i];
            std::memset(plane.coefficients, 0, plane.num_coefficients() * sizeof(int16_t));
        }
        for (int mcu = 0; mcu < frame_.mcus_across; ++mcu) {
            if (left_ == 0 && !next_interval()) return false;
            --left_;
            for (int i = 0; i < frame_.num_components; ++i) {
                if (!read_blocks(frame_.components[i], work.planes[i], mcu, previous_[i])) return false;
            }
            if (bits_.next > scan_.memory + scan_.size + sizeof(uint64_t)) return false;
        }
        return true;
    }

    // Whether the last interval was used up, and the image ends with it.
    bool finished() const { return left_ == 0 && used_up() && scan_.marker == END_OF_IMAGE; }

  private:
    static constexpr int END_OF_IMAGE = 0xD9, FIRST_RESTART = 0xD0;

    bool read_blocks(const Component& component, const Plane& plane, int mcu, uint32_t& previous) {
        for (int down = 0; down < component.down; ++down) {
            for (int across = 0; across < component.across; ++across) {
                const int block = mcu * component.across + across, group = down * plane.groups + block / BLOCKS;
                int16_t* to = plane.coefficients + static_cast<size_t>(group) * GROUP + BLOCK * (block % BLOCKS);
                if (!decode_block(bits_, *component.dc, *component.ac, previous, to)) return false;
            }
        }
        return true;
    }

    bool next_interval() {
        if (intervals_ > 0) {
            if (!used_up() || scan_.marker != FIRST_RESTART + (intervals_ - 1) % 8) return false;
        }
        if (!read_interval(scan_)) return false;
        const int64_t mcus = static_cast<int64_t>(frame_.mcus_across) * frame_.mcus_down;
        left_ = frame_.restart_interval ? least<int64_t>(frame_.restart_interval, mcus - done_) : mcus;
        done_ += left_;
        ++intervals_;
        bits_ = {0, 0, scan_.memory};
        for (uint32_t& dc : previous_) dc = 0;
        return true;
    }

    // Whether less than a byte of the interval is left, and nothing beyond it was taken.
    bool used_up() const {
        const int64_t left = 8 * (static_cast<int64_t>(scan_.size) - (bits_.next - scan_.memory)) + static_cast<int64_t>(bits_.count);
        return left >= 0 && left < 8;
    }

    const Frame& frame_;
    Scan& scan_;
    Bits bits_{0, 0, nullptr};
    uint32_t previous_[MAX_COMPONENTS] = {};
    int64_t left_ = 0, done_ = 0;  // MCUs of this interval, and of the intervals so far
    int intervals_ = 0;
};

// False for coefficients that no image has.
template <int SIDE> bool transform_blocks(const Plane& plane) {
    const int16_t* coefficients = plane.coefficients;
    Shorts sizes{};
    for (int down = 0; down < plane.down; ++down) {
        uint8_t* to = plane.row(SIDE * down);
        for (int group = 0; group < plane.groups; ++group, coefficients += GROUP, to += SIDE * BLOCKS) {
            if constexpr (SIDE == BLOCK) inverse_dct(coefficients, plane.quantization, to, plane.stride, sizes);
            else reduced_inverse_dct<SIDE>(coefficients, plane.quantization, to, plane.stride, sizes);
        }
    }
    int16_t most = 0;
    for (int i = 0; i < SHORTS; ++i) most |= sizes[i];
    return most < MOST_SIZE;
}

bool transform_plane(const Plane& plane) {
    switch (plane.side) {
        case 2: return transform_blocks<2>(plane);
        case 4: return transform_blocks<4>(plane);
        default: return transform_blocks<BLOCK>(plane);
    }
}

// A row of colours at twice their resolution; `far` weighs a quarter, or is null for rows that are not between two.
void smooth_row(const uint8_t* near, const uint8_t* far, int count, int16_t* sums, uint8_t* to) {
    if (far) {
        for (int x = 0; x < count; ++x) sums[x] = static_cast<int16_t>(3 * near[x] + far[x]);
    } else {
        for (int x = 0; x < count; ++x) sums[x] = near[x];
    }
    sums[-1] = sums[0];
    sums[count] = sums[count - 1];
    far ? smooth<4>(sums, count, to) : smooth<2>(sums, count, to);
}

// Pixels of the rows that are known now, after row `mcu` of MCUs.
class Writer {
  public:
    Writer(const Frame& frame, const Work& work, uint8_t* rgb, size_t stride)
        : frame_(frame), work_(work), rgb_(rgb), stride_(stride) {}

    void write(int mcu) const {
        const int rows = work_.planes[0].rows(), start = mcu * rows, end = least(start + rows, frame_.height);
        if (!frame_.half_rows) {
            for (int y = start; y < end; ++y) write_row(y, y - start, y - start, -1);
            return;
        }
        // A row of brightness lies between two rows of colours: nearer to one, which counts three times.
        const Plane &blueness = work_.planes[1], &redness = work_.planes[2];
        const bool last = mcu == frame_.mcus_down - 1;
        if (mcu == 0) copy_row(blueness, 0, -1), copy_row(redness, 0, -1);
        if (last) {
            const int colours = (end - start + 1) / 2;
            copy_row(blueness, colours - 1, colours), copy_row(redness, colours - 1, colours);
        }
        for (int y = most(start - 1, 0); y < (last ? end : end - 1); ++y) {
            const int row = y - start, near = (row + 2) / 2 - 1;
            write_row(y, row, near, row & 1 ? near + 1 : near - 1);
        }
        copy_row(work_.planes[0], rows - 1, -1);
        copy_row(blueness, BLOCK - 1, -1), copy_row(redness, BLOCK - 1, -1);
    }

  private:
    static void copy_row(const Plane& plane, int from, int to) { std::memcpy(plane.row(to), plane.row(from), plane.stride); }

    // Row y of the image: rows of the planes; `far` counts where colours have half the rows.
    void write_row(int y, int row, int near, int far) const {
        const int width = frame_.width;
        const uint8_t* brightness = work_.planes[0].row(row);
        uint8_t* to = rgb_ + static_cast<size_t>(y) * stride_;
        if (frame_.num_components == 1) return gray_row(brightness, width, to);
        const uint8_t* colours[2];
        for (int i = 0; i < 2; ++i) {
            const Plane& plane = work_.planes[i + 1];
            colours[i] = plane.row(near);
            if (!frame_.half_columns) continue;
            const uint8_t* between = frame_.half_rows ? plane.row(far) : nullptr;
            smooth_row(colours[i], between, (width + 1) / 2, work_.sums + SHORTS, work_.smoothed[i]);
            colours[i] = work_.smoothed[i];
        }
        convert_row(brightness, colours[0], colours[1], width, to);
    }

    const Frame& frame_;
    const Work& work_;
    uint8_t* rgb_;
    size_t stride_;
};

}  // namespace

size_t scratch_bytes(const Frame& frame) {
    Arena counted(nullptr);
    take_work(counted, frame);
    return counted.used();
}

bool decode_scan(const Frame& frame, Scan& scan, char* scratch, uint8_t* rgb, size_t stride) {
    Arena arena(scratch);
    const Work work = take_work(arena, frame);
    for (int i = 0; i < frame.num_components; ++i) spread(frame.components[i].quantization, work.planes[i].quantization);

    Reader reader(frame, scan);
    const Writer writer(frame, work, rgb, stride);
    for (int mcu = 0; mcu < frame.mcus_down; ++mcu) {
        if (!reader.read_row(work)) return false;
        for (int i = 0; i < frame.num_components; ++i) {
            if (!transform_plane(work.planes[i])) return false;
        }
        writer.write(mcu);
    }
    return reader.finished();
}

}  // namespace HJEPA_ISA
}  // namespace hjepa
