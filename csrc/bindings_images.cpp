// The gather of images and their augmentation, for Python.

#include <pybind11/stl.h>

#include <array>

#include "array_check.h"
#include "ops/training/augment.h"
#include "ops/training/gather.h"

namespace pycnn {
namespace images_bindings {
namespace {

bool is_bytes(const py::array& a) { return py::isinstance<py::array_t<uint8_t>>(a); }

// All that can be wrong with the arrays of a gather; normalization is [2][C] or None. Returns the indices.
std::vector<int64_t> check_batch(const char* op, const py::array& y, const py::array& images,
                                 const py::array& indices) {
    const std::string name = op;
    if (!is_bytes(images) && !is_float32(images))
        throw py::type_error(name + ": images is " + dtype_name(images) +
                             "; expected uint8, as datasets.load_mnist returns them, or float32: write " +
                             "images.astype(np.float32).");
    if (!py::isinstance<py::array_t<int64_t>>(indices))
        throw py::type_error(name + ": indices is " + dtype_name(indices) + "; expected integers.");
    check_contiguous(images, {op, "images"});
    check_contiguous(indices, {op, "indices"});
    check_rank(indices, {op, "indices"}, "B");
    Extents shape = extents(images);
    const int64_t n = shape[0], count = indices.size();
    shape[0] = count;
    check_output(y, {op, "out"}, false, "float32", shape, "[B, ...] (one image for each index)");
    check_apart(y, {op, "out"}, images, "images");
    check_apart(y, {op, "out"}, indices, "indices");
    std::vector<int64_t> which = copy_of<int64_t>(indices);
    for (std::size_t i = 0; i < which.size(); ++i)
        if (which[i] < 0 || which[i] >= n)
            throw py::index_error(name + ": indices[" + std::to_string(i) + "] is " + std::to_string(which[i]) +
                                  "; expected " + (n ? "0 .. " + std::to_string(n - 1) : "no index") +
                                  ", since images holds " + std::to_string(n) + ".");
    return which;
}

// From [2][C]: a row of means and a row of standard deviations, which Python has made and checked.
Normalization normalization_of(double scale, const py::object& means) {
    if (means.is_none()) return {static_cast<float>(scale), nullptr, nullptr, 1};
    const py::array rows = py::reinterpret_borrow<py::array>(means);
    const int64_t C = rows.shape(1);
    return {static_cast<float>(scale), readable<float>(rows), readable<float>(rows) + C, C};
}

template <class Body>
void by_pixels(const py::array& images, Body&& body) {
    is_bytes(images) ? body(readable<uint8_t>(images)) : body(readable<float>(images));
}

void gather(py::array y, const py::array& images, const py::array& indices, double scale, const py::object& means) {
    if (images.ndim() < 1)
        throw py::value_error("gather_images: images has no axes; expected [n, ...], for example [n, H, W, C].");
    const std::vector<int64_t> which = check_batch("gather_images", y, images, indices);
    const Normalization normalization = normalization_of(scale, means);
    float* result = writable<float>(y);
    const int64_t count = indices.size(), size = count ? y.size() / count : 0;
    by_pixels(images, [&]<class T>(const T* source) {
        const WithoutGil running;
        gather_images<T>({.y = result, .images = source, .indices = which.data(), .count = count}, size, normalization);
    });
}

// options: shift, rotation, scale, shear, elastic alpha and sigma, erase, crop, flip, brightness, contrast.
void augment(py::array y, const py::array& images, const py::array& indices, double scale, const py::object& means,
             const std::array<double, 11>& options, uint64_t seed, uint64_t epoch) {
    const char* op = "augment_images";
    check_rank(images, {op, "images"}, "nHWC");
    const std::vector<int64_t> which = check_batch(op, y, images, indices);
    const ImageSize size{images.shape(1), images.shape(2), images.shape(3)};
    constexpr double kMost = 2147483647.0;
    if (static_cast<double>(size.H + 3) * static_cast<double>(size.W + 3) * static_cast<double>(size.C) > kMost)
        throw py::value_error("augment_images: images has shape " + text(extents(images)) +
                              "; expected (H + 3) (W + 3) C below 2**31, for smaller images.");
    const Normalization normalization = normalization_of(scale, means);
    if (!y.size()) return;
    if (normalization.mean && normalization.C != size.C)
        throw py::value_error("augment_images: normalization has " + std::to_string(normalization.C) +
                              " channels; expected the " + std::to_string(size.C) + " of images.");
    const auto& [shift, rotation, zoom, shear, alpha, sigma, erase, crop, flip, brightness, contrast] = options;
    const Augmentation augmentation{.shift = shift,
                                    .rotation = rotation,
                                    .scale = zoom,
                                    .shear = shear,
                                    .elastic_alpha = alpha,
                                    .elastic_sigma = sigma,
                                    .erase = erase,
                                    .crop = static_cast<int64_t>(crop),
                                    .flip = flip,
                                    .brightness = brightness,
                                    .contrast = contrast,
                                    .seed = seed,
                                    .epoch = epoch};
    float* result = writable<float>(y);
    const int64_t count = indices.size();
    by_pixels(images, [&]<class T>(const T* source) {
        const WithoutGil running;
        augment_images<T>({.y = result, .images = source, .indices = which.data(), .count = count}, size, normalization,
                          augmentation);
    });
}

}  // namespace
}  // namespace images_bindings

void bind_images(py::module_& m) {
    using namespace images_bindings;
    m.def("gather_images", gather, py::arg("y"), py::arg("images"), py::arg("indices"), py::arg("scale"),
          py::arg("normalization"));
    m.def("augment_images", augment, py::arg("y"), py::arg("images"), py::arg("indices"), py::arg("scale"),
          py::arg("normalization"), py::arg("options"), py::arg("seed"), py::arg("epoch"));
}

}  // namespace pycnn
