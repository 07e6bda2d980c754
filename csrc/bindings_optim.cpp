// Optimizer steps for Python: of one parameter, with sentences, and of all parameters of a model in one call.

#include <pybind11/stl.h>

#include "array_check.h"
#include "ops/training/optim.h"

namespace pycnn {
namespace optim_bindings {
namespace {

// The arrays that an optimizer updates: all of param's type and shape, none sharing memory.
void check_state(const char* op, const py::array& param, bool float64,
                 const std::vector<std::pair<const char*, const py::array*>>& others) {
    check_output(param, {op, "param"}, float64, "param", extents(param), "");
    for (const auto& [name, array] : others) {
        if (std::string(name) == "grad")
            check_input(*array, {op, name}, float64, "param", extents(param), "as param");
        else
            check_output(*array, {op, name}, float64, "param", extents(param), "as param");
        check_apart(param, {op, "param"}, *array, name);
        for (const auto& [other_name, other] : others)
            if (other != array) check_apart(*array, {op, name}, *other, other_name);
    }
}

void adam(py::array param, const py::array& grad, py::array m, py::array v, int64_t step, double lr, double beta1,
          double beta2, double eps, double weight_decay) {
    const char* op = "adam_step";
    const bool float64 = check_floating(param, {op, "param"});
    check_state(op, param, float64, {{"grad", &grad}, {"m", &m}, {"v", &v}});
    by_type(float64, [&](auto zero) {
        using T = decltype(zero);
        const Updates<T> one{{writable<T>(param), readable<T>(grad), writable<T>(m), writable<T>(v),
                              static_cast<int64_t>(param.size()), weight_decay}};
        const WithoutGil running;
        adam_steps(one, {lr, beta1, beta2, eps, step});
    });
}

// A moment that may be missing; `array` keeps it alive.
py::array* optional(const py::object& moment, py::array& array) {
    if (moment.is_none()) return nullptr;
    array = py::reinterpret_borrow<py::array>(moment);
    return &array;
}

void sgd(py::array param, const py::array& grad, const py::object& velocity_or_none, double lr, double momentum,
         bool nesterov, double weight_decay) {
    const char* op = "sgd_step";
    const bool float64 = check_floating(param, {op, "param"});
    py::array array;
    py::array* velocity = optional(velocity_or_none, array);
    if (velocity)
        check_state(op, param, float64, {{"grad", &grad}, {"velocity", velocity}});
    else
        check_state(op, param, float64, {{"grad", &grad}});
    by_type(float64, [&](auto zero) {
        using T = decltype(zero);
        const Updates<T> one{{writable<T>(param), readable<T>(grad), velocity ? writable<T>(*velocity) : nullptr,
                              nullptr, static_cast<int64_t>(param.size()), weight_decay}};
        const WithoutGil running;
        sgd_steps(one, {lr, momentum, nesterov});
    });
}

void rmsprop(py::array param, const py::array& grad, py::array square, const py::object& buffer_or_none, double lr,
             double alpha, double eps, double momentum, double weight_decay) {
    const char* op = "rmsprop_step";
    const bool float64 = check_floating(param, {op, "param"});
    py::array array;
    py::array* buffer = optional(buffer_or_none, array);
    if (buffer)
        check_state(op, param, float64, {{"grad", &grad}, {"square", &square}, {"buffer", buffer}});
    else
        check_state(op, param, float64, {{"grad", &grad}, {"square", &square}});
    by_type(float64, [&](auto zero) {
        using T = decltype(zero);
        const Updates<T> one{{writable<T>(param), readable<T>(grad), writable<T>(square),
                              buffer ? writable<T>(*buffer) : nullptr, static_cast<int64_t>(param.size()),
                              weight_decay}};
        const WithoutGil running;
        rmsprop_steps(one, {lr, alpha, eps, momentum});
    });
}

// ---- all parameters of an optimizer ---------------------------------------------------------------------------------

using Arrays = std::vector<py::array>;  // one a parameter

bool usable(const py::array& a, bool float64, const Extents& shape, bool written) {
    constexpr int kAligned = 0x0100;  // NPY_ARRAY_ALIGNED
    return (float64 ? is_float64(a) : is_float32(a)) && extents(a) == shape && (a.flags() & py::array::c_style) &&
           (a.flags() & kAligned) && (a.writeable() || !written);
}

// What `check_state` asks, as a question, of every parameter.
bool all_usable(const std::vector<Arrays>& roles, bool float64) {
    for (const Arrays& role : roles)
        if (role.size() != roles[0].size()) return false;
    for (std::size_t i = 0; i < roles[0].size(); ++i) {
        const Extents shape = extents(roles[0][i]);
        for (std::size_t a = 0; a < roles.size(); ++a) {
            if (!usable(roles[a][i], float64, shape, a != 1)) return false;
            for (std::size_t b = 0; b < a; ++b)
                if (overlaps(roles[a][i], roles[b][i])) return false;
        }
    }
    return true;
}

// Calls step(updates) for roles param, grad and the moments; false, with nothing changed, where an array does not fit:
// the caller finds out which and says so.
template <class Step>
bool together(std::vector<Arrays> roles, const std::vector<double>& weight_decay, Step&& step) {
    if (roles[0].empty() || weight_decay.size() != roles[0].size()) return false;
    const bool float64 = is_float64(roles[0][0]);
    if (!all_usable(roles, float64)) return false;
    by_type(float64, [&](auto zero) {
        using T = decltype(zero);
        Updates<T> updates;
        for (std::size_t i = 0; i < roles[0].size(); ++i)
            updates.push_back({writable<T>(roles[0][i]), readable<T>(roles[1][i]),
                               roles.size() > 2 ? writable<T>(roles[2][i]) : nullptr,
                               roles.size() > 3 ? writable<T>(roles[3][i]) : nullptr,
                               static_cast<int64_t>(roles[0][i].size()), weight_decay[i]});
        const WithoutGil running;
        step(updates);
    });
    return true;
}

bool adam_all(const std::vector<Arrays>& roles, const std::vector<double>& weight_decay, int64_t step, double lr,
              double beta1, double beta2, double eps) {
    return together(roles, weight_decay,
                    [&](const auto& updates) { adam_steps(updates, {lr, beta1, beta2, eps, step}); });
}

bool sgd_all(const std::vector<Arrays>& roles, const std::vector<double>& weight_decay, double lr, double momentum,
             bool nesterov) {
    return together(roles, weight_decay, [&](const auto& updates) { sgd_steps(updates, {lr, momentum, nesterov}); });
}

bool rmsprop_all(const std::vector<Arrays>& roles, const std::vector<double>& weight_decay, double lr, double alpha,
                 double eps, double momentum) {
    return together(roles, weight_decay,
                    [&](const auto& updates) { rmsprop_steps(updates, {lr, alpha, eps, momentum}); });
}

// The gradients to clip, all of one type, which is returned: true for float64.
bool check_gradients(const Arrays& arrays) {
    const bool float64 = !arrays.empty() && check_floating(arrays[0], {"clip_grad_norm", "grad"});
    for (const py::array& a : arrays)
        check_output(a, {"clip_grad_norm", "grad"}, float64, "the first grad", extents(a), "");
    return float64;
}

double sum_of_squares(Arrays arrays) {
    return by_type(check_gradients(arrays), [&](auto zero) {
        using T = decltype(zero);
        std::vector<Piece<T>> pieces;
        for (py::array& a : arrays) pieces.push_back({writable<T>(a), static_cast<int64_t>(a.size())});
        const WithoutGil running;
        return square_sum(pieces);
    });
}

void scale(Arrays arrays, double factor) {
    by_type(check_gradients(arrays), [&](auto zero) {
        using T = decltype(zero);
        std::vector<Piece<T>> pieces;
        for (py::array& a : arrays) pieces.push_back({writable<T>(a), static_cast<int64_t>(a.size())});
        const WithoutGil running;
        scale_all(pieces, factor);
    });
}

}  // namespace
}  // namespace optim_bindings

void bind_optim(py::module_& m) {
    using namespace optim_bindings;
    m.def("adam_step", adam, py::arg("param"), py::arg("grad"), py::arg("m"), py::arg("v"), py::arg("step"),
          py::arg("lr"), py::arg("beta1"), py::arg("beta2"), py::arg("eps"), py::arg("weight_decay"));
    m.def("sgd_step", sgd, py::arg("param"), py::arg("grad"), py::arg("velocity"), py::arg("lr"), py::arg("momentum"),
          py::arg("nesterov"), py::arg("weight_decay"));
    m.def("rmsprop_step", rmsprop, py::arg("param"), py::arg("grad"), py::arg("square"), py::arg("buffer"),
          py::arg("lr"), py::arg("alpha"), py::arg("eps"), py::arg("momentum"), py::arg("weight_decay"));
    m.def("adam_all", adam_all, py::arg("roles"), py::arg("weight_decay"), py::arg("step"), py::arg("lr"),
          py::arg("beta1"), py::arg("beta2"), py::arg("eps"));
    m.def("sgd_all", sgd_all, py::arg("roles"), py::arg("weight_decay"), py::arg("lr"), py::arg("momentum"),
          py::arg("nesterov"));
    m.def("rmsprop_all", rmsprop_all, py::arg("roles"), py::arg("weight_decay"), py::arg("lr"), py::arg("alpha"),
          py::arg("eps"), py::arg("momentum"));
    m.def("square_sum", sum_of_squares, py::arg("arrays"));
    m.def("scale_all", scale, py::arg("arrays"), py::arg("factor"));
}

}  // namespace pycnn
