// Arithmetic of two arrays that may repeat, the sums of its gradients, and powers, for Python; as operators and as steps of a
// compiled network.

#include <pybind11/stl.h>

#include <optional>
#include <variant>

#include "array_check.h"
#include "bindings_network.h"
#include "ops/maps/combine.h"
#include "ops/maps/elementwise.h"

namespace pycnn {
namespace combine_bindings {
namespace {

Combine combine_named(const std::string& op) {
    constexpr std::pair<const char*, Combine> names[] = {{"add", Combine::add},
                                                         {"subtract", Combine::subtract},
                                                         {"multiply", Combine::multiply},
                                                         {"divide", Combine::divide}};
    for (const auto& [name, kind] : names)
        if (op == name) return kind;
    throw py::value_error("combine: op is \"" + op + "\"; expected \"add\", \"subtract\", \"multiply\" or \"divide\".");
}

Sizes sizes(const Extents& shape) { return Sizes(shape.begin(), shape.end()); }

// Whether the last axes of `whole` are those of `part`, each of the same extent or of 1.
bool repeats_in(const Extents& part, const Extents& whole) {
    if (part.size() > whole.size()) return false;
    const std::size_t more = whole.size() - part.size();
    for (std::size_t i = 0; i < part.size(); ++i)
        if (part[i] != 1 && part[i] != whole[more + i]) return false;
    return true;
}

void check_operand(const py::array& a, const Argument& who, bool float64, const char* of, const Extents& whole) {
    check_same_type(a, who, float64, of);
    check_contiguous(a, who);
    if (!repeats_in(extents(a), whole))
        throw py::value_error(who.text() + " has shape " + text(extents(a)) + "; expected " + text(whole) +
                              ", or 1 where it repeats along an axis; axes are counted from the last one.");
}

// y has the axes of a and b, each with the larger extent. `op` is the name in sentences; a and b are called so too.
void combine_arrays(py::array y, const py::array& a, const py::array& b, const std::string& op,
                    const Activation& activation) {
    const char* name = op.c_str();
    const Combine kind = combine_named(op);
    const bool float64 = check_floating(a, {name, "a"});
    const Extents whole = extents(y);
    check_output(y, {name, "out"}, float64, "a", whole, "");
    check_operand(a, {name, "a"}, float64, "a", whole);
    check_operand(b, {name, "b"}, float64, "a", whole);
    check_apart(y, {name, "out"}, a, "a", true);
    check_apart(y, {name, "out"}, b, "b", true);
    void* result = y.mutable_data();
    const Broadcast shape(sizes(whole), sizes(extents(a)), sizes(extents(b)));
    by_type(float64, [&](auto zero) {
        using T = decltype(zero);
        const WithoutGil running;
        combine<T>({.y = static_cast<T*>(result),
                    .a = readable<T>(a),
                    .b = readable<T>(b),
                    .op = kind,
                    .shape = shape,
                    .activation = activation});
    });
}

// Of x, or of x op other. y has x's axes, each with x's extent or 1.
void sum_arrays(py::array y, const py::array& x, const std::string& op, const py::object& other, double scale) {
    const char* name = "sum_to";
    const bool float64 = check_floating(x, {name, "x"});
    check_contiguous(x, {name, "x"});
    if (y.ndim() != x.ndim() || !repeats_in(extents(y), extents(x)))
        throw py::value_error("sum_to: shape is " + text(extents(y)) + ", but x has shape " + text(extents(x)) +
                              "; expected the axes of x, with 1 for those that are summed.");
    check_output(y, {name, "out"}, float64, "x", extents(y), "");
    check_apart(y, {name, "out"}, x, "x");
    py::array b;
    if (!other.is_none()) {
        b = py::reinterpret_borrow<py::array>(other);
        check_operand(b, {name, "other"}, float64, "x", extents(x));
        check_apart(y, {name, "out"}, b, "other");
    }
    const Combine kind = other.is_none() ? Combine::multiply : combine_named(op);
    void* result = y.mutable_data();
    by_type(float64, [&](auto zero) {
        using T = decltype(zero);
        const SumCall<T> call{.y = static_cast<T*>(result),
                              .x = readable<T>(x),
                              .x_shape = sizes(extents(x)),
                              .y_shape = sizes(extents(y)),
                              .scale = scale,
                              .other = other.is_none() ? nullptr : readable<T>(b),
                              .op = kind,
                              .other_shape = sizes(extents(b))};
        const WithoutGil running;
        sum_to(call);
    });
}

// y = factor * x^exponent, times dy unless it is None.
void power_of(py::array y, const py::array& x, const py::object& dy, double exponent, double factor) {
    const char* name = dy.is_none() ? "power" : "power_backward";
    const bool float64 = check_floating(x, {name, "x"});
    check_contiguous(x, {name, "x"});
    check_output(y, {name, "out"}, float64, "x", extents(x), "as x");
    check_apart(y, {name, "out"}, x, "x", true);
    py::array g;
    if (!dy.is_none()) {
        g = py::reinterpret_borrow<py::array>(dy);
        check_input(g, {name, "dy"}, float64, "x", extents(x), "as x");
        check_apart(y, {name, "out"}, g, "dy", true);
    }
    void* result = y.mutable_data();
    const int64_t size = x.size();
    by_type(float64, [&](auto zero) {
        using T = decltype(zero);
        const PowerOf<T> call{.y = static_cast<T*>(result),
                              .x = readable<T>(x),
                              .dy = dy.is_none() ? nullptr : readable<T>(g),
                              .size = size,
                              .exponent = exponent,
                              .factor = factor};
        const WithoutGil running;
        power(call);
    });
}

// ---- steps of a compiled network; shapes are of one image, without N --------------------------------------------------

using Given = std::variant<Index, py::array>;  // a value, or numbers that stay the same

CombineOperand operand(Adding& step, const Given& given, const char* name, const Extents& shape, const Extents& y) {
    if (!repeats_in(shape, y))
        step.refuse(std::string(name) + " has shape " + text(shape) + "; expected " + text(y) +
                    ", or 1 where it repeats along an axis.");
    if (const Index* value = std::get_if<Index>(&given)) {
        if (shape.size() != y.size())
            step.refuse(std::string(name) + " has shape " + text(shape) + ", but y " + text(y) +
                        "; expected as many axes of a value.");
        step.reads(*value, name, product(shape), product(shape) == product(y));
        return {.value = *value, .constant = nullptr, .shape = sizes(shape)};
    }
    const py::array& numbers = std::get<py::array>(given);
    check_input(numbers, {step.op(), name}, false, "float32, the type of networks,", shape, "as its shape");
    const float* from = readable<float>(numbers);
    return {.value = Network::kNone,
            .constant = std::make_shared<const std::vector<float>>(from, from + numbers.size()),
            .shape = sizes(shape)};
}

void add_combine(Program& p, const Given& a, const Given& b, Index y, const std::string& op, const Extents& a_shape,
                 const Extents& b_shape, const Extents& y_shape, const Activation& activation) {
    Adding step(p, "add_combine");
    const Combine kind = combine_named(op);
    const CombineOperand left = operand(step, a, "a", a_shape, y_shape);
    const CombineOperand right = operand(step, b, "b", b_shape, y_shape);
    if (left.constant && right.constant) step.refuse("a and b are both numbers; expected a value among them.");
    step.writes(y, "y", product(y_shape));
    p.net.add_combine(left, right, y, sizes(y_shape), kind, activation);
    step.done();
}

void add_power(Program& p, Index x, Index y, double exponent) {
    Adding step(p, "add_power");
    step.reads(x, "x", step.floats(x, "x"), true);
    step.writes(y, "y", step.floats(x, "x"));
    p.net.add_power(x, y, exponent);
    step.done();
}

void add_sum_to(Program& p, Index x, Index y, const Extents& x_shape, const Extents& y_shape, double scale) {
    Adding step(p, "add_sum_to");
    if (x_shape.size() != y_shape.size() || !repeats_in(y_shape, x_shape))
        step.refuse("y has shape " + text(y_shape) + ", but x has shape " + text(x_shape) +
                    "; expected the axes of x, with 1 for those that are summed.");
    step.reads(x, "x", product(x_shape));
    step.writes(y, "y", product(y_shape));
    p.net.add_sum_to(x, y, sizes(x_shape), sizes(y_shape), scale);
    step.done();
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
}  // namespace combine_bindings

void bind_combine(py::module_& m) {
    using namespace combine_bindings;
    m.def("combine", combine_arrays, py::arg("y"), py::arg("a"), py::arg("b"), py::arg("op"), py::arg("activation"));
    m.def("power", power_of, py::arg("y"), py::arg("x"), py::arg("dy"), py::arg("exponent"), py::arg("factor"));
    m.def("affine", affine_of, py::arg("y"), py::arg("x"), py::arg("scale"), py::arg("shift"));
    m.def("sum_to", sum_arrays, py::arg("y"), py::arg("x"), py::arg("op"), py::arg("other"), py::arg("scale"));
}

void bind_network_combine(py::class_<Program>& network) {
    using namespace combine_bindings;
    network
        .def("add_combine", add_combine, py::arg("a"), py::arg("b"), py::arg("y"), py::arg("op"), py::arg("a_shape"),
             py::arg("b_shape"), py::arg("y_shape"), py::arg("activation"))
        .def("add_power", add_power, py::arg("x"), py::arg("y"), py::arg("exponent"))
        .def("add_sum_to", add_sum_to, py::arg("x"), py::arg("y"), py::arg("x_shape"), py::arg("y_shape"),
             py::arg("scale"));
}

}  // namespace pycnn
