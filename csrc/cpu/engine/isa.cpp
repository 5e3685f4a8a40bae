// The list of instruction sets, detection, and the choice that is in force.
#include "isa.h"

#include <atomic>
#include <cstdlib>
#include <stdexcept>

#include "training_kernels.h"

namespace pyfastnn::engine {
namespace {

// Slowest first.
constexpr const Isa* kIsas[] = {
    &kBaseline,
#if defined(__x86_64__)
    &kAvx2,
    &kAvx512,
    &kAvx512Bf16,
#endif
};

const Isa& find(const std::string& name) {
  std::string available;
  for (const Isa* isa : kIsas) {
    if (!isa->is_supported()) continue;
    if (name == isa->name) return *isa;
    available += (available.empty() ? "" : ", ") + std::string(isa->name);
  }
  throw std::invalid_argument("expected an instruction set that this processor can run (" +
                              available + "), got '" + name + "'");
}

const Isa& initial() {
  if (const char* name = std::getenv("PYFASTNN_ISA"); name != nullptr && *name != '\0') {
    try {
      return find(name);
    } catch (const std::invalid_argument& error) {
      throw std::runtime_error("environment variable PYFASTNN_ISA: " + std::string(error.what()));
    }
  }
  const Isa* best = &kBaseline;
  for (const Isa* isa : kIsas) {
    if (isa->is_supported()) best = isa;
  }
  return *best;
}

// Set when first asked for; the Python module asks on import, so that a wrong PYFASTNN_ISA is
// reported there.
std::atomic<const Isa*>& active() {
  static std::atomic<const Isa*> isa{&initial()};
  return isa;
}

}  // namespace

std::vector<std::string> available_isas() {
  std::vector<std::string> names;
  for (const Isa* isa : kIsas) {
    if (isa->is_supported()) names.emplace_back(isa->name);
  }
  return names;
}

std::string active_isa() { return active_isa_tables().name; }

void set_isa(const std::string& name) { active().store(&find(name)); }

const Isa& active_isa_tables() { return *active().load(std::memory_order_relaxed); }

template <>
const Kernels<float>& active_kernels<float>() {
  return *active_isa_tables().f32;
}
template <>
const Kernels<double>& active_kernels<double>() {
  return *active_isa_tables().f64;
}
template <>
const Kernels<BFloat16>& active_kernels<BFloat16>() {
  return *active_isa_tables().bf16;
}
template <>
const Kernels<Half>& active_kernels<Half>() {
  return *active_isa_tables().f16;
}

template <>
const TrainingKernels<float>& active_training_kernels<float>() {
  return *active_isa_tables().training_f32;
}
template <>
const TrainingKernels<double>& active_training_kernels<double>() {
  return *active_isa_tables().training_f64;
}
template <>
const TrainingKernels<BFloat16>& active_training_kernels<BFloat16>() {
  return *active_isa_tables().training_bf16;
}

}  // namespace pyfastnn::engine
