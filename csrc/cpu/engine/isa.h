// Choice of the instruction set (ISA) at run time. The only process-wide state of the engine.
#pragma once

#include <string>
#include <vector>

namespace pyfastnn::engine {

// Names of what this processor can run, slowest first; a subset of baseline, avx2, avx512,
// avx512_bf16.
std::vector<std::string> available_isas();

// The best available one, unless the environment variable PYFASTNN_ISA or set_isa named another.
std::string active_isa();

// Throws std::invalid_argument, which names what is available, for a name that is unknown or not
// available.
void set_isa(const std::string& name);

}  // namespace pyfastnn::engine
