// Tables of taps from Python: arrays whose numbers decide where memory is read, so they are copied and checked.
#pragma once
#include "array_check.h"
#include "ops/maps/resample.h"

namespace pycnn {

// (first [outputs + 1], index [taps], weight [taps]): int64, int64 and float64; `inputs`: of the axis that is read.
inline Taps taps_of(const py::tuple& table, int64_t inputs) {
    const auto refuse = [] { throw py::value_error("resample: the table of taps does not fit the axis it is for."); };
    using Whole = py::array_t<int64_t, py::array::c_style>;
    using Real = py::array_t<double, py::array::c_style>;
    if (table.size() != 3 || !py::isinstance<Whole>(table[0]) || !py::isinstance<Whole>(table[1]) ||
        !py::isinstance<Real>(table[2]))
        refuse();
    const auto first = table[0].cast<py::array>(), index = table[1].cast<py::array>(),
               weight = table[2].cast<py::array>();
    Taps taps{copy_of<int64_t>(first), copy_of<int64_t>(index), copy_of<double>(weight)};
    if (taps.first.size() < 2 || taps.index.size() != taps.weight.size()) refuse();
    int64_t end = 0;
    for (const int64_t next : taps.first) {
        if (next < end) refuse();
        end = next;
    }
    if (taps.first.front() != 0 || end != static_cast<int64_t>(taps.index.size())) refuse();
    for (const int64_t i : taps.index)
        if (i < 0 || i >= inputs) refuse();
    return taps;
}

}  // namespace pycnn
