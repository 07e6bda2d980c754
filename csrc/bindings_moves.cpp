// Numbers that move and do not change: what concat, split, pad, permute and their like write, for Python, which says
// with views of arrays which numbers go where.

#include "bindings_moves.h"

#include <pybind11/stl.h>

#include "ops/maps/copy.h"

namespace pycnn {
namespace moves_bindings {
namespace {

// (name, array), all of one type and without gaps; (name, array or None, shape, axes), apart from each other and from
// these, or in_place the very same.
void check_move(const std::string& op_name, const std::vector<std::pair<std::string, py::array>>& sources,
                const std::vector<std::tuple<std::string, py::object, Extents, std::string>>& targets, bool in_place) {
    const char* op = op_name.c_str();
    const char* first = sources.at(0).first.c_str();
    const bool float64 = check_floating(sources[0].second, {op, first});
    for (const auto& [name, array] : sources) {
        check_same_type(array, {op, name.c_str()}, float64, first);
        check_contiguous(array, {op, name.c_str()});
    }
    std::vector<py::array> written;
    for (const auto& [name, given, shape, axes_text] : targets) {
        if (given.is_none()) continue;
        const py::array out = py::reinterpret_borrow<py::array>(given);
        const Argument who{op, name.c_str()};
        check_output(out, who, float64, first, shape, axes_text);
        for (const auto& [source, array] : sources) check_apart(out, who, array, source.c_str(), in_place);
        for (const py::array& other : written) check_apart(out, who, other, "another array of out");
        written.push_back(out);
    }
}

// (target, source), views of arrays that passed check_move, of one shape and type each: one after the other.
void move(const std::vector<std::pair<py::array, py::array>>& pieces) {
    struct Call {
        void* y;
        const void* x;
        std::vector<CopyAxis> axes;
    };
    std::vector<Call> calls;
    for (auto [target, source] : pieces) {
        if (extents(target) != extents(source) || !target.dtype().equal(source.dtype()))
            throw py::value_error("move: a piece is " + text(extents(target)) + ", its source " +
                                  text(extents(source)) + "; expected one shape and type.");
        std::vector<CopyAxis> axes;
        for (py::ssize_t k = 0; k < target.ndim(); ++k)
            axes.push_back(
                {target.shape(k), target.strides(k) / target.itemsize(), source.strides(k) / source.itemsize()});
        calls.push_back({target.mutable_data(), source.data(), axes});
    }
    if (pieces.empty()) return;
    by_type(is_float64(pieces[0].first), [&](auto zero) {
        using T = decltype(zero);
        const WithoutGil running;
        for (const Call& call : calls) strided_copy(static_cast<T*>(call.y), static_cast<const T*>(call.x), call.axes);
    });
}

// y [N, OH, OW, C], x [N, H, W, C], arrays that passed check_move.
void resample_images(py::array y, const py::array& x, const py::tuple& rows, const py::tuple& columns, double outside) {
    check_rank(x, {"resample", "x"}, "NHWC");
    const Taps row_taps = taps_of(rows, x.shape(1)), column_taps = taps_of(columns, x.shape(2));
    check_shape(y, {"resample", "y"}, {x.shape(0), row_taps.outputs(), column_taps.outputs(), x.shape(3)},
                "[N, OH, OW, C]");
    void* result = y.mutable_data();
    const int64_t N = x.shape(0), H = x.shape(1), W = x.shape(2), C = x.shape(3);
    by_type(is_float64(x), [&](auto zero) {
        using T = decltype(zero);
        const WithoutGil running;
        resample<T>({.y = static_cast<T*>(result),
                     .x = readable<T>(x),
                     .N = N,
                     .H = H,
                     .W = W,
                     .C = C,
                     .rows = &row_taps,
                     .columns = &column_taps,
                     .outside = outside});
    });
}

}  // namespace
}  // namespace moves_bindings

void bind_moves(py::module_& m) {
    using namespace moves_bindings;
    m.def("check_move", check_move, py::arg("op"), py::arg("sources"), py::arg("targets"), py::arg("in_place") = false);
    m.def("move", move, py::arg("pieces"));
    m.def("resample", resample_images, py::arg("y"), py::arg("x"), py::arg("rows"), py::arg("columns"),
          py::arg("outside"));
}

}  // namespace pycnn
