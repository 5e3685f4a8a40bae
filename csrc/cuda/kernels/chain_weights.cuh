// How a block of the chain is divided, and how weights come to shared memory.
#pragma once

#include "chain.h"
#include "numbers.cuh"

namespace pyfastnn::cuda {

// WIDTH: columns that fit; every layer has 1 to WIDTH.
template <class T, int WIDTH>
struct ChainTile {
  using Element = typename T::Element;
  static constexpr int kGroup = 4 * T::kElements;        // columns of 64 bytes
  static constexpr int kGroups = WIDTH / kGroup;         // of a row
  static constexpr int kTiles = T::kElements / 2;        // mma tiles of 8 columns in a group
  static constexpr int kChunks = WIDTH / T::kElements;   // 16-byte words of a row of weights
  static constexpr int kStride = kChunks * kChunkBytes;  // bytes from row to row
  static constexpr int kMTiles = kGroups > 4 ? 1 : 2;    // tiles of 16 rows: 64 registers of A
  static constexpr int kWarps = kGroups > 4 ? 8 : 4;
  static constexpr int kThreads = 32 * kWarps;
  // Of a multiprocessor with 65536 registers; said so that none of a thread's is saved beyond that.
  static constexpr int kBlocks = kWarps == 8 ? 1 : kGroups == 2 ? 3 : 2;
  static constexpr int kWarpRows = 16 * kMTiles;
  static constexpr int kRows = kWarps * kWarpRows;  // of a block
  static constexpr int kPieceRows = WIDTH * kStride > 32768 ? WIDTH / 2 : WIDTH;
  static constexpr int kPieces = WIDTH / kPieceRows;  // of a layer
  static constexpr int kSlotBytes = kPieceRows * kStride;
  static constexpr int kShared = 2 * kSlotBytes + 2 * WIDTH * static_cast<int>(sizeof(float));
  // 16-bit rows that are not whole words pass through more of it; floats are fine one by one.
  static constexpr bool kStages = sizeof(Element) == 2;
  static constexpr int kStaging = kStages ? kRows * kStride : 0;

  using Rows = Chunk[kMTiles][kGroups][2];  // rows g and g + 8 of each tile
  using Sums = float[kMTiles][kGroups][kTiles][4];
};

template <class Tile>
__device__ __forceinline__ int groups_of(int columns) {
  return (columns + Tile::kGroup - 1) / Tile::kGroup;
}

// Where chunk `chunk` of row `row` of the weights lies. Eight lanes read four neighbouring chunks
// of an even row and the odd row behind it at a time: both halves of the banks, once.
template <class Tile>
__device__ __forceinline__ int weight_offset(int row, int chunk) {
  return row * Tile::kStride + (chunk ^ (row % 2 * 4)) * kChunkBytes;
}

// Calls visit(row, chunk) for the 16-byte words of a piece that this thread brings: rows and
// columns that the products read, so up to whole groups.
template <class Tile, int UNROLL, class Visit>
__device__ __forceinline__ void for_own_words(int in, int out, int piece, Visit visit) {
  constexpr int kStep = Tile::kThreads / Tile::kChunks;
  static_assert(kStep % 2 == 0, "all rows of a thread are even, or all are odd");
  const int chunk = threadIdx.x % Tile::kChunks;
  if (chunk / 4 >= groups_of<Tile>(in)) return;
  const int rows =
      min(groups_of<Tile>(out) * Tile::kGroup - piece * Tile::kPieceRows, Tile::kPieceRows);
#pragma unroll UNROLL
  for (int row = threadIdx.x / Tile::kChunks; row < rows; row += kStep) visit(row, chunk);
}

template <class T, class Tile>
__device__ __forceinline__ void bring_weights(const ChainLayer& layer, int piece,
                                              unsigned char* slot) {
  using Element = typename T::Element;
  constexpr int kStep = Tile::kThreads / Tile::kChunks;
  const int in = in_register<int>(layer.in), out = in_register<int>(layer.out);
  const int64_t ld = in_register<int>(layer.weight_ld);
  const int chunk = threadIdx.x % Tile::kChunks, first = threadIdx.x / Tile::kChunks;
  const Element* weight = static_cast<const Element*>(layer.weight);
  const Element* from = weight + (piece * Tile::kPieceRows + first) * ld + chunk * T::kElements;
  unsigned char* to = slot + weight_offset<Tile>(first, chunk);
  const bool whole = layer.whole & kWholeWeight;
  if (whole && in % Tile::kGroup == 0 && out % Tile::kGroup == 0) {
    keep_apart<1>();
    uint32_t at = shared_address(to);
    for_own_words<Tile, 8>(in, out, piece, [&](int, int) {
      copy_16(at, from);
      from += kStep * ld;
      at += kStep * Tile::kStride;
    });
    keep_apart<1>();
  } else {
    for_own_words<Tile, 1>(in, out, piece, [&](int row, int) {
      const int valid = piece * Tile::kPieceRows + row < out ? in - chunk * T::kElements : 0;
      if (whole) {
        copy_16(shared_address(to), valid > 0 ? from : weight, valid > 0);
      } else {
        Chunk words;
        load_elements(words, from, valid);
        store_16(shared_address(to), words);
      }
      from += kStep * ld;
      to += kStep * Tile::kStride;
    });
  }
  commit_copies();
}

// The words that this thread brought itself, so no barrier is needed before. Transposed weights of
// dgrad come rounded.
template <class T, class Tile>
__device__ __forceinline__ void round_weights(const ChainLayer& layer, int piece,
                                              unsigned char* slot) {
  if constexpr (T::kNeedsRounding)
    for_own_words<Tile, 4>(layer.in, layer.out, piece, [&](int row, int chunk) {
      round_shared<0>(shared_address(slot + weight_offset<Tile>(row, chunk)));
    });
}

template <class T>
__device__ __forceinline__ float bias_of(const ChainLayer& layer) {
  if (layer.extra == nullptr || threadIdx.x >= layer.out) return 0;
  return T::to_float(__ldg(static_cast<const typename T::Element*>(layer.extra) + threadIdx.x));
}

}  // namespace pyfastnn::cuda
