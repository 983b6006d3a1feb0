// The decoder as an extension of nvImageCodec, which DALI decodes with: it is asked first, and whatever it leaves goes to the
// decoders that are asked otherwise. It takes part on a CPU only; a GPU has better ones.

#include "extension.h"

#include <cstddef>
#include <cstring>
#include <new>
#include <utility>

#include <nvimgcodec.h>

#include "decode.h"
#include "mark.h"

std::atomic<int64_t> hjepa::num_decoded{0};

namespace {

constexpr char ID[] = "hjepa_jpeg_decoder";

// What DALI is told of a file without reading it.
nvimgcodecProcessingStatus_t known(const nvimgcodecCodeStreamDesc_t* file) {
    nvimgcodecJpegImageInfo_t jpeg{NVIMGCODEC_STRUCTURE_TYPE_JPEG_IMAGE_INFO, sizeof(jpeg), nullptr, {}};
    nvimgcodecImageInfo_t image{};
    image.struct_type = NVIMGCODEC_STRUCTURE_TYPE_IMAGE_INFO, image.struct_size = sizeof(image), image.struct_next = &jpeg;
    if (file->getImageInfo(file->instance, &image) != NVIMGCODEC_STATUS_SUCCESS) return NVIMGCODEC_PROCESSING_STATUS_FAIL;
    if (jpeg.encoding != NVIMGCODEC_JPEG_ENCODING_BASELINE_DCT &&
        jpeg.encoding != NVIMGCODEC_JPEG_ENCODING_EXTENDED_SEQUENTIAL_DCT_HUFFMAN &&
        jpeg.encoding != NVIMGCODEC_JPEG_ENCODING_PROGRESSIVE_DCT_HUFFMAN) {
        return NVIMGCODEC_PROCESSING_STATUS_ENCODING_UNSUPPORTED;
    }
    nvimgcodecCodeStreamInfo_t stream{};
    stream.struct_type = NVIMGCODEC_STRUCTURE_TYPE_CODE_STREAM_INFO, stream.struct_size = sizeof(stream);
    if (file->getCodeStreamInfo(file->instance, &stream) != NVIMGCODEC_STATUS_SUCCESS) return NVIMGCODEC_PROCESSING_STATUS_FAIL;
    if (stream.code_stream_view && stream.code_stream_view->region.ndim > 0) return NVIMGCODEC_PROCESSING_STATUS_ROI_UNSUPPORTED;
    return NVIMGCODEC_PROCESSING_STATUS_SUCCESS;
}

nvimgcodecImageInfo_t wanted(const nvimgcodecImageDesc_t* image) {
    nvimgcodecImageInfo_t info{};
    info.struct_type = NVIMGCODEC_STRUCTURE_TYPE_IMAGE_INFO, info.struct_size = sizeof(info);
    if (image->getImageInfo(image->instance, &info) != NVIMGCODEC_STATUS_SUCCESS) info.num_planes = 0;
    return info;
}

nvimgcodecProcessingStatus_t can_decode(nvimgcodecDecoder_t decoder, const nvimgcodecImageDesc_t* image,
                                        const nvimgcodecCodeStreamDesc_t* file, const nvimgcodecDecodeParams_t*, int) {
    if (!*reinterpret_cast<const bool*>(decoder)) return NVIMGCODEC_PROCESSING_STATUS_BACKEND_UNSUPPORTED;
    const nvimgcodecImageInfo_t info = wanted(image);
    const nvimgcodecImagePlaneInfo_t& plane = info.plane_info[0];
    if (info.num_planes != 1 || plane.num_channels != 3) return NVIMGCODEC_PROCESSING_STATUS_NUM_PLANES_UNSUPPORTED;
    if (info.sample_format != NVIMGCODEC_SAMPLEFORMAT_I_RGB || info.color_spec != NVIMGCODEC_COLORSPEC_SRGB) {
        return NVIMGCODEC_PROCESSING_STATUS_SAMPLE_FORMAT_UNSUPPORTED;
    }
    if (plane.sample_type != NVIMGCODEC_SAMPLE_DATA_TYPE_UINT8) return NVIMGCODEC_PROCESSING_STATUS_SAMPLE_TYPE_UNSUPPORTED;
    if (info.buffer_kind != NVIMGCODEC_IMAGE_BUFFER_KIND_STRIDED_HOST) return NVIMGCODEC_PROCESSING_STATUS_BACKEND_UNSUPPORTED;
    return known(file);
}

// What makes the image upright, where that is asked for.
bool find_turn(const nvimgcodecCodeStreamDesc_t* file, const nvimgcodecDecodeParams_t* params, hjepa::Turn& turn) {
    turn = {};
    if (!params->apply_exif_orientation) return true;
    nvimgcodecImageInfo_t image{};
    image.struct_type = NVIMGCODEC_STRUCTURE_TYPE_IMAGE_INFO, image.struct_size = sizeof(image);
    if (file->getImageInfo(file->instance, &image) != NVIMGCODEC_STATUS_SUCCESS) return false;
    const int rotated = image.orientation.rotated;  // counter-clockwise, before the flips
    turn.transposed = rotated == 90 || rotated == 270;
    turn.flip_x = (rotated == 180 || rotated == 270) != (image.orientation.flip_x != 0);
    turn.flip_y = (rotated == 180 || rotated == 90) != (image.orientation.flip_y != 0);
    return true;
}

// A reduced image lies at the start of the plane's memory, without gaps between its rows, and the mark at the end.
bool decode_file(hjepa::JpegMemory& memory, const uint8_t* file, size_t size, hjepa::Turn turn,
                 const nvimgcodecImagePlaneInfo_t& plane, uint8_t* levels) {
    const int reduction = hjepa::asked_reduction(file, size);
    const auto by = static_cast<size_t>(reduction);
    const size_t rows = (plane.height + by - 1) / by, columns = (plane.width + by - 1) / by;
    const size_t stride = reduction == 1 ? plane.row_stride : 3 * columns;
    const size_t bytes = plane.row_stride * (plane.height - 1) + 3 * size_t{plane.width};
    if (reduction > 1 && rows * stride + hjepa::MARK_BYTES > bytes) return false;
    int height = static_cast<int>(plane.height), width = static_cast<int>(plane.width);
    if (turn.transposed) std::swap(height, width);
    const hjepa::JpegBuild& build = hjepa::jpeg_builds()[0];
    const bool decoded = hjepa::decode_jpeg(build, memory, file, size, height, width, reduction, turn, levels, stride);
    if (decoded && reduction > 1) hjepa::write_mark(levels + bytes - hjepa::MARK_BYTES, reduction);
    return decoded;
}

bool decode_to(const nvimgcodecImageInfo_t& info, nvimgcodecIoStreamDesc_t* io, hjepa::Turn turn) {
    thread_local hjepa::JpegMemory memory;
    size_t size = 0;
    void* file = nullptr;
    if (io->size(io->instance, &size) != NVIMGCODEC_STATUS_SUCCESS) return false;
    if (io->map(io->instance, &file, 0, size) != NVIMGCODEC_STATUS_SUCCESS || !file) return false;
    bool decoded = false;
    try {
        decoded = decode_file(
            memory, static_cast<const uint8_t*>(file), size, turn, info.plane_info[0], static_cast<uint8_t*>(info.buffer));
    } catch (const std::bad_alloc&) {  // C code is above
    }
    io->unmap(io->instance, file, size);
    return decoded;
}

nvimgcodecStatus_t decode(nvimgcodecDecoder_t, const nvimgcodecImageDesc_t* image, const nvimgcodecCodeStreamDesc_t* file,
                          const nvimgcodecDecodeParams_t* params, int) {
    const nvimgcodecImageInfo_t info = wanted(image);
    hjepa::Turn turn;
    const bool decoded = info.num_planes == 1 && find_turn(file, params, turn) && decode_to(info, file->io_stream, turn);
    hjepa::num_decoded += decoded;
    image->imageReady(image->instance, decoded ? NVIMGCODEC_PROCESSING_STATUS_SUCCESS : NVIMGCODEC_PROCESSING_STATUS_FAIL);
    return NVIMGCODEC_STATUS_SUCCESS;
}

nvimgcodecStatus_t create(void*, nvimgcodecDecoder_t* decoder, const nvimgcodecExecutionParams_t* params,
                          const char* options) {
    static bool takes_part[] = {false, true};
    const bool is_exact = !options || !std::strstr(options, "fast_idct=1");
    const bool on_cpu = params->device_id == NVIMGCODEC_DEVICE_CPU_ONLY;
    *decoder = reinterpret_cast<nvimgcodecDecoder_t>(&takes_part[is_exact && on_cpu]);
    return NVIMGCODEC_STATUS_SUCCESS;
}

nvimgcodecStatus_t destroy(nvimgcodecDecoder_t) { return NVIMGCODEC_STATUS_SUCCESS; }

nvimgcodecStatus_t no_metadata(nvimgcodecDecoder_t, const nvimgcodecCodeStreamDesc_t*, nvimgcodecMetadata_t**, int*) {
    return NVIMGCODEC_STATUS_IMPLEMENTATION_UNSUPPORTED;
}

const nvimgcodecDecoderDesc_t DECODER{
    NVIMGCODEC_STRUCTURE_TYPE_DECODER_DESC, sizeof(DECODER), nullptr, nullptr, ID, "jpeg", NVIMGCODEC_BACKEND_KIND_CPU_ONLY,
    create, destroy, no_metadata, can_decode, decode, nullptr, nullptr};

nvimgcodecStatus_t create_extension(void*, nvimgcodecExtension_t* extension, const nvimgcodecFrameworkDesc_t* framework) {
    *extension = reinterpret_cast<nvimgcodecExtension_t>(const_cast<nvimgcodecFrameworkDesc_t*>(framework));
    // Another 0.x may have other structures: DALI goes on without this decoder then.
    if (framework->version / 100 != NVIMGCODEC_VER / 100) return NVIMGCODEC_STATUS_SUCCESS;
    return framework->registerDecoder(framework->instance, &DECODER, NVIMGCODEC_PRIORITY_HIGHEST);
}

nvimgcodecStatus_t destroy_extension(nvimgcodecExtension_t extension) {
    const auto* framework = reinterpret_cast<const nvimgcodecFrameworkDesc_t*>(extension);
    if (framework->version / 100 != NVIMGCODEC_VER / 100) return NVIMGCODEC_STATUS_SUCCESS;
    return framework->unregisterDecoder(framework->instance, &DECODER);
}

}  // namespace

extern "C" NVIMGCODECAPI nvimgcodecStatus_t nvimgcodecExtensionModuleEntry(nvimgcodecExtensionDesc_t* description) {
    *description = {NVIMGCODEC_STRUCTURE_TYPE_EXTENSION_DESC, sizeof(*description), nullptr, nullptr, ID, 1, NVIMGCODEC_VER,
                    create_extension, destroy_extension};
    return NVIMGCODEC_STATUS_SUCCESS;
}
