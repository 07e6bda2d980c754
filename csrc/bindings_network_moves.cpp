// Steps of a network that move numbers, and that resample images.

#include <pybind11/stl.h>

#include <array>
#include <cstdlib>
#include <tuple>

#include "bindings_moves.h"
#include "bindings_network.h"

namespace pycnn {
namespace network_moves_bindings {
namespace {

// (which of ys, which of xs or -1, floats into y, floats into x, [(count, step in y, step in x)]).
using Piece = std::tuple<int64_t, int64_t, int64_t, int64_t, std::vector<std::array<int64_t, 3>>>;

// Whether all places from `first` on, `which` of the axes' steps away, lie in 0 .. size.
bool inside(int64_t first, int64_t size, const std::vector<CopyAxis>& axes, int64_t CopyAxis::* which) {
    int64_t least = first, most = first;
    for (const CopyAxis& axis : axes) {
        const int64_t step = axis.*which;
        if (step < -kMost || step > kMost || (step != 0 && axis.count - 1 > kMost / std::abs(step))) return false;
        (step < 0 ? least : most) += (axis.count - 1) * step;
    }
    return least >= 0 && most < size;
}

void add_move(Program& p, const Indices& xs, const Indices& ys, const std::vector<Piece>& given, float value) {
    Adding step(p, "add_move");
    for (std::size_t i = 0; i < xs.size(); ++i) {
        const std::string name = "xs[" + std::to_string(i) + "]";
        step.reads(xs[i], name, step.floats(xs[i], name));
    }
    std::vector<int64_t> left;
    for (std::size_t i = 0; i < ys.size(); ++i) {
        const std::string name = "ys[" + std::to_string(i) + "]";
        left.push_back(step.floats(ys[i], name));
        step.writes(ys[i], name, left.back());
    }
    std::vector<MovePiece> pieces;
    for (const auto& [to_y, from_x, to, from, steps] : given) {
        const std::string name = "piece " + std::to_string(pieces.size());
        if (to_y < 0 || to_y >= static_cast<Index>(ys.size()) || from_x < -1 || from_x >= static_cast<Index>(xs.size()))
            step.refuse(name + " moves x " + std::to_string(from_x) + " to y " + std::to_string(to_y) +
                        "; expected one of " + std::to_string(xs.size()) + " and " + std::to_string(ys.size()) + ".");
        const std::size_t y = static_cast<std::size_t>(to_y);
        const Index x = from_x < 0 ? Network::kNone : xs[static_cast<std::size_t>(from_x)];
        std::vector<CopyAxis> axes;
        Extents counts;
        for (const auto& [count, in_y, in_x] : steps) axes.push_back({count, in_y, in_x}), counts.push_back(count);
        const int64_t numbers = product(counts);
        if (numbers < 1 || !inside(to, p.net.floats(ys[y]), axes, &CopyAxis::to) ||
            !inside(from, x == Network::kNone ? 1 : p.net.floats(x), axes, &CopyAxis::from))
            step.refuse(name + " reaches beyond its value; expected counts of at least 1 and places in it.");
        left[y] -= numbers;
        pieces.push_back({ys[y], x, to, from, value, axes});
    }
    for (std::size_t i = 0; i < ys.size(); ++i)
        if (left[i] != 0)
            step.refuse("the pieces of ys[" + std::to_string(i) + "] leave " + std::to_string(left[i]) +
                        " floats; expected as many numbers as it holds.");
    p.net.add_move(std::move(pieces));
    step.done();
}

void add_copy(Program& p, Index x, Index y) {
    Adding step(p, "add_copy");
    const int64_t size = step.floats(x, "x");
    step.reads(x, "x", size);
    step.writes(y, "y", size);
    p.net.add_move({{y, x, 0, 0, 0, {{size, 1, 1}}}});
    step.done();
}

void add_resample(Program& p, Index x, Index y, const std::array<int64_t, 3>& shape, const py::tuple& rows,
                  const py::tuple& columns, float outside) {
    Adding step(p, "add_resample");
    const auto [H, W, C] = shape;
    step.reads(x, "x", product({H, W, C}));
    Taps row_taps = taps_of(rows, H), column_taps = taps_of(columns, W);
    step.writes(y, "y", product({row_taps.outputs(), column_taps.outputs(), C}));
    p.net.add_resample(x, y,
                       {.y = nullptr,
                        .x = nullptr,
                        .N = 0,
                        .H = H,
                        .W = W,
                        .C = C,
                        .rows = nullptr,
                        .columns = nullptr,
                        .outside = outside},
                       std::move(row_taps), std::move(column_taps));
    step.done();
}

}  // namespace
}  // namespace network_moves_bindings

void bind_network_moves(py::class_<Program>& network) {
    using namespace network_moves_bindings;
    network.def("add_move", add_move, py::arg("xs"), py::arg("ys"), py::arg("pieces"), py::arg("value") = 0.0f)
        .def("add_resample", add_resample, py::arg("x"), py::arg("y"), py::arg("shape"), py::arg("rows"),
             py::arg("columns"), py::arg("outside"))
        .def("add_copy", add_copy, py::arg("x"), py::arg("y"));
}

}  // namespace pycnn
