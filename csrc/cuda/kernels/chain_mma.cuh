// The chain on tensor cores. Results of a layer stay in registers: a warp owns whole rows, and what
// an mma leaves in a lane is what the next layer's mma takes from it.
//
// That holds if the order of k inside an mma is chosen to fit. A lane 4g + t holds 16-byte chunks:
// of row g, chunk t of every group of four. As A operand the words 0, 1 of a chunk make one mma,
// the words 2, 3 the next; the B operand takes the same words of its chunk, one 16-byte load for
// two mma. As a result, tile j of a group gives word j (or words 2j, 2j + 1 of floats) if its
// column slot 2t + c is column t * kElements + 2j + c of the group: B is read in that order. So
// inputs, results and masks travel as 16-byte words, and no result passes through shared memory.
//
// Weights come to shared memory piece by piece, the next one while this one is multiplied.
#pragma once

#include "chain_rows.cuh"
#include "chain_weights.cuh"

namespace pyfastnn::cuda {

// acc = act B^T (+ bias) for the columns of one piece. FULL: it has all columns, in both
// dimensions.
template <class T, class Tile, int PIECE, bool BIAS, bool FULL>
__device__ __forceinline__ void multiply(typename Tile::Sums& acc, const typename Tile::Rows& act,
                                         int k_groups, int n_groups, const unsigned char* slot,
                                         const float* bias) {
  constexpr int kPieceGroups = Tile::kPieceRows / Tile::kGroup;
  keep_apart<FULL>();
  const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
  // Chunk t of the row that is tile 0's column g; odd rows have their halves exchanged.
  const uint32_t row =
      shared_address(slot) + (g / 2 * T::kElements + g % 2) * Tile::kStride + t * kChunkBytes;
  const uint32_t even = in_register(row + g % 2 * 64), odd = in_register(row + 64 - g % 2 * 64);
  const uint32_t bias_at = in_register(shared_address(bias) + t * T::kElements * 4);
  unroll<Tile::kGroups>([&](auto k) {
    if (!FULL && k >= k_groups) return;
    unroll<kPieceGroups>([&](auto local) {
      constexpr int n = PIECE * kPieceGroups + local;
      if (!FULL && n >= n_groups) return;
      float initial[T::kElements] = {};
      if constexpr (BIAS && k == 0) load_floats<n * Tile::kGroup * 4>(initial, bias_at);
      unroll<Tile::kTiles>([&](auto j) {
        Chunk b;
        load_16<(local * Tile::kGroup + 2 * j) * Tile::kStride + k / 2 * 128>(
            b, k % 2 == 0 ? even : odd);
#pragma unroll
        for (int m = 0; m < Tile::kMTiles; ++m) {
          float (&d)[4] = acc[m][n][j];
          const Chunk(&a)[2] = act[m][k];
          const bool first = k == 0;
          const float low = first ? initial[2 * j] : d[0], high = first ? initial[2 * j + 1] : d[1];
          T::mma(d, a[0][0], a[1][0], a[0][1], a[1][1], b[0], b[1], low, high, first ? low : d[2],
                 first ? high : d[3]);
        }
#pragma unroll
        for (int m = 0; m < Tile::kMTiles; ++m) {
          float (&d)[4] = acc[m][n][j];
          const Chunk(&a)[2] = act[m][k];
          T::mma(d, a[0][2], a[1][2], a[0][3], a[1][3], b[2], b[3], d[0], d[1], d[2], d[3]);
        }
      });
    });
  });
  keep_apart<FULL>();
}

template <class T, int WIDTH, Pass PASS>
__global__ void __launch_bounds__(ChainTile<T, WIDTH>::kThreads, ChainTile<T, WIDTH>::kBlocks)
    chain_mma(const __grid_constant__ Chain chain) {
  using Tile = ChainTile<T, WIDTH>;
  constexpr bool kBias = PASS == Pass::kFprop;
  extern __shared__ __align__(128) unsigned char shared[];
  float* biases = reinterpret_cast<float*>(shared + 2 * Tile::kSlotBytes);  // [2][WIDTH]
  const int warp_number = threadIdx.x / 32, depth = in_register(chain.depth);
  WarpRows warp;
  warp.first = static_cast<int64_t>(blockIdx.x) * Tile::kRows + warp_number * Tile::kWarpRows;
  const int64_t left = chain.rows - warp.first;
  warp.count = static_cast<int>(max(min(left, int64_t{Tile::kWarpRows}), int64_t{0}));
  warp.stage = shared + Tile::kShared + warp_number * Tile::kWarpRows * Tile::kStride;

  if (depth > 0) {
    bring_weights<T, Tile>(chain.layers[0], 0, shared);
    if (kBias && threadIdx.x < WIDTH) biases[threadIdx.x] = bias_of<T>(chain.layers[0]);
  }
  typename Tile::Rows act;
  load_input<T, Tile, PASS>(act, chain, warp);

  int slot = 0;
#pragma unroll 1
  for (int l = 0; l < depth; ++l) {
    const ChainLayer& layer = chain.layers[l];
    const int in = in_register<int>(layer.in), out = in_register<int>(layer.out);
    typename Tile::Sums acc;
    unroll<Tile::kPieces>([&](auto piece) {
      unsigned char* here = shared + slot * Tile::kSlotBytes;
      wait_for_copies<0>();
      if constexpr (PASS == Pass::kFprop) round_weights<T, Tile>(layer, piece, here);
      __syncthreads();  // this piece is there for all, and nobody reads the other slot any more
      slot ^= 1;
      unsigned char* there = shared + slot * Tile::kSlotBytes;
      const bool last_piece = piece == Tile::kPieces - 1, more = l + 1 < depth;
      float next_bias = 0;  // on its way while this piece is multiplied
      if (!last_piece) {
        bring_weights<T, Tile>(layer, piece + 1, there);
      } else if (more) {
        bring_weights<T, Tile>(chain.layers[l + 1], 0, there);
        if (kBias) next_bias = bias_of<T>(chain.layers[l + 1]);
      }
      const int k_groups = groups_of<Tile>(in), n_groups = groups_of<Tile>(out);
      const float* bias = biases + l % 2 * WIDTH;
      // 16-bit networks of 128 columns have no registers left for a second variant.
      if (T::kNeedsRounding && k_groups == Tile::kGroups && n_groups == Tile::kGroups)
        multiply<T, Tile, piece, kBias, T::kNeedsRounding>(acc, act, k_groups, n_groups, here,
                                                           bias);
      else
        multiply<T, Tile, piece, kBias, false>(acc, act, k_groups, n_groups, here, bias);
      if (kBias && last_piece && more && threadIdx.x < WIDTH)
        biases[(l + 1) % 2 * WIDTH + threadIdx.x] = next_bias;
    });
    finish_rows<T, Tile, PASS>(act, acc, layer, out, warp, l + 1 < depth);
  }
}

}  // namespace pyfastnn::cuda
