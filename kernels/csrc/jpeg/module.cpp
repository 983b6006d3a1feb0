// The decoder as a Python module, for whoever wants to look at it alone. What DALI uses is extension.cpp, in the same file.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include "../processor.h"
#include "decode.h"
#include "extension.h"
#include "mark.h"

namespace py = pybind11;

namespace {

py::object decode(const py::bytes& file, int height, int width, const std::string& build, int reduction) {
    thread_local hjepa::JpegMemory memory;
    const hjepa::JpegBuild& chosen = hjepa::named(hjepa::jpeg_builds(), build);
    char* start;
    Py_ssize_t size;
    if (PyBytes_AsStringAndSize(file.ptr(), &start, &size)) throw py::error_already_set();
    if (reduction < 1) throw std::invalid_argument("reduction is 1, 2 or 4");
    const int rows = (height + reduction - 1) / reduction, columns = (width + reduction - 1) / reduction;
    py::array_t<uint8_t> rgb({rows, columns, 3});
    uint8_t* to = rgb.mutable_data();
    bool known;
    {
        const py::gil_scoped_release others_may_run;
        known = hjepa::decode_jpeg(chosen, memory, reinterpret_cast<const uint8_t*>(start), static_cast<size_t>(size), height,
                                   width, reduction, {}, to, 3 * static_cast<size_t>(columns));
    }
    return known ? py::object(rgb) : py::none();
}

py::bytes segment(int reduction) {
    uint8_t bytes[hjepa::SEGMENT_BYTES];
    hjepa::write_segment(bytes, reduction);
    return {reinterpret_cast<const char*>(bytes), sizeof bytes};
}

// By what each image was reduced: [B] addresses of memory for whole images, without gaps, of [B, 2] sizes.
py::array_t<int32_t> reductions(const py::array_t<int64_t>& pointers, const py::array_t<int32_t>& sizes) {
    if (pointers.ndim() != 1 || sizes.ndim() != 2 || sizes.shape(0) != pointers.shape(0) || sizes.shape(1) != 2) {
        throw std::invalid_argument("needs pointers [B] and sizes [B, 2]");
    }
    py::array_t<int32_t> found(pointers.shape(0));
    for (py::ssize_t image = 0; image < pointers.shape(0); ++image) {
        const size_t bytes = 3 * static_cast<size_t>(sizes.at(image, 0)) * static_cast<size_t>(sizes.at(image, 1));
        const auto* levels = reinterpret_cast<const uint8_t*>(pointers.at(image));
        found.mutable_at(image) = bytes < hjepa::MARK_BYTES ? 1 : hjepa::read_mark(levels + bytes - hjepa::MARK_BYTES);
    }
    return found;
}

}  // namespace

PYBIND11_MODULE(_jpeg, module) {
    module.doc() = "Decodes JPEGs as libjpeg-turbo does, or not at all; see pipeline/backends/dali_jpeg.py.";
    module.def("decode", &decode, py::arg("file"), py::arg("height"), py::arg("width"), py::arg("build") = "",
               py::arg("reduction") = 1);
    module.def("builds", [] {
        py::list names;
        for (const hjepa::JpegBuild& build : hjepa::jpeg_builds()) names.append(build.name);
        return names;
    });
    module.def("segment", &segment, py::arg("reduction"));
    module.def("reductions", &reductions, py::arg("pointers"), py::arg("sizes"));
    module.def("num_decoded", [] { return hjepa::num_decoded.load(); });
}
