// Chooses among the copies of isa/ at run time, by what the processor says of itself.

#include "builds.h"

#include <stdexcept>

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
        __builtin_cpu_init();
        const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
        if (has_avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
            __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
            __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512vbmi")) {
            usable.push_back({"avx512", avx512::scratch_bytes, avx512::render_crop});
        }
        if (has_avx2) usable.push_back({"avx2", avx2::scratch_bytes, avx2::render_crop});
#endif
        usable.push_back({"plain", plain::scratch_bytes, plain::render_crop});
        return usable;
    }();
    return found;
}

const Build& build_named(const std::string& name) {
    for (const Build& build : builds()) {
        if (name.empty() || name == build.name) return build;
    }
    throw std::invalid_argument("this processor has no build named " + name);
}

}  // namespace hjepa
