// The decoder as a Python module, for whoever wants to look at it alone. What DALI uses is extension.cpp, in the same file.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include "../processor.h"
#include "decode.h"
#include "extension.h"

namespace py = pybind11;

namespace {

py::object decode(const py::bytes& file, int height, int width, const std::string& build) {
    thread_local hjepa::JpegMemory memory;
    const hjepa::JpegBuild& chosen = hjepa::named(hjepa::jpeg_builds(), build);
    char* start;
    Py_ssize_t size;
    if (PyBytes_AsStringAndSize(file.ptr(), &start, &size)) throw py::error_already_set();
    py::array_t<uint8_t> rgb({height, width, 3});
    uint8_t* to = rgb.mutable_data();
    bool known;
    {
        const py::gil_scoped_release others_may_run;
        known = hjepa::decode_jpeg(chosen, memory, reinterpret_cast<const uint8_t*>(start), static_cast<size_t>(size), height,
                                   width, to, 3 * static_cast<size_t>(width));
    }
    return known ? py::object(rgb) : py::none();
}

}  // namespace

PYBIND11_MODULE(_jpeg, module) {
    module.doc() = "Decodes JPEGs as libjpeg-turbo does, or not at all; see pipeline/backends/dali_jpeg.py.";
    module.def("decode", &decode, py::arg("file"), py::arg("height"), py::arg("width"), py::arg("build") = "");
    module.def("builds", [] {
        py::list names;
        for (const hjepa::JpegBuild& build : hjepa::jpeg_builds()) names.append(build.name);
        return names;
    });
    module.def("num_decoded", [] { return hjepa::num_decoded.load(); });
}
