// Arithmetic of two arrays, for Python: what the branches of a network meet in.

#include <pybind11/stl.h>

#include "array_check.h"
#include "ops/maps/elementwise.h"

namespace pycnn {
namespace join_bindings {
namespace {

// `op` is the name in sentences; a and b are called so too. activation: of a sum alone.
void combine_arrays(py::array y, const py::array& a, const py::array& b, const std::string& op,
                    const Activation& activation) {
    const char* name = op.c_str();
    const bool float64 = check_floating(a, {name, "a"});
    check_contiguous(a, {name, "a"});
    check_input(b, {name, "b"}, float64, "a", extents(a), "as a");
    check_output(y, {name, "out"}, float64, "a", extents(a), "as a");
    check_apart(y, {name, "out"}, a, "a", true);
    check_apart(y, {name, "out"}, b, "b", true);
    void* result = y.mutable_data();
    const int64_t size = a.size();
    by_type(float64, [&](auto zero) {
        using T = decltype(zero);
        const WithoutGil running;
        T* to = static_cast<T*>(result);
        if (op == "add")
            finish<T>({.y = to,
                       .x = readable<T>(a),
                       .rows = 1,
                       .C = size,
                       .epilogue = {.residual = readable<T>(b), .activation = activation}});
        else
            combine<T>({.y = to,
                        .a = readable<T>(a),
                        .b = readable<T>(b),
                        .size = size,
                        .op = op == "subtract" ? Combine::subtract : Combine::multiply});
    });
}

void affine_of(py::array y, const py::array& x, double scale, double shift) {
    const char* op = "affine";
    const bool float64 = check_floating(x, {op, "x"});
    check_contiguous(x, {op, "x"});
    check_output(y, {op, "out"}, float64, "x", extents(x), "as x");
    check_apart(y, {op, "out"}, x, "x", true);
    void* result = y.mutable_data();
    const int64_t size = x.size();
    by_type(float64, [&](auto zero) {
        using T = decltype(zero);
        const WithoutGil running;
        affine<T>({.y = static_cast<T*>(result),
                   .x = readable<T>(x),
                   .size = size,
                   .scale = static_cast<T>(scale),
                   .shift = static_cast<T>(shift)});
    });
}

}  // namespace
}  // namespace join_bindings

void bind_join(py::module_& m) {
    using namespace join_bindings;
    m.def("combine", combine_arrays, py::arg("y"), py::arg("a"), py::arg("b"), py::arg("op"), py::arg("activation"));
    m.def("affine", affine_of, py::arg("y"), py::arg("x"), py::arg("scale"), py::arg("shift"));
}

}  // namespace pycnn
