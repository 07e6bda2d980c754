// Which instruction set runs: the best that was compiled and that the CPU has, or a lower one by PYCNN_ISA or use_isa.
#pragma once
#include <string>
#include <vector>

#include "../kernels/kernels.h"

namespace pycnn {

const Kernels& kernels();                   // the active table
std::vector<std::string> available_isas();  // compiled and supported, lowest first
void use_isa(const std::string& name);      // throws std::invalid_argument with a sentence
bool cpu_is_supported();                    // has at least the baseline

}  // namespace pycnn
