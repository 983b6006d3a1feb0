// The parts of the jitter on 32 pixels at once, as bytes and 16-bit integers, with AVX2.
//
// Without tables of bytes a blend is a product of 16 bits. It is tried on every level beforehand, and the few that it misses
// are put right. The hue's two quotients are floats. tests/kernels/test_fused_crops.py tries every colour.
#pragma once

#include "colour_floats.h"

namespace hjepa {
namespace HJEPA_ISA {

namespace {

constexpr int BYTES = 32;

using Vector = __m256i;
inline Vector all_bytes(int byte) { return _mm256_set1_epi8(static_cast<char>(byte)); }
inline Vector all_words(int word) { return _mm256_set1_epi16(static_cast<int16_t>(word)); }
inline Vector choose(Vector mask, Vector yes, Vector no) { return _mm256_blendv_epi8(no, yes, mask); }
inline Vector at_least(Vector a, Vector b) { return _mm256_cmpeq_epi8(_mm256_max_epu8(a, b), a); }
inline Vector difference(Vector a, Vector b) { return _mm256_or_si256(_mm256_subs_epu8(a, b), _mm256_subs_epu8(b, a)); }

// 32 numbers of 16 bits, in the order that bytes are unpacked and packed in.
struct Words {
    Vector low, high;
};
inline Words words(Vector lower_bytes, Vector upper_bytes) {
    return {_mm256_unpacklo_epi8(lower_bytes, upper_bytes), _mm256_unpackhi_epi8(lower_bytes, upper_bytes)};
}
inline Words words(Vector bytes) { return words(bytes, Vector{}); }
inline Vector bytes(Words numbers) { return _mm256_packus_epi16(numbers.low, numbers.high); }
inline Words operator*(Words a, Words b) { return {_mm256_mullo_epi16(a.low, b.low), _mm256_mullo_epi16(a.high, b.high)}; }
inline Words operator+(Words a, Words b) { return {_mm256_add_epi16(a.low, b.low), _mm256_add_epi16(a.high, b.high)}; }
inline Words operator-(Words a, Words b) { return {_mm256_sub_epi16(a.low, b.low), _mm256_sub_epi16(a.high, b.high)}; }
inline Words operator>(Words a, Words b) { return {_mm256_cmpgt_epi16(a.low, b.low), _mm256_cmpgt_epi16(a.high, b.high)}; }
inline Words both(int word) { return {all_words(word), all_words(word)}; }
inline Words upper_product(Words a, Words b) {  // a b / 2^16
    return {_mm256_mulhi_epu16(a.low, b.low), _mm256_mulhi_epu16(a.high, b.high)};
}
inline Words weighted(Words pairs, int first, int second) {  // two bytes each, with weights of 8 bits
    const Vector weights = all_words((first & 255) | second << 8);
    return {_mm256_maddubs_epi16(pairs.low, weights), _mm256_maddubs_epi16(pairs.high, weights)};
}

// Rows are padded to 16 pixels: the last 16 may be half of a vector.
inline Vector load(const uint8_t* from, int64_t left) {
    if (left >= BYTES) return _mm256_loadu_si256(reinterpret_cast<const Vector*>(from));
    return _mm256_inserti128_si256(Vector{}, _mm_loadu_si128(reinterpret_cast<const __m128i*>(from)), 0);
}
inline void store(uint8_t* to, Vector bytes, int64_t left) {
    if (left >= BYTES) return _mm256_storeu_si256(reinterpret_cast<Vector*>(to), bytes);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm256_castsi256_si128(bytes));
}

struct Colours {
    Vector red, green, blue;
};

// (19595 R + 38470 G + 7471 B + 2^15) / 2^16: weights are split into two bytes, and that of G into two weights besides.
inline Vector gray_of(const Colours& colours) {
    const Words red_green = words(colours.red, colours.green), blue_green = words(colours.blue, colours.green);
    const Words upper = weighted(red_green, 77, 51) + weighted(blue_green, 29, 99);
    const Words lower = weighted(red_green, -117, 35) + weighted(blue_green, 47, 35);
    const Words carried{_mm256_srai_epi16(lower.low, 8), _mm256_srai_epi16(lower.high, 8)};
    const Words sum = upper + carried + both(128);
    return bytes({_mm256_srli_epi16(sum.low, 8), _mm256_srli_epi16(sum.high, 8)});
}

// What is done to every colour of a pixel.
template <typename Change> inline void change(uint8_t* row, int64_t padded, Change changed) {
    uint8_t *red = row, *green = row + padded, *blue = row + 2 * padded;
    for (int64_t i = 0; i < padded; i += BYTES) {
        const int64_t left = padded - i;
        const Colours to = changed(Colours{load(red + i, left), load(green + i, left), load(blue + i, left)});
        store(red + i, to.red, left);
        store(green + i, to.green, left);
        store(blue + i, to.blue, left);
    }
}

// The line that comes nearest to from + factor (level - from), and the levels that it misses. False if none comes near enough.
bool fit(Line& line, float from, float factor) {
    if (!(factor < 16)) return false;
    line.shift = 8;
    while (factor >= static_cast<float>(1 << (8 - line.shift))) --line.shift;
    const float unit = static_cast<float>(1 << line.shift);
    line.factor = least(static_cast<int32_t>(factor * 256 * unit + 0.5f), 65535);
    const float offset = (from - factor * from) * unit;
    line.offset = static_cast<int32_t>(offset < 0 ? offset - 0.5f : offset + 0.5f);
    int32_t missed[256];
    for (int32_t level = 0; level < 256; ++level) {
        const float wanted = cut(from + factor * (static_cast<float>(level) - from));
        const int32_t sum = most((level * line.factor >> 8) + line.offset, 0) >> line.shift;
        missed[level] = static_cast<int32_t>(wanted) - least(sum, 255);
    }
    line.num_missed = 0;
    for (int32_t level = 0; level < 256; ++level) {
        if (missed[level] == 0) continue;
        if (line.num_missed == Line::MOST) return false;
        line.missed[line.num_missed++] = {level, missed[level]};
    }
    return true;
}

// A line as registers hold it.
struct Blend {
    explicit Blend(const Line& line)
        : factor(both(line.factor)),
          plus(all_words(most(line.offset, 0))),
          minus(all_words(most(-line.offset, 0))),
          shift(_mm_cvtsi32_si128(line.shift)),
          begin(line.missed),
          end(line.missed + line.num_missed) {}
    Words factor;
    Vector plus, minus;
    __m128i shift;
    const Line::Missed *begin, *end;
};

template <bool HAS_OFFSET> inline Vector blended(const Blend& blend, Vector level) {
    Words sum = upper_product(words(Vector{}, level), blend.factor);
    if (HAS_OFFSET) {
        sum.low = _mm256_subs_epu16(_mm256_adds_epu16(sum.low, blend.plus), blend.minus);
        sum.high = _mm256_subs_epu16(_mm256_adds_epu16(sum.high, blend.plus), blend.minus);
    }
    Vector found = bytes({_mm256_srl_epi16(sum.low, blend.shift), _mm256_srl_epi16(sum.high, blend.shift)});
    for (const Line::Missed* missed = blend.begin; missed < blend.end; ++missed) {
        const Vector is_missed = _mm256_cmpeq_epi8(level, all_bytes(missed->level));
        found = _mm256_add_epi8(found, _mm256_and_si256(is_missed, all_bytes(missed->by)));
    }
    return found;
}

template <bool HAS_OFFSET> void blend_row(const Line& line, uint8_t* levels, int64_t count) {
    const Blend blend(line);
    for (int64_t i = 0; i < count; i += BYTES) {
        store(levels + i, blended<HAS_OFFSET>(blend, load(levels + i, count - i)), count - i);
    }
}

// Whether a gray level added to a share, factor * 1, 2, ..., 255, never rounds to a whole number.
bool shares_are_exact(float factor) {
    constexpr float MARGIN = 1.0f / (1 << 16);
    bool exact = true;
    for (int distance = 1; distance < 256; ++distance) {
        const float share = least(factor * static_cast<float>(distance), 1024.0f), rest = share - whole_part(share);
        exact &= share >= 256 || (rest > MARGIN && rest < 1 - MARGIN);
    }
    return exact;
}

// gray + factor (level - gray), cut off.
inline Vector away_from(Vector gray, Vector level, const Blend& shares) {
    const Vector share = blended<false>(shares, difference(level, gray));
    const Vector above = _mm256_adds_epu8(gray, share);
    const Vector below = _mm256_subs_epu8(_mm256_subs_epu8(gray, share), all_bytes(1));
    return choose(at_least(level, gray), above, below);
}

// 8 pixels' 85/2 aside / chroma + 64 and 255 chroma / value, cut off; both are exact (turn_hue in colour_floats.h says why).
// aside is times 2^16.
inline void divide(Vector aside, Vector chroma, Vector value, Vector* angle, Vector* saturation) {
    const __m256 a = _mm256_cvtepi32_ps(aside), c = _mm256_cvtepi32_ps(chroma), v = _mm256_cvtepi32_ps(value);
    const __m256 inverse = (42.5f / 65536) / _mm256_max_ps(c * v, _mm256_set1_ps(1));  // of both: one division
    *angle = _mm256_cvttps_epi32(_mm256_fmadd_ps(inverse * v, a, _mm256_set1_ps(64 + 1.0f / 1024)));
    *saturation = _mm256_cvttps_epi32(_mm256_fmadd_ps(inverse * c, c * (6 * 65536.0f), _mm256_set1_ps(1.0f / 1024)));
}

inline void divide(Words aside, Words chroma, Words value, Words* angle, Words* saturation) {
    const Vector zero{}, asides[] = {aside.low, aside.high}, chromas[] = {chroma.low, chroma.high};
    const Vector values[] = {value.low, value.high};
    Vector *angles[] = {&angle->low, &angle->high}, *saturations[] = {&saturation->low, &saturation->high};
    for (int half = 0; half < 2; ++half) {
        Vector angle1, angle2, saturation1, saturation2;
        const Vector a = asides[half], c = chromas[half], v = values[half];
        const Vector c1 = _mm256_unpacklo_epi16(c, zero), c2 = _mm256_unpackhi_epi16(c, zero);
        const Vector v1 = _mm256_unpacklo_epi16(v, zero), v2 = _mm256_unpackhi_epi16(v, zero);
        divide(_mm256_unpacklo_epi16(zero, a), c1, v1, &angle1, &saturation1);
        divide(_mm256_unpackhi_epi16(zero, a), c2, v2, &angle2, &saturation2);
        *angles[half] = _mm256_packs_epi32(angle1, angle2);
        *saturations[half] = _mm256_packs_epi32(saturation1, saturation2);
    }
}

inline Words divided_by_255(Words numbers) { return upper_product(numbers + both(128), both(257)); }  // to the nearest

// product / 255 * part / 85 to the nearest: a first answer is right or too low by 1, which the remainder's 16 bits tell.
inline Words middle_share(Words product, Words part) {
    const Words first = divided_by_255(upper_product(product, part * both(771)));
    return first - (product * part - first * both(255 * 85) > both(255 * 85 / 2));
}

// RGB -> HSV of 8 bits (Convert.c), hue turned by `shift` 256ths of a turn, -> RGB.
inline Colours turned(const Colours& colours, int shift) {
    const auto [red, green, blue] = colours;
    const Vector value = _mm256_max_epu8(red, _mm256_max_epu8(green, blue));
    const Vector chroma = _mm256_sub_epi8(value, _mm256_min_epu8(red, _mm256_min_epu8(green, blue)));
    const Vector is_red = _mm256_cmpeq_epi8(red, value), is_green = _mm256_cmpeq_epi8(green, value);
    const Vector more = choose(is_red, green, choose(is_green, blue, red));
    const Vector less = choose(is_red, blue, choose(is_green, red, green));
    const Words values = words(value);
    Words angle, saturation;
    divide(words(more) - words(less), words(chroma), values, &angle, &saturation);
    const Vector negative = _mm256_min_epu8(_mm256_subs_epu8(less, more), all_bytes(1));
    const Vector from_red = _mm256_sub_epi8(all_bytes(shift - 64), negative);  // 255 and not 256 is a whole turn there
    const Vector from_others = choose(is_green, all_bytes(85 + shift - 64), all_bytes(170 + shift - 64));
    const Vector hue = _mm256_add_epi8(bytes(angle), choose(is_red, from_red, from_others));
    // Thirds of a turn, 0 to 84 each (255 ends the last), in which one colour falls and the next one rises.
    const Vector third = all_bytes(85), second = at_least(hue, third), last = at_least(hue, all_bytes(170));
    const Vector past_first = _mm256_sub_epi8(hue, _mm256_and_si256(second, third));
    const Vector place = _mm256_sub_epi8(past_first, _mm256_and_si256(last, third));
    const Vector part = difference(_mm256_add_epi8(place, place), third);
    const Vector rising = at_least(place, all_bytes(43));
    const Words product = values * saturation;
    const Vector low = _mm256_sub_epi8(value, bytes(divided_by_255(product)));
    const Vector middle = _mm256_sub_epi8(value, bytes(middle_share(product, words(part))));
    const Vector falls = choose(rising, middle, value), rises = choose(rising, value, middle);
    return {
        choose(last, rises, choose(second, low, falls)),
        choose(last, low, choose(second, falls, rises)),
        choose(last, falls, choose(second, rises, low)),
    };
}

void saturate(uint8_t* row, int64_t padded, const Line& line) {
    change(row, padded, [shares = Blend(line)](const Colours& from) -> Colours {
        const Vector gray = gray_of(from);
        return {
            away_from(gray, from.red, shares),
            away_from(gray, from.green, shares),
            away_from(gray, from.blue, shares),
        };
    });
}

void turn_hue(uint8_t* row, int64_t padded, int shift) {
    change(row, padded, [shift](const Colours& from) { return turned(from, shift); });
}

void turn_gray(uint8_t* row, int64_t padded) {
    change(row, padded, [](const Colours& from) -> Colours {
        const Vector gray = gray_of(from);
        return {gray, gray, gray};
    });
}

bool is_blend(Part part) { return part == Part::brightness || part == Part::contrast || part == Part::saturation; }

void append(Steps& steps, Steps::Step step) {
    step.exact = !is_blend(step.part) || fit(step.line, step.from, step.factor);
    if (step.part == Part::saturation) step.exact &= shares_are_exact(step.factor);
    steps.steps[steps.count++] = step;
}

void apply_step(const Steps::Step& step, uint8_t* row, int64_t padded) {
    const Line& line = step.line;
    switch (step.part) {
        case Part::brightness:
        case Part::contrast:
            return line.offset == 0 ? blend_row<false>(line, row, 3 * padded) : blend_row<true>(line, row, 3 * padded);
        case Part::saturation: return saturate(row, padded, line);
        case Part::hue: return turn_hue(row, padded, static_cast<int>(step.factor));
        case Part::gray: return turn_gray(row, padded);
    }
}

}  // namespace

void apply_steps(const Steps& steps, uint8_t* row, int64_t padded) {
    for (int number = 0; number < steps.count; ++number) {
        const Steps::Step& step = steps.steps[number];
        step.exact ? apply_step(step, row, padded) : apply_in_floats(&step, 1, row, padded);
    }
}

int64_t sum_gray(const uint8_t* row, int64_t padded, int64_t count) {
    const uint8_t *red = row, *green = row + padded, *blue = row + 2 * padded;
    const Vector places = _mm256_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15,  //
                                           16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31);
    Vector sums{};  // of 64 bits
    for (int64_t i = 0; i < count; i += BYTES) {
        const int64_t left = padded - i;
        const Vector inside = _mm256_cmpgt_epi8(all_bytes(static_cast<int>(least<int64_t>(count - i, BYTES))), places);
        const Vector gray = gray_of({load(red + i, left), load(green + i, left), load(blue + i, left)});
        sums = _mm256_add_epi64(sums, _mm256_sad_epu8(_mm256_and_si256(gray, inside), Vector{}));
    }
    return sums[0] + sums[1] + sums[2] + sums[3];
}

}  // namespace HJEPA_ISA
}  // namespace hjepa
