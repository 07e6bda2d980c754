// One run of a network: the caller's arrays are checked, then steps run without the GIL but for those of Python.

#include <memory>

#include "bindings_network.h"

namespace pycnn {
namespace network_run_bindings {
namespace {

// A view of n images of a value. It keeps the memory alive, so a function that keeps it reads old numbers, no others'.
py::array view(const NetworkRun& run, Index i, const Extents& image, bool written, const py::object& array) {
    Extents shape{static_cast<py::ssize_t>(run.images())};
    shape.insert(shape.end(), image.begin(), image.end());
    py::object base = array;
    if (!base) {
        auto kept = std::make_unique<std::shared_ptr<float>>(run.arena());
        base = py::capsule(kept.get(), [](void* p) { delete static_cast<std::shared_ptr<float>*>(p); });
        kept.release();
    }
    py::array a(py::dtype::of<float>(), shape, run.place(i), base);
    if (!written) a.attr("setflags")(py::arg("write") = false);
    return a;
}

// arrays: the caller's, one a value, or null.
void call_python(const PythonStep& step, const NetworkRun& run, const std::vector<py::object>& arrays) {
    py::list xs, ys;
    for (std::size_t i = 0; i < step.xs.size(); ++i)
        xs.append(view(run, step.xs[i], step.x_shapes[i], false, arrays[static_cast<std::size_t>(step.xs[i])]));
    for (std::size_t i = 0; i < step.ys.size(); ++i)
        ys.append(view(run, step.ys[i], step.y_shapes[i], true, arrays[static_cast<std::size_t>(step.ys[i])]));
    step.function(xs, ys);
}

// Whether an array passes all that check_arrays says, without a sentence for it; the first one tells N.
bool is_right(const py::object& given, int64_t floats, std::size_t i, int64_t& N) {
    if (!py::isinstance<py::array_t<float, py::array::c_style>>(given)) return false;
    const py::array a = py::reinterpret_borrow<py::array>(given);
    if (a.ndim() == 0 || !(a.flags() & py::detail::npy_api::NPY_ARRAY_ALIGNED_)) return false;
    const int64_t images = a.shape(0);
    if ((i > 0 && images != N) || images == 0 || a.size() != images * floats) return false;
    N = images;
    return true;
}

int64_t check_arrays(const Program& p, const std::vector<py::object>& given) {
    const Indices& inputs = p.net.inputs();
    if (given.size() != inputs.size())
        throw py::value_error("Network.run: arrays has " + std::to_string(given.size()) + " arrays; expected " +
                              std::to_string(inputs.size()) + ", one an input.");
    int64_t N = 0;
    for (std::size_t i = 0; i < given.size(); ++i) {
        if (is_right(given[i], p.net.floats(inputs[i]), i, N)) continue;
        const std::string name = "arrays[" + std::to_string(i) + "]";
        if (!py::isinstance<py::array>(given[i]) || !is_float32(py::reinterpret_borrow<py::array>(given[i])))
            throw py::type_error("Network.run: " + name + " is no float32 array; expected one: write " +
                                 "np.asarray(x, np.float32).");
        const py::array a = py::reinterpret_borrow<py::array>(given[i]);
        check_contiguous(a, {"Network.run", name.c_str()});
        const Extents shape = extents(a);
        if (i == 0 && !shape.empty()) N = shape[0];
        const Extents image = shape.empty() ? shape : Extents(shape.begin() + 1, shape.end());
        if (shape.empty() || shape[0] != N || product(image) != p.net.floats(inputs[i]))
            throw py::value_error("Network.run: " + name + " has shape " + text(shape) + "; expected " +
                                  std::to_string(N) + " images of " + std::to_string(p.net.floats(inputs[i])) +
                                  " floats, [N, ...], the same N for all.");
    }
    return N;
}

std::vector<py::array> make_outputs(const Program& p, const std::vector<Extents>& shapes, int64_t N) {
    const Indices& outputs = p.net.outputs();
    if (shapes.size() != outputs.size())
        throw py::value_error("Network.run: output_shapes has " + std::to_string(shapes.size()) + " shapes; expected " +
                              std::to_string(outputs.size()) + ", one an output.");
    std::vector<py::array> results;
    for (std::size_t i = 0; i < shapes.size(); ++i) {
        const Extents& shape = shapes[i];
        if (!p.holds[static_cast<std::size_t>(outputs[i])])
            throw py::value_error("Network.run: no step writes " + value_text(outputs[i]) +
                                  ", an output; expected a step for each.");
        if (shape.empty() || shape[0] != N ||
            product(Extents(shape.begin() + 1, shape.end())) != p.net.floats(outputs[i]))
            throw py::value_error("Network.run: output_shapes[" + std::to_string(i) + "] is " + text(shape) +
                                  "; expected (N, ...) with N = " + std::to_string(N) + " images of " +
                                  std::to_string(p.net.floats(outputs[i])) + " floats.");
        results.emplace_back(py::dtype::of<float>(), shape);
    }
    return results;
}

}  // namespace
}  // namespace network_run_bindings

std::vector<py::array> run_network(Program& p, const std::vector<py::object>& given,
                                   const std::vector<Extents>& shapes) {
    using namespace network_run_bindings;
    const int64_t N = check_arrays(p, given);
    std::vector<py::array> results = make_outputs(p, shapes, N);
    std::vector<py::object> arrays(p.net.values().size());
    std::vector<const float*> inputs;
    std::vector<float*> outputs;
    for (std::size_t i = 0; i < given.size(); ++i) {
        arrays[static_cast<std::size_t>(p.net.inputs()[i])] = given[i];
        inputs.push_back(readable<float>(py::reinterpret_borrow<py::array>(given[i])));
    }
    for (std::size_t i = 0; i < results.size(); ++i) {
        arrays[static_cast<std::size_t>(p.net.outputs()[i])] = results[i];
        outputs.push_back(writable<float>(results[i]));
    }
    p.has_run = true;
    NetworkRun running_net(p.net, inputs, outputs, N);
    for (;;) {
        int64_t stopped = -1;
        {
            const WithoutGil running;
            stopped = running_net.advance();
        }
        if (stopped < 0) return results;
        // With the GIL, and with no kernels in use: the function may call operators, use_isa or another network.
        call_python(p.python[static_cast<std::size_t>(stopped)], running_net, arrays);
    }
}

}  // namespace pycnn
