#include "gemm.h"

#include <algorithm>
#include <type_traits>

namespace pyfastnn::engine {
namespace {

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }
int64_t round_up(int64_t a, int64_t b) { return divide_up(a, b) * b; }

// A block of A, [rows, one block of k], stays in this much of the L2 cache; the rest is for panels of B and for C.
constexpr int64_t kBlockBytes = 128 * 1024;

// Panels of B that serve more rows than this are copied first: the copy costs 2 of (rows) vector operations, and a
// panel in one piece avoids cache-set conflicts and TLB misses.
constexpr int64_t kRowsWorthPacking = 48;

// Rows at a multiple of 2 KB from each other fall into so few sets of the L1 cache (64 sets of 64 bytes) that a tile
// of 12 rows evicts itself.
template <class S>
bool rows_conflict(const Operand<S>& operand) {
  return operand.ld * static_cast<int64_t>(sizeof(S)) % 2048 == 0;
}

template <class S>
struct BlockLoops {
  const Kernels<S>& kernels;
  const Gemm<S>& args;
  Scratch& scratch;
  const KBlocks k_blocks;
  PanelArgs<S> panel{};

  BlockLoops(const Kernels<S>& kernels_, const Gemm<S>& args_, Scratch& scratch_)
      : kernels(kernels_), args(args_), scratch(scratch_), k_blocks(args_.k, kernels_.k_per_unit) {}

  // ic loop: rows that share a block of A.
  void run(Range rows, Range columns) {
    const int64_t step = rows_in_cache(kernels, args.k);
    const int64_t blocks = divide_up(rows.size(), step);
    const int64_t even = divide_up(rows.size(), blocks);
    for (int64_t i = rows.begin; i < rows.end; i += even) {
      run_rows({i, std::min(i + even, rows.end)}, columns);
    }
  }

  // pc loop: blocks of k, with sums of 16-bit types kept aside in float until the last one.
  void run_rows(Range rows, Range columns) {
    Scratch::Frame frame(scratch);
    Accumulator<S>* partial = nullptr;
    int64_t ld_partial = 0;
    if constexpr (std::is_same_v<S, Accumulator<S>>) {
      partial = args.c + rows.begin * args.ldc + columns.begin;
      ld_partial = args.ldc;
    } else if (k_blocks.count > 1) {
      ld_partial = columns.size();
      partial = scratch.take_array<Accumulator<S>>(rows.size() * ld_partial);
    }
    for (int64_t p = 0; p < k_blocks.count; ++p) {
      Scratch::Frame block_frame(scratch);
      panel = {};
      panel.m = rows.size();
      panel.first = p == 0;
      panel.last = p + 1 == k_blocks.count;
      set_a(rows, k_blocks.block(p));
      run_panels(rows, columns, p, partial, ld_partial);
    }
  }

  // jr loop: panels of B.
  void run_panels(Range rows, Range columns, int64_t p, Accumulator<S>* partial, int64_t ld_partial) {
    // Few rows leave most of the register tile empty: take wider panels then where B can be read in place.
    const bool wide = args.b_packed == nullptr && args.b.layout == Layout::kRows &&
                      rows.size() <= kernels.max_rows[kMaxPanelVectors];
    const int64_t width = kernels.lanes * (wide ? kMaxPanelVectors : kPanelVectors);
    const Range k_range = k_blocks.block(p);
    void* buffer = nullptr;
    panel.k = divide_up(k_range.size(), kernels.k_per_unit);
    for (int64_t j = columns.begin; j < columns.end; j += width) {
      panel.n = std::min(width, columns.end - j);
      set_b(j, width, k_range, rows.size(), buffer);
      panel.partial = partial == nullptr ? nullptr : partial + (j - columns.begin);
      panel.ld_partial = ld_partial;
      panel.c = args.c + rows.begin * args.ldc + j;
      panel.ldc = args.ldc;
      panel.bias = args.bias == nullptr ? nullptr : args.bias + j;
      panel.relu = args.relu;
      panel.mask = args.mask == nullptr ? nullptr : args.mask + rows.begin * args.ld_mask + j;
      panel.ld_mask = args.ld_mask;
      kernels.gemm_panel(panel);
    }
  }

  void set_a(Range rows, Range k_range) {
    const Operand<S>& a = args.a;
    panel.a_layout = a.layout;
    const bool by_rows = a.layout == Layout::kRows;
    const S* corner = a.data + (by_rows ? rows.begin * a.ld + k_range.begin : k_range.begin * a.ld + rows.begin);
    if (kernels.in_place && !(rows_conflict(a) && rows.size() > 4)) {
      panel.a = corner;
      panel.lda = a.ld;
      return;
    }
    const int64_t units = divide_up(k_range.size(), kernels.k_per_unit);
    // 16 units beyond a power of two, so that the packed rows do not conflict themselves.
    const int64_t ld = by_rows ? round_up(units, 16) + 16 : round_up(rows.size(), kernels.lanes);
    void* packed = scratch.take(ld * (by_rows ? rows.size() : units) * kernels.unit_bytes);
    if (by_rows) {
      kernels.pack_rows(corner, a.ld, rows.size(), k_range.size(), packed, ld);
    } else {
      kernels.pack_plain(corner, a.ld, k_range.size(), rows.size(), packed, ld);
    }
    panel.a = packed;
    panel.lda = ld;
  }

  void set_b(int64_t j, int64_t width, Range k_range, int64_t rows, void*& buffer) {
    panel.b_layout = Layout::kRows;
    if (args.b_packed != nullptr) {
      const int64_t units_before = k_range.begin / kernels.k_per_unit;
      panel.ldb = width;
      panel.b = static_cast<const char*>(args.b_packed->data) + j / width * args.b_packed->panel_bytes +
                units_before * width * kernels.unit_bytes;
      return;
    }
    const Operand<S>& b = args.b;
    const bool plain = b.layout == Layout::kRows;
    const S* corner = b.data + (plain ? k_range.begin * b.ld + j : j * b.ld + k_range.begin);
    const bool whole = panel.n % kernels.lanes == 0;
    if (kernels.in_place && whole && rows <= (plain ? kRowsWorthPacking : kernels.max_rows_unpacked)) {
      panel.b_layout = plain ? Layout::kRows : Layout::kColumns;
      panel.b = corner;
      panel.ldb = b.ld;
      if (!plain && rows_conflict(b)) {  // read along the rows first: 1024-1024, one row: 196 -> 130 us
        panel.ldb = k_range.size() + 64 / static_cast<int64_t>(sizeof(S));
        if (buffer == nullptr) buffer = scratch.take(width * panel.ldb * kernels.unit_bytes);
        kernels.pack_rows(corner, b.ld, panel.n, k_range.size(), buffer, panel.ldb);
        panel.b = buffer;
      }
      return;
    }
    if (buffer == nullptr) {
      buffer = scratch.take(width * divide_up(k_range.size(), kernels.k_per_unit) * kernels.unit_bytes);
    }
    panel.b = buffer;
    panel.ldb = round_up(panel.n, kernels.lanes);
    (plain ? kernels.pack_plain : kernels.pack_transposed)(corner, b.ld, k_range.size(), panel.n, buffer, panel.ldb);
  }
};

}  // namespace

KBlocks::KBlocks(int64_t k_, int64_t k_per_unit) : k(k_) {
  const int64_t units = divide_up(k, k_per_unit);
  count = std::max<int64_t>(1, divide_up(units, kMax));
  size = round_up(divide_up(units, count), 16) * k_per_unit;  // even blocks: 784 = 3 x 208 + 160, not 3 x 256 + 16
  count = std::max<int64_t>(1, divide_up(k, std::max<int64_t>(1, size)));
}

Range KBlocks::block(int64_t index) const { return {index * size, std::min(k, (index + 1) * size)}; }

template <class S>
int64_t packed_bytes(const Kernels<S>& kernels, int64_t k, int64_t n) {
  return panel_count(kernels, n) * divide_up(k, kernels.k_per_unit) * panel_width(kernels) * kernels.unit_bytes;
}

template <class S>
void pack_panel(const Kernels<S>& kernels, const Operand<S>& b, int64_t k, int64_t n, int64_t panel, void* data) {
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
  return round_up(std::clamp<int64_t>(kBlockBytes / (units * kernels.unit_bytes), 48, 480),
                  kernels.max_rows[kPanelVectors]);
}

template <class S>
void gemm(const Kernels<S>& kernels, const Gemm<S>& args, Range rows, Range columns) {
  if (rows.size() <= 0 || columns.size() <= 0) return;
  Scratch& scratch = Scratch::of_this_thread();
  Scratch::Frame frame(scratch);
  BlockLoops<S>(kernels, args, scratch).run(rows, columns);
}

#define PYFASTNN_INSTANTIATE(S)                                                                             \
  template int64_t packed_bytes(const Kernels<S>&, int64_t, int64_t);                                       \
  template void pack_panel(const Kernels<S>&, const Operand<S>&, int64_t, int64_t, int64_t, void*);         \
  template int64_t rows_in_cache(const Kernels<S>&, int64_t);                                               \
  template void gemm(const Kernels<S>&, const Gemm<S>&, Range, Range);
PYFASTNN_INSTANTIATE(float)
PYFASTNN_INSTANTIATE(double)
PYFASTNN_INSTANTIATE(BFloat16)
PYFASTNN_INSTANTIATE(Half)
#undef PYFASTNN_INSTANTIATE

}  // namespace pyfastnn::engine
