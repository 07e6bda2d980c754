// Batch normalisation for Python: with the statistics of the batch, with given ones, and backward.

#include <pybind11/stl.h>

#include "array_check.h"
#include "ops/epilogue.h"
#include "ops/maps/norm.h"

namespace pycnn {
namespace norm_bindings {
namespace {

const std::string kC = "[C], one number a channel of x";

struct Norm {  // the arguments that all have
    const char* op;
    bool float64;
    int64_t rows, C;
    int64_t first;  // the size of the first axis behind N, C of an image in NCHW
};

Norm check_x(const char* op, const py::array& x, const char* name) {
    const bool float64 = check_floating(x, {op, name});
    check_contiguous(x, {op, name});
    if (x.ndim() < 2 || x.shape(x.ndim() - 1) < 1)
        throw py::value_error(std::string(op) + ": " + name + " has shape " + text(extents(x)) +
                              "; expected at least one channel on the last of at least two axes: [N, ..., C].");
    const int64_t C = x.shape(x.ndim() - 1);
    return {op, float64, static_cast<int64_t>(x.size() / C), C, x.ndim() == 4 ? x.shape(1) : C};
}

void check_vector(const Norm& n, const py::array& a, const char* name) {
    const bool nchw = n.first != n.C && extents(a) == Extents{n.first};
    const std::string advice = nchw ? ": for x [N, C, H, W] write x.transpose(0, 2, 3, 1)" : "";
    check_input(a, {n.op, name}, n.float64, "x", {n.C}, kC + advice);
}
void check_vector_out(const Norm& n, const py::array& a, const char* name) {
    check_output(a, {n.op, name}, n.float64, "x", {n.C}, kC);
}

using Named = std::vector<std::pair<const char*, const py::array*>>;
void check_apart_from(const Norm& n, const py::array& out, const char* name, const Named& others) {
    for (const auto& [other_name, other] : others) check_apart(out, {n.op, name}, *other, other_name);
}

// residual: null or an array as x; y may be the very same one.
py::array check_residual(const Norm& n, const py::object& residual, const py::array& x, const py::array& y) {
    if (residual.is_none()) return py::array();
    py::array r = py::reinterpret_borrow<py::array>(residual);
    check_input(r, {n.op, "residual"}, n.float64, "x", extents(x), "as x");
    check_apart(y, {n.op, "out"}, r, "residual", true);
    return r;
}
template <class T>
const T* or_null(const py::object& given, const py::array& a) {
    return given.is_none() ? nullptr : readable<T>(a);
}

void forward(py::array y, py::array mean, py::array var, const py::array& x, const py::array& weight,
             const py::array& bias, const py::object& running_mean, const py::object& running_var, double momentum,
             double eps, const Activation& activation, const py::object& residual) {
    const Norm n = check_x("batch_norm", x, "x");
    check_vector(n, weight, "weight");
    check_vector(n, bias, "bias");
    check_output(y, {n.op, "out"}, n.float64, "x", extents(x), "as x");
    check_vector_out(n, mean, "out[1] (mean)");
    check_vector_out(n, var, "out[2] (var)");
    check_apart_from(n, y, "out", {{"x", &x}, {"weight", &weight}, {"bias", &bias}});
    const py::array other = check_residual(n, residual, x, y);
    Named inputs = {{"x", &x}, {"weight", &weight}, {"bias", &bias}, {"out[0]", &y}};
    if (!residual.is_none()) inputs.push_back({"residual", &other});
    check_apart_from(n, mean, "out[1] (mean)", inputs);
    inputs.push_back({"out[1]", &mean});
    check_apart_from(n, var, "out[2] (var)", inputs);
    inputs.push_back({"out[2]", &var});
    py::array moving[2];
    const bool runs = !running_mean.is_none();
    if (runs) {
        moving[0] = py::reinterpret_borrow<py::array>(running_mean);
        moving[1] = py::reinterpret_borrow<py::array>(running_var);
        check_vector_out(n, moving[0], "running_mean");
        check_vector_out(n, moving[1], "running_var");
        check_apart_from(n, moving[0], "running_mean", inputs);
        check_apart_from(n, moving[1], "running_var", inputs);
        check_apart_from(n, moving[1], "running_var", {{"running_mean", &moving[0]}});
    }
    if (n.rows == 1)
        throw py::value_error("batch_norm: x has shape " + text(extents(x)) +
                              ", one number a channel, whose variance is 0; expected at least two: use a larger batch, "
                              "or batch_norm_inference with the running statistics.");
    by_type(n.float64, [&](auto zero) {
        using T = decltype(zero);
        T *to = writable<T>(y), *m = writable<T>(mean), *v = writable<T>(var);
        T* old[2] = {runs ? writable<T>(moving[0]) : nullptr, runs ? writable<T>(moving[1]) : nullptr};
        const NormFunction<T> f{m, v, readable<T>(weight), readable<T>(bias), eps, activation};
        const T *from = readable<T>(x), *added = or_null<T>(residual, other);
        const WithoutGil running;
        if (n.rows == 0) {
            std::fill_n(m, n.C, T(0));
            std::fill_n(v, n.C, T(0));
            return;
        }
        batch_statistics<T>({.mean = m, .variance = v, .x = from, .rows = n.rows, .C = n.C});
        batch_norm_apply<T>({.y = to, .x = from, .rows = n.rows, .C = n.C, .residual = added}, f);
        if (runs)
            update_running_statistics<T>(
                {.mean = old[0], .variance = old[1], .momentum = momentum, .rows = n.rows, .C = n.C}, f);
    });
}

void inference(py::array y, const py::array& x, const py::array& weight, const py::array& bias, const py::array& mean,
               const py::array& var, double eps, const Activation& activation, const py::object& residual) {
    const Norm n = check_x("batch_norm_inference", x, "x");
    const Named vectors = {{"weight", &weight}, {"bias", &bias}, {"mean", &mean}, {"var", &var}};
    for (const auto& [name, array] : vectors) check_vector(n, *array, name);
    check_output(y, {n.op, "out"}, n.float64, "x", extents(x), "as x");
    check_apart(y, {n.op, "out"}, x, "x", true);
    check_apart_from(n, y, "out", vectors);
    const py::array other = check_residual(n, residual, x, y);
    by_type(n.float64, [&](auto zero) {
        using T = decltype(zero);
        const NormFunction<T> f{readable<T>(mean), readable<T>(var), readable<T>(weight), readable<T>(bias), eps,
                                activation};
        const NormForward<T> call{.y = writable<T>(y),
                                  .x = readable<T>(x),
                                  .rows = n.rows,
                                  .C = n.C,
                                  .residual = or_null<T>(residual, other)};
        const WithoutGil running;
        batch_norm_apply(call, f);
    });
}

void backward(const py::object& dx_or_none, py::array dweight, py::array dbias, const py::array& dy, const py::array& x,
              const py::array& weight, const py::array& bias, const py::array& mean, const py::array& var, double eps,
              const Activation& activation, const py::object& y_or_none, const py::object& residual_gradient) {
    const Norm n = check_x("batch_norm_backward", x, "x");
    check_input(dy, {n.op, "dy"}, n.float64, "x", extents(x), "as x");
    Named inputs = {{"weight", &weight}, {"bias", &bias}, {"mean", &mean}, {"var", &var}};
    for (const auto& [name, array] : inputs) check_vector(n, *array, name);
    check_vector_out(n, dweight, "out[1] (dweight)");
    check_vector_out(n, dbias, "out[2] (dbias)");
    const bool wants_dx = !dx_or_none.is_none(), has_y = !y_or_none.is_none(), splits = !residual_gradient.is_none();
    py::array dx, y, other;
    inputs.push_back({"x", &x});
    if (has_y) {
        if (activation.kind == Activation::none || !reads_y(activation))
            throw py::value_error(std::string(n.op) +
                                  ": y is given, but the gradient of activation does not follow from it; "
                                  "expected relu, clip or another one that does.");
        y = py::reinterpret_borrow<py::array>(y_or_none);
        check_input(y, {n.op, "y"}, n.float64, "x", extents(x), "as x");
        inputs.push_back({"y", &y});
    }
    if (splits) {
        other = py::reinterpret_borrow<py::array>(residual_gradient);
        check_output(other, {n.op, "residual_gradient"}, n.float64, "x", extents(x), "as x");
        check_apart(other, {n.op, "residual_gradient"}, dy, "dy", true);
        check_apart_from(n, other, "residual_gradient", inputs);
        inputs.push_back({"residual_gradient", &other});
    }
    if (wants_dx) {
        dx = py::reinterpret_borrow<py::array>(dx_or_none);
        check_output(dx, {n.op, "out"}, n.float64, "x", extents(x), "as x");
        check_apart(dx, {n.op, "out"}, dy, "dy", true);
        check_apart_from(n, dx, "out", inputs);
        inputs.push_back({"out[0]", &dx});
    }
    inputs.push_back({"dy", &dy});
    check_apart_from(n, dweight, "out[1] (dweight)", inputs);
    inputs.push_back({"out[1]", &dweight});
    check_apart_from(n, dbias, "out[2] (dbias)", inputs);
    by_type(n.float64, [&](auto zero) {
        using T = decltype(zero);
        const NormFunction<T> f{readable<T>(mean), readable<T>(var), readable<T>(weight), readable<T>(bias), eps,
                                activation};
        const NormBackward<T> call{.dx = wants_dx ? writable<T>(dx) : nullptr,
                                   .dweight = writable<T>(dweight),
                                   .dbias = writable<T>(dbias),
                                   .dy = readable<T>(dy),
                                   .x = readable<T>(x),
                                   .rows = n.rows,
                                   .C = n.C,
                                   .y = or_null<T>(y_or_none, y),
                                   .residual_gradient = splits ? writable<T>(other) : nullptr};
        const WithoutGil running;
        if (n.rows == 0) {
            std::fill_n(call.dweight, n.C, T(0));
            std::fill_n(call.dbias, n.C, T(0));
            return;
        }
        batch_norm_backward(call, f);
    });
}

}  // namespace
}  // namespace norm_bindings

void bind_norm(py::module_& m) {
    using namespace norm_bindings;
    m.def("batch_norm", forward, py::arg("y"), py::arg("mean"), py::arg("var"), py::arg("x"), py::arg("weight"),
          py::arg("bias"), py::arg("running_mean"), py::arg("running_var"), py::arg("momentum"), py::arg("eps"),
          py::arg("activation"), py::arg("residual") = py::none());
    m.def("batch_norm_inference", inference, py::arg("y"), py::arg("x"), py::arg("weight"), py::arg("bias"),
          py::arg("mean"), py::arg("var"), py::arg("eps"), py::arg("activation"), py::arg("residual") = py::none());
    m.def("batch_norm_backward", backward, py::arg("dx"), py::arg("dweight"), py::arg("dbias"), py::arg("dy"),
          py::arg("x"), py::arg("weight"), py::arg("bias"), py::arg("mean"), py::arg("var"), py::arg("eps"),
          py::arg("activation"), py::arg("y") = py::none(), py::arg("residual_gradient") = py::none());
}

}  // namespace pycnn
