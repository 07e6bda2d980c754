// The check of `algorithm=` that all operators with a convolution share.
#pragma once
#include <initializer_list>
#include <string>

#include "array_check.h"
#include "ops/conv2d/conv2d.h"

namespace pycnn {

inline void check_algorithm(const std::string& op, const std::string& name, const Conv2dShape& s,
                            std::initializer_list<Direction> directions, bool float64 = false) {
    if (name == "auto") return;
    const Algorithm* known = nullptr;
    std::string names = "\"auto\"";
    for (const Algorithm* a : algorithms()) {
        if (name == a->name) known = a;
        if (names.find(a->name) == std::string::npos) names += std::string(", \"") + a->name + "\"";
    }
    if (!known) throw py::value_error(op + ": algorithm is \"" + name + "\"; expected one of " + names + ".");
    if (float64 && name != "naive")
        throw py::value_error(op + ": algorithm=\"" + name +
                              "\" computes float32 only; expected \"auto\" or \"naive\" for float64 arrays.");
    const auto sizes = [](int64_t h, int64_t w) { return std::to_string(h) + " x " + std::to_string(w); };
    for (const Direction d : directions)
        if (!find_algorithm(name, s, d))
            throw py::value_error(
                op + ": algorithm=\"" + name + "\" computes " + known->computes + "; here C = " + std::to_string(s.C) +
                ", OC = " + std::to_string(s.OC) + ", the window is " + sizes(s.KH, s.KW) + ", stride " +
                sizes(s.stride_h, s.stride_w) + ", dilation " + sizes(s.dilation_h, s.dilation_w) +
                ", groups = " + std::to_string(s.groups) + "; expected \"auto\" or \"direct\" for this shape.");
}

}  // namespace pycnn
