// Activations, elementwise operators, softmax and dropout, for Python.

#include <pybind11/stl.h>

#include "array_check.h"
#include "ops/maps/dropout.h"
#include "ops/maps/elementwise.h"
#include "ops/maps/softmax.h"

namespace pycnn {
namespace elementwise_bindings {
namespace {

Activation make_activation(const std::string& name, double slope) {
    constexpr std::pair<const char*, Activation::Kind> kinds[] = {
        {"none", Activation::none},
        {"relu", Activation::relu},
        {"relu6", Activation::relu6},
        {"leaky_relu", Activation::leaky_relu},
        {"hard_sigmoid", Activation::hard_sigmoid},
        {"hard_swish", Activation::hard_swish},
        {"sigmoid", Activation::sigmoid},
        {"silu", Activation::silu},
        {"tanh", Activation::tanh},
        {"gelu_tanh", Activation::gelu_tanh},
    };
    for (const auto& [known, kind] : kinds)
        if (name == known) return {.kind = kind, .slope = slope};
    throw py::value_error("Activation: name is \"" + name + "\"; expected \"none\", or one of ops.conv2d.");
}

void relu(py::array y, const py::array& x) {
    const char* op = "relu";
    const bool float64 = check_floating(x, {op, "x"});
    check_contiguous(x, {op, "x"});
    check_output(y, {op, "out"}, float64, "x", extents(x), "as x");
    check_apart(y, {op, "out"}, x, "x", true);
    void* result = y.mutable_data();
    const int64_t size = x.size();
    by_type(float64, [&](auto zero) {
        using T = decltype(zero);
        const WithoutGil running;
        finish<T>({.y = static_cast<T*>(result),
                   .x = readable<T>(x),
                   .rows = 1,
                   .C = size,
                   .epilogue = {.activation = kRelu}});
    });
}

void relu_gradient(py::array dx, const py::array& dy, const py::array& y) {
    const char* op = "relu_backward";
    const bool float64 = check_floating(dy, {op, "dy"});
    check_contiguous(dy, {op, "dy"});
    check_input(y, {op, "y"}, float64, "dy", extents(dy), "as dy");
    check_output(dx, {op, "out"}, float64, "dy", extents(dy), "as dy");
    check_apart(dx, {op, "out"}, dy, "dy", true);
    check_apart(dx, {op, "out"}, y, "y", true);
    void* result = dx.mutable_data();
    const int64_t size = dy.size();
    by_type(float64, [&](auto zero) {
        using T = decltype(zero);
        const WithoutGil running;
        relu_backward(static_cast<T*>(result), readable<T>(dy), readable<T>(y), size);
    });
}

// The last axis and the rows before it.
struct Rows {
    int64_t count, K;
};
Rows rows_of(const py::array& a, const Argument& who) {
    check_contiguous(a, who);
    if (a.ndim() < 1 || a.shape(a.ndim() - 1) < 1)
        throw py::value_error(who.text() + " has shape " + text(extents(a)) +
                              "; expected at least one class on the last axis: [..., K].");
    const int64_t K = a.shape(a.ndim() - 1);
    return {a.size() / K, K};
}

void softmax(py::array y, const py::array& x, bool logarithm) {
    const char* op = logarithm ? "log_softmax" : "softmax";
    const bool float64 = check_floating(x, {op, "x"});
    const Rows rows = rows_of(x, {op, "x"});
    check_output(y, {op, "out"}, float64, "x", extents(x), "as x");
    check_apart(y, {op, "out"}, x, "x");
    void* result = y.mutable_data();
    by_type(float64, [&](auto zero) {
        using T = decltype(zero);
        const WithoutGil running;
        (logarithm ? log_softmax_forward<T> : softmax_forward<T>)(static_cast<T*>(result), readable<T>(x), rows.count,
                                                                  rows.K);
    });
}

void softmax_gradient(py::array dx, const py::array& dy, const py::array& y, bool logarithm) {
    const char* op = logarithm ? "log_softmax_backward" : "softmax_backward";
    const bool float64 = check_floating(dy, {op, "dy"});
    const Rows rows = rows_of(dy, {op, "dy"});
    check_input(y, {op, "y"}, float64, "dy", extents(dy), "as dy");
    check_output(dx, {op, "out"}, float64, "dy", extents(dy), "as dy");
    check_apart(dx, {op, "out"}, dy, "dy");
    check_apart(dx, {op, "out"}, y, "y");
    void* result = dx.mutable_data();
    by_type(float64, [&](auto zero) {
        using T = decltype(zero);
        const WithoutGil running;
        (logarithm ? log_softmax_backward<T> : softmax_backward<T>)({.dx = static_cast<T*>(result),
                                                                     .dy = readable<T>(dy),
                                                                     .y = readable<T>(y),
                                                                     .rows = rows.count,
                                                                     .K = rows.K});
    });
}

void add_bias_to(py::array y, const py::array& bias) {
    const char* op = "add_bias";
    const bool float64 = check_floating(y, {op, "y"});
    const Rows rows = rows_of(y, {op, "y"});
    check_output(y, {op, "y"}, float64, "y", extents(y), "");
    check_input(bias, {op, "bias"}, float64, "y", {rows.K}, "[C]");
    check_apart(y, {op, "y"}, bias, "bias");
    void* result = y.mutable_data();
    by_type(float64, [&](auto zero) {
        using T = decltype(zero);
        const WithoutGil running;
        T* rows_of_y = static_cast<T*>(result);
        finish<T>(
            {.y = rows_of_y, .x = rows_of_y, .rows = rows.count, .C = rows.K, .epilogue = {.bias = readable<T>(bias)}});
    });
}

void accumulate_into(py::array total, const py::array& part) {
    const char* op = "accumulate";
    const bool float64 = check_floating(total, {op, "total"});
    check_output(total, {op, "total"}, float64, "total", extents(total), "");
    check_input(part, {op, "part"}, float64, "total", extents(total), "as total");
    check_apart(total, {op, "total"}, part, "part");
    void* result = total.mutable_data();
    const int64_t size = total.size();
    by_type(float64, [&](auto zero) {
        using T = decltype(zero);
        const WithoutGil running;
        accumulate(static_cast<T*>(result), readable<T>(part), size);
    });
}

void drop(py::array y, const py::array& x, double p, uint64_t seed, uint64_t calls) {
    const char* op = "dropout";
    const bool float64 = check_floating(x, {op, "x"});
    check_contiguous(x, {op, "x"});
    check_output(y, {op, "out"}, float64, "x", extents(x), "as x");
    check_apart(y, {op, "out"}, x, "x", true);
    void* result = y.mutable_data();
    const int64_t size = x.size();
    by_type(float64, [&](auto zero) {
        using T = decltype(zero);
        const WithoutGil running;
        dropout<T>(
            {.y = static_cast<T*>(result), .x = readable<T>(x), .size = size, .p = p, .seed = seed, .calls = calls});
    });
}

}  // namespace
}  // namespace elementwise_bindings

void bind_elementwise(py::module_& m) {
    using namespace elementwise_bindings;
    py::class_<Activation>(m, "Activation").def(py::init(&make_activation), py::arg("name"), py::arg("slope"));
    m.def("relu", relu, py::arg("y"), py::arg("x"));
    m.def("relu_backward", relu_gradient, py::arg("dx"), py::arg("dy"), py::arg("y"));
    m.def("softmax", softmax, py::arg("y"), py::arg("x"), py::arg("logarithm"));
    m.def("softmax_backward", softmax_gradient, py::arg("dx"), py::arg("dy"), py::arg("y"), py::arg("logarithm"));
    m.def("add_bias", add_bias_to, py::arg("y"), py::arg("bias"));
    m.def("accumulate", accumulate_into, py::arg("total"), py::arg("part"));
    m.def("dropout", drop, py::arg("y"), py::arg("x"), py::arg("p"), py::arg("seed"), py::arg("calls"));
}

}  // namespace pycnn
