// A row of MCUs at a time: coefficients, then levels of brightness and colours, then pixels; what is worked on fits into a cache.
// But of a progressive image all coefficients come first.

#include "colour.h"
#include "idct.h"
#include "intervals.h"
#include "planes.h"
#include "progressive.h"
#include "reduced_idct.h"

namespace hjepa {
namespace HJEPA_ISA {

namespace {

bool read_blocks(const Component& component, const Plane& plane, int mcu, Bits& bits, uint32_t& previous) {
    for (int down = 0; down < component.down; ++down) {
        for (int across = mcu * component.across; across < (mcu + 1) * component.across; ++across) {
            if (!decode_block(bits, *component.dc, *component.ac, previous, plane.block(down, across))) return false;
        }
    }
    return true;
}

// The coefficients of a row of MCUs.
bool read_row(const Frame& frame, const Work& work, Intervals& scan) {
    for (int i = 0; i < frame.num_components; ++i) {
        const Plane& plane = work.planes[i];
        std::memset(plane.coefficients, 0, plane.num_coefficients() * sizeof(int16_t));
    }
    for (int mcu = 0; mcu < frame.mcus_across; ++mcu) {
        if (!scan.next()) return false;
        for (int i = 0; i < frame.num_components; ++i) {
            if (!read_blocks(frame.components[i], work.planes[i], mcu, scan.bits, scan.previous[i])) return false;
        }
    }
    return true;
}

// False for coefficients that no image has.
template <int SIDE> bool transform_blocks(const Plane& plane, const int16_t* coefficients) {
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

bool transform_plane(const Plane& plane, const int16_t* coefficients) {
    switch (plane.side) {
        case 2: return transform_blocks<2>(plane, coefficients);
        case 4: return transform_blocks<4>(plane, coefficients);
        default: return transform_blocks<BLOCK>(plane, coefficients);
    }
}

// A row of colours at twice their resolution; `far` weighs a quarter, or is null for rows that are not between two.
void smooth_row(const uint8_t* near, const uint8_t* far, int count, int16_t* sums, uint8_t* to) {
    for (int x = 0; x < count; x += SHORTS) store(sums + x, far ? widen(near + x) * 3 + widen(far + x) : widen(near + x));
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
            for (int y = start; y < end; ++y) write_row(y - start, y - start, -1, target(y, start));
            return turn(start, end);
        }
        // A row of brightness lies between two rows of colours: nearer to one, which counts three times.
        const Plane &blueness = work_.planes[1], &redness = work_.planes[2];
        const bool last = mcu == frame_.mcus_down - 1;
        if (mcu == 0) copy_row(blueness, 0, -1), copy_row(redness, 0, -1);
        if (last) {
            const int colours = (end - start + 1) / 2;
            copy_row(blueness, colours - 1, colours), copy_row(redness, colours - 1, colours);
        }
        const int first = most(start - 1, 0), known = last ? end : end - 1;
        for (int y = first; y < known; ++y) {
            const int row = y - start, near = (row + 2) / 2 - 1;
            write_row(row, near, row & 1 ? near + 1 : near - 1, target(y, first));
        }
        turn(first, known);
        copy_row(work_.planes[0], rows - 1, -1);
        copy_row(blueness, BLOCK - 1, -1), copy_row(redness, BLOCK - 1, -1);
    }

  private:
    static void copy_row(const Plane& plane, int from, int to) { std::memcpy(plane.row(to), plane.row(from), plane.stride); }

    // Where row y of the image is written, of those from `first` on.
    uint8_t* target(int y, int first) const {
        if (work_.band) return work_.band + static_cast<size_t>(y - first) * work_.band_stride;
        return rgb_ + static_cast<size_t>(y) * stride_;
    }

    void turn(int first, int end) const {
        if (!work_.band) return;
        const Rows rows{work_.band, work_.band_stride, first, end - first};
        turn_rows(rows, frame_.turn, frame_.height, frame_.width, rgb_, stride_);
    }

    // From rows of the planes; `far` counts where colours have half the rows.
    void write_row(int row, int near, int far, uint8_t* to) const {
        const int width = frame_.width;
        const uint8_t* brightness = work_.planes[0].row(row);
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

bool decode_scans(Frame& frame, Tables& tables, Scan& scan, char* scratch, uint8_t* rgb, size_t stride) {
    Arena arena(scratch);
    const Work work = take_work(arena, frame);
    for (int i = 0; i < frame.num_components; ++i) spread(frame.components[i].quantization, work.planes[i].quantization);
    if (frame.progressive && !read_scans(frame, tables, scan, work)) return false;

    Intervals intervals(scan, int64_t{frame.mcus_across} * frame.mcus_down, frame.restart_interval);
    const Writer writer(frame, work, rgb, stride);
    for (int mcu = 0; mcu < frame.mcus_down; ++mcu) {
        if (!frame.progressive && !read_row(frame, work, intervals)) return false;
        for (int i = 0; i < frame.num_components; ++i) {
            const Plane& plane = work.planes[i];
            const size_t before = frame.progressive ? static_cast<size_t>(mcu) * plane.num_coefficients() : 0;
            if (!transform_plane(plane, plane.coefficients + before)) return false;
        }
        writer.write(mcu);
    }
    return frame.progressive || (intervals.finished() && scan.marker == END_OF_IMAGE);
}

}  // namespace HJEPA_ISA
}  // namespace hjepa
