// Affine, concat and split, for Python: what the branches of a network meet and part in (with bindings_combine.cpp).

#include <pybind11/stl.h>

#include "array_check.h"
#include "ops/maps/elementwise.h"
#include "ops/maps/join.h"

namespace pycnn {
namespace join_bindings {
namespace {

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

// The last axis, and the rows before it. `name` is kept by the caller for as long as sentences are made.
struct Rows {
    int64_t count = 1, C;

    Rows(const py::array& a, const Argument& who) {
        check_contiguous(a, who);
        if (a.ndim() < 1)
            throw py::value_error(who.text() +
                                  " has no axes; expected at least one, the last of which is joined or "
                                  "cut: [..., C].");
        for (py::ssize_t axis = 0; axis + 1 < a.ndim(); ++axis) count *= a.shape(axis);
        C = a.shape(a.ndim() - 1);
    }
};

std::string numbered(const char* name, std::size_t i) { return std::string(name) + "[" + std::to_string(i) + "]"; }

Extents with_last(const py::array& a, int64_t C) {
    Extents shape = extents(a);
    shape.back() = C;
    return shape;
}

void concat_arrays(py::array y, const std::vector<py::array>& arrays) {
    const char* op = "concat";
    if (arrays.empty()) throw py::value_error("concat: arrays is empty; expected at least one array.");
    const py::array& first = arrays.front();
    const bool float64 = check_floating(first, {op, "arrays[0]"});
    const int64_t rows = Rows(first, {op, "arrays[0]"}).count;
    std::vector<Part> parts;
    int64_t C = 0;
    for (std::size_t i = 0; i < arrays.size(); ++i) {
        const std::string name = numbered("arrays", i);
        const Argument who{op, name.c_str()};
        const int64_t width = Rows(arrays[i], who).C;
        check_input(arrays[i], who, float64, "arrays[0]", with_last(first, width),
                    "as arrays[0] but for the last axis");
        std::byte* data = static_cast<std::byte*>(const_cast<void*>(arrays[i].data()));  // only read
        parts.push_back({data, static_cast<std::size_t>(width * first.itemsize())});
        C += width;
    }
    check_output(y, {op, "out"}, float64, "arrays[0]", with_last(first, C), "[..., sum of C]");
    for (std::size_t i = 0; i < arrays.size(); ++i)
        check_apart(y, {op, "out"}, arrays[i], numbered("arrays", i).c_str());
    std::byte* result = static_cast<std::byte*>(y.mutable_data());
    const WithoutGil running;
    concat(result, parts, rows);
}

// One array, or None, for each of the sizes that the last axis of x is cut into.
void split_array(const py::array& x, const std::vector<int64_t>& sizes, const std::vector<py::object>& outs) {
    const char* op = "split";
    const bool float64 = check_floating(x, {op, "x"});
    const Rows rows(x, {op, "x"});
    int64_t sum = 0;
    for (const int64_t size : sizes) sum += size;
    if (sum != rows.C || outs.size() != sizes.size())
        throw py::value_error("split: sizes add up to " + std::to_string(sum) + " for " + std::to_string(outs.size()) +
                              " arrays, but x has shape " + text(extents(x)) + "; expected " + std::to_string(rows.C) +
                              ", the size of its last axis.");
    std::vector<Part> parts;
    std::vector<py::array> written;
    for (std::size_t i = 0; i < outs.size(); ++i) {
        parts.push_back({nullptr, static_cast<std::size_t>(sizes[i] * x.itemsize())});
        if (outs[i].is_none()) continue;
        py::array out = py::reinterpret_borrow<py::array>(outs[i]);
        const std::string name = numbered("out", i);
        check_output(out, {op, name.c_str()}, float64, "x", with_last(x, sizes[i]), "[..., sizes[i]]");
        check_apart(out, {op, name.c_str()}, x, "x");
        for (const py::array& other : written) check_apart(out, {op, name.c_str()}, other, "another array of out");
        parts.back().data = static_cast<std::byte*>(out.mutable_data());
        written.push_back(out);
    }
    const std::byte* from = static_cast<const std::byte*>(x.data());
    const int64_t count = rows.count;
    const WithoutGil running;
    split(parts, from, count);
}

}  // namespace
}  // namespace join_bindings

void bind_join(py::module_& m) {
    using namespace join_bindings;
    m.def("affine", affine_of, py::arg("y"), py::arg("x"), py::arg("scale"), py::arg("shift"));
    m.def("concat", concat_arrays, py::arg("y"), py::arg("arrays"));
    m.def("split", split_array, py::arg("x"), py::arg("sizes"), py::arg("outs"));
}

}  // namespace pycnn
