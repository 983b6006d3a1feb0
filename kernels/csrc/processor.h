// Which of the builds of isa/ this processor runs.
#pragma once

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

}  // namespace hjepa
