"""The product's backend: one DALI graph that reads and decodes each image once and makes every crop of it.

The draws enter as arrays through one external source; the crops of one name are stacked into a sequence, so that one operator
with per-frame arguments serves them all, and leave as one dense tensor. Tensors reach torch through DLPack without a copy,
which is safe to hold only with DALI's dynamic executor (its outputs are never overwritten while referenced).

Against torchvision on PIL images DALI differs: hue turns in YIQ, not HSV; the four parts of the jitter have a fixed order
(brightness, contrast, saturation, hue); and values are rounded, not truncated. tests/pipeline/test_parity.py has the figures.
"""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import nvidia.dali.fn as fn
import torch
from nvidia.dali import types
from nvidia.dali.pipeline import Pipeline
from torch.utils.dlpack import from_dlpack

from hjepa.pipeline.ahead import Ahead
from hjepa.pipeline.backend import BackendSettings, BadImageError, Crops, Request
from hjepa.pipeline.draws import Draws
from hjepa.pipeline.recipe import Recipe, View

# B images, V crops of one name, S pixels
Node: TypeAlias = Any
"""A DALI graph node; DALI's own stubs type operators' results too loosely to be of use."""
Arrays: TypeAlias = list[npt.NDArray[Any]]

FILTERS = {"bicubic": types.INTERP_CUBIC, "bilinear": types.INTERP_LINEAR}
DTYPES = {torch.float32: types.FLOAT, torch.float16: types.FLOAT16, torch.bfloat16: types.FLOAT}  # DALI has no bfloat16
LUMA = (0.299, 0.587, 0.114)
"""ITU-R 601 weights of gray, as in PIL and torchvision."""


class DaliBackend:
    """Renders with NVIDIA DALI, on the GPU, or on the CPU where the device is one."""

    def __init__(self, settings: BackendSettings) -> None:
        self._settings = settings

    def render(self, requests: Iterator[Request]) -> Iterator[Crops]:
        """See Backend.render. Batches run on DALI's threads; the outputs are bound to the consumer's current CUDA stream."""
        settings = self._settings
        flying: deque[Request] = deque()

        def feed() -> Arrays:
            request = next(ahead)
            flying.append(request)
            return [_path_matrix(request.paths), *_parameters(settings.recipe, request.draws)]

        with closing(Ahead(requests, settings.prefetch)) as ahead:
            pipe = _build(settings, feed)
            while True:
                stream = torch.cuda.current_stream(settings.device) if settings.device.type == "cuda" else None
                try:
                    outputs = pipe.run(stream)
                except StopIteration:
                    return
                except RuntimeError as error:
                    _blame(flying, settings, error)
                    raise
                flying.popleft()
                yield _to_crops(settings, outputs)


def _to_crops(settings: BackendSettings, outputs: tuple[Any, ...]) -> Crops:
    crops = {}
    for group, output in zip(settings.recipe.groups(), outputs, strict=True):
        # [B, V, 3, S, S] in DALI's buffer, seen view-major; .to copies only where DALI lacks the dtype
        crops[group[0].name] = from_dlpack(output.as_tensor()).transpose(0, 1).to(settings.dtype)
    return crops


def _build(settings: BackendSettings, feed: Callable[[], Arrays]) -> Pipeline:
    recipe, on_gpu = settings.recipe, settings.device.type == "cuda"
    pipe = Pipeline(
        batch_size=settings.batch_size,
        num_threads=settings.num_workers,
        device_id=settings.device.index if on_gpu else None,
        prefetch_queue_depth=settings.prefetch,
        exec_dynamic=True,
    )
    num_inputs = 1 + sum(len(_names(group)) for group in recipe.groups())
    with pipe:
        inputs = iter(fn.external_source(source=feed, num_outputs=num_inputs, batch=True))
        images = _decode(fn.io.file.read(next(inputs), dont_use_mmap=True), recipe, on_gpu)
        outputs = []
        for group in recipe.groups():
            parameters = {name: next(inputs) for name in _names(group)}
            outputs.append(_render_view(images, group, recipe, parameters, settings))
        pipe.set_outputs(*outputs)
    pipe.build()
    return pipe


def _decode(encoded: Node, recipe: Recipe, on_gpu: bool) -> Node:
    upright = recipe.orientation == "exif"
    if not on_gpu:
        return fn.decoders.image(encoded, device="cpu", output_type=types.RGB, adjust_orientation=upright)
    # Two engines would share a batch by its composition, and their pixels differ: all images take the same one.
    return fn.decoders.image(
        encoded,
        device="mixed",
        output_type=types.RGB,
        adjust_orientation=upright,
        hw_decoder_load=0.0,
        jpeg_fancy_upsampling=True,
    )


def _render_view(
    images: Node, group: tuple[View, ...], recipe: Recipe, parameters: dict[str, Node], settings: BackendSettings
) -> Node:
    on_gpu = settings.device.type == "cuda"
    crops = _crop(images, group, parameters)
    if _has_jitter(group) or _has_gray(group):
        crops = _jitter(crops, group, parameters, on_gpu)
    if _has_blur(group):
        crops = _blur(crops, parameters)
    if _has_solarize(group):
        crops = _solarize(crops, group, parameters, on_gpu)
    return fn.crop_mirror_normalize(
        crops,
        dtype=DTYPES[settings.dtype],
        output_layout="FCHW",
        mean=[255 * level for level in recipe.mean],
        std=[255 * level for level in recipe.std],
    )


def _crop(images: Node, group: tuple[View, ...], parameters: dict[str, Node]) -> Node:
    view = group[0]
    crops = [
        fn.resize(
            images,
            size=[view.size, view.size],
            roi_start=parameters[f"start_{number}"],
            roi_end=parameters[f"end_{number}"],
            interp_type=FILTERS[view.interpolation],
            antialias=True,
        )
        for number in range(_count(group))
    ]
    return fn.stack(*crops, axis_name="F")


def _jitter(crops: Node, group: tuple[View, ...], parameters: dict[str, Node], on_gpu: bool) -> Node:
    if _has_jitter(group):
        crops = _brightness_contrast(crops, group, parameters, on_gpu)
    # Grayscale comes after the jitter, and a saturation of 0 is grayscale: one operator does saturation, hue and gray.
    return fn.hsv(crops, saturation=fn.per_frame(parameters["saturation"]), hue=fn.per_frame(parameters["hue_degrees"]))


def _brightness_contrast(crops: Node, group: tuple[View, ...], parameters: dict[str, Node], on_gpu: bool) -> Node:
    """b (m + c (x - m)) around each crop's mean gray m: torchvision's two parts in either order, but for the clipping."""
    brightness, contrast = parameters["brightness"], parameters["contrast"]
    weights = types.Constant(np.array(LUMA, np.float32).reshape(1, 1, 1, 3), device="gpu" if on_gpu else "cpu")
    gray = fn.reductions.sum(fn.reductions.mean(crops, axes=[1, 2], keep_dims=True) * weights, axes=[3], keep_dims=True)
    if not on_gpu:
        center = fn.reshape(gray, shape=[_count(group)])
        return fn.brightness_contrast(
            crops,
            brightness=fn.per_frame(brightness),
            contrast=fn.per_frame(contrast),
            contrast_center=fn.per_frame(center),
        )
    # On a GPU the center cannot be an argument (arguments live on the host): the same formula in arithmetic.
    shape = [_count(group), 1, 1, 1]
    brightness, contrast = fn.reshape(brightness.gpu(), shape=shape), fn.reshape(contrast.gpu(), shape=shape)
    return fn.cast(crops * (brightness * contrast) + gray * (brightness * (1.0 - contrast)), dtype=types.UINT8)


def _blur(crops: Node, parameters: dict[str, Node]) -> Node:
    return fn.gaussian_blur(crops, sigma=fn.per_frame(parameters["sigma"]), window_size=fn.per_frame(parameters["blur_window"]))


def _solarize(crops: Node, group: tuple[View, ...], parameters: dict[str, Node], on_gpu: bool) -> Node:
    threshold = parameters["solarize_threshold"].gpu() if on_gpu else parameters["solarize_threshold"]
    inverted = fn.cast(crops >= fn.reshape(threshold, shape=[_count(group), 1, 1, 1]), dtype=types.INT16)
    return fn.cast(crops + inverted * (255 - 2 * fn.cast(crops, dtype=types.INT16)), dtype=types.UINT8)


def _names(group: tuple[View, ...]) -> list[str]:
    """The inputs of a group of views, in the order in which `_parameters` gives them."""
    names = [f"{edge}_{number}" for number in range(_count(group)) for edge in ("start", "end")]
    if _has_jitter(group):
        names += ["brightness", "contrast"]
    if _has_jitter(group) or _has_gray(group):
        names += ["saturation", "hue_degrees"]
    if _has_blur(group):
        names += ["sigma", "blur_window"]
    if _has_solarize(group):
        names += ["solarize_threshold"]
    return names


def _parameters(recipe: Recipe, draws: Draws) -> Arrays:
    arrays = []
    for group in recipe.groups():
        view, drawn = group[0], draws.views[group[0].name]
        top, left, height, width = np.moveaxis(drawn.box.astype(np.float32), -1, 0)
        right = left + width
        # A region of interest whose ends are swapped is mirrored by the resize itself: the flip is free.
        start = np.stack([top, np.where(drawn.flip, right, left)], axis=-1)
        end = np.stack([top + height, np.where(drawn.flip, left, right)], axis=-1)
        values = {
            "brightness": drawn.jitter[..., 0],
            "contrast": drawn.jitter[..., 1],
            "saturation": np.where(drawn.gray, np.float32(0), drawn.jitter[..., 2]),
            "hue_degrees": drawn.jitter[..., 3] * np.float32(360),
            "sigma": np.maximum(drawn.sigma, np.float32(0.1)),
            "blur_window": np.where(drawn.sigma > 0, view.blur_window, 1).astype(np.int32),  # a window of 1 changes nothing
            "solarize_threshold": np.where(drawn.solarize, view.solarize_threshold, 256).astype(np.int32),
        }
        for number in range(_count(group)):
            values |= {f"start_{number}": start[:, number], f"end_{number}": end[:, number]}
        arrays += [np.ascontiguousarray(values[name]) for name in _names(group)]  # DALI refuses strides
    return arrays


def _path_matrix(paths: npt.NDArray[np.bytes_]) -> npt.NDArray[np.uint8]:
    """[B, longest path] bytes padded with NUL: read by DALI without a list of B arrays."""
    return np.ascontiguousarray(paths).view(np.uint8).reshape(len(paths), -1)


def _count(group: tuple[View, ...]) -> int:
    return sum(view.count for view in group)


def _has_jitter(group: tuple[View, ...]) -> bool:
    return any(view.jitter is not None for view in group)


def _has_gray(group: tuple[View, ...]) -> bool:
    return any(view.gray > 0 for view in group)


def _has_blur(group: tuple[View, ...]) -> bool:
    return any(view.blur > 0 for view in group)


def _has_solarize(group: tuple[View, ...]) -> bool:
    return any(view.solarize > 0 for view in group)


def _blame(flying: deque[Request], settings: BackendSettings, error: RuntimeError) -> None:
    """Finds the image that made a batch fail, by decoding those in flight one by one, and raises BadImageError for it."""
    on_gpu = settings.device.type == "cuda"
    for path in (path for request in flying for path in request.paths):
        pipe = Pipeline(batch_size=1, num_threads=1, device_id=settings.device.index if on_gpu else None, exec_dynamic=True)
        with pipe:
            one = _path_matrix(np.array([path]))
            encoded = fn.io.file.read(fn.external_source(source=[[one[0]]]), dont_use_mmap=True)
            pipe.set_outputs(_decode(encoded, settings.recipe, on_gpu))
        try:
            pipe.run()
        except RuntimeError as reason:
            raise BadImageError(path.decode(errors="replace"), _first_line(reason)) from error


def _first_line(error: RuntimeError) -> str:
    """The telling line of DALI's message, which goes on with the operator's whole call stack."""
    lines = [line.strip() for line in str(error).splitlines()]
    return next((line for line in lines if "Failed to decode" in line or "failure" in line or "file" in line), lines[0])
