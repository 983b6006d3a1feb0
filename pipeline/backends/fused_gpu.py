"""The fused backend on a GPU: DALI decodes there, and hjepa's Triton kernels make every crop, on the consumer's stream.

The kernels (kernels/fused_crops_triton.py) have the bits of the CPU's; what differs is the decoder. They read DALI's images
where they lie, which are kept until the kernels are done with them.
"""

from collections import deque
from collections.abc import Iterator
from contextlib import closing
from itertools import chain
from typing import Any

import numpy as np
import torch

from hjepa.kernels.fused_crops import Decoded
from hjepa.kernels.fused_crops_triton import render
from hjepa.pipeline.ahead import Ahead
from hjepa.pipeline.backend import BackendSettings, BadBatchError, Crops, Request
from hjepa.pipeline.backends.dali_decode import check_sizes, find_bad
from hjepa.pipeline.backends.dali_inputs import Contents, contents_of, count
from hjepa.pipeline.backends.fused import build_decoder, check_boxes, crop_group

# B images, V crops of one name, S pixels
NUM_HELD = 2
"""Decoded batches that the GPU may be behind with, before the host waits for it."""


class FusedGpuBackend:
    """Renders on the GPU with DALI's decoder and hjepa's kernels."""

    def __init__(self, settings: BackendSettings) -> None:
        self._settings = settings

    def render(self, requests: Iterator[Request]) -> Iterator[Crops]:
        """See Backend.render. Batches are decoded on DALI's threads; crops are made on the consumer's current CUDA stream."""
        settings = self._settings
        flying: deque[Request] = deque()

        def feed() -> Contents:
            flying.append(next(ordered))
            return contents_of(flying[-1].encoded)

        with closing(Ahead(requests, settings.prefetch)) as ahead, closing(Held()) as held:
            first = next(ahead, None)
            if first is None:
                return
            ordered = chain([first], ahead)
            pipe = build_decoder(settings, feed, from_files=not isinstance(first.encoded, list))
            while True:
                stream = torch.cuda.current_stream(settings.device) if settings.device.type == "cuda" else None
                try:
                    (images,) = pipe.run(stream)
                except StopIteration:
                    return
                except RuntimeError as error:
                    if reasons := find_bad(flying, settings):
                        raise BadBatchError(reasons) from error
                    raise
                crops = _render_batch(images, flying.popleft(), settings)
                held.keep(images, stream)
                yield crops


class Held:
    """Decoded batches that the GPU still reads."""

    def __init__(self) -> None:
        self._batches: deque[tuple[Any, torch.cuda.Event]] = deque()

    def keep(self, images: Any, stream: torch.cuda.Stream | None) -> None:
        """Until the stream has come so far; without a stream the work is done."""
        if stream is not None:
            self._batches.append((images, stream.record_event()))
        while len(self._batches) > NUM_HELD or (self._batches and _is_done(self._batches[0][1])):
            self._batches.popleft()[1].synchronize()  # waits only where the GPU is that far behind

    def close(self) -> None:
        """Waits for the GPU, and drops them."""
        while self._batches:
            self._batches.popleft()[1].synchronize()


def _is_done(event: torch.cuda.Event) -> bool:
    return bool(event.query())  # type: ignore[no-untyped-call]  # torch's


def _render_batch(images: Any, request: Request, settings: BackendSettings) -> Crops:
    recipe = settings.recipe
    check_sizes(np.array(images.shape()), request)  # before the kernels read what boxes that were drawn for another image say
    check_boxes(request)
    pointers = np.array([images[place].data_ptr() for place in range(len(images))], dtype=np.int64)
    crops, groups = {}, []
    for group in recipe.groups():
        view = group[0]
        shape = (count(group), len(images), 3, view.size, view.size)
        crops[view.name] = torch.empty(shape, dtype=settings.dtype, device=settings.device)
        groups.append(crop_group(view, request, crops[view.name]))
    render(Decoded(pointers=pointers, sizes=request.sizes), groups, recipe.mean, recipe.std)
    return crops
