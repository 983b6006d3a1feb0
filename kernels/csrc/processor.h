// Which of the builds of isa/ this processor runs.
#pragma once

#include <stdexcept>
#include <string>
#include <vector>

namespace hjepa {

enum class Isa { plain, avx2, avx512 };

inline bool runs(Isa isa) {
#ifdef HJEPA_X86
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
    const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                        __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512vbmi");
    return isa == Isa::plain || (avx2 && (isa == Isa::avx2 || avx512));
#else
    return isa == Isa::plain;
#endif
}

// The build of that name, or the fastest one, which is the first, for an empty name. Throws std::invalid_argument for one that
// does not run here.
template <typename Build> const Build& named(const std::vector<Build>& builds, const std::string& name) {
    for (const Build& build : builds) {
        if (name.empty() || name == build.name) return build;
    }
    throw std::invalid_argument("this processor has no build named " + name);
}

}  // namespace hjepa
