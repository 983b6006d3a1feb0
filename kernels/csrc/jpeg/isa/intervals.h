// A scan from restart interval to restart interval.
#pragma once

#include "../../isa/arena.h"
#include "../scan.h"
#include "entropy.h"

namespace hjepa {
namespace HJEPA_ISA {

class Intervals {
  public:
    // Of `units` MCUs; `length` of them are in an interval, or all of them where it is 0.
    Intervals(Scan& scan, int64_t units, int length) : scan_(scan), units_(units), length_(length ? length : units) {}

    Bits bits{0, 0, nullptr};
    // What goes on from block to block, and begins anew with an interval:
    uint32_t previous[MAX_COMPONENTS] = {};  // DC coefficients
    uint32_t ended = 0;  // blocks to come that have nothing more of a progressive image's scan, but for corrections

    // Goes on to the next MCU. False for an error in the scan.
    bool next() {
        if (left_ == 0 && !next_interval()) return false;
        --left_;
        return bits.next <= scan_.memory + scan_.size + sizeof(uint64_t);  // so that the zeros behind it are enough for an MCU
    }

    // Whether the last interval was used up.
    bool finished() const { return left_ == 0 && done_ == units_ && used_up(); }

  private:
    static constexpr int FIRST_RESTART = 0xD0;

    bool next_interval() {
        if (number_ > 0 && (!used_up() || scan_.marker != FIRST_RESTART + (number_ - 1) % 8)) return false;
        if (!read_interval(scan_)) return false;
        left_ = least<int64_t>(length_, units_ - done_);
        done_ += left_;
        ++number_;
        bits = {0, 0, scan_.memory};
        for (uint32_t& dc : previous) dc = 0;
        return true;
    }

    // Whether less than a byte of the interval is left, and nothing beyond it was taken.
    bool used_up() const {
        const int64_t left = 8 * (static_cast<int64_t>(scan_.size) - (bits.next - scan_.memory)) + static_cast<int64_t>(bits.count);
        return left >= 0 && left < 8 && ended == 0;
    }

    Scan& scan_;
    int64_t units_, length_;
    int64_t left_ = 0, done_ = 0;  // MCUs of this interval, and of the intervals so far
    int number_ = 0;
};

}  // namespace HJEPA_ISA
}  // namespace hjepa
