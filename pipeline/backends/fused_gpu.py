"""The fused backend on a GPU: DALI decodes, and hjepa's Triton kernels make every crop, on the consumer's stream.

The kernels (kernels/fused_crops_triton.py) have the bits of the CPU's; what differs is the decoder, where it is the GPU's. They
read DALI's images where they lie, in the GPU's memory, which are kept until the kernels are done with them.
"""

from collections import deque
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from typing import Any

import torch

from hjepa.kernels.fused_crops_triton import render, require_compiler
from hjepa.pipeline.ahead import Ahead
from hjepa.pipeline.backend import BackendSettings, Crops, Request
from hjepa.pipeline.backends.dali_pipe import DaliPipe
from hjepa.pipeline.backends.fused import build_decoder, check_decoded, decoded, images_of, room_for

# B images, V crops of one name, S pixels
NUM_HELD = 2
"""Decoded batches that the GPU may be behind with, before the host waits for it."""


class FusedGpuBackend:
    """Renders on the GPU with DALI's decoder and hjepa's kernels."""

    def __init__(self, settings: BackendSettings) -> None:
        if settings.device.type == "cuda":  # not in Triton's interpreter
            require_compiler()  # what is missing is said now
        self._settings = settings
        self._pipe = DaliPipe(settings, partial(build_decoder, settings), images_of, partial(check_decoded, settings))

    def render(self, requests: Iterator[Request]) -> Iterator[Crops]:
        """See Backend.render. Batches are decoded on DALI's threads; crops are made on the consumer's current CUDA stream."""
        with closing(Ahead(requests, self._settings.prefetch)) as ahead, closing(Held()) as held:
            for request, (images, *_) in self._pipe.run(ahead):
                try:
                    crops = _render_batch(images, request, self._settings)
                finally:  # also where only some of the kernels were launched
                    held.keep(images, self._pipe.stream())
                yield crops

    def close(self) -> None:
        """See Backend.close."""
        self._pipe.close()


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
    crops, groups = room_for(request, recipe, partial(torch.empty, dtype=settings.dtype, device=settings.device))
    render(decoded(images, request), groups, recipe.mean, recipe.std)
    return crops
