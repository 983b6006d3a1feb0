// Halves are rounded to nearest, ties to even, in integers: the same bits as torch's, with or without instructions for it.

#include "store.h"

namespace hjepa {
namespace HJEPA_ISA {

namespace {

inline uint32_t bits_of(float value) {
    uint32_t bits;
    __builtin_memcpy(&bits, &value, sizeof bits);
    return bits;
}

inline float float_of(uint32_t bits) {
    float value;
    __builtin_memcpy(&value, &bits, sizeof value);
    return value;
}

struct ToFloat32 {
    using Stored = float;
    static float convert(float value) { return value; }
};

struct ToBfloat16 {
    using Stored = uint16_t;
    static uint16_t convert(float value) {
        const uint32_t bits = bits_of(value);
        return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
    }
};

struct ToFloat16 {
    using Stored = uint16_t;
    static uint16_t convert(float value) {
        const uint32_t bits = bits_of(value), sign = bits & 0x80000000u, magnitude = bits ^ sign;
        // Exponents are biased by 127 and by 15; what overflows becomes infinite.
        const uint32_t normal = (magnitude - (112u << 23) + 0xfff + ((magnitude >> 13) & 1)) >> 13;
        // Below 2^-14 the float unit does the rounding: the last bit of 1/2 is worth 2^-24, as is a half's.
        const uint32_t tiny = bits_of(float_of(magnitude) + 0.5f) - bits_of(0.5f);
        const uint32_t finite = magnitude < (113u << 23) ? tiny : normal;
        const uint32_t half = magnitude >= 0x477ff000u ? 0x7c00u : finite;
        return static_cast<uint16_t>(half | (sign >> 16));
    }
};

template <typename To>
void store_plane(const Crop& crop, const uint8_t* __restrict levels, int colour, int64_t start) {
    using Stored = typename To::Stored;
    Stored* __restrict to = static_cast<Stored*>(crop.out) + start;
    const float scale = crop.scale[colour], bias = crop.bias[colour];
    for (int x = 0; x < crop.size; ++x) to[x] = To::convert(static_cast<float>(levels[x]) * scale + bias);
}

#if defined(__AVX512F__)
inline void stream(float* to, Register values) { _mm512_stream_ps(to, (__m512)values); }
#elif defined(__AVX2__)
inline void stream(float* to, Register values) { _mm256_stream_ps(to, (__m256)values); }
#elif defined(__SSE2__)
inline void stream(float* to, Register values) { _mm_stream_ps(to, (__m128)values); }
#else
inline void stream(float* to, Register values) { *reinterpret_cast<LooseRegister*>(to) = values; }
#endif

// Floats of a batch are more than a cache holds, and read much later: whole lines are written around it.
void stream_plane(const Crop& crop, const uint8_t* levels, int colour, int64_t start) {
    float* to = static_cast<float*>(crop.out) + start;
    const float scale = crop.scale[colour], bias = crop.bias[colour];
    for (int x = 0; x < crop.size; x += LANES) {
        const Floats values = widen(levels + x);
        for (int part = 0; part < REGISTERS; ++part) stream(to + x + part * WIDTH, values.parts[part] * scale + bias);
    }
}

void invert(uint8_t* levels, int64_t count, int threshold) {
    for (int64_t i = 0; i < count; ++i) levels[i] = levels[i] >= threshold ? static_cast<uint8_t>(255 - levels[i]) : levels[i];
}

}  // namespace

void store_row(const Crop& crop, int y, uint8_t* levels, int64_t padded) {
    if (crop.solarize_threshold < 256) invert(levels, 3 * padded, crop.solarize_threshold);
    const bool whole_lines = (reinterpret_cast<uintptr_t>(crop.out) | crop.size * sizeof(float)) % ALIGNMENT == 0;
    for (int colour = 0; colour < 3; ++colour) {
        const int64_t start = (static_cast<int64_t>(colour) * crop.size + y) * crop.size;
        const uint8_t* plane = levels + colour * padded;
        switch (crop.store) {
            case Store::float32:
                whole_lines ? stream_plane(crop, plane, colour, start) : store_plane<ToFloat32>(crop, plane, colour, start);
                break;
            case Store::float16: store_plane<ToFloat16>(crop, plane, colour, start); break;
            case Store::bfloat16: store_plane<ToBfloat16>(crop, plane, colour, start); break;
        }
    }
}

void finish_stores() {
#if defined(__SSE2__)
    _mm_sfence();
#endif
}

}  // namespace HJEPA_ISA
}  // namespace hjepa
