// Gradients that were kept: their norm, and the update with them. The norm of the weights.
#include <algorithm>

#include "parallel.h"
#include "update.h"

namespace pyfastnn::engine {
namespace {

// Elements of a parameter or its gradient that one task takes, a constant because sums depend on
// it.
constexpr int64_t kChunk = 1 << 16;

template <class P>
struct Chunk {
  const Parameter<P>* parameter;
  int64_t offset, size;
  const P* values;
};

template <class P>
void add_chunks(const Parameter<P>& parameter, const P* values, std::vector<Chunk<P>>& chunks) {
  for (int64_t at = 0; at < parameter.size; at += kChunk)
    chunks.push_back({&parameter, at, std::min(kChunk, parameter.size - at), values + at});
}

template <class P>
std::vector<Chunk<P>> chunks_of(const std::vector<TrainedLayer<P>>& layers, const P* gradients) {
  std::vector<Chunk<P>> chunks;
  for (const auto& layer : layers) {
    for (const Parameter<P>* parameter : {&layer.weight, &layer.bias}) {
      if (!parameter->needs_gradient) continue;
      add_chunks(*parameter, gradients, chunks);
      gradients += parameter->size;
    }
  }
  return chunks;
}

template <class P>
double sum_of_squares(const std::vector<Chunk<P>>& chunks) {
  int64_t elements = 0;
  for (const Chunk<P>& chunk : chunks) elements += chunk.size;
  const int64_t count = static_cast<int64_t>(chunks.size());
  std::vector<double> sums(chunks.size());
  parallel_tasks(count, threads_for(8 * elements), [&](int64_t i) {
    sums[i] = active_training_kernels<P>().sum_of_squares(chunks[i].values, chunks[i].size);
  });
  double total = 0;
  for (double sum : sums) total += sum;
  return total;
}

}  // namespace

template <class P>
int64_t gradient_count(const std::vector<TrainedLayer<P>>& layers) {
  int64_t count = 0;
  for (const auto& layer : layers) {
    for (const Parameter<P>* parameter : {&layer.weight, &layer.bias})
      count += parameter->needs_gradient ? parameter->size : 0;
  }
  return count;
}

template <class P>
double squared_norm(const std::vector<TrainedLayer<P>>& layers, const P* gradients) {
  return sum_of_squares(chunks_of(layers, gradients));
}

template <class P>
double squared_weights(const std::vector<TrainedLayer<P>>& layers) {
  std::vector<Chunk<P>> chunks;
  for (const auto& layer : layers) add_chunks(layer.weight, layer.weight.data, chunks);
  return sum_of_squares(chunks);
}

template <class P>
void apply_gradients(const std::vector<TrainedLayer<P>>& layers, const P* gradients,
                     double grad_scale) {
  const auto chunks = chunks_of(layers, gradients);
  parallel_tasks(static_cast<int64_t>(chunks.size()), threads_for(16 * gradient_count(layers)),
                 [&](int64_t i) {
                   const Chunk<P>& chunk = chunks[i];
                   if (!chunk.parameter->is_updated) return;
                   update_block(*chunk.parameter, chunk.offset, 1, chunk.size, 0, {chunk.values, 0},
                                grad_scale);
                 });
}

#define PYFASTNN_INSTANTIATE(P)                                                \
  template int64_t gradient_count(const std::vector<TrainedLayer<P>>&);        \
  template double squared_weights(const std::vector<TrainedLayer<P>>&);        \
  template double squared_norm(const std::vector<TrainedLayer<P>>&, const P*); \
  template void apply_gradients(const std::vector<TrainedLayer<P>>&, const P*, double);
PYFASTNN_INSTANTIATE(float)
PYFASTNN_INSTANTIATE(double)
#undef PYFASTNN_INSTANTIATE

}  // namespace pyfastnn::engine
