// Arithmetic of registers that the compiler does not find by itself in a loop with many choices: comparisons that stay masks.
#pragma once

#include "simd.h"

namespace hjepa {
namespace HJEPA_ISA {

#if defined(__AVX512F__)
using Mask = __mmask16;
inline Mask equal(Register a, Register b) { return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_EQ_OQ); }
inline Mask below(Register a, Register b) { return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_LT_OQ); }
inline Mask any_bit(IntRegister bits, int32_t of) { return _mm512_test_epi32_mask((__m512i)bits, _mm512_set1_epi32(of)); }
inline Register choose(Mask mask, Register yes, Register no) {
    return (Register)_mm512_mask_blend_ps(mask, (__m512)no, (__m512)yes);
}
inline Register whole(Register number) {
    return (Register)_mm512_roundscale_ps((__m512)number, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC);
}
inline Register multiply_add(Register a, Register b, Register c) {
    return (Register)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
}
inline Register most(Register a, Register b) { return (Register)_mm512_max_ps((__m512)a, (__m512)b); }
inline Register least(Register a, Register b) { return (Register)_mm512_min_ps((__m512)a, (__m512)b); }
#else
using Mask = IntRegister;
inline Mask equal(Register a, Register b) { return a == b; }
inline Mask below(Register a, Register b) { return a < b; }
inline Mask any_bit(IntRegister bits, int32_t of) { return (bits & of) != 0; }
inline Register choose(Mask mask, Register yes, Register no) { return mask ? yes : no; }
#if defined(__AVX2__)
inline Register whole(Register number) {
    return (Register)_mm256_round_ps((__m256)number, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC);
}
inline Register multiply_add(Register a, Register b, Register c) {
    return (Register)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
}
#else
inline Register whole(Register number) {
    return __builtin_convertvector(__builtin_convertvector(number, IntRegister), Register);
}
inline Register multiply_add(Register a, Register b, Register c) { return a * b + c; }
#endif
inline Register most(Register a, Register b) { return a < b ? b : a; }
inline Register least(Register a, Register b) { return b < a ? b : a; }
#endif

// 2^exponent, of whole numbers from 0 to 30.
inline IntRegister power_of_two(Register exponent) {
    const IntRegister whole_exponent = __builtin_convertvector(exponent, IntRegister);
#if defined(__AVX2__)
    return (IntRegister{} + 1) << whole_exponent;
#else
    return __builtin_convertvector((Register)((whole_exponent + 127) << 23), IntRegister);
#endif
}

inline Register load_register(const float* from) { return *reinterpret_cast<const LooseRegister*>(from); }
inline void store_register(float* to, Register numbers) { *reinterpret_cast<LooseRegister*>(to) = numbers; }

}  // namespace HJEPA_ISA
}  // namespace hjepa
