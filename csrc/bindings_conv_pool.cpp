// The fusion of convolution, bias, relu and 2 x 2 max pool for Python: its shape, forward and backward.

#include <pybind11/stl.h>

#include "bindings_conv2d.h"
#include "ops/conv_pool/conv_pool.h"

namespace pycnn {
namespace conv_pool_bindings {
namespace {

const std::string kX = "[N, H, W, C]", kWeight = "[KH, KW, C/groups, OC]", kY = "[N, PH, PW, OC]";

ConvPoolShape make_shape(const Conv2dShape& conv, bool same, bool relu) {
    const int64_t OH = conv.OH(), OW = conv.OW();
    if (!same && (OH < 2 || OW < 2))
        throw py::value_error("conv_pool: the map of the convolution has " + text({OH, OW}) +
                              " (OH, OW) pixels, too few for a window of 2 x 2; expected a larger image or "
                              "pool_padding=\"same\".");
    return same ? ConvPoolShape{conv, ceil_div(OH, 2), ceil_div(OW, 2), relu}
                : ConvPoolShape{conv, OH / 2, OW / 2, relu};
}

Extents x_shape(const ConvPoolShape& b) { return {b.conv.N, b.conv.H, b.conv.W, b.conv.C}; }
Extents weight_shape(const ConvPoolShape& b) { return {b.conv.KH, b.conv.KW, b.conv.group_C(), b.conv.OC}; }
Extents y_shape(const ConvPoolShape& b) { return {b.conv.N, b.PH, b.PW, b.conv.OC}; }

void check_float32(const py::array& a, const Argument& who) {
    if (is_float32(a)) return;
    throw py::type_error(who.text() + " is " + dtype_name(a) +
                         "; expected float32, the only type of conv_pool: write " + who.name +
                         ".astype(np.float32), or call conv2d and max_pool2d for float64.");
}
void check_in(const py::array& a, const Argument& who, const Extents& shape, const std::string& axes_text) {
    check_float32(a, who);
    check_shape(a, who, shape, axes_text);
    check_contiguous(a, who);
}
void check_out(const py::array& a, const Argument& who, const Extents& shape, const std::string& axes_text) {
    check_float32(a, who);
    check_output(a, who, false, "x", shape, axes_text);
}

void check_where(const py::array& where, const Argument& who, const ConvPoolShape& b) {
    if (!py::isinstance<py::array_t<uint8_t>>(where))
        throw py::type_error(who.text() + " is " + dtype_name(where) +
                             "; expected uint8, as conv_pool(..., return_where=True) returns it.");
    check_shape(where, who, y_shape(b), kY);
    check_contiguous(where, who);
}

// An array that may be missing.
py::array optional(const py::object& a) { return a.is_none() ? py::array() : py::reinterpret_borrow<py::array>(a); }

void forward(py::array y, const py::object& where_or_none, const py::array& x, const py::array& weight,
             const py::object& bias_or_none, const ConvPoolShape& b, const std::string& algorithm) {
    const char* op = "conv_pool";
    const bool has_where = !where_or_none.is_none(), has_bias = !bias_or_none.is_none();
    py::array where = optional(where_or_none);
    const py::array bias = optional(bias_or_none);
    check_in(x, {op, "x"}, x_shape(b), kX);
    check_in(weight, {op, "weight"}, weight_shape(b), kWeight);
    check_out(y, {op, "out"}, y_shape(b), kY);
    check_apart(y, {op, "out"}, x, "x");
    check_apart(y, {op, "out"}, weight, "weight");
    if (has_bias) {
        check_in(bias, {op, "bias"}, {b.conv.OC}, "[OC]");
        check_apart(y, {op, "out"}, bias, "bias");
    }
    if (has_where) {
        const Argument who{op, "out[1] (where)"};
        check_where(where, who, b);
        if (!where.writeable()) throw py::value_error("conv_pool: out[1] (where) is read-only.");
        check_apart(where, who, x, "x");
        check_apart(where, who, weight, "weight");
        check_apart(where, who, y, "out[0]");
        if (has_bias) check_apart(where, who, bias, "bias");
    }
    check_algorithm(op, algorithm, b.conv, {Direction::forward});
    float* result = writable<float>(y);
    uint8_t* bytes = has_where ? writable<uint8_t>(where) : nullptr;
    const WithoutGil running;
    conv_pool_forward({.y = result,
                       .where = bytes,
                       .x = readable<float>(x),
                       .weight = readable<float>(weight),
                       .bias = has_bias ? readable<float>(bias) : nullptr},
                      b, algorithm);
}

// Every result apart from every input and from the results before it.
void check_results(const char* op, std::vector<std::pair<const char*, py::array>> results,
                   const std::vector<std::pair<const char*, py::array>>& inputs) {
    for (std::size_t i = 0; i < results.size(); ++i) {
        const Argument who{op, results[i].first};
        for (const auto& [name, input] : inputs) check_apart(results[i].second, who, input, name);
        for (std::size_t j = 0; j < i; ++j) check_apart(results[i].second, who, results[j].second, results[j].first);
    }
}

void backward(py::array dweight, const py::object& dbias_or_none, const py::object& dx_or_none, const py::array& dy,
              const py::array& y, const py::array& where, const py::array& x, const py::array& weight,
              const ConvPoolShape& b) {
    const char* op = "conv_pool_backward";
    const bool has_dbias = !dbias_or_none.is_none(), has_dx = !dx_or_none.is_none();
    py::array dbias = optional(dbias_or_none), dx = optional(dx_or_none);
    check_in(dy, {op, "dy"}, y_shape(b), kY);
    check_in(y, {op, "y"}, y_shape(b), kY);
    check_where(where, {op, "where"}, b);
    check_in(x, {op, "x"}, x_shape(b), kX);
    check_in(weight, {op, "weight"}, weight_shape(b), kWeight);
    std::vector<std::pair<const char*, py::array>> results{{"out[0] (dweight)", dweight}};
    check_out(dweight, {op, "out[0] (dweight)"}, weight_shape(b), kWeight);
    if (has_dbias) {
        check_out(dbias, {op, "out[1] (dbias)"}, {b.conv.OC}, "[OC]");
        results.emplace_back("out[1] (dbias)", dbias);
    }
    if (has_dx) {
        check_out(dx, {op, "out[2] (dx)"}, x_shape(b), kX);
        results.emplace_back("out[2] (dx)", dx);
    }
    check_results(op, results, {{"dy", dy}, {"y", y}, {"where", where}, {"x", x}, {"weight", weight}});
    float* dw = writable<float>(dweight);
    float *db = has_dbias ? writable<float>(dbias) : nullptr, *di = has_dx ? writable<float>(dx) : nullptr;
    const uint8_t* bytes = readable<uint8_t>(where);
    int64_t bad = -1;
    {
        const WithoutGil running;
        bad = bad_window(bytes, b);
        if (bad < 0)
            conv_pool_backward({.dweight = dw,
                                .dbias = db,
                                .dx = di,
                                .dy = readable<float>(dy),
                                .y = readable<float>(y),
                                .where = bytes,
                                .x = readable<float>(x),
                                .weight = readable<float>(weight)},
                               b);
    }
    if (bad < 0) return;
    const int64_t cell = bad / b.conv.OC, ph = cell / b.PW % b.PH, pw = cell % b.PW;
    throw py::value_error("conv_pool_backward: where holds " + std::to_string(bytes[bad]) + " at " +
                          text({cell / b.PW / b.PH, ph, pw, bad % b.conv.OC}) +
                          "; expected 2 i + j of a pixel (i, j) of a window of " +
                          text({b.window_rows(ph), b.window_cols(pw)}) + " pixels (h, w).");
}

void conv_relu_backward(py::array dweight, const py::object& dbias_or_none, const py::object& dx_or_none,
                        const py::array& dy, const py::array& y, const py::array& x, const py::array& weight,
                        const Conv2dShape& s, const Activation& activation, const std::string& algorithm) {
    const char* op = "conv2d_relu_backward";
    const std::string map = "[N, OH, OW, OC]";
    const Extents x_extents{s.N, s.H, s.W, s.C}, y_extents{s.N, s.OH(), s.OW(), s.OC};
    const Extents weight_extents{s.KH, s.KW, s.group_C(), s.OC};
    if (activation.kind == Activation::none || !reads_y(activation))
        throw py::value_error(std::string(op) +
                              ": activation is none whose gradient follows from y; expected relu, clip, "
                              "sigmoid or another one that does.");
    const bool has_dbias = !dbias_or_none.is_none(), has_dx = !dx_or_none.is_none();
    py::array dbias = optional(dbias_or_none), dx = optional(dx_or_none);
    check_in(dy, {op, "dy"}, y_extents, map);
    check_in(y, {op, "y"}, y_extents, map);
    check_in(x, {op, "x"}, x_extents, kX);
    check_in(weight, {op, "weight"}, weight_extents, kWeight);
    std::vector<std::pair<const char*, py::array>> results{{"out[0] (dweight)", dweight}};
    check_out(dweight, {op, "out[0] (dweight)"}, weight_extents, kWeight);
    if (has_dbias) {
        check_out(dbias, {op, "out[1] (dbias)"}, {s.OC}, "[OC]");
        results.emplace_back("out[1] (dbias)", dbias);
    }
    if (has_dx) {
        check_out(dx, {op, "out[2] (dx)"}, x_extents, kX);
        results.emplace_back("out[2] (dx)", dx);
    }
    check_results(op, results, {{"dy", dy}, {"y", y}, {"x", x}, {"weight", weight}});
    check_algorithm(op, algorithm, s, {Direction::backward_weight, Direction::backward_input});
    float* dw = writable<float>(dweight);
    float *db = has_dbias ? writable<float>(dbias) : nullptr, *di = has_dx ? writable<float>(dx) : nullptr;
    const WithoutGil running;
    conv2d_activation_backward({.dweight = dw,
                                .dbias = db,
                                .dx = di,
                                .dy = readable<float>(dy),
                                .y = readable<float>(y),
                                .where = nullptr,
                                .x = readable<float>(x),
                                .weight = readable<float>(weight)},
                               s, activation, algorithm);
}

}  // namespace
}  // namespace conv_pool_bindings

void bind_conv_pool(py::module_& m) {
    using namespace conv_pool_bindings;
    py::class_<ConvPoolShape>(m, "ConvPoolShape")
        .def(py::init(&make_shape), py::arg("conv"), py::arg("pool_same"), py::arg("relu"))
        .def_property_readonly("input_shape", [](const ConvPoolShape& b) { return py::tuple(py::cast(x_shape(b))); })
        .def_property_readonly("weight_shape",
                               [](const ConvPoolShape& b) { return py::tuple(py::cast(weight_shape(b))); })
        .def_property_readonly("output_shape", [](const ConvPoolShape& b) { return py::tuple(py::cast(y_shape(b))); })
        .def("way_back", conv_pool_way, py::arg("wants_dx"));
    m.def("conv_pool_forward", forward, py::arg("y"), py::arg("where"), py::arg("x"), py::arg("weight"),
          py::arg("bias"), py::arg("shape"), py::arg("algorithm"));
    m.def("conv2d_relu_backward", conv_relu_backward, py::arg("dweight"), py::arg("dbias"), py::arg("dx"),
          py::arg("dy"), py::arg("y"), py::arg("x"), py::arg("weight"), py::arg("shape"), py::arg("activation"),
          py::arg("algorithm"));
    m.def("conv_pool_backward", backward, py::arg("dweight"), py::arg("dbias"), py::arg("dx"), py::arg("dy"),
          py::arg("y"), py::arg("where"), py::arg("x"), py::arg("weight"), py::arg("shape"));
}

}  // namespace pycnn
