// Pooling for Python: the shape as an object, forward and backward on arrays that fit it.

#include <pybind11/stl.h>

#include <array>
#include <optional>

#include "array_check.h"
#include "ops/maps/pool2d.h"

namespace pycnn {
namespace pool2d_bindings {
namespace {

const std::string kX = "[N, H, W, C]", kY = "[N, OH, OW, C]";

using Pair = std::array<int64_t, 2>;

void check_image(const std::string& op, const Extents& x) {
    if (x.size() != 4)
        throw py::value_error(op + ": x has shape " + text(x) + ", " + std::to_string(x.size()) +
                              " axes; expected 4: " + kX +
                              ": write x[None] for one image or x[..., None] for one channel.");
    if (x[1] < 1 || x[2] < 1 || x[3] < 1)
        throw py::value_error(op + ": x has shape " + text(x) + "; expected at least one row, column and channel in " +
                              kX + " (only N may be 0).");
    if (x[1] * x[2] > INT32_MAX)
        throw py::value_error(op + ": the image has H * W = " + std::to_string(x[1] * x[2]) +
                              " pixels; expected at most 2^31 - 1, the range of the int32 indices.");
}

// Where a dilated window begins before an image of fewer pixels, its taps may step over all of them.
bool may_be_empty(const AxisWindow& w) {
    const int64_t covered = extent(w.kernel, w.dilation);
    return w.before >= covered || w.after >= covered || (w.before > 0 && w.size < w.dilation);
}

// padding: top, bottom, left, right, or none for SAME.
Pool2dShape make_shape(const std::string& op, const Extents& x, Pair kernel, Pair stride,
                       const std::optional<std::array<int64_t, 4>>& padding, Pair dilation, bool ceil_mode) {
    check_image(op, x);
    AxisWindow axes[2];
    for (std::size_t i = 0; i < 2; ++i) {
        const int64_t total = padding ? 0 : same_padding_total(x[i + 1], kernel[i], stride[i], dilation[i]);
        axes[i] = {.size = x[i + 1],
                   .before = padding ? (*padding)[2 * i] : total / 2,
                   .after = padding ? (*padding)[2 * i + 1] : total - total / 2,
                   .kernel = kernel[i],
                   .stride = stride[i],
                   .dilation = dilation[i]};
    }
    const auto& [h, w] = axes;
    const Extents covered = {extent(h.kernel, h.dilation), extent(w.kernel, w.dilation)};
    if (may_be_empty(h) || may_be_empty(w))
        throw py::value_error(op +
                              ": padding (top, bottom, left, right) = " + text({h.before, h.after, w.before, w.after}) +
                              " is not smaller than the window " + text(covered) + " (KH, KW) on every side" +
                              (dilation == Pair{1, 1} ? "" : ", or the image is smaller than the dilation") +
                              "; a window would hold no pixel.");
    const auto outputs = ceil_mode ? ceil_output_size : output_size;
    const Pool2dShape s{x[0], x[3], {h, outputs(h)}, {w, outputs(w)}};
    if (s.OH() < 1 || s.OW() < 1)
        throw py::value_error(op + ": the window " + text(covered) + " (KH, KW) is larger than the padded image " +
                              text({s.H() + h.before + h.after, s.W() + w.before + w.after}) +
                              " (H, W); expected a window that fits: use padding=\"same\" or a smaller kernel_size.");
    return s;
}

Pool2dShape make_adaptive(const std::string& op, const Extents& x, Pair outputs) {
    check_image(op, x);
    const auto axis = [&](std::size_t i) {
        return PoolAxis{
            {.size = x[i + 1], .before = 0, .after = 0, .kernel = 0, .stride = 0, .dilation = 1}, outputs[i], true};
    };
    return {x[0], x[3], axis(0), axis(1)};
}

Extents x_shape(const Pool2dShape& s) { return {s.N, s.H(), s.W(), s.C}; }
Extents y_shape(const Pool2dShape& s) { return {s.N, s.OH(), s.OW(), s.C}; }

void check_indices(const py::array& indices, const Argument& who, const Pool2dShape& s) {
    if (!py::isinstance<py::array_t<int32_t>>(indices))
        throw py::type_error(who.text() + " is " + dtype_name(indices) +
                             "; expected int32, as max_pool2d(..., return_indices=True) returns them.");
    check_shape(indices, who, y_shape(s), kY);
    check_contiguous(indices, who);
}

void max_forward(py::array y, const py::object& indices_or_none, const py::array& x, const Pool2dShape& s,
                 const std::string& name) {
    const char* op = name.c_str();
    const bool float64 = check_floating(x, {op, "x"});
    check_input(x, {op, "x"}, float64, "x", x_shape(s), kX);
    check_output(y, {op, "out"}, float64, "x", y_shape(s), kY);
    check_apart(y, {op, "out"}, x, "x");
    int32_t* where = nullptr;
    if (!indices_or_none.is_none()) {
        py::array indices = py::reinterpret_borrow<py::array>(indices_or_none);
        check_indices(indices, {op, "out[1] (indices)"}, s);
        if (!indices.writeable()) throw py::value_error(name + ": out[1] (indices) is read-only.");
        check_apart(indices, {op, "out[1] (indices)"}, x, "x");
        check_apart(indices, {op, "out[1] (indices)"}, y, "out[0]");
        where = writable<int32_t>(indices);
    }
    void* result = y.mutable_data();
    by_type(float64, [&](auto zero) {
        using T = decltype(zero);
        const WithoutGil running;
        max_pool2d_forward(static_cast<T*>(result), where, readable<T>(x), s);
    });
}

void max_backward(py::array dx, const py::array& dy, const py::array& indices) {
    const char* op = "max_pool2d_backward";
    const bool float64 = check_floating(dy, {op, "dy"});
    check_rank(dy, {op, "dy"}, "NHWC");
    check_contiguous(dy, {op, "dy"});
    if (!py::isinstance<py::array_t<int32_t>>(indices))
        throw py::type_error("max_pool2d_backward: indices is " + dtype_name(indices) +
                             "; expected int32, as max_pool2d(..., return_indices=True) returns them.");
    check_shape(indices, {op, "indices"}, extents(dy), kY + ", as dy");
    check_contiguous(indices, {op, "indices"});
    check_rank(dx, {op, "out"}, "NHWC");
    if (dx.shape(1) < 1 || dx.shape(2) < 1)
        throw py::value_error("max_pool2d_backward: input_shape is " + text(extents(dx)) +
                              "; expected at least one row and one column in " + kX + ".");
    if (dx.shape(0) != dy.shape(0) || dx.shape(3) != dy.shape(3))
        throw py::value_error("max_pool2d_backward: input_shape is " + text(extents(dx)) + ", but dy has shape " +
                              text(extents(dy)) + "; expected the same N and C in " + kX + " and " + kY + ".");
    check_output(dx, {op, "out"}, float64, "dy", extents(dx), kX);
    check_apart(dx, {op, "out"}, dy, "dy");
    check_apart(dx, {op, "out"}, indices, "indices");
    const int64_t N = dx.shape(0), pixels = dx.shape(1) * dx.shape(2), outputs = dy.shape(1) * dy.shape(2),
                  C = dx.shape(3);
    const int32_t* where = readable<int32_t>(indices);
    void* result = dx.mutable_data();
    int64_t bad = kNoBadIndex;
    by_type(float64, [&](auto zero) {
        using T = decltype(zero);
        const WithoutGil running;
        bad = max_pool2d_backward<T>({.dx = static_cast<T*>(result),
                                      .dy = readable<T>(dy),
                                      .indices = where,
                                      .N = N,
                                      .pixels = pixels,
                                      .outputs = outputs,
                                      .C = C});
    });
    if (bad != kNoBadIndex)
        throw py::value_error("max_pool2d_backward: indices holds " + std::to_string(bad) +
                              "; expected positions h * W + w in 0 .. " + std::to_string(pixels - 1) +
                              " of an image of " + text({dx.shape(1), dx.shape(2)}) + " (H, W).");
}

void avg_forward(py::array y, const py::array& x, const Pool2dShape& s, bool count_include_pad,
                 const std::string& name) {
    const char* op = name.c_str();
    const bool float64 = check_floating(x, {op, "x"});
    check_input(x, {op, "x"}, float64, "x", x_shape(s), kX);
    check_output(y, {op, "out"}, float64, "x", y_shape(s), kY);
    check_apart(y, {op, "out"}, x, "x");
    void* result = y.mutable_data();
    by_type(float64, [&](auto zero) {
        using T = decltype(zero);
        const WithoutGil running;
        avg_pool2d_forward(static_cast<T*>(result), readable<T>(x), s, count_include_pad);
    });
}

void avg_backward(py::array dx, const py::array& dy, const Pool2dShape& s, bool count_include_pad,
                  const std::string& name) {
    const char* op = name.c_str();
    const bool float64 = check_floating(dy, {op, "dy"});
    check_input(dy, {op, "dy"}, float64, "dy", y_shape(s), kY);
    check_output(dx, {op, "out"}, float64, "dy", x_shape(s), kX);
    check_apart(dx, {op, "out"}, dy, "dy");
    void* result = dx.mutable_data();
    by_type(float64, [&](auto zero) {
        using T = decltype(zero);
        const WithoutGil running;
        avg_pool2d_backward(static_cast<T*>(result), readable<T>(dy), s, count_include_pad);
    });
}

}  // namespace
}  // namespace pool2d_bindings

void bind_pool2d(py::module_& m) {
    using namespace pool2d_bindings;
    py::class_<Pool2dShape>(m, "Pool2dShape")
        .def(py::init(&make_shape), py::arg("op"), py::arg("x_shape"), py::arg("kernel_size"), py::arg("stride"),
             py::arg("padding"), py::arg("dilation"), py::arg("ceil_mode"))
        .def_static("adaptive", &make_adaptive, py::arg("op"), py::arg("x_shape"), py::arg("output_size"))
        .def_property_readonly("input_shape", [](const Pool2dShape& s) { return py::tuple(py::cast(x_shape(s))); })
        .def_property_readonly("output_shape", [](const Pool2dShape& s) { return py::tuple(py::cast(y_shape(s))); });
    m.def("max_pool2d_forward", max_forward, py::arg("y"), py::arg("indices"), py::arg("x"), py::arg("shape"),
          py::arg("op") = "max_pool2d");
    m.def("max_pool2d_backward", max_backward, py::arg("dx"), py::arg("dy"), py::arg("indices"));
    m.def("avg_pool2d_forward", avg_forward, py::arg("y"), py::arg("x"), py::arg("shape"), py::arg("count_include_pad"),
          py::arg("op") = "avg_pool2d");
    m.def("avg_pool2d_backward", avg_backward, py::arg("dx"), py::arg("dy"), py::arg("shape"),
          py::arg("count_include_pad"), py::arg("op") = "avg_pool2d_backward");
}

}  // namespace pycnn
