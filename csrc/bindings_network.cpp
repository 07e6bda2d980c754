// A network with fixed weights for Python, built step by step. bindings_network.h has the checks of values,
// ops/network.h what steps compute.

#include "bindings_network.h"

#include <pybind11/stl.h>

#include <memory>

namespace pycnn {
namespace network_bindings {
namespace {

std::unique_ptr<Program> make_network(const Indices& floats, const Indices& offsets, const Indices& inputs,
                                      const Indices& outputs, int64_t chunk) {
    const auto refuse = [](const std::string& what) { throw py::value_error("Network: " + what); };
    if (offsets.size() != floats.size())
        refuse("floats has " + std::to_string(floats.size()) + " values and offsets " + std::to_string(offsets.size()) +
               "; expected as many.");
    if (chunk < 1) refuse("chunk is " + std::to_string(chunk) + "; expected at least one image.");
    if (inputs.empty() || outputs.empty()) refuse("inputs or outputs is empty; expected at least one value in each.");
    std::vector<bool> ends[2] = {std::vector<bool>(floats.size()), std::vector<bool>(floats.size())};
    for (int end = 0; end < 2; ++end)
        for (const Index i : end ? outputs : inputs) {
            const std::string name = end ? "outputs" : "inputs";
            if (i < 0 || i >= static_cast<Index>(floats.size()))
                refuse(name + " holds " + std::to_string(i) + ", but there are " + std::to_string(floats.size()) +
                       " values; expected one of them.");
            const std::size_t at = static_cast<std::size_t>(i);
            if (ends[0][at] || ends[1][at])
                refuse(name + " holds " + value_text(i) +
                       ", which is an input or an output already; expected each value once: use add_copy.");
            ends[end][at] = true;
        }
    std::vector<NetworkValue> values;
    for (std::size_t i = 0; i < floats.size(); ++i) {
        const bool outside = ends[0][i] || ends[1][i];
        if (floats[i] < 1 || floats[i] > kMost)
            refuse("floats[" + std::to_string(i) + "] is " + std::to_string(floats[i]) + "; expected 1 to 2**40.");
        if (outside ? offsets[i] != -1 : offsets[i] < 0 || offsets[i] % 16 || offsets[i] > kMost)
            refuse("offsets[" + std::to_string(i) + "] is " + std::to_string(offsets[i]) + "; expected " +
                   (outside ? "-1 for an input or an output, which lies in the caller's array."
                            : "a multiple of 16 from 0 to 2**40, since it is no input and no output."));
        values.push_back({floats[i], offsets[i]});
    }
    const std::vector<bool> holds = ends[0];
    return std::unique_ptr<Program>(
        new Program{Network(std::move(values), inputs, outputs, chunk), ends[0], ends[1], holds, {}, false});
}

py::array checked(const Adding& step, const py::object& given, const char* name, const Extents& shape,
                  const char* axes_text, bool may_be_none = false) {
    if (may_be_none && given.is_none()) return py::array();
    if (!py::isinstance<py::array>(given))
        throw py::type_error(std::string(step.op()) + ": " + name + " is a " +
                             std::string(py::str(py::type::of(given).attr("__name__"))) +
                             "; expected a NumPy array of float32.");
    py::array a = py::reinterpret_borrow<py::array>(given);
    check_input(a, {step.op(), name}, false, "float32, the type of networks,", shape, axes_text);
    return a;
}

// A weight whose shape is asked for before it is known: an array of this rank without an empty axis.
py::array ranked(const Adding& step, const py::object& given, const char* axes_letters, const std::string& axes_text) {
    if (!py::isinstance<py::array>(given))
        throw py::type_error(std::string(step.op()) + ": weight is a " +
                             std::string(py::str(py::type::of(given).attr("__name__"))) +
                             "; expected a NumPy array of float32.");
    const py::array a = py::reinterpret_borrow<py::array>(given);
    check_rank(a, {step.op(), "weight"}, axes_letters);
    if (a.size() == 0)
        step.refuse("weight has shape " + text(extents(a)) + "; expected at least one number on each axis of " +
                    axes_text + ".");
    return a;
}

const float* data_or_null(const py::object& original, const py::array& a) {
    return original.is_none() ? nullptr : readable<float>(a);
}

// The array's numbers, which keep it alive.
Weights kept(const py::array& a) {
    const auto owner = new py::array(a);
    return {readable<float>(a), [owner](const float*) {
                const py::gil_scoped_acquire held;
                delete owner;
            }};
}

void add_conv2d(Program& p, Index x, Index y, const Conv2dShape& s, const py::object& weight, const py::object& bias,
                const Activation& activation, const std::string& pool, Index residual) {
    Adding step(p, "add_conv2d");
    if (pool != "none" && pool != "same" && pool != "valid")
        step.refuse("pool is \"" + pool + "\"; expected \"none\", \"same\" or \"valid\".");
    if (residual != Network::kNone && pool != "none")
        step.refuse("residual is " + value_text(residual) + " with pool=\"" + pool +
                    "\"; expected pool=\"none\": what is pooled is added in a step of its own.");
    if (pool != "none" && !never_decreases(activation))
        step.refuse("activation decreases somewhere, with pool=\"" + pool +
                    "\", which takes the maximum before it; expected pool=\"none\", and a pool in a step of its own.");
    Conv2dCall call{.weight = nullptr,
                    .bias = nullptr,
                    .shape = s,
                    .activation = activation,
                    .pool = pool == "same"    ? Pool::same
                            : pool == "valid" ? Pool::valid
                                              : Pool::none};
    const bool pooled = call.pool != Pool::none;
    const int64_t size = product({pooled ? call.PH() : s.OH(), pooled ? call.PW() : s.OW(), s.OC});
    const py::array w = checked(step, weight, "weight", {s.KH, s.KW, s.group_C(), s.OC}, "[KH, KW, C/groups, OC]");
    const py::array b = checked(step, bias, "bias", {s.OC}, "[OC]", true);
    step.reads(x, "x", product({s.H, s.W, s.C}));
    if (residual != Network::kNone) step.reads(residual, "residual", size, true);
    step.writes(y, "y", size);
    call.weight = kept(w), call.bias = data_or_null(bias, b);
    Network::Step made;
    {
        const WithoutGil running;
        made = Network::conv2d(x, y, call, residual);
    }
    step.check_open();  // other threads had the GIL
    p.net.add(std::move(made));
    step.done();
}

void add_conv_transpose2d(Program& p, Index x, Index y, const ConvTranspose2dShape& shape, const py::object& weight,
                          const py::object& bias, const Activation& activation) {
    Adding step(p, "add_conv_transpose2d");
    const Conv2dShape& s = shape.mirror;
    const py::array w = checked(step, weight, "weight", {s.KH, s.KW, s.group_C(), s.OC}, "[KH, KW, OC/groups, C]");
    const py::array b = checked(step, bias, "bias", {s.C}, "[OC]", true);
    step.reads(x, "x", product({s.OH(), s.OW(), s.OC}));
    step.writes(y, "y", product({s.H, s.W, s.C}));
    const Conv2dCall call{
        .weight = kept(w), .bias = data_or_null(bias, b), .shape = s, .activation = activation, .transposed = true};
    Network::Step made;
    {
        const WithoutGil running;
        made = Network::conv2d(x, y, call, Network::kNone);
    }
    step.check_open();  // other threads had the GIL
    p.net.add(std::move(made));
    step.done();
}

void add_max_pool2d(Program& p, Index x, Index y, const Pool2dShape& s) {
    Adding step(p, "add_max_pool2d");
    step.reads(x, "x", product({s.H(), s.W(), s.C}));
    step.writes(y, "y", product({s.OH(), s.OW(), s.C}));
    p.net.add_max_pool2d(x, y, s);
    step.done();
}

void add_avg_pool2d(Program& p, Index x, Index y, const Pool2dShape& s, bool count_include_pad) {
    Adding step(p, "add_avg_pool2d");
    step.reads(x, "x", product({s.H(), s.W(), s.C}));
    step.writes(y, "y", product({s.OH(), s.OW(), s.C}));
    p.net.add_avg_pool2d(x, y, s, count_include_pad);
    step.done();
}

void add_batch_norm(Program& p, Index x, Index y, const py::object& weight, const py::object& bias,
                    const py::object& mean, const py::object& var, double eps, bool relu, Index residual) {
    Adding step(p, "add_batch_norm");
    const int64_t C = ranked(step, weight, "C", "[C]").shape(0), size = step.floats(x, "x");
    if (size % C)
        step.refuse("weight has " + std::to_string(C) + " numbers, but x has " + std::to_string(size) +
                    " floats an image; expected one number for each of its channels.");
    if (!(eps > 0)) step.refuse("eps is " + std::to_string(eps) + "; expected a number above 0.");
    const py::array w = checked(step, weight, "weight", {C}, "[C]"), b = checked(step, bias, "bias", {C}, "[C]");
    const py::array m = checked(step, mean, "mean", {C}, "[C]"), v = checked(step, var, "var", {C}, "[C]");
    step.reads(x, "x", size, true);
    if (residual != Network::kNone) step.reads(residual, "residual", size, true);
    step.writes(y, "y", size);
    p.net.add_batch_norm(x, y,
                         {.weight = readable<float>(w),
                          .bias = readable<float>(b),
                          .mean = readable<float>(m),
                          .variance = readable<float>(v),
                          .eps = eps,
                          .C = C,
                          .relu = relu},
                         residual);
    step.done();
}

void add_linear(Program& p, Index x, Index y, const py::object& weight, const py::object& bias,
                const Activation& activation) {
    Adding step(p, "add_linear");
    const py::array sizes = ranked(step, weight, "IO", "[in, out]");
    const int64_t in = sizes.shape(0), out = sizes.shape(1);
    const py::array w = checked(step, weight, "weight", {in, out}, "[in, out]");
    const py::array b = checked(step, bias, "bias", {out}, "[out]", true);
    const int64_t rows = std::max<int64_t>(step.floats(x, "x") / in, 1);
    step.reads(x, "x", rows * in);
    step.writes(y, "y", rows * out);
    const LinearCall call{
        .weight = kept(w), .bias = data_or_null(bias, b), .in = in, .out = out, .rows = rows, .activation = activation};
    Network::Step made;
    {
        const WithoutGil running;
        made = Network::linear(x, y, call);
    }
    step.check_open();  // other threads had the GIL
    p.net.add(std::move(made));
    step.done();
}

void add_relu(Program& p, Index x, Index y) {
    Adding step(p, "add_relu");
    step.reads(x, "x", step.floats(x, "x"), true);
    step.writes(y, "y", step.floats(x, "x"));
    p.net.add_relu(x, y);
    step.done();
}

void add_affine(Program& p, Index x, Index y, double scale, double shift) {
    Adding step(p, "add_affine");
    step.reads(x, "x", step.floats(x, "x"), true);
    step.writes(y, "y", step.floats(x, "x"));
    p.net.add_affine(x, y, static_cast<float>(scale), static_cast<float>(shift));
    step.done();
}

void add_python(Program& p, const py::object& function, const Indices& xs, const Indices& ys,
                const std::vector<Extents>& x_shapes, const std::vector<Extents>& y_shapes) {
    Adding step(p, "add_python");
    if (!PyCallable_Check(function.ptr()))
        throw py::type_error("Network.add_python: function is no function; expected f(xs, ys), which fills ys.");
    if (xs.size() != x_shapes.size() || ys.size() != y_shapes.size() || ys.empty())
        step.refuse(
            "the shapes are not as many as the values, or ys is empty; expected one shape of one image for each "
            "of xs and ys.");
    for (std::size_t i = 0; i < xs.size(); ++i)
        step.reads(xs[i], "xs[" + std::to_string(i) + "]", product(x_shapes[i]), true);
    for (std::size_t i = 0; i < ys.size(); ++i)
        step.writes(ys[i], "ys[" + std::to_string(i) + "]", product(y_shapes[i]));
    p.python.push_back({function, xs, ys, x_shapes, y_shapes});
    p.net.add_foreign();
    step.done();
}

}  // namespace
}  // namespace network_bindings

void bind_network(py::module_& m) {
    using namespace network_bindings;
    py::class_<Program> network(m, "Network");
    bind_network_combine(network);
    bind_network_moves(network);
    bind_network_row_norm(network);
    network
        .def(py::init(&make_network), py::arg("floats"), py::arg("offsets"), py::arg("inputs"), py::arg("outputs"),
             py::arg("chunk"))
        .def("add_conv2d", add_conv2d, py::arg("x"), py::arg("y"), py::arg("shape"), py::arg("weight"), py::arg("bias"),
             py::arg("activation"), py::arg("pool"), py::arg("residual") = Network::kNone)
        .def("add_conv_transpose2d", add_conv_transpose2d, py::arg("x"), py::arg("y"), py::arg("shape"),
             py::arg("weight"), py::arg("bias"), py::arg("activation"))
        .def("add_max_pool2d", add_max_pool2d, py::arg("x"), py::arg("y"), py::arg("shape"))
        .def("add_avg_pool2d", add_avg_pool2d, py::arg("x"), py::arg("y"), py::arg("shape"),
             py::arg("count_include_pad"))
        .def("add_batch_norm", add_batch_norm, py::arg("x"), py::arg("y"), py::arg("weight"), py::arg("bias"),
             py::arg("mean"), py::arg("var"), py::arg("eps"), py::arg("relu"), py::arg("residual") = Network::kNone)
        .def("add_linear", add_linear, py::arg("x"), py::arg("y"), py::arg("weight"), py::arg("bias"),
             py::arg("activation"))
        .def("add_relu", add_relu, py::arg("x"), py::arg("y"))
        .def("add_affine", add_affine, py::arg("x"), py::arg("y"), py::arg("scale"), py::arg("shift"))
        .def("add_python", add_python, py::arg("function"), py::arg("xs"), py::arg("ys"), py::arg("x_shapes"),
             py::arg("y_shapes"))
        .def_property_readonly(
            "bytes_per_image",
            [](const Program& p) { return p.net.arena_floats() * static_cast<int64_t>(sizeof(float)); })
        .def("run", run_network, py::arg("arrays"), py::arg("output_shapes"))
        .def(
            "run_one",
            [](Program& p, const py::object& x, const Extents& shape) { return run_network(p, {x}, {shape})[0]; },
            py::arg("x"), py::arg("output_shape"));
}

}  // namespace pycnn
