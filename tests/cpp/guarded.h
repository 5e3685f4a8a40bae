// Memory that notices when something is written outside a matrix.
#pragma once

#include <vector>

#include "cpu/engine/network.h"
#include "reference.h"

namespace test {

namespace engine = pyfastnn::engine;
using reference::Numbers;

// A matrix whose rows lie `ld` elements apart, surrounded and separated by sentinels.
template <class S>
class Guarded {
 public:
  Guarded(int64_t rows, int64_t columns, int64_t gap)
      : rows_(rows), columns_(columns), ld_(columns + gap) {
    storage_.resize(kMargin + rows * ld_ + kMargin);
    for (S& x : storage_) reference::set(x, kSentinel);
  }
  Guarded(int64_t rows, int64_t columns, int64_t gap, const Numbers& numbers)
      : Guarded(rows, columns, gap) {
    for (int64_t i = 0; i < rows * columns; ++i)
      reference::set(at(i / columns, i % columns), numbers[i]);
  }
  S& at(int64_t i, int64_t j) { return storage_[kMargin + i * ld_ + j]; }
  S* data() { return storage_.data() + kMargin; }
  engine::Matrix<const S> view() { return {data(), ld_}; }
  engine::Matrix<S> mutable_view() { return {data(), ld_}; }
  bool equals(const Numbers& wanted) {
    for (int64_t i = 0; i < rows_ * columns_; ++i) {
      if (reference::value(at(i / columns_, i % columns_)) != wanted[i]) return false;
    }
    return true;
  }
  bool guards_are_intact() {
    int64_t intact = 0;
    for (const S& x : storage_) intact += reference::value(x) == kSentinel;
    return intact == static_cast<int64_t>(storage_.size()) - rows_ * columns_;
  }

 private:
  static constexpr int64_t kMargin = 70;
  static constexpr double kSentinel = 0.5;  // results are integers
  int64_t rows_, columns_, ld_;
  std::vector<S> storage_;
};

}  // namespace test
