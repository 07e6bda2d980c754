// The module `_pycnn`: configuration, threads, matmul and linear. The bindings are the only files that know Python: arrays become
// pointers and shapes, are checked, and an operator runs inside WithoutGil.

#include <pybind11/stl.h>

#include <algorithm>
#include <chrono>

#include "array_check.h"
#include "ops/conv2d/conv2d.h"
#include "ops/gemm/gemm.h"
#include "ops/network/network.h"
#include "ops/runtime/caches.h"
#include "ops/runtime/dispatch.h"
#include "ops/runtime/parallel.h"
#include "ops/runtime/scratch.h"
#include "ops/runtime/threads.h"

namespace pycnn {
namespace module_bindings {
namespace {

// [m][k] as a strided matrix, or its transpose.
template <class T>
MatrixOf<T> as_matrix(const py::array& a, bool transpose) {
    const int64_t columns = a.shape(1);
    return transpose ? MatrixOf<T>{readable<T>(a), 1, columns} : MatrixOf<T>{readable<T>(a), columns, 1};
}

void check_operand(const py::array& a, const char* name, bool float64) {
    const Argument who{"matmul", name};
    check_same_type(a, who, float64, "a");
    check_rank(a, who, "RC");
    check_contiguous(a, who);
}

py::array matmul(const py::array& a, const py::array& b, bool transpose_a, bool transpose_b, const py::object& out) {
    const bool float64 = check_floating(a, {"matmul", "a"});
    check_operand(a, "a", float64);
    check_operand(b, "b", float64);
    const int64_t m = a.shape(transpose_a ? 1 : 0), k = a.shape(transpose_a ? 0 : 1);
    const int64_t n = b.shape(transpose_b ? 0 : 1), b_k = b.shape(transpose_b ? 1 : 0);
    if (k != b_k)
        throw py::value_error("matmul: a" + std::string(transpose_a ? " (transposed)" : "") +
                              " has k = " + std::to_string(k) + " columns, but b" +
                              (transpose_b ? " (transposed)" : "") + " has " + std::to_string(b_k) +
                              " rows; expected a [m, k] and b [k, n]: check transpose_a and "
                              "transpose_b (a has shape " +
                              text(extents(a)) + ", b " + text(extents(b)) + ").");
    py::array c;
    if (out.is_none()) {
        c = py::array(a.dtype(), {m, n});
    } else {
        if (!py::isinstance<py::array>(out))
            throw py::type_error("matmul: out is a " + std::string(py::str(py::type::of(out).attr("__name__"))) +
                                 "; expected a NumPy array.");
        c = py::reinterpret_borrow<py::array>(out);
        const Argument who{"matmul", "out"};
        check_output(c, who, float64, "a", {m, n}, "[m, n]");
        check_apart(c, who, a, "a");
        check_apart(c, who, b, "b");
    }
    if (float64) {
        double* result = writable<double>(c);
        const MatrixOf<double> left = as_matrix<double>(a, transpose_a), right = as_matrix<double>(b, transpose_b);
        const WithoutGil running;
        gemm_plain({.c = result, .ldc = n, .a = left, .b = right, .m = m, .n = n, .k = k});
    } else {
        float* result = writable<float>(c);
        const Matrix left = as_matrix<float>(a, transpose_a), right = as_matrix<float>(b, transpose_b);
        const WithoutGil running;
        gemm({.c = result, .ldc = n, .a = left, .b = right, .m = m, .n = n, .k = k});
    }
    return c;
}

void linear_into(py::array y, const py::array& x, const py::array& weight, const py::object& bias,
                 const Activation& activation) {
    const char* op = "linear";
    const bool float64 = check_floating(x, {op, "x"});
    check_rank(x, {op, "x"}, "NI");
    check_contiguous(x, {op, "x"});
    check_rank(weight, {op, "weight"}, "IO");
    const LinearShape s{.N = x.shape(0), .in = x.shape(1), .out = weight.shape(1)};
    check_input(weight, {op, "weight"}, float64, "x", {s.in, s.out}, "[in, out], as x [N, in]");
    check_output(y, {op, "out"}, float64, "x", {s.N, s.out}, "[N, out]");
    check_apart(y, {op, "out"}, x, "x");
    check_apart(y, {op, "out"}, weight, "weight");
    py::array b;
    if (!bias.is_none()) {
        b = py::reinterpret_borrow<py::array>(bias);
        check_input(b, {op, "bias"}, float64, "x", {s.out}, "[out]");
        check_apart(y, {op, "out"}, b, "bias");
    }
    void* result = y.mutable_data();
    const bool has_bias = !bias.is_none();
    by_type(float64, [&](auto zero) {
        using T = decltype(zero);
        const WithoutGil running;
        linear<T>({.y = static_cast<T*>(result),
                   .x = readable<T>(x),
                   .weight = readable<T>(weight),
                   .shape = s,
                   .epilogue = {.bias = has_bias ? readable<T>(b) : nullptr, .activation = activation}});
    });
}

// GFLOP/s of independent FMAs on this thread with the active instruction set, the best of many short runs.
double fma_peak(double seconds) {
    using Clock = std::chrono::steady_clock;
    const WithoutGil running;
    const auto start = Clock::now();
    double best = 0.0;
    do {
        const auto begin = Clock::now();
        const double flop = kernels().fma_peak(100);
        best = std::max(best, flop / std::chrono::duration<double>(Clock::now() - begin).count());
    } while (std::chrono::duration<double>(Clock::now() - start).count() < seconds);
    return best * 1e-9;
}

// On the threads that one region reaches, this one among them: those of the pool that are there now.
void trim() {
    const WithoutGil running;
    parallel_for(num_threads(), 1, [](int64_t, int64_t) {
        give_back_scratch();
        give_back_arena();
    });
}

py::dict tile_sizes() {
    py::dict sizes;
    const Kernels& isa = kernels();
    sizes["MR"] = isa.MR, sizes["NR"] = isa.NR, sizes["MC"] = gemm_mc();
    sizes["KC"] = kKC, sizes["NC"] = gemm_nc();
    return sizes;
}

py::tuple pair(const Caches& c) { return py::make_tuple(c.l2, c.l3); }

}  // namespace
}  // namespace module_bindings

void bind_config(py::module_& m) {
    using namespace module_bindings;
    m.attr("__version__") = build().version;
    m.attr("source_hash") = build().source_hash;
    m.attr("compiler") = build().compiler;
    m.def("isa", [] { return std::string(kernels().isa); });
    m.def("available_isas", available_isas);
    m.def("set_exact", set_exact, py::arg("on"), py::call_guard<py::gil_scoped_release>());
    m.def("is_exact", is_exact);
    m.def("use_isa", use_isa, py::arg("name"), py::call_guard<py::gil_scoped_release>());
    m.def("get_num_threads", num_threads);
    m.def("set_num_threads", set_num_threads, py::arg("n"));
    m.def("available_cpus", available_cpus);
    m.def("physical_cores", physical_cores, py::arg("folder"), py::arg("room") = 1024);
    m.def("caches", [] { return pair(caches()); });
    m.def("read_caches", [](const std::string& folder) { return pair(read_caches(folder)); }, py::arg("folder"));
    m.def(
        "set_caches", [](int64_t l2, int64_t l3) { set_caches({l2, l3}); }, py::arg("l2"), py::arg("l3"),
        py::call_guard<py::gil_scoped_release>());
    m.def("in_forked_child", in_forked_child);
    m.def("has_openmp", has_openmp);
    m.def("last_team_size", take_team_size);
    m.def("set_yielding", set_yielding, py::arg("on"));
    m.def("yielding", yielding);
    m.def("trim", trim);
    m.def("tile_sizes", tile_sizes);
    m.def("fma_peak", fma_peak, py::arg("seconds"));
    m.def("matmul", matmul, py::arg("a"), py::arg("b"), py::arg("transpose_a"), py::arg("transpose_b"), py::arg("out"));
    m.def("linear", linear_into, py::arg("y"), py::arg("x"), py::arg("weight"), py::arg("bias"), py::arg("activation"));
}

}  // namespace pycnn

PYBIND11_MODULE(_pycnn, m) {
    if (!pycnn::cpu_is_supported())
        throw pybind11::import_error(
            "pycnn: this CPU lacks SSE4.2 and POPCNT (x86-64-v2), which the baseline kernels need; it cannot run "
            "here.");
    pycnn::bind_elementwise(m);  // the type of activations, which others take
    pycnn::bind_config(m);
    pycnn::bind_conv2d(m);
    pycnn::bind_conv_transpose2d(m);
    pycnn::bind_conv_pool(m);
    pycnn::bind_combine(m);
    pycnn::bind_conv_norm(m);
    pycnn::bind_pool2d(m);
    pycnn::bind_images(m);
    pycnn::bind_moves(m);
    pycnn::bind_losses(m);
    pycnn::bind_network(m);
    pycnn::bind_norm(m);
    pycnn::bind_optim(m);
    pycnn::bind_row_norm(m);
    pycnn::kernels();  // PYCNN_ISA is read now, so that a bad value is a sentence at import
}
