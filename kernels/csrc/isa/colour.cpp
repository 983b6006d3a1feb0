// PIL's arithmetic (Blend.c, Convert.c): blends are single-precision and cut off; gray is ITU-R 601 in 16 bits.

#include "colour.h"

#if defined(__AVX512VBMI__)
#include "colour_bytes.h"
#elif defined(__AVX2__)
#include "colour_words.h"
#else
#include "colour_floats.h"
#endif

namespace hjepa {
namespace HJEPA_ISA {

Parts parts_of(const Crop& crop) {
    constexpr float neutral[4] = {1, 1, 1, 0};
    Parts found{};
    for (int place = 0; place < 4; ++place) {
        const int part = crop.order[place];
        if (crop.jitter[part] == neutral[part]) continue;
        found.parts[found.count] = static_cast<Part>(part);
        found.factors[found.count++] = crop.jitter[part];
    }
    if (crop.gray) found.parts[found.count++] = Part::gray;
    return found;
}

Steps steps_of(const Parts& parts, int begin, int end, float mean) {
    Steps steps;
    steps.count = 0;
    for (int number = begin; number < end; ++number) {
        Steps::Step step;
        step.part = parts.parts[number];
        step.factor = parts.factors[number];
        if (step.part == Part::hue) step.factor = static_cast<float>(static_cast<int32_t>(step.factor * HIGHEST) & 255);
        step.from = step.part == Part::contrast ? mean : 0.0f;
        step.exact = false;
        append(steps, step);
    }
    return steps;
}

}  // namespace HJEPA_ISA
}  // namespace hjepa
