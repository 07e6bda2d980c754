// Losses, for Python.

#include <pybind11/stl.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "array_check.h"
#include "ops/maps/losses.h"

namespace pycnn {
namespace losses_bindings {
namespace {

using MaybeArray = std::optional<py::array>;

// Weights: numbers of 0 or more.
template <class T>
void check_not_negative(const py::array& a, const Argument& who) {
    const T* values = readable<T>(a);
    for (py::ssize_t i = 0; i < a.size(); ++i)
        if (!(values[i] >= 0 && std::isfinite(values[i])))
            throw py::value_error(who.text() + " holds " + std::to_string(values[i]) +
                                  "; expected finite numbers, none below 0.");
}

// How many of `of` a sample weight counts for: weights have the shape of the first axes of `shape`.
int64_t check_sample_weights(const MaybeArray& weights, const char* op, bool float64, const char* as,
                             const Extents& shape) {
    if (!weights) return 1;
    const Argument who{op, "sample_weight"};
    check_same_type(*weights, who, float64, as);
    const Extents found = extents(*weights);
    if (found.empty() || found.size() > shape.size() || !std::equal(found.begin(), found.end(), shape.begin()))
        throw py::value_error(who.text() + " has shape " + text(found) + "; expected (" + std::to_string(shape[0]) +
                              ",), a weight for each sample, or more of the first axes of " + text(shape) + ".");
    check_contiguous(*weights, who);
    by_type(float64, [&](auto zero) { check_not_negative<decltype(zero)>(*weights, who); });
    int64_t repeat = 1;
    for (std::size_t axis = found.size(); axis < shape.size(); ++axis) repeat *= shape[axis];
    return std::max<int64_t>(repeat, 1);
}

// The labels, those that are ignored as -1.
std::vector<int64_t> checked_labels(const py::array& labels, int64_t K, const std::optional<int64_t>& ignore) {
    std::vector<int64_t> classes = copy_of<int64_t>(labels);
    for (std::size_t r = 0; r < classes.size(); ++r) {
        if (ignore && classes[r] == *ignore)
            classes[r] = -1;
        else if (classes[r] < 0 || classes[r] >= K)
            throw py::value_error("softmax_cross_entropy: labels[" + std::to_string(r) + "] is " +
                                  std::to_string(classes[r]) + "; expected a class in 0 .. " + std::to_string(K - 1) +
                                  ", since logits has K = " + std::to_string(K) + " columns" +
                                  (ignore ? ", or ignore_index = " + std::to_string(*ignore) : "") + ".");
    }
    return classes;
}

double cross_entropy(py::array dlogits, const py::array& logits, const py::array& labels, double smoothing,
                     const MaybeArray& class_weights, std::optional<int64_t> ignore_index,
                     const MaybeArray& sample_weight) {
    const char* op = "softmax_cross_entropy";
    const bool float64 = check_floating(logits, {op, "logits"});
    check_contiguous(logits, {op, "logits"});
    const Extents shape = extents(logits);
    if (shape.size() < 2 || shape.back() < 1)
        throw py::value_error("softmax_cross_entropy: logits has shape " + text(shape) +
                              "; expected rows [N, K], or maps [N, H, W, K], of at least one class.");
    const int64_t K = shape.back();
    const Extents places(shape.begin(), shape.end() - 1);
    check_output(dlogits, {op, "out"}, float64, "logits", shape, "as logits");
    std::vector<int64_t> classes;
    const bool are_classes = py::isinstance<py::array_t<int64_t>>(labels);
    if (are_classes) {
        check_shape(labels, {op, "labels"}, places, shape.size() == 2 ? "[N]" : "a class for each pixel of logits");
        check_contiguous(labels, {op, "labels"});
        classes = checked_labels(labels, K, ignore_index);
    } else {
        check_input(labels, {op, "labels"}, float64, "logits", shape, "a row of targets for each of logits");
    }
    if (class_weights) {
        check_input(*class_weights, {op, "class_weights"}, float64, "logits", {K}, "[K]");
        by_type(float64, [&](auto zero) { check_not_negative<decltype(zero)>(*class_weights, {op, "class_weights"}); });
    }
    const int64_t repeat = check_sample_weights(sample_weight, op, float64, "logits", places);
    return by_type(float64, [&](auto zero) {
        using T = decltype(zero);
        const CrossEntropyOf<T> call{.dlogits = writable<T>(dlogits),
                                     .logits = readable<T>(logits),
                                     .labels = are_classes ? classes.data() : nullptr,
                                     .targets = are_classes ? nullptr : readable<T>(labels),
                                     .class_weights = class_weights ? readable<T>(*class_weights) : nullptr,
                                     .weights = sample_weight ? readable<T>(*sample_weight) : nullptr,
                                     .repeat = repeat,
                                     .rows = logits.size() / K,
                                     .K = K,
                                     .smoothing = static_cast<T>(smoothing),
                                     .divisor = 0,
                                     .losses = nullptr};  // the last two are softmax_cross_entropy's own
        const WithoutGil running;
        return softmax_cross_entropy(call);
    });
}

struct Named {
    const char* op;
    PointwiseKind kind;
};
Named named(const std::string& name) {
    constexpr Named losses[] = {
        {"mse_loss", PointwiseKind::squared},
        {"l1_loss", PointwiseKind::absolute},
        {"huber_loss", PointwiseKind::huber},
        {"binary_cross_entropy_with_logits", PointwiseKind::cross_entropy},
    };
    for (const Named& loss : losses)
        if (name == loss.op) return loss;
    throw py::value_error("pointwise_loss: the name is \"" + name + "\"; expected one of the losses of pycnn.ops.");
}

double pointwise(const std::string& name, py::array dx, const py::array& x, const py::array& target, double delta,
                 const MaybeArray& pos_weight, const MaybeArray& sample_weight) {
    const auto [op, kind] = named(name);
    const bool float64 = check_floating(x, {op, "outputs"});
    check_contiguous(x, {op, "outputs"});
    const Extents shape = extents(x);
    if (shape.empty()) throw py::value_error(std::string(op) + ": outputs has no axes; expected [N, ...].");
    check_input(target, {op, "targets"}, float64, "outputs", shape, "as outputs");
    check_output(dx, {op, "out"}, float64, "outputs", shape, "as outputs");
    if (pos_weight) {
        check_input(*pos_weight, {op, "pos_weight"}, float64, "outputs", {shape.back()},
                    "[K], one for each number on the last axis");
        by_type(float64, [&](auto zero) { check_not_negative<decltype(zero)>(*pos_weight, {op, "pos_weight"}); });
    }
    const int64_t repeat = check_sample_weights(sample_weight, op, float64, "outputs", shape);
    return by_type(float64, [&](auto zero) {
        using T = decltype(zero);
        const LossCall<T> call{.dx = writable<T>(dx),
                               .x = readable<T>(x),
                               .target = readable<T>(target),
                               .weight = sample_weight ? readable<T>(*sample_weight) : nullptr,
                               .positive = pos_weight ? readable<T>(*pos_weight) : nullptr,
                               .size = x.size(),
                               .repeat = repeat,
                               .period = shape.back(),
                               .delta = static_cast<T>(delta),
                               .kind = kind};
        const WithoutGil running;
        return pointwise_loss(call);
    });
}

}  // namespace
}  // namespace losses_bindings

void bind_losses(py::module_& m) {
    using namespace losses_bindings;
    m.def("softmax_cross_entropy", cross_entropy, py::arg("dlogits"), py::arg("logits"), py::arg("labels"),
          py::arg("label_smoothing"), py::arg("class_weights"), py::arg("ignore_index"), py::arg("sample_weight"));
    m.def("pointwise_loss", pointwise, py::arg("name"), py::arg("dx"), py::arg("x"), py::arg("target"),
          py::arg("delta"), py::arg("pos_weight"), py::arg("sample_weight"));
}

}  // namespace pycnn
