// Layer, group and local response normalisation for Python, as operators and as steps of a compiled network.

#include <pybind11/stl.h>

#include <optional>

#include "array_check.h"
#include "bindings_network.h"
#include "ops/maps/row_norm.h"

namespace pycnn {
namespace row_norm_bindings {
namespace {

struct Rows {  // x [N, ..., C]
    const char* op;
    bool float64;
    int64_t N, rows, C;  // rows: of an image

    Rows(const char* name, const py::array& x) : op(name), float64(check_floating(x, {name, "x"})) {
        check_contiguous(x, {op, "x"});
        if (x.ndim() < 2 || x.shape(x.ndim() - 1) < 1)
            throw py::value_error(std::string(op) + ": x has shape " + text(extents(x)) +
                                  "; expected at least one channel on the last of at least two axes: [N, ..., C].");
        N = x.shape(0), C = x.shape(x.ndim() - 1), rows = 1;
        for (py::ssize_t axis = 1; axis + 1 < x.ndim(); ++axis) rows *= x.shape(axis);
    }
    int64_t all() const { return N * rows; }

    void check_vector(const py::array& a, const char* name) const {
        check_input(a, {op, name}, float64, "x", {C}, "[C], one number a channel of x");
    }
    void check_like_x(const py::array& a, const char* name, const py::array& x) const {
        check_input(a, {op, name}, float64, "x", extents(x), "as x");
    }
    void check_result(const py::array& y, const char* name, const py::array& x) const {
        check_output(y, {op, name}, float64, "x", extents(x), "as x");
    }
    void check_groups(int64_t groups) const {
        if (groups < 1 || C % groups)
            throw py::value_error(std::string(op) + ": num_groups is " + std::to_string(groups) +
                                  "; expected a divisor of the " + std::to_string(C) + " channels of x.");
    }
};

// None, or an array for results, of this shape.
py::array optional_out(const Rows& r, const py::object& given, const char* name, const Extents& shape,
                       const char* axes_text) {
    if (given.is_none()) return py::array();
    py::array a = py::reinterpret_borrow<py::array>(given);
    check_output(a, {r.op, name}, r.float64, "x", shape, axes_text);
    return a;
}
using Named = std::vector<std::pair<const char*, const py::array*>>;
void check_all_apart(const Rows& r, const py::array& out, const char* name, const Named& others) {
    for (const auto& [other_name, other] : others)
        if (other->size() > 0) check_apart(out, {r.op, name}, *other, other_name);
}

void layer_norm_of(py::array y, const py::object& kept, const py::array& x, const py::array& weight,
                   const py::object& bias, double eps) {
    const Rows r("layer_norm", x);
    r.check_vector(weight, "weight");
    py::array b;
    if (!bias.is_none()) r.check_vector(b = py::reinterpret_borrow<py::array>(bias), "bias");
    r.check_result(y, "out", x);
    check_apart(y, {r.op, "out"}, x, "x", true);
    check_all_apart(r, y, "out", {{"weight", &weight}, {"bias", &b}});
    py::array k = optional_out(r, kept, "out[1] (kept)", {r.all(), 2}, "[rows of x, 2]");
    if (!kept.is_none())
        check_all_apart(r, k, "out[1] (kept)", {{"x", &x}, {"out", &y}, {"weight", &weight}, {"bias", &b}});
    by_type(r.float64, [&](auto zero) {
        using T = decltype(zero);
        const LayerNorm<T> call{.y = writable<T>(y),
                                .x = readable<T>(x),
                                .weight = readable<T>(weight),
                                .bias = bias.is_none() ? nullptr : readable<T>(b),
                                .kept = kept.is_none() ? nullptr : writable<T>(k),
                                .rows = r.all(),
                                .C = r.C,
                                .eps = eps};
        const WithoutGil running;
        layer_norm(call);
    });
}

void layer_norm_gradient(const py::object& dx_given, py::array dweight, const py::object& dbias_given,
                         const py::array& dy, const py::array& x, const py::array& weight, const py::array& kept) {
    const Rows r("layer_norm_backward", x);
    r.check_like_x(dy, "dy", x);
    r.check_vector(weight, "weight");
    check_input(kept, {r.op, "kept"}, r.float64, "x", {r.all(), 2}, "[rows of x, 2]");
    check_output(dweight, {r.op, "out[1]"}, r.float64, "x", {r.C}, "[C]");
    py::array dx = optional_out(r, dx_given, "out[0]", extents(x), "as x");
    py::array dbias = optional_out(r, dbias_given, "out[2]", {r.C}, "[C]");
    const Named inputs = {{"x", &x}, {"weight", &weight}, {"kept", &kept}};
    if (!dx_given.is_none()) {
        check_apart(dx, {r.op, "out[0]"}, dy, "dy", true);
        check_all_apart(r, dx, "out[0]", inputs);
    }
    check_all_apart(r, dweight, "out[1]", inputs);
    check_all_apart(r, dweight, "out[1]", {{"dy", &dy}, {"out[0]", &dx}, {"out[2]", &dbias}});
    if (!dbias_given.is_none()) {
        check_all_apart(r, dbias, "out[2]", inputs);
        check_all_apart(r, dbias, "out[2]", {{"dy", &dy}, {"out[0]", &dx}});
    }
    by_type(r.float64, [&](auto zero) {
        using T = decltype(zero);
        const LayerNormBackward<T> call{.dx = dx_given.is_none() ? nullptr : writable<T>(dx),
                                        .dweight = writable<T>(dweight),
                                        .dbias = dbias_given.is_none() ? nullptr : writable<T>(dbias),
                                        .dy = readable<T>(dy),
                                        .x = readable<T>(x),
                                        .weight = readable<T>(weight),
                                        .kept = readable<T>(kept),
                                        .rows = r.all(),
                                        .C = r.C};
        const WithoutGil running;
        layer_norm_backward(call);
    });
}

void group_norm_of(py::array y, py::array kept, const py::array& x, const py::array& weight, const py::array& bias,
                   int64_t groups, double eps) {
    const Rows r("group_norm", x);
    r.check_vector(weight, "weight");
    r.check_vector(bias, "bias");
    r.check_groups(groups);
    r.check_result(y, "out", x);
    check_output(kept, {r.op, "out[1] (kept)"}, r.float64, "x", {r.N, groups, 2}, "[N, num_groups, 2]");
    check_apart(y, {r.op, "out"}, x, "x", true);
    check_all_apart(r, y, "out", {{"weight", &weight}, {"bias", &bias}});
    check_all_apart(r, kept, "out[1] (kept)", {{"x", &x}, {"out", &y}, {"weight", &weight}, {"bias", &bias}});
    if (x.size() == 0) return;
    by_type(r.float64, [&](auto zero) {
        using T = decltype(zero);
        const GroupNorm<T> call{.y = writable<T>(y),
                                .x = readable<T>(x),
                                .weight = readable<T>(weight),
                                .bias = readable<T>(bias),
                                .kept = writable<T>(kept),
                                .N = r.N,
                                .rows = r.rows,
                                .C = r.C,
                                .groups = groups,
                                .eps = eps};
        const WithoutGil running;
        group_norm(call);
    });
}

void group_norm_gradient(const py::object& dx_given, py::array dweight, py::array dbias, const py::array& dy,
                         const py::array& x, const py::array& weight, const py::array& kept, int64_t groups) {
    const Rows r("group_norm_backward", x);
    r.check_like_x(dy, "dy", x);
    r.check_vector(weight, "weight");
    r.check_groups(groups);
    check_input(kept, {r.op, "kept"}, r.float64, "x", {r.N, groups, 2}, "[N, num_groups, 2]");
    check_output(dweight, {r.op, "out[1]"}, r.float64, "x", {r.C}, "[C]");
    check_output(dbias, {r.op, "out[2]"}, r.float64, "x", {r.C}, "[C]");
    py::array dx = optional_out(r, dx_given, "out[0]", extents(x), "as x");
    const Named inputs = {{"x", &x}, {"weight", &weight}, {"kept", &kept}};
    if (!dx_given.is_none()) {
        check_apart(dx, {r.op, "out[0]"}, dy, "dy", true);
        check_all_apart(r, dx, "out[0]", inputs);
    }
    check_all_apart(r, dweight, "out[1]", inputs);
    check_all_apart(r, dweight, "out[1]", {{"dy", &dy}, {"out[0]", &dx}, {"out[2]", &dbias}});
    check_all_apart(r, dbias, "out[2]", inputs);
    check_all_apart(r, dbias, "out[2]", {{"dy", &dy}, {"out[0]", &dx}});
    by_type(r.float64, [&](auto zero) {
        using T = decltype(zero);
        const GroupNormBackward<T> call{.dx = dx_given.is_none() ? nullptr : writable<T>(dx),
                                        .dweight = writable<T>(dweight),
                                        .dbias = writable<T>(dbias),
                                        .dy = readable<T>(dy),
                                        .x = readable<T>(x),
                                        .weight = readable<T>(weight),
                                        .kept = readable<T>(kept),
                                        .N = r.N,
                                        .rows = r.rows,
                                        .C = r.C,
                                        .groups = groups};
        const WithoutGil running;
        if (call.N * call.rows == 0) {
            std::fill_n(call.dweight, call.C, T(0));
            std::fill_n(call.dbias, call.C, T(0));
            return;
        }
        group_norm_backward(call);
    });
}

// size, alpha, beta, k were checked in Python. dy is None: forward.
void response_norm_of(py::array y, const py::object& dy, const py::array& x, int64_t size, double alpha, double beta,
                      double k) {
    const Rows r(dy.is_none() ? "local_response_norm" : "local_response_norm_backward", x);
    r.check_result(y, "out", x);
    py::array g;
    if (!dy.is_none()) {
        r.check_like_x(g = py::reinterpret_borrow<py::array>(dy), "dy", x);
        check_apart(y, {r.op, "out"}, g, "dy", true);
    }
    check_apart(y, {r.op, "out"}, x, "x", dy.is_none());
    by_type(r.float64, [&](auto zero) {
        using T = decltype(zero);
        const ResponseNormShape shape{.rows = r.all(), .C = r.C, .size = size, .alpha = alpha, .beta = beta, .k = k};
        T* to = writable<T>(y);
        const T *from = readable<T>(x), *gradient = dy.is_none() ? nullptr : readable<T>(g);
        const WithoutGil running;
        gradient ? response_norm_backward(to, gradient, from, shape) : response_norm(to, from, shape);
    });
}

// ---- steps of a compiled network ------------------------------------------------------------------------------------

// How many numbers x has an image, of which C are a row.
int64_t rows_of(Adding& step, Index x, int64_t C) {
    const int64_t size = step.floats(x, "x");
    if (C < 1 || size % C)
        step.refuse("x has " + std::to_string(size) + " floats an image, and " + std::to_string(C) +
                    " channels; expected a multiple of them.");
    return size / C;
}

std::shared_ptr<const std::vector<float>> numbers(const Adding& step, const py::array& a, const char* name, int64_t C) {
    check_input(a, {step.op(), name}, false, "float32, the type of networks,", {C}, "[C]");
    const float* from = readable<float>(a);
    return std::make_shared<const std::vector<float>>(from, from + C);
}

void add_layer_norm(Program& p, Index x, Index y, const py::array& weight, const py::object& bias, double eps) {
    Adding step(p, "add_layer_norm");
    const int64_t C = weight.size(), rows = rows_of(step, x, C);
    const auto w = numbers(step, weight, "weight", C);
    const auto b = bias.is_none() ? nullptr : numbers(step, py::reinterpret_borrow<py::array>(bias), "bias", C);
    step.reads(x, "x", rows * C, true);
    step.writes(y, "y", rows * C);
    p.net.add([=](float* const* at, int64_t n) {
        layer_norm<float>({.y = at[y],
                           .x = at[x],
                           .weight = w->data(),
                           .bias = b ? b->data() : nullptr,
                           .kept = nullptr,
                           .rows = n * rows,
                           .C = C,
                           .eps = eps});
    });
    step.done();
}

void add_group_norm(Program& p, Index x, Index y, const py::array& weight, const py::array& bias, int64_t groups,
                    double eps) {
    Adding step(p, "add_group_norm");
    const int64_t C = weight.size(), rows = rows_of(step, x, C);
    if (groups < 1 || C % groups)
        step.refuse("groups is " + std::to_string(groups) + "; expected a divisor of " + std::to_string(C) + ".");
    const auto w = numbers(step, weight, "weight", C), b = numbers(step, bias, "bias", C);
    step.reads(x, "x", rows * C, true);
    step.writes(y, "y", rows * C);
    p.net.add([=](float* const* at, int64_t n) {
        std::vector<float> kept(n * groups * 2);
        group_norm<float>({.y = at[y],
                           .x = at[x],
                           .weight = w->data(),
                           .bias = b->data(),
                           .kept = kept.data(),
                           .N = n,
                           .rows = rows,
                           .C = C,
                           .groups = groups,
                           .eps = eps});
    });
    step.done();
}

void add_response_norm(Program& p, Index x, Index y, int64_t C, int64_t size, double alpha, double beta, double k) {
    Adding step(p, "add_response_norm");
    const int64_t rows = rows_of(step, x, C);
    if (size < 1) step.refuse("size is " + std::to_string(size) + "; expected at least 1.");
    step.reads(x, "x", rows * C, true);
    step.writes(y, "y", rows * C);
    p.net.add([=](float* const* at, int64_t n) {
        response_norm<float>(at[y], at[x],
                             {.rows = n * rows, .C = C, .size = size, .alpha = alpha, .beta = beta, .k = k});
    });
    step.done();
}

}  // namespace
}  // namespace row_norm_bindings

void bind_row_norm(py::module_& m) {
    using namespace row_norm_bindings;
    m.def("layer_norm", layer_norm_of, py::arg("y"), py::arg("kept"), py::arg("x"), py::arg("weight"), py::arg("bias"),
          py::arg("eps"));
    m.def("layer_norm_backward", layer_norm_gradient, py::arg("dx"), py::arg("dweight"), py::arg("dbias"),
          py::arg("dy"), py::arg("x"), py::arg("weight"), py::arg("kept"));
    m.def("group_norm", group_norm_of, py::arg("y"), py::arg("kept"), py::arg("x"), py::arg("weight"), py::arg("bias"),
          py::arg("groups"), py::arg("eps"));
    m.def("group_norm_backward", group_norm_gradient, py::arg("dx"), py::arg("dweight"), py::arg("dbias"),
          py::arg("dy"), py::arg("x"), py::arg("weight"), py::arg("kept"), py::arg("groups"));
    m.def("response_norm", response_norm_of, py::arg("y"), py::arg("dy"), py::arg("x"), py::arg("size"),
          py::arg("alpha"), py::arg("beta"), py::arg("k"));
}

void bind_network_row_norm(py::class_<Program>& network) {
    using namespace row_norm_bindings;
    network
        .def("add_layer_norm", add_layer_norm, py::arg("x"), py::arg("y"), py::arg("weight"), py::arg("bias"),
             py::arg("eps"))
        .def("add_group_norm", add_group_norm, py::arg("x"), py::arg("y"), py::arg("weight"), py::arg("bias"),
             py::arg("groups"), py::arg("eps"))
        .def("add_response_norm", add_response_norm, py::arg("x"), py::arg("y"), py::arg("channels"), py::arg("size"),
             py::arg("alpha"), py::arg("beta"), py::arg("k"));
}

}  // namespace pycnn
