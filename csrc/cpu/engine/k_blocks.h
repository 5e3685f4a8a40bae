// In what order the terms of a sum over k are added: blocks of k, and chains inside a block.
//
// The order is a function of k alone (and of Order): tiles, row and column ranges, packed or not,
// threads, none of them changes a bit of a result.
#pragma once

#include <cstdint>

namespace pyfastnn::engine {

inline int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }
inline int64_t round_up(int64_t a, int64_t b) { return divide_up(a, b) * b; }

struct Range {
  int64_t begin, end;
  int64_t size() const { return end - begin; }
};

// kAscending: one chain in each block. kInterleaved: where k is long enough, as many as there are
// units in 16 bytes (see kernels.h): the order in which a B^T that is read as it lies is summed
// best.
enum class Order { kAscending, kInterleaved };

struct KBlocks {
  int64_t k;       // elements
  int64_t size;    // elements in all blocks but the last
  int64_t count;   // blocks, at least one
  bool in_chains;  // whether a block is summed in several chains

  // k_per_unit elements make a unit (see kernels.h).
  KBlocks(int64_t k, int64_t k_per_unit, Order order);
  Range block(int64_t index) const;
};

}  // namespace pyfastnn::engine
