"""DALI's own operators, on the GPU or on the CPU: one graph that reads and decodes each image once and makes every crop of it.

The draws enter as arrays through one external source; the crops of one name are stacked into a sequence, so that one operator
with per-frame arguments serves them all, and leave as one dense tensor. Tensors reach torch through DLPack without a copy,
which is safe to hold only with DALI's dynamic executor (its outputs are never overwritten while referenced).

Against torchvision on PIL images DALI differs: hue turns in YIQ, not HSV; the four parts of the jitter have a fixed order
(brightness, contrast, saturation, hue); and values are rounded, not truncated. `hjepa parity` measures it; the figures are in
docs/parity.md.
"""

from collections.abc import Iterator
from contextlib import closing
from functools import partial
from typing import Any

import numpy as np
import nvidia.dali.fn as fn
import torch
from nvidia.dali import types
from nvidia.dali.pipeline import Pipeline
from torch.utils.dlpack import from_dlpack

from hjepa.pipeline.ahead import Ahead
from hjepa.pipeline.backend import BackendSettings, Crops, Request
from hjepa.pipeline.backends.dali_decode import Node, check_ends, check_sizes, current_device, decode, device_id, ends, read
from hjepa.pipeline.backends.dali_inputs import count, inputs_of, names_of
from hjepa.pipeline.backends.dali_jpeg import build
from hjepa.pipeline.backends.dali_pipe import DaliPipe, Feed
from hjepa.pipeline.recipe import Recipe, View

# B images, V crops of one name, S pixels
FILTERS = {"bicubic": types.INTERP_CUBIC, "bilinear": types.INTERP_LINEAR}
DTYPES = {torch.float32: types.FLOAT, torch.float16: types.FLOAT16, torch.bfloat16: types.FLOAT}  # DALI has no bfloat16
LUMA = (0.299, 0.587, 0.114)
"""ITU-R 601 weights of gray, as in PIL and torchvision."""


class DaliOpsBackend:
    """Renders with NVIDIA DALI, on the GPU, or on the CPU where the device is one."""

    def __init__(self, settings: BackendSettings) -> None:
        self._settings = settings
        self._num_groups = len(settings.recipe.groups())
        self._pipe = DaliPipe(settings, partial(_build, settings), partial(inputs_of, recipe=settings.recipe), self._check)

    def render(self, requests: Iterator[Request]) -> Iterator[Crops]:
        """See Backend.render. Batches run on DALI's threads; the outputs are bound to the consumer's current CUDA stream."""
        with closing(Ahead(requests, self._settings.prefetch)) as ahead:
            for _, outputs in self._pipe.run(ahead):
                yield _to_crops(self._settings, outputs[: self._num_groups])

    def close(self) -> None:
        """See Backend.close."""
        self._pipe.close()

    def _check(self, outputs: list[Any], request: Request) -> None:
        """Raises BadBatchError for images that are not the request's."""
        shapes, *found = outputs[self._num_groups :]
        for one in found:
            check_ends(np.asarray(one.as_tensor()), request, self._settings)
        check_sizes(np.asarray(shapes.as_tensor()), request)


def _to_crops(settings: BackendSettings, outputs: list[Any]) -> Crops:
    crops = {}
    for group, output in zip(settings.recipe.groups(), outputs, strict=True):
        # [B, V, 3, S, S] in DALI's buffer, seen view-major; .to copies only where DALI lacks the dtype
        with current_device(settings):
            crops[group[0].name] = from_dlpack(output.as_tensor()).transpose(0, 1).to(settings.dtype)
    return crops


def _build(settings: BackendSettings, feed: Feed, from_files: bool) -> Pipeline:
    recipe = settings.recipe
    pipe = Pipeline(
        batch_size=settings.batch_size,
        num_threads=settings.num_workers,
        device_id=device_id(settings),
        prefetch_queue_depth=settings.prefetch,
        exec_dynamic=True,
    )
    num_inputs = 2 + sum(len(names_of(group)) for group in recipe.groups())
    with pipe:
        inputs = iter(fn.external_source(source=feed, num_outputs=num_inputs, batch=True))
        encoded = read(next(inputs), from_files)
        decoded = decode(encoded, settings)
        # Where a box lies outside the image, because the file was overwritten, fn.resize would read memory that is not there.
        images = fn.pad(decoded, axes=[0, 1], shape=next(inputs))
        outputs = []
        for group in recipe.groups():
            parameters = {name: next(inputs) for name in names_of(group)}
            outputs.append(_render_view(images, group, recipe, parameters, settings))
        pipe.set_outputs(*outputs, decoded.shape(), *ends(encoded, settings))
    build(pipe, settings.decoder)
    return pipe


def _render_view(
    images: Node, group: tuple[View, ...], recipe: Recipe, parameters: dict[str, Node], settings: BackendSettings
) -> Node:
    on_gpu = settings.device.type == "cuda"
    crops = _crop(images, group, parameters)
    if "saturation" in parameters:
        crops = _jitter(crops, group, parameters, on_gpu)
    if "sigma" in parameters:
        crops = _blur(crops, parameters)
    if "solarize_threshold" in parameters:
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
        for number in range(count(group))
    ]
    return fn.stack(*crops, axis_name="F")


def _jitter(crops: Node, group: tuple[View, ...], parameters: dict[str, Node], on_gpu: bool) -> Node:
    if "brightness" in parameters:
        crops = _brightness_contrast(crops, group, parameters, on_gpu)
    # Grayscale comes after the jitter, and a saturation of 0 is grayscale: one operator does saturation, hue and gray.
    return fn.hsv(crops, saturation=fn.per_frame(parameters["saturation"]), hue=fn.per_frame(parameters["hue_degrees"]))


def _brightness_contrast(crops: Node, group: tuple[View, ...], parameters: dict[str, Node], on_gpu: bool) -> Node:
    """b (m + c (x - m)) around each crop's mean gray m: torchvision's two parts in either order, but for the clipping."""
    brightness, contrast = parameters["brightness"], parameters["contrast"]
    weights = types.Constant(np.array(LUMA, np.float32).reshape(1, 1, 1, 3), device="gpu" if on_gpu else "cpu")
    gray = fn.reductions.sum(fn.reductions.mean(crops, axes=[1, 2], keep_dims=True) * weights, axes=[3], keep_dims=True)
    if not on_gpu:
        center = fn.reshape(gray, shape=[count(group)])
        return fn.brightness_contrast(
            crops,
            brightness=fn.per_frame(brightness),
            contrast=fn.per_frame(contrast),
            contrast_center=fn.per_frame(center),
        )
    # On a GPU the center cannot be an argument (arguments live on the host): the same formula in arithmetic.
    shape = [count(group), 1, 1, 1]
    brightness, contrast = fn.reshape(brightness.gpu(), shape=shape), fn.reshape(contrast.gpu(), shape=shape)
    return fn.cast(crops * (brightness * contrast) + gray * (brightness * (1.0 - contrast)), dtype=types.UINT8)


def _blur(crops: Node, parameters: dict[str, Node]) -> Node:
    return fn.gaussian_blur(crops, sigma=fn.per_frame(parameters["sigma"]), window_size=fn.per_frame(parameters["blur_window"]))


def _solarize(crops: Node, group: tuple[View, ...], parameters: dict[str, Node], on_gpu: bool) -> Node:
    threshold = parameters["solarize_threshold"].gpu() if on_gpu else parameters["solarize_threshold"]
    inverted = fn.cast(crops >= fn.reshape(threshold, shape=[count(group), 1, 1, 1]), dtype=types.INT16)
    return fn.cast(crops + inverted * (255 - 2 * fn.cast(crops, dtype=types.INT16)), dtype=types.UINT8)
