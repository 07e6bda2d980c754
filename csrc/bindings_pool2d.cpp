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

// padding: top, bottom, left, right, or none for SAME.
Pool2dShape make_shape(const std::string& op, const Extents& x, std::array<int64_t, 2> kernel,
                       std::array<int64_t, 2> stride, const std::optional<std::array<int64_t, 4>>& padding) {
    if (x.size() != 4)
        throw py::value_error(op + ": x has shape " + text(x) + ", " + std::to_string(x.size()) +
                              " axes; expected 4: " + kX +
                              ": write x[None] for one image or x[..., None] for one channel.");
    if (x[1] < 1 || x[2] < 1 || x[3] < 1)
        throw py::value_error(op + ": x has shape " + text(x) + "; expected at least one row, column and channel in " +
                              kX + " (only N may be 0).");
    Pool2dShape s{x[0], x[1], x[2], x[3], kernel[0], kernel[1], stride[0], stride[1], {}};
    if (padding) {
        s.pad = {(*padding)[0], (*padding)[1], (*padding)[2], (*padding)[3]};
    } else {
        const int64_t rows = same_padding_total(s.H, s.KH, s.stride_h, 1),
                      cols = same_padding_total(s.W, s.KW, s.stride_w, 1);
        s.pad = {rows / 2, rows - rows / 2, cols / 2, cols - cols / 2};
    }
    if (std::max(s.pad.top, s.pad.bottom) >= s.KH || std::max(s.pad.left, s.pad.right) >= s.KW)
        throw py::value_error(
            op + ": padding (top, bottom, left, right) = " + text({s.pad.top, s.pad.bottom, s.pad.left, s.pad.right}) +
            " is not smaller than the window " + text({s.KH, s.KW}) +
            " (KH, KW) on every side; a window would hold no pixel.");
    if (s.OH() < 1 || s.OW() < 1)
        throw py::value_error(op + ": the window " + text({s.KH, s.KW}) + " (KH, KW) is larger than the padded image " +
                              text({s.H + s.pad.top + s.pad.bottom, s.W + s.pad.left + s.pad.right}) +
                              " (H, W); expected a window that fits: use padding=\"same\" or a smaller kernel_size.");
    if (s.H * s.W > INT32_MAX)
        throw py::value_error(op + ": the image has H * W = " + std::to_string(s.H * s.W) +
                              " pixels; expected at most 2^31 - 1, the range of the int32 indices.");
    return s;
}

Extents x_shape(const Pool2dShape& s) { return {s.N, s.H, s.W, s.C}; }
Extents y_shape(const Pool2dShape& s) { return {s.N, s.OH(), s.OW(), s.C}; }

void check_indices(const py::array& indices, const Argument& who, const Pool2dShape& s) {
    if (!py::isinstance<py::array_t<int32_t>>(indices))
        throw py::type_error(who.text() + " is " + dtype_name(indices) +
                             "; expected int32, as max_pool2d(..., return_indices=True) returns them.");
    check_shape(indices, who, y_shape(s), kY);
    check_contiguous(indices, who);
}

void max_forward(py::array y, const py::object& indices_or_none, const py::array& x, const Pool2dShape& s) {
    const char* op = "max_pool2d";
    const bool float64 = check_floating(x, {op, "x"});
    check_input(x, {op, "x"}, float64, "x", x_shape(s), kX);
    check_output(y, {op, "out"}, float64, "x", y_shape(s), kY);
    check_apart(y, {op, "out"}, x, "x");
    int32_t* where = nullptr;
    if (!indices_or_none.is_none()) {
        py::array indices = py::reinterpret_borrow<py::array>(indices_or_none);
        check_indices(indices, {op, "out[1] (indices)"}, s);
        if (!indices.writeable()) throw py::value_error("max_pool2d: out[1] (indices) is read-only.");
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

void avg_forward(py::array y, const py::array& x, const Pool2dShape& s, bool count_include_pad) {
    const char* op = "avg_pool2d";
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

void avg_backward(py::array dx, const py::array& dy, const Pool2dShape& s, bool count_include_pad) {
    const char* op = "avg_pool2d_backward";
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
             py::arg("padding"))
        .def_property_readonly("input_shape", [](const Pool2dShape& s) { return py::tuple(py::cast(x_shape(s))); })
        .def_property_readonly("output_shape", [](const Pool2dShape& s) { return py::tuple(py::cast(y_shape(s))); })
        .def_property_readonly("padding", [](const Pool2dShape& s) {
            return py::make_tuple(py::make_tuple(s.pad.top, s.pad.bottom), py::make_tuple(s.pad.left, s.pad.right));
        });
    m.def("max_pool2d_forward", max_forward, py::arg("y"), py::arg("indices"), py::arg("x"), py::arg("shape"));
    m.def("max_pool2d_backward", max_backward, py::arg("dx"), py::arg("dy"), py::arg("indices"));
    m.def("avg_pool2d_forward", avg_forward, py::arg("y"), py::arg("x"), py::arg("shape"),
          py::arg("count_include_pad"));
    m.def("avg_pool2d_backward", avg_backward, py::arg("dx"), py::arg("dy"), py::arg("shape"),
          py::arg("count_include_pad"));
}

}  // namespace pycnn
