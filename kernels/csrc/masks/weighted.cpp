// kernels/weighted_blocks.py, one row at a time.

#include "weighted.h"

#include <algorithm>
#include <vector>

namespace hjepa {
namespace {

constexpr uint64_t kChoice = 1 << 20;
constexpr float kShares = 4096, kLeast = 1.0f / 1267650600228229401496703205376.0f;  // 2^-100

float product_of(const Row& row, const Setting& setting, const int64_t* sums) {
    const int stride = setting.grid.width + 1;
    float product = 1;
    for (int t = 0; t < setting.num_targets; ++t) {
        const Rectangle block = row.targets[t];
        const int top = static_cast<int>(block.top) * stride, bottom = static_cast<int>(block.bottom) * stride;
        const int left = static_cast<int>(block.left), right = static_cast<int>(block.right);
        const int64_t under = sums[bottom + right] + sums[top + left] - sums[top + right] - sums[bottom + left];
        product = std::max(product * (static_cast<float>(under) / block.area() * (1.0f / 256)), kLeast);
    }
    return product;
}

}  // namespace

uint64_t weighted_key(uint64_t key, Draw draw, const float* law, const Setting& setting, const int64_t* sums, int arrangements) {
    thread_local std::vector<float> products;
    thread_local std::vector<int64_t> shares;
    products.resize(arrangements), shares.resize(arrangements);
    float greatest = 0, uniform;
    int64_t total = 0;
    Row row;
    for (int number = 0; number < arrangements; ++number) {
        draw(number ? bits(key, kChoice + number) : key, law, setting, row);
        products[number] = product_of(row, setting, sums);
        greatest = std::max(greatest, products[number]);
    }
    for (int number = 0; number < arrangements; ++number) {
        shares[number] = std::max<int64_t>(static_cast<int64_t>(products[number] / greatest * kShares), 1);
        total += shares[number];
    }
    uniforms(bits(key, kChoice), 0, 1, &uniform);
    const int turn = static_cast<int>(uniform * static_cast<float>(arrangements));
    const int64_t hit = static_cast<int64_t>(uniform * static_cast<float>(total));
    int64_t end = 0;
    int taken = 0;
    for (int place = 0; place < arrangements; ++place) {
        taken = (place - turn + arrangements) % arrangements;
        end += shares[taken];
        if (end > hit) break;
    }
    return taken ? bits(key, kChoice + taken) : key;
}

}  // namespace hjepa
