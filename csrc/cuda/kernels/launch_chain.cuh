// Definition of launch_chain: which instance of the chain runs.
#pragma once

#include "chain_ffma.cuh"
#include "chain_mma.cuh"
#include "launch_chain.h"

namespace pyfastnn::cuda {

// Whether any rows are brought or stored element by element.
inline bool is_staged(const Chain& chain) {
  unsigned whole = chain.whole;
  for (int l = 0; l < chain.depth; ++l) whole &= chain.layers[l].whole;
  constexpr unsigned kRows = kWholeInput | kWholeMask | kWholeOutput;
  return (whole & kRows) != kRows;
}

template <class T, int WIDTH, Pass PASS>
cudaError_t launch_chain_mma(const Chain& chain, cudaStream_t stream) {
  using Tile = ChainTile<T, WIDTH>;
  const dim3 grid(static_cast<unsigned>(ceil_div(chain.rows, Tile::kRows)));
  const int shared = Tile::kShared + (is_staged(chain) ? Tile::kStaging : 0);
  return launch(chain_mma<T, WIDTH, PASS>, grid, Tile::kThreads, shared, chain, stream);
}

template <int WIDTH, Pass PASS>
cudaError_t launch_chain_ffma(const Chain& chain, cudaStream_t stream) {
  using C = ChainFfma<WIDTH>;
  const dim3 grid(static_cast<unsigned>(ceil_div(chain.rows, C::kRows)));
  return launch(chain_ffma<WIDTH, PASS>, grid, C::kThreads, C::kShared, chain, stream);
}

template <int WIDTH, Pass PASS>
cudaError_t launch_chain_of(const Chain& chain, DType dtype, Float32Math math,
                            cudaStream_t stream) {
  if (dtype == DType::kBFloat16) return launch_chain_mma<Bf16, WIDTH, PASS>(chain, stream);
  if (dtype == DType::kFloat16) return launch_chain_mma<F16, WIDTH, PASS>(chain, stream);
  if (math == Float32Math::kTF32) return launch_chain_mma<Tf32, WIDTH, PASS>(chain, stream);
  return launch_chain_ffma<WIDTH, PASS>(chain, stream);
}

template <Pass PASS>
cudaError_t launch_chain(const Chain& chain, int64_t width, DType dtype, Float32Math math,
                         cudaStream_t stream) {
  return chain_width(width) == 64 ? launch_chain_of<64, PASS>(chain, dtype, math, stream)
                                  : launch_chain_of<128, PASS>(chain, dtype, math, stream);
}

}  // namespace pyfastnn::cuda
