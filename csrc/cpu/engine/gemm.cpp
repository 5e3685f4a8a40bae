#include "gemm.h"

#include <algorithm>
#include <type_traits>

#include "zeros.h"

namespace pyfastnn::engine {
namespace {

// A block of packed B stays in this much of the L2 cache.
constexpr int64_t kBBlockBytes = 512 * 1024;

// A in layout kColumns whose rows lie far apart is packed for so many panels of B: every step along
// k would read another page (wgrad of 1024-1024, batch 1024, AVX2 on Zen 4: 25.1 -> 22.5 ms).
constexpr int64_t kManyPanels = 16;

// Products with a sum this short are bound by writing C; a part of B stays in so much of the L1
// cache then.
constexpr int64_t kShortSum = 16;
constexpr int64_t kShortBBytes = 16 * 1024;

template <class S>
class BlockLoops {
 public:
  BlockLoops(const Kernels<S>& kernels, const Gemm<S>& args, Range rows, Scratch& scratch)
      : kernels_(kernels),
        args_(args),
        rows_(rows),
        scratch_(scratch),
        k_blocks_(args.k, kernels.k_per_unit, args.order),
        a_in_place_(lies_in_units(kernels, args.a, args.k, args.a.layout == Layout::kRows)),
        b_in_place_(args.b_packed == nullptr &&
                    lies_in_units(kernels, args.b, args.k, args.b.layout == Layout::kColumns)) {}

  void run(Range columns) {
    const int64_t whole = columns.size() / kernels_.lanes * kernels_.lanes;
    reads_transposed_ = may_read_transposed() && whole > 0;
    const int64_t split = reads_transposed_ ? columns.begin + whole : columns.end;
    run_blocks({columns.begin, split});
    reads_transposed_ = false;
    run_blocks({split, columns.end});
  }

 private:
  // Few rows are not worth a packed copy of B^T.
  bool may_read_transposed() const {
    return b_in_place_ && args_.b.layout == Layout::kColumns && k_blocks_.in_chains &&
           rows_.size() <= kernels_.max_rows_transposed;
  }

  // jc loop: columns whose part of B, one block of k deep, stays in the cache while all rows pass
  // by. A B^T that is read as it lies is read once, in long pieces.
  void run_blocks(Range columns) {
    width_ = panel_width();
    const int64_t panel_bytes =
        std::max<int64_t>(1, units_of(k_blocks_.size)) * width_ * kernels_.unit_bytes;
    const int64_t nc = std::max<int64_t>(1, kBBlockBytes / panel_bytes);
    const int64_t step = reads_transposed_ ? width_ : nc * width_;
    set_rows_per_block();
    for (int64_t j = columns.begin; j < columns.end; j += step) {
      run_columns({j, std::min(j + step, columns.end)});
    }
  }

  // C is what moves (wgrad of 1024-1024, one row: 133 -> 52 us).
  bool is_short() const {
    return kernels_.gemm_short != nullptr && a_in_place_ && b_in_place_ &&
           args_.b.layout == Layout::kRows &&
           args_.k <= (rows_conflict(args_.b) ? kCacheWays : kShortSum);
  }

  // Columns of a panel. Few rows would leave most of the register tile empty: where B can be
  // read in place they take wider panels.
  int64_t panel_width() const {
    if (is_short()) {
      const int64_t column = std::max<int64_t>(1, args_.k) * kernels_.unit_bytes;
      return round_up(kShortBBytes / column, kernels_.lanes);
    }
    return kernels_.lanes * panel_vectors();
  }

  int panel_vectors() const {
    if (reads_transposed_) return 4;
    if (!b_in_place_ || args_.b.layout == Layout::kColumns) return kPanelVectors;
    if (rows_.size() <= kernels_.max_rows[8]) return 8;
    return rows_.size() <= kernels_.max_rows[4] ? 4 : kPanelVectors;
  }

  // As many rows as keep their block of A in the cache.
  void set_rows_per_block() {
    const int64_t rows = is_short() ? rows_.size() : rows_in_cache(kernels_, args_.k, args_.order);
    rows_per_block_ = divide_up(rows_.size(), divide_up(rows_.size(), rows));
  }

  int64_t units_of(int64_t k) const { return divide_up(k, kernels_.k_per_unit); }

  // pc loop: blocks of k, with the sums of 16-bit types kept aside in float until the last one. ic
  // loop: rows that share a block of A.
  void run_columns(Range columns) {
    Scratch::Frame frame(scratch_);
    set_partial(columns);
    Zeros<S> zeros(kernels_, args_, rows_, columns, scratch_);
    const bool one_block = rows_per_block_ >= rows_.size();
    // The kernel for a B^T that is read as it lies goes through the blocks itself.
    const int64_t steps = reads_transposed_ ? 1 : k_blocks_.count;
    for (int64_t p = 0; p < steps; ++p) {
      Scratch::Frame block_frame(scratch_);
      k_range_ = reads_transposed_ ? Range{0, args_.k} : k_blocks_.block(p);
      panel_ = {};
      panel_.k_block = units_of(k_blocks_.size);
      panel_.k = units_of(k_range_.size());
      panel_.in_chains = k_blocks_.in_chains;
      panel_.first = args_.first && p == 0;
      panel_.last = args_.last && p + 1 == steps;
      b_slot_bytes_ = one_block ? 0 : width_ * panel_.k * kernels_.unit_bytes;
      reserve_b(columns);
      for (int64_t i = rows_.begin; i < rows_.end; i += rows_per_block_) {
        Scratch::Frame row_frame(scratch_);
        run_panels({i, std::min(i + rows_per_block_, rows_.end)}, columns, zeros);
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
  void run_panels(Range rows, Range columns, Zeros<S>& zeros) {
    panel_.m = rows.size();
    const bool first_rows = rows.begin == rows_.begin;
    set_a(rows);
    zeros.search_a(panel_);
    const int64_t panels = divide_up(args_.n, width_);
    panel_.ahead_bytes = args_.ahead_bytes;
    panel_.ahead_pieces = panels * k_blocks_.count;
    for (int64_t j = columns.begin; j < columns.end; j += width_) {
      panel_.n = std::min(width_, columns.end - j);
      set_b(j, static_cast<char*>(b_buffer_) + (j - columns.begin) / width_ * b_slot_bytes_,
            first_rows);
      zeros.search_b(panel_);
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
      panel_.wanted =
          args_.wanted == nullptr ? nullptr : args_.wanted + rows.begin * args_.ld_wanted + j;
      panel_.ld_wanted = args_.ld_wanted;
      panel_.ahead = args_.ahead == nullptr ? nullptr : args_.ahead + rows.begin;
      panel_.ahead_piece =
          k_range_.begin / std::max<int64_t>(1, k_blocks_.size) * panels + j / width_;
      (is_short() ? kernels_.gemm_short : kernels_.gemm_panel)(panel_);
    }
  }

  void set_a(Range rows) {
    const Operand<S>& a = args_.a;
    panel_.a_layout = a.layout;
    panel_.a_tile = 0;
    const bool by_rows = a.layout == Layout::kRows;
    const S* corner = a.data + (by_rows ? rows.begin * a.ld + k_range_.begin
                                        : k_range_.begin * a.ld + rows.begin);
    // A B^T that is read as it lies has 8 rows of its own in the set.
    const bool in_each_others_way =
        rows_conflict(a) && rows.size() > (reads_transposed_ ? 1 : kCacheWays);
    const bool far_apart = !by_rows && lie_far_apart(a) && args_.n >= kManyPanels * width_;
    if (is_short() || (a_in_place_ && !in_each_others_way && !far_apart)) {
      panel_.a = corner;
      panel_.lda = a.ld / kernels_.k_per_unit;
    } else if (by_rows) {
      pack_a_rows(corner, rows.size());
    } else {
      pack_a_tiles(corner, rows.size());
    }
  }

  // 16 units beyond a power of two, so that the packed rows do not conflict themselves.
  void pack_a_rows(const S* corner, int64_t m) {
    panel_.lda = round_up(panel_.k, 16) + 16;
    void* packed = scratch_.take(panel_.lda * m * kernels_.unit_bytes);
    kernels_.pack_rows(corner, args_.a.ld, m, k_range_.size(), packed, panel_.lda);
    panel_.a = packed;
  }

  void pack_a_tiles(const S* corner, int64_t m) {
    panel_.tile_rows = kernels_.max_rows[width_ / kernels_.lanes];
    panel_.lda = round_up(panel_.tile_rows, kernels_.lanes);
    panel_.a_tile = panel_.k * panel_.lda;
    const RowTiles tiles(m, panel_.tile_rows);
    char* packed =
        static_cast<char*>(scratch_.take(tiles.count * panel_.a_tile * kernels_.unit_bytes));
    panel_.a = packed;
    for (int64_t t = 0; t < tiles.count; ++t) {
      kernels_.pack_plain(corner, args_.a.ld, k_range_.size(), tiles.rows(t), packed, panel_.lda);
      corner += tiles.rows(t);
      packed += panel_.a_tile * kernels_.unit_bytes;
    }
  }

  // Where a panel of `n` columns may be read as it lies.
  bool b_in_place(int64_t n) const {
    if (is_short()) return true;
    if (!b_in_place_ || n % kernels_.lanes != 0) return false;
    return args_.b.layout == Layout::kRows ? rows_.size() <= rows_worth_packing(args_.b)
                                           : reads_transposed_;
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
      // Packed weights may be longer than the cache (4096-4096, 16 rows: 9.2 -> 6.4 ms).
      panel_.b_ahead = args_.b_packed->panel_bytes / kernels_.unit_bytes;
      return;
    }
    const bool plain = b.layout == Layout::kRows;
    const S* corner = b.data + (plain ? k_range_.begin * b.ld + j : j * b.ld + k_range_.begin);
    if (b_in_place(panel_.n)) {
      panel_.b_layout = b.layout;
      panel_.b = corner;
      panel_.ldb = b.ld / kernels_.k_per_unit;
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
  const bool a_in_place_, b_in_place_;  // operands may be read where they lie
  bool reads_transposed_ = false;       // B^T as it lies, for few rows of A
  int64_t width_ = 0;                   // of a panel
  int64_t rows_per_block_ = 0;
  Partial partial_;
  Range k_range_{};
  void* b_buffer_ = nullptr;
  int64_t b_slot_bytes_ = 0;
  PanelArgs<S> panel_{};
};

}  // namespace

template <class S>
void gemm(const Kernels<S>& kernels, const Gemm<S>& args, Range rows, Range columns) {
  if (rows.size() <= 0 || columns.size() <= 0) return;
  Scratch& scratch = Scratch::of_this_thread();
  Scratch::Frame frame(scratch);
  BlockLoops<S>(kernels, args, rows, scratch).run(columns);
}

#define PYFASTNN_INSTANTIATE(S) template void gemm(const Kernels<S>&, const Gemm<S>&, Range, Range);
PYFASTNN_INSTANTIATE(float)
PYFASTNN_INSTANTIATE(double)
PYFASTNN_INSTANTIATE(BFloat16)
PYFASTNN_INSTANTIATE(Half)
#undef PYFASTNN_INSTANTIATE

}  // namespace pyfastnn::engine
