#include "decode.h"

#include "../processor.h"

namespace hjepa {

constexpr size_t ALIGNMENT = 64;
constexpr size_t MOST_KEPT = size_t{8} << 20;  // bytes of a memory; few images but large progressive ones need more

#define HJEPA_DECLARE(isa)                                          \
    namespace isa {                                                 \
    size_t scratch_bytes(const Frame&);                             \
    bool decode_scans(Frame&, Tables&, Scan&, char*, uint8_t*, size_t); \
    }

HJEPA_DECLARE(plain)
#ifdef HJEPA_X86
HJEPA_DECLARE(avx2)
HJEPA_DECLARE(avx512)
#endif

const std::vector<JpegBuild>& jpeg_builds() {
    static const std::vector<JpegBuild> found = [] {
        std::vector<JpegBuild> usable;
#ifdef HJEPA_X86
        if (runs(Isa::avx512)) usable.push_back({"avx512", avx512::scratch_bytes, avx512::decode_scans});
        if (runs(Isa::avx2)) usable.push_back({"avx2", avx2::scratch_bytes, avx2::decode_scans});
#endif
        usable.push_back({"plain", plain::scratch_bytes, plain::decode_scans});
        return usable;
    }();
    return found;
}

bool decode_jpeg(const JpegBuild& build, JpegMemory& memory, const uint8_t* file, size_t size, int height, int width,
                 int reduction, Turn turn, uint8_t* rgb, size_t stride) {
    Frame frame;
    if (!read_frame(file, size, memory.tables, frame)) return false;
    if (frame.height != height || frame.width != width || !reduce(frame, reduction)) return false;
    frame.turn = turn;
    const size_t scan_bytes = static_cast<size_t>(frame.end - frame.scan) + SCAN_SLACK;
    if (memory.scan.size() < scan_bytes) memory.scan.resize(scan_bytes);
    const size_t scratch_bytes = build.scratch_bytes(frame) + ALIGNMENT;
    if (memory.scratch_bytes < scratch_bytes) {
        memory.scratch.reset(), memory.scratch_bytes = 0;  // first, to make room; there may be none
        memory.scratch.reset(new char[scratch_bytes]), memory.scratch_bytes = scratch_bytes;
    }
    const size_t beyond = reinterpret_cast<uintptr_t>(memory.scratch.get()) % ALIGNMENT;
    char* scratch = memory.scratch.get() + (ALIGNMENT - beyond);
    Scan scan{frame.scan, frame.end, memory.scan.data(), 0, 0};
    const bool decoded = build.decode_scans(frame, memory.tables, scan, scratch, rgb, stride);
    if (memory.scan.size() > MOST_KEPT) std::vector<uint8_t>().swap(memory.scan);
    if (memory.scratch_bytes > MOST_KEPT) memory.scratch.reset(), memory.scratch_bytes = 0;
    return decoded;
}

}  // namespace hjepa
