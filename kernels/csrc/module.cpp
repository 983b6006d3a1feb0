// The kernel as a Python module: arrays come as NumPy arrays whose shapes fused_crops.py has checked; no pixel is copied.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <string>
#include <vector>

#include "builds.h"
#include "checks.h"
#include "threads.h"

namespace py = pybind11;

namespace {

template <typename T> using Array = py::array_t<T, py::array::c_style>;

// The crops of one name: B images, V crops of each.
struct Group {
    Array<int32_t> box;  // [B, V, 4]
    Array<bool> flip;
    Array<float> jitter;  // [B, V, 4]
    Array<uint8_t> order;  // [B, V, 4]
    Array<bool> gray;
    Array<float> sigma;
    Array<bool> solarize;
    int size;
    bool bilinear;
    int blur_window, solarize_threshold;
    int64_t out;  // address of [V, B, 3, size, size]
};

struct Images {
    Array<int64_t> pointers;  // [B]
    Array<int32_t> sizes;  // [B, 2]
    Array<float> scale, bias;  // [3]
    int store;
};

hjepa::Crop make_crop(const Images& images, const Group& group, int64_t image, int64_t view, int64_t num_views) {
    constexpr int64_t widths[] = {4, 2, 2};  // bytes of a value, by the number of the type
    hjepa::Crop crop{};
    const int64_t place = image * num_views + view, pixels = 3 * static_cast<int64_t>(group.size) * group.size;
    crop.pixels = reinterpret_cast<const uint8_t*>(images.pointers.data()[image]);
    crop.image_height = images.sizes.data()[2 * image];
    crop.image_width = images.sizes.data()[2 * image + 1];
    const int32_t* box = group.box.data() + 4 * place;
    crop.top = box[0], crop.left = box[1], crop.height = box[2], crop.width = box[3];
    crop.flip = group.flip.data()[place];
    crop.size = group.size;
    crop.filter = group.bilinear ? hjepa::Filter::bilinear : hjepa::Filter::bicubic;
    std::copy_n(group.jitter.data() + 4 * place, 4, crop.jitter);
    std::copy_n(group.order.data() + 4 * place, 4, crop.order);
    crop.gray = group.gray.data()[place];
    crop.sigma = group.sigma.data()[place];
    crop.blur_window = group.blur_window;
    crop.solarize_threshold = group.solarize.data()[place] ? group.solarize_threshold : 256;
    std::copy_n(images.scale.data(), 3, crop.scale);
    std::copy_n(images.bias.data(), 3, crop.bias);
    crop.store = static_cast<hjepa::Store>(images.store);
    const int64_t num_images = images.pointers.shape(0);
    crop.out = reinterpret_cast<char*>(group.out) + (view * num_images + image) * pixels * widths[images.store];
    return crop;
}

// All crops of an image follow each other, because it is in the cache then; the largest come first.
std::vector<hjepa::Crop> make_crops(const Images& images, std::vector<Group> groups) {
    std::stable_sort(groups.begin(), groups.end(), [](const Group& a, const Group& b) { return a.size > b.size; });
    std::vector<hjepa::Crop> crops;
    for (int64_t image = 0; image < images.pointers.shape(0); ++image) {
        for (const Group& group : groups) {
            const int64_t num_views = group.flip.shape(1);
            for (int64_t view = 0; view < num_views; ++view) {
                crops.push_back(make_crop(images, group, image, view, num_views));
                hjepa::check(crops.back());
            }
        }
    }
    return crops;
}

void render(hjepa::Threads& threads, const Images& images, const std::vector<Group>& groups, const std::string& build) {
    const hjepa::Build& chosen = hjepa::build_named(build);
    const std::vector<hjepa::Crop> crops = make_crops(images, groups);
    const py::gil_scoped_release others_may_run;
    threads.render(chosen, crops);
}

}  // namespace

PYBIND11_MODULE(_fused_crops, module) {
    module.doc() = "Renders every crop of every image of a batch; see fused_crops.py.";
    py::class_<Group>(module, "Group")
        .def(py::init([](Array<int32_t> box, Array<bool> flip, Array<float> jitter, Array<uint8_t> order, Array<bool> gray,
                         Array<float> sigma, Array<bool> solarize, int size, bool bilinear, int blur_window,
                         int solarize_threshold, int64_t out) {
            return Group{box, flip, jitter, order, gray, sigma, solarize, size, bilinear, blur_window, solarize_threshold, out};
        }));
    py::class_<Images>(module, "Images")
        .def(py::init([](Array<int64_t> pointers, Array<int32_t> sizes, Array<float> scale, Array<float> bias, int store) {
            return Images{pointers, sizes, scale, bias, store};
        }));
    py::class_<hjepa::Threads>(module, "Threads")
        .def(py::init<int>())
        .def("render",
             [](hjepa::Threads& threads, const Images& images, const py::list& groups, const std::string& build) {
                 std::vector<Group> unpacked;
                 for (const py::handle& group : groups) unpacked.push_back(group.cast<Group>());
                 render(threads, images, unpacked, build);
             })
        .def_property_readonly("scratch_bytes", &hjepa::Threads::scratch_bytes);
    module.def("builds", [] {
        py::list names;
        for (const hjepa::Build& build : hjepa::builds()) names.append(build.name);
        return names;
    });
}
