#include "gemm.h"

#include <algorithm>
#include <type_traits>

namespace pyfastnn::engine {
namespace {

int64_t round_up(int64_t a, int64_t b) { return divide_up(a, b) * b; }

// A block of A, [rows, one block of k], stays in this much of the L2 cache, and a block of packed B
// in that much.
constexpr int64_t kABlockBytes = 128 * 1024;
constexpr int64_t kBBlockBytes = 512 * 1024;

// Panels of B that serve more rows than this are copied first: the copy costs 2 of (rows) vector
// operations, and a panel in one piece avoids cache-set conflicts and TLB misses.
constexpr int64_t kRowsWorthPacking = 48;

// Rows at a multiple of 2 KB from each other fall into so few sets of the L1 cache (64 sets of 64
// bytes) that a tile of more rows than a set has ways evicts itself.
constexpr int64_t kCacheWays = 8;

// Products with a sum this short are bound by writing C.
constexpr int64_t kSmallK = 16;

template <class S>
bool rows_conflict(const Operand<S>& operand) {
  return operand.ld * static_cast<int64_t>(sizeof(S)) % 2048 == 0;
}

template <class S>
class BlockLoops {
 public:
  BlockLoops(const Kernels<S>& kernels, const Gemm<S>& args, Range rows, Scratch& scratch)
      : kernels_(kernels),
        args_(args),
        rows_(rows),
        scratch_(scratch),
        k_blocks_(args.k, kernels.k_per_unit),
        width_(kernels.lanes * panel_vectors()) {}

  // jc loop: columns whose part of B, one block of k deep, stays in the cache while all rows pass
  // by.
  void run(Range columns) {
    const int64_t panel_bytes =
        std::max<int64_t>(1, units_of(k_blocks_.size)) * width_ * kernels_.unit_bytes;
    const int64_t nc = std::max<int64_t>(1, kBBlockBytes / panel_bytes);
    // Weights that are transposed on the way are read once: whole rows in one go suit the
    // hardware's prefetching.
    const int64_t step = transposes_on_the_way() ? width_ : nc * width_;
    set_rows_per_block(std::min(step, columns.size()));
    for (int64_t j = columns.begin; j < columns.end; j += step) {
      run_columns({j, std::min(j + step, columns.end)});
    }
  }

 private:
  // Few rows are not worth a packed copy of B^T.
  bool transposes_on_the_way() const {
    return args_.b_packed == nullptr && kernels_.in_place && args_.b.layout == Layout::kColumns &&
           rows_.size() <= kernels_.max_rows_unpacked;
  }

  // Vectors of B in a panel. Few rows would leave most of the register tile empty: where B can be
  // read in place they take wider panels, and so do products that mostly write C (wgrad of
  // 1024-1024, one row: 193 -> 135 us). Transposing on the way takes half of the registers.
  int panel_vectors() const {
    if (transposes_on_the_way()) return 1;
    const bool wide =
        args_.b_packed == nullptr && kernels_.in_place && args_.b.layout == Layout::kRows &&
        (rows_.size() <= kernels_.max_rows[kMaxPanelVectors] || k_blocks_.size <= kSmallK);
    return wide ? kMaxPanelVectors : kPanelVectors;
  }

  // As many rows as keep their block of A in the cache. Where k is small, C is what moves: a few
  // rows at a time then, so that C is written along its rows (dgrad and wgrad of 1024-1024, one
  // row: 305 -> 275 us).
  void set_rows_per_block(int64_t columns) {
    const bool moves_c = k_blocks_.size <= kSmallK && columns >= 8 * width_;
    const int64_t rows =
        moves_c ? 2 * kernels_.max_rows[kPanelVectors] : rows_in_cache(kernels_, args_.k);
    rows_per_block_ = divide_up(rows_.size(), divide_up(rows_.size(), rows));
  }

  int64_t units_of(int64_t k) const { return divide_up(k, kernels_.k_per_unit); }

  // pc loop: blocks of k, with the sums of 16-bit types kept aside in float until the last one. ic
  // loop: rows that share a block of A.
  void run_columns(Range columns) {
    Scratch::Frame frame(scratch_);
    set_partial(columns);
    const bool one_block = rows_per_block_ >= rows_.size();
    for (int64_t p = 0; p < k_blocks_.count; ++p) {
      Scratch::Frame block_frame(scratch_);
      k_range_ = k_blocks_.block(p);
      panel_ = {};
      panel_.k = units_of(k_range_.size());
      panel_.first = args_.first && p == 0;
      panel_.last = args_.last && p + 1 == k_blocks_.count;
      b_slot_bytes_ = one_block ? 0 : width_ * panel_.k * kernels_.unit_bytes;
      reserve_b(columns);
      for (int64_t i = rows_.begin; i < rows_.end; i += rows_per_block_) {
        Scratch::Frame row_frame(scratch_);
        run_panels({i, std::min(i + rows_per_block_, rows_.end)}, columns);
      }
    }
  }

  void set_partial(Range columns) {
    if constexpr (std::is_same_v<S, Accumulator<S>>) {
      partial_ = {args_.c + rows_.begin * args_.ldc + columns.begin, args_.ldc};
    } else if (args_.sums != nullptr) {
      partial_ = {args_.sums + rows_.begin * args_.n + columns.begin, args_.n};
    } else if (k_blocks_.count > 1) {
      partial_ = {scratch_.take_array<Accumulator<S>>(rows_.size() * columns.size()),
                  columns.size()};
    }
  }

  // jr loop: panels of B.
  void run_panels(Range rows, Range columns) {
    panel_.m = rows.size();
    const bool first_rows = rows.begin == rows_.begin;
    set_a(rows);
    for (int64_t j = columns.begin; j < columns.end; j += width_) {
      panel_.n = std::min(width_, columns.end - j);
      set_b(j, static_cast<char*>(b_buffer_) + (j - columns.begin) / width_ * b_slot_bytes_,
            first_rows);
      if (partial_.data != nullptr) {
        panel_.partial =
            partial_.data + (rows.begin - rows_.begin) * partial_.ld + (j - columns.begin);
        panel_.ld_partial = partial_.ld;
      }
      panel_.c = args_.c + rows.begin * args_.ldc + j;
      panel_.ldc = args_.ldc;
      panel_.bias = args_.bias == nullptr ? nullptr : args_.bias + j;
      panel_.relu = args_.relu;
      panel_.mask = args_.mask == nullptr ? nullptr : args_.mask + rows.begin * args_.ld_mask + j;
      panel_.ld_mask = args_.ld_mask;
      kernels_.gemm_panel(panel_);
    }
  }

  void set_a(Range rows) {
    const Operand<S>& a = args_.a;
    panel_.a_layout = a.layout;
    const bool by_rows = a.layout == Layout::kRows;
    const S* corner = a.data + (by_rows ? rows.begin * a.ld + k_range_.begin
                                        : k_range_.begin * a.ld + rows.begin);
    if (kernels_.in_place && !(rows_conflict(a) && rows.size() > kCacheWays)) {
      panel_.a = corner;
      panel_.lda = a.ld;
      return;
    }
    // 16 units beyond a power of two, so that the packed rows do not conflict themselves.
    const int64_t ld =
        by_rows ? round_up(panel_.k, 16) + 16 : round_up(rows.size(), kernels_.lanes);
    void* packed = scratch_.take(ld * (by_rows ? rows.size() : panel_.k) * kernels_.unit_bytes);
    if (by_rows) {
      kernels_.pack_rows(corner, a.ld, rows.size(), k_range_.size(), packed, ld);
    } else {
      kernels_.pack_plain(corner, a.ld, k_range_.size(), rows.size(), packed, ld);
    }
    panel_.a = packed;
    panel_.lda = ld;
  }

  // Where a panel of `n` columns may be read as it lies.
  bool b_in_place(int64_t n) const {
    if (!kernels_.in_place || n % kernels_.lanes != 0) return false;
    return args_.b.layout == Layout::kRows ? rows_.size() <= kRowsWorthPacking
                                           : panel_vectors() == 1;
  }

  // Room for the panels that have to be packed: one if each is used up at once, all if more rows
  // follow.
  void reserve_b(Range columns) {
    const int64_t last = columns.size() % width_;
    b_buffer_ = nullptr;
    if (args_.b_packed != nullptr || (b_in_place(width_) && (last == 0 || b_in_place(last))))
      return;
    const int64_t slots = b_slot_bytes_ == 0 ? 1 : divide_up(columns.size(), width_);
    b_buffer_ = scratch_.take(slots * width_ * panel_.k * kernels_.unit_bytes);
  }

  void set_b(int64_t j, void* slot, bool pack) {
    const Operand<S>& b = args_.b;
    panel_.b_layout = Layout::kRows;
    if (args_.b_packed != nullptr) {
      panel_.b = static_cast<const char*>(args_.b_packed->data) +
                 j / width_ * args_.b_packed->panel_bytes +
                 units_of(k_range_.begin) * width_ * kernels_.unit_bytes;
      panel_.ldb = width_;
      return;
    }
    const bool plain = b.layout == Layout::kRows;
    const S* corner = b.data + (plain ? k_range_.begin * b.ld + j : j * b.ld + k_range_.begin);
    if (b_in_place(panel_.n)) {
      panel_.b_layout = b.layout;
      panel_.b = corner;
      panel_.ldb = b.ld;
      return;
    }
    panel_.b = slot;
    panel_.ldb = round_up(panel_.n, kernels_.lanes);
    if (!pack) return;
    (plain ? kernels_.pack_plain : kernels_.pack_transposed)(corner, b.ld, k_range_.size(),
                                                             panel_.n, slot, panel_.ldb);
  }

  struct Partial {
    Accumulator<S>* data = nullptr;
    int64_t ld = 0;
  };

  const Kernels<S>& kernels_;
  const Gemm<S>& args_;
  const Range rows_;
  Scratch& scratch_;
  const KBlocks k_blocks_;
  const int64_t width_;  // of a panel
  int64_t rows_per_block_ = 0;
  Partial partial_;
  Range k_range_{};
  void* b_buffer_ = nullptr;
  int64_t b_slot_bytes_ = 0;
  PanelArgs<S> panel_{};
};

}  // namespace

KBlocks::KBlocks(int64_t k_, int64_t k_per_unit) : k(k_) {
  const int64_t units = divide_up(k, k_per_unit);
  count = std::max<int64_t>(1, divide_up(units, kMax));
  size = round_up(divide_up(units, count), 16) *
         k_per_unit;  // even blocks: 784 = 3 x 208 + 160, not 3 x 256 + 16
  count = std::max<int64_t>(1, divide_up(k, std::max<int64_t>(1, size)));
}

Range KBlocks::block(int64_t index) const {
  return {index * size, std::min(k, (index + 1) * size)};
}

template <class S>
int64_t packed_bytes(const Kernels<S>& kernels, int64_t k, int64_t n) {
  return panel_count(kernels, n) * divide_up(k, kernels.k_per_unit) * panel_width(kernels) *
         kernels.unit_bytes;
}

template <class S>
void pack_panel(const Kernels<S>& kernels, const Operand<S>& b, int64_t k, int64_t n, int64_t panel,
                void* data) {
  const int64_t width = panel_width(kernels);
  const int64_t panel_bytes = divide_up(k, kernels.k_per_unit) * width * kernels.unit_bytes;
  const int64_t j = panel * width;
  void* dst = static_cast<char*>(data) + panel * panel_bytes;
  if (b.layout == Layout::kRows) {
    kernels.pack_plain(b.data + j, b.ld, k, std::min(width, n - j), dst, width);
  } else {
    kernels.pack_transposed(b.data + j * b.ld, b.ld, k, std::min(width, n - j), dst, width);
  }
}

template <class S>
int64_t rows_in_cache(const Kernels<S>& kernels, int64_t k) {
  const KBlocks blocks(k, kernels.k_per_unit);
  const int64_t units = std::max<int64_t>(16, divide_up(blocks.size, kernels.k_per_unit));
  return round_up(std::clamp<int64_t>(kABlockBytes / (units * kernels.unit_bytes), 48, 480),
                  kernels.max_rows[kPanelVectors]);
}

template <class S>
void gemm(const Kernels<S>& kernels, const Gemm<S>& args, Range rows, Range columns) {
  if (rows.size() <= 0 || columns.size() <= 0) return;
  Scratch& scratch = Scratch::of_this_thread();
  Scratch::Frame frame(scratch);
  BlockLoops<S>(kernels, args, rows, scratch).run(columns);
}

#define PYFASTNN_INSTANTIATE(S)                                                             \
  template int64_t packed_bytes(const Kernels<S>&, int64_t, int64_t);                       \
  template void pack_panel(const Kernels<S>&, const Operand<S>&, int64_t, int64_t, int64_t, \
                           void*);                                                          \
  template int64_t rows_in_cache(const Kernels<S>&, int64_t);                               \
  template void gemm(const Kernels<S>&, const Gemm<S>&, Range, Range);
PYFASTNN_INSTANTIATE(float)
PYFASTNN_INSTANTIATE(double)
PYFASTNN_INSTANTIATE(BFloat16)
PYFASTNN_INSTANTIATE(Half)
#undef PYFASTNN_INSTANTIATE

}  // namespace pyfastnn::engine
