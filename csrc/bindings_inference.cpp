// A network with fixed weights for Python: built step by step, run by one call.

#include <pybind11/stl.h>

#include "array_check.h"
#include "ops/inference.h"

namespace pycnn {
namespace {

const char* kOp = "compile_inference";

py::array checked(const py::object& array_or_none, const char* name, const Extents& shape, const char* axes_text) {
    if (array_or_none.is_none()) return py::array();
    py::array a = py::reinterpret_borrow<py::array>(array_or_none);
    check_input(a, {kOp, name}, false, "x", shape, axes_text);
    return a;
}

const float* data_or_null(const py::object& original, const py::array& a) {
    return original.is_none() ? nullptr : readable<float>(a);
}

void check_takes(const Inference& net, int64_t floats) {
    if (net.outputs() == floats) return;
    throw py::value_error(std::string(kOp) + ": the next layer takes " + std::to_string(floats) +
                          " numbers an image; expected " + std::to_string(net.outputs()) +
                          ", what the last one gives.");
}

void add_conv2d(Inference& net, const Conv2dShape& s, const py::object& weight, const py::object& bias, bool relu,
                const std::string& pool) {
    check_takes(net, s.H * s.W * s.C);
    const py::array w = checked(weight, "weight", {s.KH, s.KW, s.group_C(), s.OC}, "[KH, KW, C/groups, OC]");
    const py::array b = checked(bias, "bias", {s.OC}, "[OC]");
    const BlockPool kind = pool == "same" ? BlockPool::same : pool == "valid" ? BlockPool::valid : BlockPool::none;
    net.add_conv2d(s, readable<float>(w), data_or_null(bias, b), relu, kind);
}

void add_linear(Inference& net, const py::array& weight, const py::object& bias) {
    check_rank(weight, {kOp, "weight"}, "RC");
    const int64_t in = weight.shape(0), out = weight.shape(1);
    check_takes(net, in);
    const py::array w = checked(weight, "weight", {in, out}, "[in, out]");
    const py::array b = checked(bias, "bias", {out}, "[out]");
    net.add_linear(readable<float>(w), data_or_null(bias, b), in, out);
}

void add_batch_norm(Inference& net, const py::object& weight, const py::object& bias, const py::object& mean,
                    const py::object& var, double eps, int64_t C, bool relu) {
    if (C < 1 || net.outputs() % C) check_takes(net, C);
    const py::array w = checked(weight, "weight", {C}, "[C]"), b = checked(bias, "bias", {C}, "[C]");
    const py::array m = checked(mean, "mean", {C}, "[C]"), v = checked(var, "var", {C}, "[C]");
    net.add_batch_norm(readable<float>(w), readable<float>(b), readable<float>(m), readable<float>(v), eps, C, relu);
}

// x [N, ...] with `inputs` numbers an image, checked by the caller in Python for its shape; y [N, outputs].
py::array run(const Inference& net, const py::array& x, const std::vector<py::ssize_t>& y_shape) {
    check_contiguous(x, {"CompiledModel", "x"});
    const int64_t N = x.ndim() ? x.shape(0) : 0;
    if (check_floating(x, {"CompiledModel", "x"}) || x.size() != N * net.inputs())
        throw py::type_error("CompiledModel: x is " + dtype_name(x) + " of shape " + text(extents(x)) +
                             "; expected float32 with " + std::to_string(net.inputs()) + " numbers an image.");
    py::array y(py::dtype::of<float>(), y_shape);
    if (y.size() != N * net.outputs()) throw py::value_error("CompiledModel: the shape of y does not fit the network.");
    float* to = writable<float>(y);
    const float* from = readable<float>(x);
    const WithoutGil running;
    net.run(to, from, N);
    return y;
}

}  // namespace

void bind_inference(py::module_& m) {
    py::class_<Inference>(m, "Inference")
        .def(py::init<int64_t>(), py::arg("inputs"))
        .def("add_conv2d", add_conv2d, py::arg("shape"), py::arg("weight"), py::arg("bias"), py::arg("relu"),
             py::arg("pool"))
        .def(
            "add_max_pool2d",
            [](Inference& net, const Pool2dShape& s) {
                check_takes(net, s.H * s.W * s.C);
                net.add_max_pool2d(s);
            },
            py::arg("shape"))
        .def(
            "add_avg_pool2d",
            [](Inference& net, const Pool2dShape& s, bool count_include_pad) {
                check_takes(net, s.H * s.W * s.C);
                net.add_avg_pool2d(s, count_include_pad);
            },
            py::arg("shape"), py::arg("count_include_pad"))
        .def("add_relu", &Inference::add_relu)
        .def("add_batch_norm", add_batch_norm, py::arg("weight"), py::arg("bias"), py::arg("mean"), py::arg("var"),
             py::arg("eps"), py::arg("C"), py::arg("relu"))
        .def("add_linear", add_linear, py::arg("weight"), py::arg("bias"))
        .def_property_readonly("outputs", &Inference::outputs)
        .def("run", run, py::arg("x"), py::arg("y_shape"));
}

}  // namespace pycnn
