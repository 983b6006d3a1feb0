// The parts of the jitter on 64 pixels at once, as bytes and 16-bit integers, with tables of 256 bytes (VBMI).
//
// Quotients are products with a reciprocal that is rounded upwards. Numerator and denominator are first doubled until the
// denominator has its eighth bit, which makes them exact: tests/kernels/test_fused_crops.py tries every colour.
#pragma once

#include "colour_floats.h"

namespace hjepa {
namespace HJEPA_ISA {

namespace {

constexpr int BYTES = 64;

using Vector = __m512i;
inline Vector all_bytes(int byte) { return _mm512_set1_epi8(static_cast<char>(byte)); }
inline Vector all_words(int word) { return _mm512_set1_epi16(static_cast<int16_t>(word)); }
inline Vector choose(__mmask64 mask, Vector yes, Vector no) { return _mm512_mask_blend_epi8(mask, no, yes); }
inline Vector difference(Vector a, Vector b) { return _mm512_or_si512(_mm512_subs_epu8(a, b), _mm512_subs_epu8(b, a)); }

// 64 numbers of 16 bits, in the order that bytes are unpacked and packed in.
struct Words {
    Vector low, high;
};
inline Words words(Vector lower_bytes, Vector upper_bytes) {
    return {_mm512_unpacklo_epi8(lower_bytes, upper_bytes), _mm512_unpackhi_epi8(lower_bytes, upper_bytes)};
}
inline Words words(Vector bytes) { return words(bytes, Vector{}); }
inline Vector bytes(Words numbers) { return _mm512_packus_epi16(numbers.low, numbers.high); }
inline Words operator*(Words a, Words b) { return {_mm512_mullo_epi16(a.low, b.low), _mm512_mullo_epi16(a.high, b.high)}; }
inline Words operator+(Words a, Words b) { return {_mm512_add_epi16(a.low, b.low), _mm512_add_epi16(a.high, b.high)}; }
inline Words operator-(Words a, Words b) { return {_mm512_sub_epi16(a.low, b.low), _mm512_sub_epi16(a.high, b.high)}; }
inline Words both(int word) { return {all_words(word), all_words(word)}; }
inline Words upper_product(Words a, Words b) {  // a b / 2^16
    return {_mm512_mulhi_epu16(a.low, b.low), _mm512_mulhi_epu16(a.high, b.high)};
}

// Of every level or quotient, a byte.
struct Table {
    alignas(64) uint8_t bytes[256];
};
inline Vector look_up(const uint8_t* table, Vector index) {
    const Vector* quarters = reinterpret_cast<const Vector*>(table);
    const Vector dark = _mm512_permutex2var_epi8(quarters[0], index, quarters[1]);
    const Vector bright = _mm512_permutex2var_epi8(quarters[2], index, quarters[3]);
    return choose(_mm512_movepi8_mask(index), bright, dark);
}

// Which of the 64 bytes from `place` on are below `count`.
inline __mmask64 inside(int64_t place, int64_t count) {
    return _bzhi_u64(~0ull, static_cast<uint32_t>(least<int64_t>(count - place, BYTES)));
}

void look_up(const uint8_t (&table)[256], uint8_t* levels, int64_t count) {
    for (int64_t i = 0; i < count; i += BYTES) {
        const __mmask64 those = inside(i, count);
        _mm512_mask_storeu_epi8(levels + i, those, look_up(table, _mm512_maskz_loadu_epi8(those, levels + i)));
    }
}

struct Colours {
    Vector red, green, blue;
};
inline Colours load(const uint8_t* red, const uint8_t* green, const uint8_t* blue, __mmask64 those) {
    return {
        _mm512_maskz_loadu_epi8(those, red),
        _mm512_maskz_loadu_epi8(those, green),
        _mm512_maskz_loadu_epi8(those, blue),
    };
}
inline void store(const Colours& colours, uint8_t* red, uint8_t* green, uint8_t* blue, __mmask64 those) {
    _mm512_mask_storeu_epi8(red, those, colours.red);
    _mm512_mask_storeu_epi8(green, those, colours.green);
    _mm512_mask_storeu_epi8(blue, those, colours.blue);
}

// (19595 R + 38470 G + 7471 B + 2^15) / 2^16 of pixels R, B, G, G in four bytes each; weights are split into two bytes.
inline Vector gray_of_quads(Vector quads) {
    const Vector upper = _mm512_set1_epi32(static_cast<int32_t>(0x4b4b1d4du));  // times 256: 77, 29, 75, 75
    const Vector lower = _mm512_set1_epi32(static_cast<int32_t>(0x23232f8bu));  // -117, 47, 35, 35
    const Vector sum = _mm512_dpbusd_epi32(_mm512_set1_epi32(1 << 15), quads, lower);
    const Vector most_of_it = _mm512_slli_epi32(_mm512_dpbusd_epi32(Vector{}, quads, upper), 8);
    return _mm512_srli_epi32(_mm512_add_epi32(sum, most_of_it), 16);
}

inline Vector gray_of(const Colours& colours) {
    const Words red_blue = words(colours.red, colours.blue), green = words(colours.green, colours.green);
    const Vector first = gray_of_quads(_mm512_unpacklo_epi16(red_blue.low, green.low));
    const Vector second = gray_of_quads(_mm512_unpackhi_epi16(red_blue.low, green.low));
    const Vector third = gray_of_quads(_mm512_unpacklo_epi16(red_blue.high, green.high));
    const Vector fourth = gray_of_quads(_mm512_unpackhi_epi16(red_blue.high, green.high));
    return bytes({_mm512_packus_epi32(first, second), _mm512_packus_epi32(third, fourth)});
}

// factor * 0, 1, ..., 255, cut off, at most 255. Not exact where a gray level added to one of them may round to a whole number.
void fill_shares(Steps::Step& step) {
    constexpr float MARGIN = 1.0f / (1 << 16);
    step.exact = true;
    for (int distance = 0; distance < 256; ++distance) {
        const float share = least(step.factor * static_cast<float>(distance), 1024.0f);
        const int whole_share = static_cast<int>(share);
        const float rest = share - static_cast<float>(whole_share);
        step.exact &= distance == 0 || share >= 256 || (rest > MARGIN && rest < 1 - MARGIN);
        step.levels[distance] = static_cast<uint8_t>(least(whole_share, 255));
    }
}

// gray + factor (level - gray), cut off.
inline Vector blend(const uint8_t* shares, Vector gray, Vector level) {
    const Vector share = look_up(shares, difference(level, gray));
    const Vector above = _mm512_adds_epu8(gray, share);
    const Vector below = _mm512_subs_epu8(_mm512_subs_epu8(gray, share), all_bytes(1));
    return choose(_mm512_cmplt_epu8_mask(level, gray), below, above);
}

void saturate(uint8_t* red, uint8_t* green, uint8_t* blue, int64_t padded, const Steps::Step& step) {
    for (int64_t i = 0; i < padded; i += BYTES) {
        const __mmask64 those = inside(i, padded);
        const Colours from = load(red + i, green + i, blue + i, those);
        const Vector gray = gray_of(from);
        const Colours to{
            blend(step.levels, gray, from.red),
            blend(step.levels, gray, from.green),
            blend(step.levels, gray, from.blue),
        };
        store(to, red + i, green + i, blue + i, those);
    }
}

void turn_gray(uint8_t* red, uint8_t* green, uint8_t* blue, int64_t padded) {
    for (int64_t i = 0; i < padded; i += BYTES) {
        const __mmask64 those = inside(i, padded);
        const Vector gray = gray_of(load(red + i, green + i, blue + i, those));
        store({gray, gray, gray}, red + i, green + i, blue + i, those);
    }
}

// Of every denominator: the power of two that makes it 128 to 255, and the two bytes of a reciprocal.
struct Reciprocals {
    Table power, lower, upper;
};

constexpr int power_for(int number) {
    int power = 1;
    while (number > 0 && number * power < 128) power *= 2;
    return power;
}

enum class Quotient { hue, saturation };
constexpr Reciprocals reciprocals_of(Quotient of) {
    Reciprocals found{};
    for (int number = 0; number < 256; ++number) {
        const int power = power_for(number), denominator = number == 0 ? 128 : number * power;
        // 85/2 of a sixth of a turn, times 2^17; and 255, less the 1 that is added as a whole, times 2^16
        const int numerator = of == Quotient::hue ? 85 << 16 : (255 - denominator) << 16;
        const int reciprocal = (numerator + denominator - 1) / denominator;
        found.power.bytes[number] = static_cast<uint8_t>(power);
        found.lower.bytes[number] = static_cast<uint8_t>(reciprocal & 255);
        found.upper.bytes[number] = static_cast<uint8_t>(reciprocal >> 8);
    }
    return found;
}

constexpr Reciprocals HUE = reciprocals_of(Quotient::hue), SATURATION = reciprocals_of(Quotient::saturation);

// Of every hue: its sector 0 to 6 as a bit, and how far the middle colour is from the greatest one, in 85ths.
struct Sectors {
    Table bit, part;
};
constexpr Sectors sectors() {
    Sectors found{};
    for (int hue = 0; hue < 256; ++hue) {
        const int sector = 2 * hue / 85, rest = 2 * hue - 85 * sector;
        found.bit.bytes[hue] = static_cast<uint8_t>(1 << sector);
        found.part.bytes[hue] = static_cast<uint8_t>(sector % 2 ? rest : 85 - rest);
    }
    return found;
}
constexpr Sectors SECTORS = sectors();

// PIL's hue, 0 to 255, turned by `shift`.
inline Vector hue_of(const Colours& colours, Vector value, Vector chroma, int shift) {
    const auto [red, green, blue] = colours;
    const __mmask64 is_red = _mm512_cmpeq_epi8_mask(red, value), is_green = _mm512_cmpeq_epi8_mask(green, value);
    const Vector more = choose(is_red, green, choose(is_green, blue, red));
    const Vector less = choose(is_red, blue, choose(is_green, red, green));
    const __mmask64 negative = _mm512_cmplt_epu8_mask(more, less);
    const Words aside = words(difference(more, less)) * words(look_up(HUE.power.bytes, chroma));
    const Words reciprocal = words(look_up(HUE.lower.bytes, chroma), look_up(HUE.upper.bytes, chroma));
    // A negative angle's whole part is its complement's, -1 - x, where x is what is below the positive one.
    const Vector ones = _mm512_movm_epi8(negative);
    const Words product = upper_product(aside, reciprocal + words(ones, ones));
    const Vector angle = bytes({_mm512_srli_epi16(product.low, 1), _mm512_srli_epi16(product.high, 1)});
    const Vector green_or_blue = choose(is_green, all_bytes(85 + shift), all_bytes(170 + shift));
    const Vector from_red = choose(negative, all_bytes(255 + shift), all_bytes(shift));
    return _mm512_add_epi8(_mm512_xor_si512(angle, ones), choose(is_red, from_red, green_or_blue));
}

inline Words saturation_of(Vector value, Vector chroma) {
    const Words share = words(chroma) * words(look_up(SATURATION.power.bytes, value));
    const Words reciprocal = words(look_up(SATURATION.lower.bytes, value), look_up(SATURATION.upper.bytes, value));
    return share + upper_product(share, reciprocal);
}

inline Words divided_by_255(Words numbers) { return upper_product(numbers + both(128), both(257)); }  // to the nearest

// product / 255 * part / 85 to the nearest: a first answer is right or too low by 1, which the remainder's 16 bits tell.
inline Words middle_share(Words product, Words part) {
    const Words first = divided_by_255(upper_product(product, part * both(771)));
    const Words rest = product * part - first * both(255 * 85);
    const Vector half = all_words(255 * 85 / 2), one = all_words(1);
    return {
        _mm512_mask_add_epi16(first.low, _mm512_cmpgt_epi16_mask(rest.low, half), first.low, one),
        _mm512_mask_add_epi16(first.high, _mm512_cmpgt_epi16_mask(rest.high, half), first.high, one),
    };
}

inline __mmask64 any_bit(Vector bits, int of) { return _mm512_test_epi8_mask(bits, all_bytes(of)); }

inline Colours turned(const Colours& colours, int shift) {
    const Vector value = _mm512_max_epu8(colours.red, _mm512_max_epu8(colours.green, colours.blue));
    const Vector chroma = _mm512_sub_epi8(value, _mm512_min_epu8(colours.red, _mm512_min_epu8(colours.green, colours.blue)));
    const Vector hue = hue_of(colours, value, chroma, shift);
    const Words product = words(value) * saturation_of(value, chroma);
    const Vector low = _mm512_sub_epi8(value, bytes(divided_by_255(product)));
    const Vector middle = _mm512_sub_epi8(value, bytes(middle_share(product, words(look_up(SECTORS.part.bytes, hue)))));
    const Vector bit = look_up(SECTORS.bit.bytes, hue);
    return {
        choose(any_bit(bit, 97), value, choose(any_bit(bit, 18), middle, low)),
        choose(any_bit(bit, 6), value, choose(any_bit(bit, 73), middle, low)),
        choose(any_bit(bit, 24), value, choose(any_bit(bit, 36), middle, low)),
    };
}

void turn_hue(uint8_t* red, uint8_t* green, uint8_t* blue, int64_t padded, int shift) {
    for (int64_t i = 0; i < padded; i += BYTES) {
        const __mmask64 those = inside(i, padded);
        store(turned(load(red + i, green + i, blue + i, those), shift), red + i, green + i, blue + i, those);
    }
}

bool is_table(Part part) { return part == Part::brightness || part == Part::contrast; }

// Neighbouring parts that look at nothing but a level are one table.
void append(Steps& steps, const Steps::Step& step) {
    const bool extends = steps.count > 0 && is_table(step.part) && is_table(steps.steps[steps.count - 1].part);
    if (!extends) steps.steps[steps.count++] = step;
    Steps::Step& last = steps.steps[steps.count - 1];
    if (last.part == Part::saturation) fill_shares(last);
    if (!is_table(last.part)) return;
    for (int level = 0; level < 256 && !extends; ++level) last.levels[level] = static_cast<uint8_t>(level);
    for (uint8_t& level : last.levels) {
        const float blended = step.from + step.factor * (static_cast<float>(level) - step.from);
        level = static_cast<uint8_t>(static_cast<int32_t>(least(most(blended, 0.0f), HIGHEST)));
    }
}

}  // namespace

void apply_steps(const Steps& steps, uint8_t* row, int64_t padded) {
    uint8_t *red = row, *green = row + padded, *blue = row + 2 * padded;
    for (int number = 0; number < steps.count; ++number) {
        const Steps::Step& step = steps.steps[number];
        switch (step.part) {
            case Part::brightness:
            case Part::contrast: look_up(step.levels, row, 3 * padded); break;
            case Part::saturation:
                step.exact ? saturate(red, green, blue, padded, step) : apply_in_floats(&step, 1, row, padded);
                break;
            case Part::hue: turn_hue(red, green, blue, padded, static_cast<int>(step.factor)); break;
            case Part::gray: turn_gray(red, green, blue, padded); break;
        }
    }
}

int64_t sum_gray(const uint8_t* row, int64_t padded, int64_t count) {
    const uint8_t *red = row, *green = row + padded, *blue = row + 2 * padded;
    Vector sums{};  // of 64 bits
    for (int64_t i = 0; i < count; i += BYTES) {
        const Vector gray = gray_of(load(red + i, green + i, blue + i, inside(i, count)));
        sums = _mm512_add_epi64(sums, _mm512_sad_epu8(gray, Vector{}));
    }
    return _mm512_reduce_add_epi64(sums);
}

}  // namespace HJEPA_ISA
}  // namespace hjepa
