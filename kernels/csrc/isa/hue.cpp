// RGB -> HSV of 8 bits, as PIL has it (Convert.c), hue turned by 256ths of a turn, -> RGB.
//
// Quotients are what they are in exact arithmetic: products with a rounded reciprocal, added with one rounding or with two, are less
// than TINY away, and no quotient that is not an integer is as near to the integer above it. (Tried for every numerator and
// denominator that occurs.)

#include "choice.h"
#include "colour.h"

namespace hjepa {
namespace HJEPA_ISA {

void turn_hue(float* __restrict red, float* __restrict green, float* __restrict blue, int64_t padded, float turns) {
    constexpr float TINY = 1.0f / 1024;
    const Register zero{}, one = zero + 1.0f, tiny = zero + TINY, half = zero + 0.5f;
    const Register shift = zero + static_cast<float>(static_cast<int32_t>(turns * 255) & 255);
    for (int64_t i = 0; i < padded; i += WIDTH) {
        const Register r = load_register(red + i), g = load_register(green + i), b = load_register(blue + i);
        const Register value = most(r, most(g, b)), chroma = value - least(r, least(g, b));
        const Register some_value = most(value, one), some_chroma = most(chroma, one);
        const Register inverse = 1.0f / (some_chroma * some_value);  // of both: one division
        const Mask is_red = equal(r, value), is_green = equal(g, value);
        const Register aside = choose(is_red, g - b, choose(is_green, b - r, r - g));
        const Register red_turn = choose(below(g, b), zero + 6.0f, zero);
        const Register turn = choose(is_red, red_turn, choose(is_green, zero + 2.0f, zero + 4.0f));
        const Register sixths = multiply_add(turn, chroma, aside);  // of a turn, times chroma
        const Register angle = whole(multiply_add(42.5f * sixths, inverse * some_value, tiny)) + shift;
        const Register hue = choose(below(angle, zero + 256.0f), angle, angle - 256.0f);
        const Register saturation = whole(multiply_add(255.0f * chroma, inverse * some_chroma, tiny));
        const Register sector = whole(multiply_add(hue, zero + 2.0f / 85, tiny));
        const Register rest = multiply_add(sector, zero - 85.0f, hue + hue);
        // Sectors 0 to 6 as bits: of which are odd, of which one colour is the greatest, and of which it is the one between.
        const IntRegister bit = power_of_two(sector);
        const Register part = choose(any_bit(bit, 42), rest, 85.0f - rest);
        const Register low = whole(multiply_add(value * (255.0f - saturation), zero + 1.0f / 255, half));
        const Register share = multiply_add(saturation, -part, zero + 21675.0f);
        const Register middle = whole(multiply_add(value * share, zero + 1.0f / 21675, half));
        store_register(red + i, choose(any_bit(bit, 97), value, choose(any_bit(bit, 18), middle, low)));
        store_register(green + i, choose(any_bit(bit, 6), value, choose(any_bit(bit, 73), middle, low)));
        store_register(blue + i, choose(any_bit(bit, 24), value, choose(any_bit(bit, 36), middle, low)));
    }
}

}  // namespace HJEPA_ISA
}  // namespace hjepa
