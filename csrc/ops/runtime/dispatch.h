// Which instruction set runs: the best that was compiled and that the CPU has, or a lower one by PYCNN_ISA or use_isa.
//
// An operator asks for the table many times, and sizes buffers by the tiles of one for the kernels of the other. So it
// holds KernelsInUse from its first question to its last, and use_isa waits until nobody does.
#pragma once
#include <string>
#include <vector>

#include "kernels/kernels.h"

namespace pycnn {

class KernelsInUse {
  public:
    KernelsInUse();
    ~KernelsInUse();
    KernelsInUse(const KernelsInUse&) = delete;
    KernelsInUse& operator=(const KernelsInUse&) = delete;
};

// Waits until no operator runs, and keeps others from beginning: for settings that an operator reads more than once.
class NoKernelsInUse {
  public:
    NoKernelsInUse();
    ~NoKernelsInUse();
    NoKernelsInUse(const NoKernelsInUse&) = delete;
    NoKernelsInUse& operator=(const NoKernelsInUse&) = delete;
};

struct Build {
    const char *version, *source_hash, *compiler;
};

Build build();
const Kernels& kernels();                   // the active table
std::vector<std::string> available_isas();  // compiled and supported, lowest first
void use_isa(const std::string& name);      // throws std::invalid_argument; not while KernelsInUse is held
bool cpu_is_supported();                    // has at least the baseline

}  // namespace pycnn
