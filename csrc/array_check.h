// Checks arrays at the border with Python and says in a sentence what is wrong. Only the bindings include this file.
#pragma once
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <string>
#include <vector>

#include "ops/runtime/dispatch.h"

namespace pycnn {

namespace py = pybind11;

using Extents = std::vector<py::ssize_t>;

inline std::string text(const Extents& shape) {
    std::string s = "(";
    for (std::size_t i = 0; i < shape.size(); ++i) s += (i ? ", " : "") + std::to_string(shape[i]);
    return s + (shape.size() == 1 ? ",)" : ")");
}

inline Extents extents(const py::array& a) { return Extents(a.shape(), a.shape() + a.ndim()); }

// "NHWC" -> "[N, H, W, C]"; a letter followed by small ones or digits belongs together: "KHKW" is not split by this.
inline std::string axes(const char* letters) {
    std::string s = "[";
    for (const char* at = letters; *at; ++at) s += (at == letters ? "" : ", ") + std::string(1, *at);
    return s + "]";
}

inline bool is_float32(const py::array& a) { return py::isinstance<py::array_t<float>>(a); }
inline bool is_float64(const py::array& a) { return py::isinstance<py::array_t<double>>(a); }

// How an argument is called in a sentence: "conv2d: x".
struct Argument {
    const char* op;
    const char* name;
    std::string text() const { return std::string(op) + ": " + name; }
};

inline std::string dtype_name(const py::array& a) { return py::str(a.dtype()).cast<std::string>(); }

// Returns true for float64, false for float32; anything else is a TypeError.
inline bool check_floating(const py::array& a, const Argument& who) {
    if (is_float32(a)) return false;
    if (is_float64(a)) return true;
    throw py::type_error(who.text() + " is " + dtype_name(a) + "; expected float32 or float64: write " + who.name +
                         ".astype(np.float32).");
}

// `as` names the array whose type counts. The advice leads to float32: float64 runs the plain loops.
inline void check_same_type(const py::array& a, const Argument& who, bool float64, const char* as) {
    if (check_floating(a, who) == float64) return;
    const std::string name = who.name, other = as;
    std::string advice = "write " + (float64 ? other : name) + ".astype(np.float32)";
    if (name.rfind("out", 0) == 0) advice = "make it with dtype=np." + std::string(float64 ? "float64" : "float32");
    throw py::type_error(who.text() + " is " + dtype_name(a) + ", but " + other + " is " +
                         (float64 ? "float64" : "float32") + "; expected one type for all arrays: " + advice + ".");
}

inline void check_rank(const py::array& a, const Argument& who, const char* letters) {
    const py::ssize_t rank = static_cast<py::ssize_t>(std::string(letters).size());
    if (a.ndim() == rank) return;
    throw py::value_error(who.text() + " has shape " + text(extents(a)) + ", " + std::to_string(a.ndim()) +
                          " axes; expected " + std::to_string(rank) + ": " + axes(letters) + ".");
}

// What to write for an image in NCHW whose shape would fit in NHWC; `expected_axes` tells an image.
inline std::string nchw_advice(const py::array& a, const Argument& who, const Extents& expected,
                               const std::string& expected_axes) {
    if (a.ndim() != 4 || expected_axes.rfind("[N", 0) != 0 || std::string(who.name).rfind("out", 0) == 0) return "";
    if (Extents{a.shape(0), a.shape(2), a.shape(3), a.shape(1)} != expected) return "";
    return std::string(": for [N, C, H, W] write ") + who.name + ".transpose(0, 2, 3, 1)";
}

inline void check_shape(const py::array& a, const Argument& who, const Extents& expected,
                        const std::string& axes_text) {
    if (extents(a) == expected) return;
    throw py::value_error(who.text() + " has shape " + text(extents(a)) + "; expected " + text(expected) + " " +
                          axes_text + nchw_advice(a, who, expected, axes_text) + ".");
}

inline void check_contiguous(const py::array& a, const Argument& who) {
    constexpr int kAligned = 0x0100;  // NPY_ARRAY_ALIGNED
    if ((a.flags() & py::array::c_style) && (a.flags() & kAligned)) return;
    throw py::value_error(
        who.text() + " is not C-contiguous and aligned; expected an array without gaps: write np.ascontiguousarray(" +
        who.name + "), or pass a fresh array where it is written to.");
}

// An input: type, shape and layout.
inline void check_input(const py::array& a, const Argument& who, bool float64, const char* as, const Extents& shape,
                        const std::string& axes_text) {
    check_same_type(a, who, float64, as);
    check_shape(a, who, shape, axes_text);
    check_contiguous(a, who);
}

// An array that is written to: also writable.
inline void check_output(const py::array& a, const Argument& who, bool float64, const char* as, const Extents& shape,
                         const std::string& axes_text) {
    check_input(a, who, float64, as, shape, axes_text);
    if (!a.writeable()) throw py::value_error(who.text() + " is read-only; expected an array that can be written to.");
}

inline bool overlaps(const py::array& a, const py::array& b) {
    const char *a0 = static_cast<const char*>(a.data()), *b0 = static_cast<const char*>(b.data());
    return a.nbytes() > 0 && b.nbytes() > 0 && a0 < b0 + b.nbytes() && b0 < a0 + a.nbytes();
}

// `in_place_ok`: the very same array is fine (each element is read before it is written), a shifted view is not.
inline void check_apart(const py::array& out, const Argument& who, const py::array& in, const char* in_name,
                        bool in_place_ok = false) {
    if (!overlaps(out, in)) return;
    if (in_place_ok && out.data() == in.data() && out.nbytes() == in.nbytes()) return;
    throw py::value_error(who.text() + " shares memory with " + in_name + ", which is still read while " + who.name +
                          " is written; expected separate memory: pass a fresh array or leave " + who.name + " away.");
}

template <class T>
T* writable(py::array& a) {
    return static_cast<T*>(a.mutable_data());
}
template <class T>
const T* readable(const py::array& a) {
    return static_cast<const T*>(a.data());
}

// Numbers that decide where memory is written or read. They are copied before they are checked: another thread may
// change the array as soon as the GIL is dropped.
template <class T>
std::vector<T> copy_of(const py::array& a) {
    return std::vector<T>(readable<T>(a), readable<T>(a) + a.size());
}

// What every binding holds around a call of an operator: no GIL, and the instruction set stays. The GIL is dropped
// before the kernels are asked for and taken back after they are let go, so that nobody waits for both.
class WithoutGil {
    py::gil_scoped_release released_;
    KernelsInUse kernels_;
};

// Calls body(T{}) for the type that was found.
template <class Body>
auto by_type(bool float64, Body&& body) {
    return float64 ? body(double{}) : body(float{});
}

void bind_combine(py::module_&);
void bind_conv_norm(py::module_&);
void bind_conv_pool(py::module_&);
void bind_conv2d(py::module_&);
void bind_conv_transpose2d(py::module_&);
void bind_pool2d(py::module_&);
void bind_elementwise(py::module_&);
void bind_images(py::module_&);
void bind_moves(py::module_&);
void bind_losses(py::module_&);
void bind_network(py::module_&);
void bind_norm(py::module_&);
void bind_optim(py::module_&);
void bind_row_norm(py::module_&);

}  // namespace pycnn
