"""The fused backend on the CPU: DALI reads and decodes, and one native kernel makes every crop of every image.

The kernel (kernels/fused_crops.py) computes what torchvision computes on PIL images, level by level; `hjepa parity` measures
how far the two are apart, and docs/parity.md says why. It reads DALI's images where they lie, and writes each name's crops in
place, view-major and contiguous. On a GPU it is fused_gpu.py.
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import fields, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import nvidia.dali.fn as fn
from nvidia.dali.pipeline import Pipeline, pipeline_def
from torch import Tensor

from hjepa.kernels.fused_crops import MAX_SIDE, CropGroup, Decoded, Threads, builds
from hjepa.pipeline.ahead import Ahead
from hjepa.pipeline.backend import BackendSettings, BadBatchError, Crops, Request
from hjepa.pipeline.backends.dali_decode import Node, check_ends, check_sizes, decode, device_id, ends, read
from hjepa.pipeline.backends.dali_inputs import Contents, contents_of, count
from hjepa.pipeline.backends.dali_jpeg import build, reductions, segment_of, takes_part, with_segment
from hjepa.pipeline.backends.dali_pipe import DaliPipe, Feed
from hjepa.pipeline.buffers import Buffers
from hjepa.pipeline.recipe import Recipe, View

# B images, V crops of one name, S pixels
NUM_READY = 2
"""Decoded batches that wait for the kernel: one to take, and one that DALI's threads work on meanwhile."""


class FusedBackend:
    """Renders on the CPU with DALI's decoder and hjepa's kernel."""

    def __init__(self, settings: BackendSettings) -> None:
        builds()  # what is missing is said now
        if settings.recipe.decoding == "reduced" and not takes_part():
            raise ValueError(
                "the recipe's decoding='reduced' needs hjepa's JPEG decoder, which takes no part in DALI's decoding here; "
                "use decoding='full', or do what `hjepa doctor` says of the native kernel"
            )
        self._settings = settings
        inputs = images_of if settings.recipe.decoding == "full" else images_and_segments_of
        self._pipe = DaliPipe(settings, partial(build_decoder, settings), inputs, partial(check_decoded, settings))
        self._buffers = Buffers(settings.prefetch + 2)

    def render(self, requests: Iterator[Request]) -> Iterator[Crops]:
        """See Backend.render."""
        with closing(Ahead(self._render(requests), self._settings.prefetch)) as ahead:
            yield from ahead

    def close(self) -> None:
        """See Backend.close."""
        self._pipe.close()

    def _render(self, requests: Iterator[Request]) -> Iterator[Crops]:
        """Decodes and renders in one go; DALI's threads are ahead of the kernel's by the depth of its queue."""
        threads = Threads(self._settings.num_workers)
        for request, (images, *_) in self._pipe.run(requests):
            yield _render_batch(images, request, self._settings, threads, self._buffers)


def _render_batch(images: Any, request: Request, settings: BackendSettings, threads: Threads, buffers: Buffers) -> Crops:
    recipe, whole = settings.recipe, decoded(images, request)
    seen, request = (whole, request) if recipe.decoding == "full" else _as_reduced(whole, request)
    crops, groups = room_for(request, recipe, lambda shape: buffers.take(shape, settings.dtype))
    threads.render(seen, groups, recipe.mean, recipe.std)
    return crops


def decoded(images: Any, request: Request) -> Decoded:
    """DALI's images as the kernels take them."""
    pointers = np.array([images[place].data_ptr() for place in range(len(images))], dtype=np.int64)
    return Decoded(pointers=pointers, sizes=request.sizes)


def _as_reduced(images: Decoded, request: Request) -> tuple[Decoded, Request]:
    """The images of which some are reduced, and their boxes in their own pixels."""
    by = reductions(images.pointers, images.sizes)[:, None]
    boxes = {name: replace(drawn, box=drawn.box // by[..., None]) for name, drawn in request.draws.views.items()}
    return replace(images, sizes=-(-images.sizes // by)), replace(request, draws=replace(request.draws, views=boxes))


def images_of(request: Request) -> Contents:
    """What the decoder is fed with."""
    return contents_of(request.encoded)


def images_and_segments_of(request: Request) -> tuple[Contents, list[npt.NDArray[np.uint8]]]:
    """The same, and what is put into each content so that the image may come out reduced."""
    return images_of(request), [segment_of(by) for by in request.draws.reduction.tolist()]


def check_decoded(settings: BackendSettings, outputs: list[Any], request: Request) -> None:
    """Raises BadBatchError for images that the kernels cannot crop as they were asked to."""
    images, *found = outputs
    for one in found:
        check_ends(np.asarray(one.as_tensor()), request, settings)
    check_sizes(np.array(images.shape()), request)  # before a kernel reads what boxes that were drawn for another image say
    check_boxes(request)


def check_boxes(request: Request) -> None:
    """Raises BadBatchError for images with a box that the kernel's scratch memory is too small for."""
    if request.sizes.max() <= MAX_SIDE:
        return
    sides = np.max([drawn.box[..., 2:].max(axis=(1, 2)) for drawn in request.draws.views.values()], axis=0)
    if sides.max() > MAX_SIDE:
        places = np.flatnonzero(sides > MAX_SIDE).tolist()
        raise BadBatchError({(0, place): _too_long(sides[place]) for place in places})


def _too_long(side: int) -> str:
    return f"a crop of it is {side} pixels long, and the kernel crops up to {MAX_SIDE}"


def room_for(request: Request, recipe: Recipe, allocate: Callable[[tuple[int, ...]], Tensor]) -> tuple[Crops, list[CropGroup]]:
    """Memory for the crops of each name, and what the kernel is to write there."""
    crops, groups = {}, []
    for group in recipe.groups():
        view = group[0]
        crops[view.name] = allocate((count(group), len(request.sizes), 3, view.size, view.size))
        groups.append(crop_group(view, request, crops[view.name]))
    return crops, groups


def crop_group(view: View, request: Request, out: Tensor) -> CropGroup:
    """The draws of a name as the kernel takes them; out [V, B, 3, S, S]."""
    drawn = request.draws.views[view.name]
    return CropGroup(
        **{field.name: getattr(drawn, field.name) for field in fields(drawn)},
        interpolation=view.interpolation,
        blur_window=view.blur_window,
        solarize_threshold=view.solarize_threshold,
        out=out,
    )


def build_decoder(settings: BackendSettings, feed: Feed, from_files: bool) -> Pipeline:
    """The pipeline whose outputs are the decoded images, on the device, and of a GPU's decoder their contents' ends."""
    pipe: Pipeline = _graph(
        settings,
        feed,
        from_files,
        batch_size=settings.batch_size,
        num_threads=settings.num_workers,
        device_id=device_id(settings),
        prefetch_queue_depth=NUM_READY,
        exec_dynamic=True,
    )
    build(pipe, settings.decoder)
    return pipe


@pipeline_def  # type: ignore[untyped-decorator]  # DALI's stub
def _graph(settings: BackendSettings, feed: Feed, from_files: bool) -> tuple[Node, ...]:
    """The decoded images."""
    if settings.recipe.decoding == "full":
        encoded = read(fn.external_source(source=feed, batch=True), from_files)
    else:
        contents, segments = fn.external_source(source=feed, batch=True, num_outputs=2)
        encoded = with_segment(read(contents, from_files), segments)
    return decode(encoded, settings), *ends(encoded, settings)
