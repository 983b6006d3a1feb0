// Chooses among the copies of isa/ at run time.

#include "builds.h"

#include "processor.h"

namespace hjepa {

#define HJEPA_DECLARE(isa)                        \
    namespace isa {                               \
    size_t scratch_bytes(const Crop&);            \
    void render_crop(const Crop&, char* scratch); \
    }

HJEPA_DECLARE(plain)
#ifdef HJEPA_X86
HJEPA_DECLARE(avx2)
HJEPA_DECLARE(avx512)
#endif

const std::vector<Build>& builds() {
    static const std::vector<Build> found = [] {
        std::vector<Build> usable;
#ifdef HJEPA_X86
        if (runs(Isa::avx512)) usable.push_back({"avx512", avx512::scratch_bytes, avx512::render_crop});
        if (runs(Isa::avx2)) usable.push_back({"avx2", avx2::scratch_bytes, avx2::render_crop});
#endif
        usable.push_back({"plain", plain::scratch_bytes, plain::render_crop});
        return usable;
    }();
    return found;
}

const Build& build_named(const std::string& name) { return named(builds(), name); }

}  // namespace hjepa
