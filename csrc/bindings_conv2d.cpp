// Convolution for Python: the shape as an object, the three directions on arrays that fit it.

#include "bindings_conv2d.h"

#include <pybind11/stl.h>

#include <array>
#include <optional>

#include "ops/maps/combine.h"

namespace pycnn {
namespace conv2d_bindings {
namespace {

const std::string kX = "[N, H, W, C]", kWeight = "[KH, KW, C/groups, OC]", kY = "[N, OH, OW, OC]";

std::string size_text(int64_t h, int64_t w) { return std::to_string(h) + " x " + std::to_string(w); }

// What to write where channels do not fit, but would in another layout of x, of weight (OIHW) or of both; x is NHWC.
std::string layout_advice(const Extents& x, const Extents& weight, int64_t groups, bool nchw) {
    const auto fits = [&](bool turn_x, bool turn_weight) {
        const py::ssize_t C = x[turn_x ? (nchw ? 2 : 1) : 3], OC = weight[turn_weight ? 0 : 3];
        return C == weight[turn_weight ? 1 : 2] * groups && OC % groups == 0;
    };
    const std::string turned_x =
        nchw ? "for x [N, H, W, C] write data_format=\"NHWC\"" : "for x [N, C, H, W] write x.transpose(0, 2, 3, 1)";
    const std::string turned_weight = "for weight [OC, C/groups, KH, KW] write weight.transpose(2, 3, 1, 0)";
    const bool square_oihw = weight[2] == weight[3] && weight[0] != weight[1];  // a square window in OIHW alone
    if (fits(true, false) && !(square_oihw && fits(true, true))) return ": " + turned_x;
    if (fits(false, true)) return ": " + turned_weight;
    if (fits(true, true)) return ": " + turned_x + ", and " + turned_weight;
    return "";
}

// padding: top, bottom, left, right, or null for SAME. x is NHWC; nchw says that the caller's array is not.
Conv2dShape make_shape(const Extents& x, const Extents& weight, std::array<int64_t, 2> stride,
                       const std::array<int64_t, 4>* padding, std::array<int64_t, 2> dilation, int64_t groups,
                       bool nchw) {
    const std::string axes = nchw ? "[N, C, H, W]" : kX;
    if (x.size() != 4)
        throw py::value_error("conv2d: x has shape " + text(x) + ", " + std::to_string(x.size()) +
                              " axes; expected 4: " + axes + ": write x[None] for one image or " +
                              (nchw ? "x[:, None]" : "x[..., None]") + " for one channel.");
    const std::string x_text = text(nchw ? Extents{x[0], x[3], x[1], x[2]} : x);
    if (weight.size() != 4)
        throw py::value_error("conv2d: weight has shape " + text(weight) + ", " + std::to_string(weight.size()) +
                              " axes; expected 4: " + kWeight + ".");
    for (std::size_t axis = 0; axis < 4; ++axis)
        if (weight[axis] < 1 || (axis > 0 && x[axis] < 1))
            throw py::value_error("conv2d: x has shape " + x_text + " and weight " + text(weight) +
                                  "; expected at least one row, column and channel in " + axes + " and " + kWeight +
                                  " (only N may be 0).");
    Conv2dShape s{x[0],      x[1],      x[2],        x[3],        weight[3], weight[0], weight[1],
                  stride[0], stride[1], dilation[0], dilation[1], groups,    {}};
    if (groups < 1 || s.C % groups || s.OC % groups)
        throw py::value_error("conv2d: groups = " + std::to_string(groups) +
                              " does not divide C = " + std::to_string(s.C) + " of x and OC = " + std::to_string(s.OC) +
                              " of weight; expected a divisor of both" +
                              (groups < 1 ? "" : layout_advice(x, weight, groups, nchw)) + ".");
    if (weight[2] != s.group_C())
        throw py::value_error("conv2d: x " + x_text + " has C = " + std::to_string(s.C) + " channels, so weight " +
                              kWeight + " must have " + std::to_string(s.group_C()) +
                              " on axis 2 with groups = " + std::to_string(groups) + "; it has shape " + text(weight) +
                              layout_advice(x, weight, groups, nchw) + ".");
    if (padding) {
        s.pad = {(*padding)[0], (*padding)[1], (*padding)[2], (*padding)[3]};
    } else {
        const int64_t rows = same_padding_total(s.H, s.KH, s.stride_h, s.dilation_h);
        const int64_t cols = same_padding_total(s.W, s.KW, s.stride_w, s.dilation_w);
        s.pad = {rows / 2, rows - rows / 2, cols / 2, cols - cols / 2};
    }
    if (s.OH() < 1 || s.OW() < 1)
        throw py::value_error("conv2d: the window covers " +
                              size_text(extent(s.KH, s.dilation_h), extent(s.KW, s.dilation_w)) +
                              " pixels (H x W), more than the padded image of " +
                              size_text(s.H + s.pad.top + s.pad.bottom, s.W + s.pad.left + s.pad.right) +
                              "; expected a window that fits: use padding=\"same\" or a smaller kernel.");
    return s;
}

Extents x_shape(const Conv2dShape& s) { return {s.N, s.H, s.W, s.C}; }
Extents weight_shape(const Conv2dShape& s) { return {s.KH, s.KW, s.group_C(), s.OC}; }
Extents y_shape(const Conv2dShape& s) { return {s.N, s.OH(), s.OW(), s.OC}; }

py::tuple as_tuple(const Extents& e) { return py::tuple(py::cast(e)); }

void forward(py::array y, const py::array& x, const py::array& weight, const py::object& bias, const Conv2dShape& s,
             const Activation& activation, const std::string& algorithm, const py::object& residual) {
    const char* op = "conv2d";
    const bool float64 = check_floating(x, {op, "x"});
    check_input(x, {op, "x"}, float64, "x", x_shape(s), kX);
    check_input(weight, {op, "weight"}, float64, "x", weight_shape(s), kWeight);
    check_output(y, {op, "out"}, float64, "x", y_shape(s), kY);
    check_apart(y, {op, "out"}, x, "x");
    check_apart(y, {op, "out"}, weight, "weight");
    py::array b;
    if (!bias.is_none()) {
        b = py::reinterpret_borrow<py::array>(bias);
        check_input(b, {op, "bias"}, float64, "x", {s.OC}, "[OC]");
        check_apart(y, {op, "out"}, b, "bias");
    }
    py::array other;
    if (!residual.is_none()) {
        other = py::reinterpret_borrow<py::array>(residual);
        check_input(other, {op, "residual"}, float64, "x", y_shape(s), kY + ", as y");
        check_apart(y, {op, "out"}, other, "residual", true);
    }
    const bool has_bias = !bias.is_none(), adds = !residual.is_none();
    check_algorithm(op, algorithm, s, {Direction::forward}, float64);
    void* result = y.mutable_data();
    const WithoutGil running;
    if (float64)
        naive::forward<double>(static_cast<double*>(result), readable<double>(x), readable<double>(weight), s,
                               {.bias = has_bias ? readable<double>(b) : nullptr,
                                .residual = adds ? readable<double>(other) : nullptr,
                                .activation = activation});
    else
        conv2d_forward({.y = static_cast<float*>(result),
                        .x = readable<float>(x),
                        .weight = readable<float>(weight),
                        .shape = s,
                        .epilogue = {.bias = has_bias ? readable<float>(b) : nullptr,
                                     .residual = adds ? readable<float>(other) : nullptr,
                                     .activation = activation}},
                       algorithm);
}

void backward_input(py::array dx, const py::array& dy, const py::array& weight, const Conv2dShape& s,
                    const std::string& algorithm) {
    const char* op = "conv2d_backward_input";
    const bool float64 = check_floating(dy, {op, "dy"});
    check_input(dy, {op, "dy"}, float64, "dy", y_shape(s), kY);
    check_input(weight, {op, "weight"}, float64, "dy", weight_shape(s), kWeight);
    check_output(dx, {op, "out"}, float64, "dy", x_shape(s), kX);
    check_apart(dx, {op, "out"}, dy, "dy");
    check_apart(dx, {op, "out"}, weight, "weight");
    check_algorithm(op, algorithm, s, {Direction::backward_input}, float64);
    void* result = dx.mutable_data();
    const WithoutGil running;
    if (float64)
        naive::backward_input(static_cast<double*>(result), readable<double>(dy), readable<double>(weight), s);
    else
        conv2d_backward_input({.dx = static_cast<float*>(result),
                               .dy = readable<float>(dy),
                               .weight = readable<float>(weight),
                               .shape = s},
                              algorithm);
}

void backward_weight(py::array dweight, const py::array& x, const py::array& dy, const Conv2dShape& s,
                     const std::string& algorithm) {
    const char* op = "conv2d_backward_weight";
    const bool float64 = check_floating(x, {op, "x"});
    check_input(x, {op, "x"}, float64, "x", x_shape(s), kX);
    check_input(dy, {op, "dy"}, float64, "x", y_shape(s), kY);
    check_output(dweight, {op, "out"}, float64, "x", weight_shape(s), kWeight);
    check_apart(dweight, {op, "out"}, x, "x");
    check_apart(dweight, {op, "out"}, dy, "dy");
    check_algorithm(op, algorithm, s, {Direction::backward_weight}, float64);
    void* result = dweight.mutable_data();
    const WithoutGil running;
    if (float64)
        naive::backward_weight(static_cast<double*>(result), readable<double>(x), readable<double>(dy), s);
    else
        conv2d_backward_weight(
            {.dweight = static_cast<float*>(result), .x = readable<float>(x), .dy = readable<float>(dy), .shape = s},
            algorithm);
}

void backward_bias(py::array dbias, const py::array& dy) {
    const char* op = "conv2d_backward_bias";
    const bool float64 = check_floating(dy, {op, "dy"});
    check_rank(dy, {op, "dy"}, "NHWC");
    check_contiguous(dy, {op, "dy"});
    const int64_t OC = dy.shape(3), rows = dy.shape(0) * dy.shape(1) * dy.shape(2);
    check_output(dbias, {op, "out"}, float64, "dy", {OC}, "[OC]");
    check_apart(dbias, {op, "out"}, dy, "dy");
    void* result = dbias.mutable_data();
    by_type(float64, [&](auto zero) {
        using T = decltype(zero);
        const WithoutGil running;
        sum_rows(static_cast<T*>(result), readable<T>(dy), rows, OC);
    });
}

Direction parse_direction(const std::string& name) {
    if (name == "forward") return Direction::forward;
    if (name == "backward_input") return Direction::backward_input;
    if (name == "backward_weight") return Direction::backward_weight;
    throw py::value_error("Conv2dShape: direction is \"" + name +
                          "\"; expected \"forward\", \"backward_input\" or \"backward_weight\".");
}

// (name, reason, {name: cost of each that fits, as a multiple of the least}) of what "auto" takes; packed: with weights
// that are packed already, as in a compiled network.
py::tuple choice(const Conv2dShape& s, const std::string& direction, bool packed) {
    const Direction d = parse_direction(direction);
    const Algorithm& best = choose(s, d, packed);
    const double least = best.cost(s, d, packed);
    py::dict costs;
    for (const Algorithm* a : algorithms())
        if (a->fits(s, d)) costs[a->name] = least > 0 ? a->cost(s, d, packed) / least : 1.0;
    return py::make_tuple(best.name, best.reason, costs);
}

// How evenly what "auto" takes is cut over threads: their mean share over the largest one, counted in the units that the
// algorithm cuts; what a region must have to pay is left out.
double balance(const Conv2dShape& s, const std::string& direction, int64_t threads) {
    const Direction d = parse_direction(direction);
    return choose(s, d).cut(s, d).balance(std::max<int64_t>(threads, 1));
}

}  // namespace
}  // namespace conv2d_bindings

void bind_conv2d(py::module_& m) {
    using namespace conv2d_bindings;
    py::class_<Conv2dShape>(m, "Conv2dShape")
        .def(py::init([](const Extents& x, const Extents& weight, std::array<int64_t, 2> stride,
                         std::optional<std::array<int64_t, 4>> padding, std::array<int64_t, 2> dilation, int64_t groups,
                         bool nchw) {
                 return make_shape(x, weight, stride, padding ? &*padding : nullptr, dilation, groups, nchw);
             }),
             py::arg("x_shape"), py::arg("weight_shape"), py::arg("stride"), py::arg("padding"), py::arg("dilation"),
             py::arg("groups"), py::arg("nchw"))
        .def_property_readonly("input_shape", [](const Conv2dShape& s) { return as_tuple(x_shape(s)); })
        .def_property_readonly("weight_shape", [](const Conv2dShape& s) { return as_tuple(weight_shape(s)); })
        .def_property_readonly("output_shape", [](const Conv2dShape& s) { return as_tuple(y_shape(s)); })
        .def_property_readonly("padding",
                               [](const Conv2dShape& s) {
                                   return py::make_tuple(py::make_tuple(s.pad.top, s.pad.bottom),
                                                         py::make_tuple(s.pad.left, s.pad.right));
                               })
        .def_property_readonly("flop", &Conv2dShape::flop)
        .def("choice", choice, py::arg("direction"), py::arg("packed") = false)
        .def("balance", balance, py::arg("direction"), py::arg("threads"));
    m.def("conv2d_forward", forward, py::arg("y"), py::arg("x"), py::arg("weight"), py::arg("bias"), py::arg("shape"),
          py::arg("activation"), py::arg("algorithm"), py::arg("residual") = py::none());
    m.def("conv2d_backward_input", backward_input, py::arg("dx"), py::arg("dy"), py::arg("weight"), py::arg("shape"),
          py::arg("algorithm"));
    m.def("conv2d_backward_weight", backward_weight, py::arg("dweight"), py::arg("x"), py::arg("dy"), py::arg("shape"),
          py::arg("algorithm"));
    m.def("conv2d_backward_bias", backward_bias, py::arg("dbias"), py::arg("dy"));
}

}  // namespace pycnn
