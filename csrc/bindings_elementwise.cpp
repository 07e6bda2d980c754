// Activations, elementwise operators, softmax and dropout, for Python.

#include <pybind11/stl.h>

#include "array_check.h"
#include "ops/maps/dropout.h"
#include "ops/maps/elementwise.h"
#include "ops/maps/softmax.h"

namespace pycnn {
namespace elementwise_bindings {
namespace {

Activation make_activation(const std::string& name, double a, double b) {
    constexpr std::pair<const char*, Activation::Kind> kinds[] = {{"none", Activation::none},
#define PYCNN_ROW(kind) {#kind, Activation::kind},
                                                                  PYCNN_ACTIVATIONS(PYCNN_ROW)
#undef PYCNN_ROW
    };
    for (const auto& [known, kind] : kinds)
        if (name == known) return {.kind = kind, .a = a, .b = b};
    throw py::value_error("Activation: name is \"" + name + "\"; expected \"none\", or one of ops.conv2d.");
}

void activate(py::array y, const py::array& x, const Activation& activation, const std::string& op_name) {
    const char* op = op_name.c_str();
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
                   .epilogue = {.activation = activation}});
    });
}

// v: x or y, as the activation reads.
void gradient_of_activation(py::array dx, const py::array& dy, const py::array& v, const Activation& activation,
                            const std::string& op_name) {
    const char *op = op_name.c_str(), *name = op_name == "relu_backward" ? "y" : "v";
    const bool float64 = check_floating(dy, {op, "dy"});
    check_contiguous(dy, {op, "dy"});
    check_input(v, {op, name}, float64, "dy", extents(dy), "as dy");
    check_output(dx, {op, "out"}, float64, "dy", extents(dy), "as dy");
    check_apart(dx, {op, "out"}, dy, "dy", true);
    check_apart(dx, {op, "out"}, v, name, true);
    if (activation.kind == Activation::none)
        throw py::value_error(op_name + ": activation is None; expected one, whose gradient is not dy itself.");
    void* result = dx.mutable_data();
    const int64_t size = dy.size();
    by_type(float64, [&](auto zero) {
        using T = decltype(zero);
        const WithoutGil running;
        activation_gradient<T>({.dx = static_cast<T*>(result),
                                .dy = readable<T>(dy),
                                .v = readable<T>(v),
                                .size = size,
                                .activation = activation});
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

void parametric(py::array y, const py::array& x, const py::array& slope) {
    const char* op = "prelu";
    const bool float64 = check_floating(x, {op, "x"});
    const Rows rows = rows_of(x, {op, "x"});
    check_input(slope, {op, "slope"}, float64, "x", {rows.K}, "[C]");
    check_output(y, {op, "out"}, float64, "x", extents(x), "as x");
    check_apart(y, {op, "out"}, x, "x", true);
    check_apart(y, {op, "out"}, slope, "slope");
    void* result = y.mutable_data();
    by_type(float64, [&](auto zero) {
        using T = decltype(zero);
        const WithoutGil running;
        prelu<T>({.y = static_cast<T*>(result),
                  .x = readable<T>(x),
                  .slope = readable<T>(slope),
                  .rows = rows.count,
                  .C = rows.K});
    });
}

void parametric_gradient(const py::object& dx_or_none, py::array dslope, const py::array& dy, const py::array& x,
                         const py::array& slope) {
    const char* op = "prelu_backward";
    const bool float64 = check_floating(dy, {op, "dy"}), wants_dx = !dx_or_none.is_none();
    const Rows rows = rows_of(dy, {op, "dy"});
    check_input(x, {op, "x"}, float64, "dy", extents(dy), "as dy");
    check_input(slope, {op, "slope"}, float64, "dy", {rows.K}, "[C]");
    check_output(dslope, {op, "out[1] (dslope)"}, float64, "dy", {rows.K}, "[C]");
    for (const auto& [name, other] : {std::pair{"dy", dy}, {"x", x}, {"slope", slope}})
        check_apart(dslope, {op, "out[1] (dslope)"}, other, name);
    py::array dx;
    if (wants_dx) {
        dx = py::reinterpret_borrow<py::array>(dx_or_none);
        check_output(dx, {op, "out[0] (dx)"}, float64, "dy", extents(dy), "as dy");
        check_apart(dx, {op, "out[0] (dx)"}, dy, "dy", true);
        for (const auto& [name, other] : {std::pair{"x", x}, {"slope", slope}, {"out[1]", dslope}})
            check_apart(dx, {op, "out[0] (dx)"}, other, name);
    }
    by_type(float64, [&](auto zero) {
        using T = decltype(zero);
        const PreluGradientOf<T> call{.dx = wants_dx ? writable<T>(dx) : nullptr,
                                      .dslope = writable<T>(dslope),
                                      .dy = readable<T>(dy),
                                      .x = readable<T>(x),
                                      .slope = readable<T>(slope),
                                      .rows = rows.count,
                                      .C = rows.K};
        const WithoutGil running;
        prelu_gradient(call);
    });
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
    py::class_<Activation>(m, "Activation")
        .def(py::init(&make_activation), py::arg("name"), py::arg("a") = 0.0, py::arg("b") = 0.0)
        .def_property_readonly("reads", [](const Activation& a) { return reads_y(a) ? "y" : "x"; });
    m.def("activate", activate, py::arg("y"), py::arg("x"), py::arg("activation"), py::arg("op") = "activation");
    m.def("activation_backward", gradient_of_activation, py::arg("dx"), py::arg("dy"), py::arg("v"),
          py::arg("activation"), py::arg("op") = "activation_backward");
    m.def("prelu", parametric, py::arg("y"), py::arg("x"), py::arg("slope"));
    m.def("prelu_backward", parametric_gradient, py::arg("dx"), py::arg("dslope"), py::arg("dy"), py::arg("x"),
          py::arg("slope"));
    m.def("softmax", softmax, py::arg("y"), py::arg("x"), py::arg("logarithm"));
    m.def("softmax_backward", softmax_gradient, py::arg("dx"), py::arg("dy"), py::arg("y"), py::arg("logarithm"));
    m.def("add_bias", add_bias_to, py::arg("y"), py::arg("bias"));
    m.def("accumulate", accumulate_into, py::arg("total"), py::arg("part"));
    m.def("dropout", drop, py::arg("y"), py::arg("x"), py::arg("p"), py::arg("seed"), py::arg("calls"));
}

}  // namespace pycnn
