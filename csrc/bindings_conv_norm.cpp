// A 1 x 1 convolution and batch normalisation as one operator for Python.

#include <pybind11/stl.h>

#include "array_check.h"
#include "ops/conv_norm/conv_norm.h"

namespace pycnn {
namespace conv_norm_bindings {
namespace {

const std::string kX = "[N, H, W, C]", kWeight = "[1, 1, C, OC]", kY = "[N, H, W, OC]", kC = "[OC]";

using Named = std::vector<std::pair<const char*, py::array>>;

void check_float32(const py::array& a, const Argument& who) {
    if (is_float32(a)) return;
    throw py::type_error(who.text() + " is " + dtype_name(a) +
                         "; expected float32, the only type of conv2d_norm: write " + who.name +
                         ".astype(np.float32), or call conv2d and batch_norm for float64.");
}
void check_in(const py::array& a, const Argument& who, const Extents& shape, const std::string& axes_text) {
    check_float32(a, who);
    check_shape(a, who, shape, axes_text);
    check_contiguous(a, who);
}
// A result, apart from everything in `others`, to which it is added.
void check_out(const py::array& a, const Argument& who, const Extents& shape, const std::string& axes_text,
               Named& others) {
    check_float32(a, who);
    check_output(a, who, false, "x", shape, axes_text);
    for (const auto& [name, other] : others) check_apart(a, who, other, name);
    others.emplace_back(who.name, a);
}

struct Call {
    const char* op;
    Conv2dShape shape;
    Extents x, map, weight, vector;
};

Call check_x(const char* op, const py::array& x, const py::array& weight) {
    check_float32(x, {op, "x"});
    check_float32(weight, {op, "weight"});
    check_rank(x, {op, "x"}, "NHWC");
    const Extents w = extents(weight);
    if (w.size() != 4 || w[0] != 1 || w[1] != 1 || w[2] != x.shape(3) || w[3] < 1)
        throw py::value_error(std::string(op) + ": weight has shape " + text(w) + "; expected (1, 1, " +
                              std::to_string(x.shape(3)) +
                              ", OC), a 1 x 1 kernel for x [N, H, W, C]: call conv2d and batch_norm for another one.");
    check_contiguous(x, {op, "x"});
    check_contiguous(weight, {op, "weight"});
    const int64_t N = x.shape(0), H = x.shape(1), W = x.shape(2), C = x.shape(3), OC = w[3];
    return {op, {N, H, W, C, OC, 1, 1, 1, 1, 1, 1, 1, {}}, extents(x), {N, H, W, OC}, w, {OC}};
}

void forward(py::array y, py::array z, py::array mean, py::array var, const py::array& x, const py::array& weight,
             const py::object& bias_or_none, const py::array& gamma, const py::array& beta,
             const py::object& running_mean, const py::object& running_var, double momentum, double eps,
             const Activation& activation) {
    const Call call = check_x("conv2d_norm", x, weight);
    const char* op = call.op;
    const bool has_bias = !bias_or_none.is_none(), runs = !running_mean.is_none();
    Named others{{"x", x}, {"weight", weight}, {"gamma", gamma}, {"beta", beta}};
    py::array bias, moving[2];
    check_in(gamma, {op, "gamma"}, call.vector, kC);
    check_in(beta, {op, "beta"}, call.vector, kC);
    if (has_bias) {
        bias = py::reinterpret_borrow<py::array>(bias_or_none);
        check_in(bias, {op, "bias"}, call.vector, kC);
        others.emplace_back("bias", bias);
    }
    check_out(y, {op, "out[0] (y)"}, call.map, kY, others);
    check_out(z, {op, "out[1] (z)"}, call.map, kY, others);
    check_out(mean, {op, "out[2] (mean)"}, call.vector, kC, others);
    check_out(var, {op, "out[3] (var)"}, call.vector, kC, others);
    if (runs) {
        moving[0] = py::reinterpret_borrow<py::array>(running_mean);
        moving[1] = py::reinterpret_borrow<py::array>(running_var);
        check_out(moving[0], {op, "running_mean"}, call.vector, kC, others);
        check_out(moving[1], {op, "running_var"}, call.vector, kC, others);
    }
    const int64_t rows = call.shape.N * call.shape.H * call.shape.W, OC = call.shape.OC;
    if (rows == 1)
        throw py::value_error("conv2d_norm: x has shape " + text(call.x) +
                              ", one pixel, whose variance is 0; expected at least two: use a larger batch, or conv2d "
                              "and batch_norm_inference with the running statistics.");
    float *to = writable<float>(y), *map = writable<float>(z), *m = writable<float>(mean), *v = writable<float>(var);
    float* old[2] = {runs ? writable<float>(moving[0]) : nullptr, runs ? writable<float>(moving[1]) : nullptr};
    const NormFunction<float> f{m, v, readable<float>(gamma), readable<float>(beta), eps, activation};
    const float *from = readable<float>(x), *w = readable<float>(weight);
    const float* b = has_bias ? readable<float>(bias) : nullptr;
    const WithoutGil running;
    if (rows == 0) {
        std::fill_n(m, OC, 0.0f);
        std::fill_n(v, OC, 0.0f);
        return;
    }
    conv2d_norm_forward({.y = to, .z = map, .mean = m, .variance = v, .x = from, .weight = w, .bias = b}, f,
                        call.shape);
    if (runs)
        update_running_statistics<float>(
            {.mean = old[0], .variance = old[1], .momentum = momentum, .rows = rows, .C = OC}, f);
}

void backward(const py::object& dx_or_none, py::array dweight, py::array dgamma, py::array dbeta, const py::array& dy,
              const py::array& z, const py::array& x, const py::array& weight, const py::array& gamma,
              const py::array& beta, const py::array& mean, const py::array& var, double eps,
              const Activation& activation) {
    const Call call = check_x("conv2d_norm_backward", x, weight);
    const char* op = call.op;
    check_in(dy, {op, "dy"}, call.map, kY);
    check_in(z, {op, "z"}, call.map, kY);
    Named others{{"gamma", gamma}, {"beta", beta}, {"mean", mean}, {"var", var}};
    for (const auto& [name, array] : others) check_in(array, {op, name}, call.vector, kC);
    for (const auto& [name, array] : Named{{"x", x}, {"weight", weight}, {"dy", dy}, {"z", z}})
        others.emplace_back(name, array);
    py::array dx;
    const bool wants_dx = !dx_or_none.is_none();
    if (wants_dx) {
        dx = py::reinterpret_borrow<py::array>(dx_or_none);
        check_out(dx, {op, "out[0] (dx)"}, call.x, kX, others);
    }
    check_out(dweight, {op, "out[1] (dweight)"}, call.weight, kWeight, others);
    check_out(dgamma, {op, "out[2] (dgamma)"}, call.vector, kC, others);
    check_out(dbeta, {op, "out[3] (dbeta)"}, call.vector, kC, others);
    float *di = wants_dx ? writable<float>(dx) : nullptr, *dw = writable<float>(dweight);
    float *dg = writable<float>(dgamma), *db = writable<float>(dbeta);
    const NormFunction<float> f{
        readable<float>(mean), readable<float>(var), readable<float>(gamma), readable<float>(beta), eps, activation};
    const WithoutGil running;
    if (call.shape.N * call.shape.H * call.shape.W == 0) {
        std::fill_n(dw, call.shape.C * call.shape.OC, 0.0f);
        std::fill_n(dg, call.shape.OC, 0.0f);
        std::fill_n(db, call.shape.OC, 0.0f);
        return;
    }
    conv2d_norm_backward({.dx = di,
                          .dweight = dw,
                          .dgamma = dg,
                          .dbeta = db,
                          .dy = readable<float>(dy),
                          .z = readable<float>(z),
                          .x = readable<float>(x),
                          .weight = readable<float>(weight)},
                         f, call.shape);
}

}  // namespace
}  // namespace conv_norm_bindings

void bind_conv_norm(py::module_& m) {
    using namespace conv_norm_bindings;
    m.def("conv2d_norm", forward, py::arg("y"), py::arg("z"), py::arg("mean"), py::arg("var"), py::arg("x"),
          py::arg("weight"), py::arg("bias"), py::arg("gamma"), py::arg("beta"), py::arg("running_mean"),
          py::arg("running_var"), py::arg("momentum"), py::arg("eps"), py::arg("activation"));
    m.def("conv2d_norm_backward", backward, py::arg("dx"), py::arg("dweight"), py::arg("dgamma"), py::arg("dbeta"),
          py::arg("dy"), py::arg("z"), py::arg("x"), py::arg("weight"), py::arg("gamma"), py::arg("beta"),
          py::arg("mean"), py::arg("var"), py::arg("eps"), py::arg("activation"));
}

}  // namespace pycnn
