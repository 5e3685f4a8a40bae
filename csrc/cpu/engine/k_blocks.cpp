#include "k_blocks.h"

#include <algorithm>

#include "kernels.h"

namespace pyfastnn::engine {
namespace {

// Units in a block. One unbroken float32 sum has 1.8 times torch's error for K > 300, blocks of 256
// have 1.1. Chains are shorter than their block, so theirs may be longer; that makes up for adding
// up the chains (1024-1024, batch 1024, Zen 4: 20.9 -> 20.3 ms).
constexpr int64_t kMaxBlock = 256;
constexpr int64_t kMaxBlockOfChains = kMaxUnits;

// Sums of so few units are one chain whatever the order: chains of a few units cost more to add up
// than they save (68-64, batch 1024: 86 -> 92 us).
constexpr int64_t kOneChain = 128;

}  // namespace

KBlocks::KBlocks(int64_t k_, int64_t k_per_unit, Order order) : k(k_) {
  const int64_t units = divide_up(k, k_per_unit);
  in_chains = order == Order::kInterleaved && units > kOneChain;
  count = std::max<int64_t>(1, divide_up(units, in_chains ? kMaxBlockOfChains : kMaxBlock));
  // Even blocks: 784 = 400 + 384, not 512 + 272.
  size = round_up(divide_up(units, count), 16) * k_per_unit;
  count = std::max<int64_t>(1, divide_up(k, std::max<int64_t>(1, size)));
}

Range KBlocks::block(int64_t index) const {
  return {index * size, std::min(k, (index + 1) * size)};
}

}  // namespace pyfastnn::engine
