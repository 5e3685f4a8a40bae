// One layer on tensor cores: the usual tiled product. Slices of 128 bytes along k of the rows of
// both operands pass through shared memory in three stages; a warp multiplies its tile by ldmatrix
// and mma.
//
// Rows of W lie there in an order that gives a lane neighbouring columns of Y: row 2t + c of mma
// tile j is column t * kElements + 2j + c of its group, so that results leave as 16-byte words.
#pragma once

#include "linear.h"
#include "numbers.cuh"

namespace pyfastnn::cuda {

// ROWS x COLUMNS of Y for a block, in 2 x 2 warps.
template <class T, int ROWS, int COLUMNS>
struct LinearTile {
  static constexpr int kWarpRows = ROWS / 2, kWarpColumns = COLUMNS / 2;
  static constexpr int kThreads = 128;
  static constexpr int kMTiles = kWarpRows / 16, kNTiles = kWarpColumns / 8;
  static constexpr int kGroup = 4 * T::kElements;       // columns of Y that make 64 bytes
  static constexpr int kGroupTiles = T::kElements / 2;  // mma tiles of a group
  static constexpr int kChunks = 8, kStride = kChunks * kChunkBytes;
  static constexpr int kSliceK = kChunks * T::kElements;
  static constexpr int kStages = 3;
  static constexpr int kStage = (ROWS + COLUMNS) * kStride;
  static constexpr int kShared = kStages * kStage;
};

// Where row n of a tile of W lies.
template <class T>
__device__ __forceinline__ int row_of_column(int n) {
  constexpr int kGroup = 4 * T::kElements;
  const int t = n % kGroup / T::kElements, e = n % T::kElements;
  return n / kGroup * kGroup + e / 2 * 8 + 2 * t + e % 2;
}

// What this thread brings of one operand: the same chunk of every n-th of ROWS rows. Chunks of a
// row are exchanged so that a chunk of 8 rows lies in 8 different banks.
template <class T, class Tile, int ROWS, bool WEIGHT>
class SliceMover {
 public:
  using Element = typename T::Element;
  static constexpr int kStep = Tile::kThreads / Tile::kChunks;  // rows of a pass
  static constexpr int kPasses = ROWS / kStep;
  static_assert(kStep == 16, "rows two passes apart lie 32 rows apart, in either order");

  __device__ __forceinline__ SliceMover(const void* matrix, int64_t first, int64_t rows, int64_t ld,
                                        bool whole, unsigned char* stages)
      : whole_(whole),
        all_rows_(first + ROWS <= rows),
        rows_(static_cast<int>(min(rows - first - row(), int64_t{ROWS}))),
        pass_(kStep * ld),
        left_(ld - chunk() * T::kElements),
        from_(static_cast<const Element*>(matrix) + (first + row()) * ld + chunk() * T::kElements) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int place = WEIGHT ? row_of_column<T>(row() + i * kStep) : row() + i * kStep;
      to_[i] = in_register(shared_address(stages) + place * Tile::kStride +
                           (chunk() ^ (place % 8)) * kChunkBytes);
    }
  }

  // The next slice along k, zeros behind the last row and column, to a stage `offset` bytes behind
  // the first.
  __device__ __forceinline__ void bring(uint32_t offset) {
    const Element* from = from_;
    const uint32_t to[2] = {to_[0] + offset, to_[1] + offset};
    if (whole_ && all_rows_ && left_ > 0) {
      keep_apart<1>();
#pragma unroll
      for (int i = 0; i < kPasses; ++i, from += pass_)
        copy_16(to[i % 2] + i / 2 * 32 * Tile::kStride, from);
      keep_apart<1>();
    } else {
      const int valid = static_cast<int>(max(min(left_, int64_t{T::kElements}), int64_t{0}));
#pragma unroll 1
      for (int i = 0; i < kPasses; ++i, from += pass_) {
        const bool exists = i * kStep < rows_ && valid > 0;
        const uint32_t at = (i % 2 == 0 ? to[0] : to[1]) + i / 2 * 32 * Tile::kStride;
        if (whole_) {
          copy_16(at, from, exists);
        } else {
          Chunk words;
          load_elements(words, from, exists ? valid : 0);
          store_16(at, words);
        }
      }
    }
    from_ += Tile::kSliceK;
    left_ -= Tile::kSliceK;
  }

 private:
  static __device__ __forceinline__ int chunk() { return threadIdx.x % Tile::kChunks; }
  static __device__ __forceinline__ int row() { return threadIdx.x / Tile::kChunks; }

  bool whole_, all_rows_;
  int rows_;
  int64_t pass_, left_;
  const Element* from_;
  uint32_t to_[2];
};

// One stage of the product for this warp. at_a, at_b: this lane's row of the first tile, each
// step's chunk.
template <class T, class Tile>
__device__ __forceinline__ void multiply_stage(float (&acc)[Tile::kMTiles][Tile::kNTiles][4],
                                               const uint32_t (&at_a)[4], const uint32_t (&at_b)[4],
                                               uint32_t offset) {
#pragma unroll
  for (int step = 0; step < 4; ++step) {
    Chunk a[Tile::kMTiles], b[Tile::kNTiles / 2];
    unroll<Tile::kMTiles>([&](auto i) {
      load_matrices<i * 16 * Tile::kStride>(a[i], at_a[step] + offset);
      round_for_mma<T>(a[i]);
    });
    unroll<Tile::kNTiles / 2>([&](auto j) {
      load_matrices<j * 16 * Tile::kStride>(b[j], at_b[step] + offset);
      round_for_mma<T>(b[j]);
    });
#pragma unroll
    for (int i = 0; i < Tile::kMTiles; ++i)
#pragma unroll
      for (int j = 0; j < Tile::kNTiles; ++j) {
        float (&d)[4] = acc[i][j];
        T::mma(d, a[i][0], a[i][1], a[i][2], a[i][3], b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1],
               d[0], d[1], d[2], d[3]);
      }
  }
}

// EXACT: all rows and columns of the tile exist, and rows of Y are whole words.
template <class T, class Tile, bool RELU, bool EXACT>
__device__ __forceinline__ void store_tile(const float (&acc)[Tile::kMTiles][Tile::kNTiles][4],
                                           const LinearArgs& args, int64_t row0, int64_t column0) {
  using Element = typename T::Element;
  constexpr int kGroups = Tile::kNTiles / Tile::kGroupTiles;
  keep_apart<2 * RELU + EXACT>();
  const int rows = static_cast<int>(min(args.rows - row0, int64_t{Tile::kWarpRows}));
  const int columns = static_cast<int>(min(args.out - column0, int64_t{Tile::kWarpColumns}));
  Element* first = static_cast<Element*>(args.output) + row0 * args.out + column0;
  const Element* bias_at = static_cast<const Element*>(args.bias) + column0;
#pragma unroll
  for (int n = 0; n < kGroups; ++n) {
    const int valid = columns - n * Tile::kGroup;
    float bias[T::kElements] = {};
    if (args.bias != nullptr)
#pragma unroll
      for (int e = 0; e < T::kElements; ++e)
        if (EXACT || e < valid) bias[e] = T::to_float(__ldg(bias_at + n * Tile::kGroup + e));
    Element* to = first;
#pragma unroll
    for (int i = 0; i < 2 * Tile::kMTiles; ++i, to += 8 * args.out) {
      float values[T::kElements];
#pragma unroll
      for (int e = 0; e < T::kElements; ++e)
        values[e] = acc[i / 2][n * Tile::kGroupTiles + e / 2][i % 2 * 2 + e % 2] + bias[e];
      Chunk chunk;
      chunk_of<T, RELU>(chunk, values);
      if (!EXACT && 8 * i >= rows) continue;
      if (EXACT || (args.whole_output && valid > 0))
        store_chunk(to + n * Tile::kGroup, chunk);
      else
        store_elements(to + n * Tile::kGroup, chunk, valid);
    }
  }
  keep_apart<2 * RELU + EXACT>();
}

template <class T, int ROWS, int COLUMNS>
__global__ void __launch_bounds__(128) linear_mma(const __grid_constant__ LinearArgs args) {
  using Tile = LinearTile<T, ROWS, COLUMNS>;
  extern __shared__ __align__(128) unsigned char shared[];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int64_t row0 = static_cast<int64_t>(blockIdx.x % args.row_tiles) * ROWS;
  const int64_t column0 = static_cast<int64_t>(blockIdx.x / args.row_tiles) * COLUMNS;
  const int steps = static_cast<int>((args.in + Tile::kSliceK - 1) / Tile::kSliceK);
  SliceMover<T, Tile, ROWS, false> input(args.input, row0, args.rows, args.in, args.whole_input,
                                         shared);
  SliceMover<T, Tile, COLUMNS, true> weight(args.weight, column0, args.out, args.in,
                                            args.whole_weight, shared + ROWS * Tile::kStride);
  auto bring = [&](int step, uint32_t offset) {
    if (step < steps) {
      input.bring(offset);
      weight.bring(offset);
    }
    commit_copies();
  };

  const int warp_row = warp % 2 * Tile::kWarpRows, warp_column = warp / 2 * Tile::kWarpColumns;
  const uint32_t start = shared_address(shared);
  uint32_t at_a[4], at_b[4];
#pragma unroll
  for (int step = 0; step < 4; ++step) {
    at_a[step] = in_register(start + (warp_row + lane % 16) * Tile::kStride +
                             ((2 * step + lane / 16) ^ (lane % 8)) * kChunkBytes);
    at_b[step] =
        in_register(start + (ROWS + warp_column + lane % 8 + lane / 16 * 8) * Tile::kStride +
                    ((2 * step + lane / 8 % 2) ^ (lane % 8)) * kChunkBytes);
  }
  float acc[Tile::kMTiles][Tile::kNTiles][4] = {};
#pragma unroll
  for (int step = 0; step < Tile::kStages - 1; ++step) bring(step, step * Tile::kStage);
  uint32_t here = 0, there = (Tile::kStages - 1) * Tile::kStage;
#pragma unroll 1
  for (int step = 0; step < steps; ++step) {
    wait_for_copies<Tile::kStages - 2>();
    __syncthreads();  // this stage is there for all, and the one before is free
    bring(step + Tile::kStages - 1, there);
    multiply_stage<T, Tile>(acc, at_a, at_b, here);
    there = here;
    here = here == (Tile::kStages - 1) * Tile::kStage ? 0 : here + Tile::kStage;
  }

  const int64_t row = row0 + warp_row + lane / 4;
  const int64_t column = column0 + warp_column + lane % 4 * T::kElements;
  const bool exact = args.whole_output && row0 + ROWS <= args.rows && column0 + COLUMNS <= args.out;
  if (args.relu && exact)
    store_tile<T, Tile, true, true>(acc, args, row, column);
  else if (args.relu)
    store_tile<T, Tile, true, false>(acc, args, row, column);
  else if (exact)
    store_tile<T, Tile, false, true>(acc, args, row, column);
  else
    store_tile<T, Tile, false, false>(acc, args, row, column);
}

}  // namespace pyfastnn::cuda
