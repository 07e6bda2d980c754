// Transposed convolution for Python: the shape as an object, the three directions on arrays that fit it. Each is a
// direction of the convolution whose gradient of the input it is (ConvTranspose2dShape).

#include <pybind11/stl.h>

#include <array>
#include <optional>

#include "bindings_conv2d.h"
#include "ops/maps/elementwise.h"

namespace pycnn {
namespace conv_transpose2d_bindings {
namespace {

const std::string kX = "[N, H, W, C]", kWeight = "[KH, KW, OC/groups, C]", kY = "[N, OH, OW, OC]";
using Pair = std::array<int64_t, 2>;

void check_sizes(const Extents& x, const Extents& weight, int64_t groups, bool nchw) {
    const auto refuse = [](const std::string& what) { throw py::value_error("conv_transpose2d: " + what + "."); };
    const std::string axes = nchw ? "[N, C, H, W]" : kX;
    if (x.size() != 4)
        refuse("x has shape " + text(x) + ", " + std::to_string(x.size()) + " axes; expected 4: " + axes +
               ": write x[None] for one image or " + (nchw ? "x[:, None]" : "x[..., None]") + " for one channel");
    const std::string x_text = text(nchw ? Extents{x[0], x[3], x[1], x[2]} : x);
    if (weight.size() != 4)
        refuse("weight has shape " + text(weight) + ", " + std::to_string(weight.size()) +
               " axes; expected 4: " + kWeight);
    for (std::size_t axis = 0; axis < 4; ++axis)
        if (weight[axis] < 1 || (axis > 0 && x[axis] < 1))
            refuse("x has shape " + x_text + " and weight " + text(weight) +
                   "; expected at least one row, column and channel in " + axes + " and " + kWeight +
                   " (only N may be 0)");
    if (x[3] % groups)
        refuse("groups = " + std::to_string(groups) + " does not divide C = " + std::to_string(x[3]) +
               " of x; expected a divisor");
    if (weight[3] != x[3])
        refuse("x " + x_text + " has C = " + std::to_string(x[3]) + " channels, so weight " + kWeight +
               " must have as many on axis 3; it has shape " + text(weight) +
               (weight[0] == x[3] ? ": for weight [C, OC/groups, KH, KW] write weight.transpose(2, 3, 1, 0)" : ""));
}

// One axis: the pixels of y, and the rim of the convolution that reads them.
struct Side {
    int64_t size, before, after;
};

// before, after: below 0 for SAME, TensorFlow's: size * stride pixels.
Side side_of(const AxisWindow& w, int64_t added, const char* axis) {
    const auto refuse = [&](const std::string& what) {
        throw py::value_error(std::string("conv_transpose2d: ") + what + ", along " + axis + ".");
    };
    if (w.before < 0) {
        if (added)
            refuse("output_padding is " + std::to_string(added) +
                   " with padding=\"same\", which makes H * stride pixels; expected 0");
        const int64_t total = std::max<int64_t>(extent(w.kernel, w.dilation) - w.stride, 0);
        return {w.size * w.stride, total / 2, total - total / 2};
    }
    if (added >= std::max(w.stride, w.dilation))
        refuse("output_padding is " + std::to_string(added) + "; expected less than stride = " +
               std::to_string(w.stride) + " or dilation = " + std::to_string(w.dilation));
    const int64_t size = transposed_size(w, added);
    if (size < 1)
        refuse("padding " + text({w.before, w.after}) + " leaves nothing of the " +
               std::to_string(transposed_size(w, added) + w.before + w.after) +
               " pixels that the windows cover; expected less");
    // What is added beyond the last window's reach, so that the convolution has the outputs of x.
    return {size, w.before, w.after - added / w.stride * w.stride};
}

// padding: top, bottom, left, right, or none for SAME.
ConvTranspose2dShape make_shape(const Extents& x, const Extents& weight, Pair stride,
                                const std::optional<std::array<int64_t, 4>>& padding, Pair output_padding,
                                Pair dilation, int64_t groups, bool nchw) {
    check_sizes(x, weight, groups, nchw);
    const auto side = [&](std::size_t i) {
        return side_of({.size = x[i + 1],
                        .before = padding ? (*padding)[2 * i] : -1,
                        .after = padding ? (*padding)[2 * i + 1] : -1,
                        .kernel = weight[i],
                        .stride = stride[i],
                        .dilation = dilation[i]},
                       output_padding[i], i ? "W" : "H");
    };
    const Side h = side(0), w = side(1);
    return {{x[0],
             h.size,
             w.size,
             weight[2] * groups,
             x[3],
             weight[0],
             weight[1],
             stride[0],
             stride[1],
             dilation[0],
             dilation[1],
             groups,
             {h.before, h.after, w.before, w.after}}};
}

Extents x_shape(const Conv2dShape& s) { return {s.N, s.OH(), s.OW(), s.OC}; }
Extents weight_shape(const Conv2dShape& s) { return {s.KH, s.KW, s.group_C(), s.OC}; }
Extents y_shape(const Conv2dShape& s) { return {s.N, s.H, s.W, s.C}; }

py::tuple as_tuple(const Extents& e) { return py::tuple(py::cast(e)); }

void forward(py::array y, const py::array& x, const py::array& weight, const py::object& bias,
             const ConvTranspose2dShape& shape, const Activation& activation, const std::string& algorithm) {
    const char* op = "conv_transpose2d";
    const Conv2dShape& s = shape.mirror;
    const bool float64 = check_floating(x, {op, "x"}), has_bias = !bias.is_none();
    check_input(x, {op, "x"}, float64, "x", x_shape(s), kX);
    check_input(weight, {op, "weight"}, float64, "x", weight_shape(s), kWeight);
    check_output(y, {op, "out"}, float64, "x", y_shape(s), kY);
    check_apart(y, {op, "out"}, x, "x");
    check_apart(y, {op, "out"}, weight, "weight");
    py::array b;
    if (has_bias) {
        b = py::reinterpret_borrow<py::array>(bias);
        check_input(b, {op, "bias"}, float64, "x", {s.C}, "[OC]");
        check_apart(y, {op, "out"}, b, "bias");
    }
    check_algorithm(op, algorithm, s, {Direction::backward_input}, float64);
    void* result = y.mutable_data();
    const WithoutGil running;
    if (!float64)
        return conv2d_backward_input(
            {.dx = static_cast<float*>(result),
             .dy = readable<float>(x),
             .weight = readable<float>(weight),
             .shape = s,
             .epilogue = {.bias = has_bias ? readable<float>(b) : nullptr, .activation = activation}},
            algorithm);
    double* sums = static_cast<double*>(result);
    naive::backward_input(sums, readable<double>(x), readable<double>(weight), s);
    finish<double>({.y = sums,
                    .x = sums,
                    .rows = s.N * s.H * s.W,
                    .C = s.C,
                    .epilogue = {.bias = has_bias ? readable<double>(b) : nullptr, .activation = activation}});
}

void backward_input(py::array dx, const py::array& dy, const py::array& weight, const ConvTranspose2dShape& shape,
                    const std::string& algorithm) {
    const char* op = "conv_transpose2d_backward_input";
    const Conv2dShape& s = shape.mirror;
    const bool float64 = check_floating(dy, {op, "dy"});
    check_input(dy, {op, "dy"}, float64, "dy", y_shape(s), kY);
    check_input(weight, {op, "weight"}, float64, "dy", weight_shape(s), kWeight);
    check_output(dx, {op, "out"}, float64, "dy", x_shape(s), kX);
    check_apart(dx, {op, "out"}, dy, "dy");
    check_apart(dx, {op, "out"}, weight, "weight");
    check_algorithm(op, algorithm, s, {Direction::forward}, float64);
    void* result = dx.mutable_data();
    const WithoutGil running;
    if (float64)
        naive::forward<double>(static_cast<double*>(result), readable<double>(dy), readable<double>(weight), s, {});
    else
        conv2d_forward(
            {.y = static_cast<float*>(result), .x = readable<float>(dy), .weight = readable<float>(weight), .shape = s},
            algorithm);
}

void backward_weight(py::array dweight, const py::array& x, const py::array& dy, const ConvTranspose2dShape& shape,
                     const std::string& algorithm) {
    const char* op = "conv_transpose2d_backward_weight";
    const Conv2dShape& s = shape.mirror;
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
        naive::backward_weight(static_cast<double*>(result), readable<double>(dy), readable<double>(x), s);
    else
        conv2d_backward_weight(
            {.dweight = static_cast<float*>(result), .x = readable<float>(dy), .dy = readable<float>(x), .shape = s},
            algorithm);
}

}  // namespace
}  // namespace conv_transpose2d_bindings

void bind_conv_transpose2d(py::module_& m) {
    using namespace conv_transpose2d_bindings;
    using Shape = ConvTranspose2dShape;
    py::class_<Shape>(m, "ConvTranspose2dShape")
        .def(py::init(&make_shape), py::arg("x_shape"), py::arg("weight_shape"), py::arg("stride"), py::arg("padding"),
             py::arg("output_padding"), py::arg("dilation"), py::arg("groups"), py::arg("nchw"))
        .def_property_readonly("mirror", [](const Shape& s) { return s.mirror; })
        .def_property_readonly("input_shape", [](const Shape& s) { return as_tuple(x_shape(s.mirror)); })
        .def_property_readonly("weight_shape", [](const Shape& s) { return as_tuple(weight_shape(s.mirror)); })
        .def_property_readonly("output_shape", [](const Shape& s) { return as_tuple(y_shape(s.mirror)); });
    m.def("conv_transpose2d_forward", forward, py::arg("y"), py::arg("x"), py::arg("weight"), py::arg("bias"),
          py::arg("shape"), py::arg("activation"), py::arg("algorithm"));
    m.def("conv_transpose2d_backward_input", backward_input, py::arg("dx"), py::arg("dy"), py::arg("weight"),
          py::arg("shape"), py::arg("algorithm"));
    m.def("conv_transpose2d_backward_weight", backward_weight, py::arg("dweight"), py::arg("x"), py::arg("dy"),
          py::arg("shape"), py::arg("algorithm"));
}

}  // namespace pycnn
