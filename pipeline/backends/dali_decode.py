"""What every backend that decodes with DALI shares: reading, decoding, and finding out which images were bad."""

from collections import deque
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import nvidia.dali.fn as fn
import torch
from nvidia.dali import types
from nvidia.dali.pipeline import Pipeline

from hjepa.pipeline.backend import BackendSettings, BadBatchError, Request, check_size
from hjepa.pipeline.backends.dali_inputs import contents_of
from hjepa.pipeline.backends.dali_jpeg import build
from hjepa.pipeline.source import why_not

# B images
Node: TypeAlias = Any
"""A DALI graph node; DALI's own stubs type operators' results too loosely to be of use."""


def device_id(settings: BackendSettings) -> int | None:
    """The number of the GPU; None for the CPU."""
    return settings.device.index if settings.device.type == "cuda" else None


def read(contents: Node, from_files: bool) -> Node:
    """The contents of paths, or contents as they are."""
    return fn.io.file.read(contents, dont_use_mmap=True) if from_files else contents


def decode(encoded: Node, settings: BackendSettings) -> Node:
    """RGB images of their own sizes, uint8 HWC."""
    upright = settings.recipe.orientation == "exif"
    if settings.device.type != "cuda":
        return fn.decoders.image(encoded, device="cpu", output_type=types.RGB, adjust_orientation=upright)
    return fn.decoders.image(
        encoded,
        device="mixed",
        output_type=types.RGB,
        adjust_orientation=upright,
        hw_decoder_load=settings.hw_decoder_load,
        jpeg_fancy_upsampling=True,
    )


def check_sizes(shapes: npt.NDArray[np.int64], request: Request) -> None:
    """Raises BadBatchError unless the decoded images have the sizes of the request. shapes [B, 3]: height, width, channels."""
    if not np.array_equal(shapes[:, :2], request.sizes):
        pairs = zip(shapes[:, :2].tolist(), request.sizes.tolist(), strict=True)
        reasons = {(0, place): check_size(tuple(came), tuple(expected)) for place, (came, expected) in enumerate(pairs)}
        raise BadBatchError({place: reason for place, reason in reasons.items() if reason})


def find_bad(flying: deque[Request], settings: BackendSettings) -> dict[tuple[int, int], str]:
    """The images of the first batch with any that do not decode, found by decoding one by one."""
    for number, request in enumerate(flying):
        # On the CPU first: DALI takes seconds to open a pipeline on a GPU, and each bad image costs one.
        reasons = _probe(request, range(len(request.encoded)), replace(settings, device=torch.device("cpu")))
        if settings.device.type == "cuda" and len(reasons) != 1:  # the GPU may refuse others, or not all of them
            reasons = _probe(request, reasons or range(len(request.encoded)), settings)
        if reasons:
            return {(number, place): reason for place, reason in reasons.items()}
    return {}


def _probe(request: Request, places: Iterable[int], settings: BackendSettings) -> dict[int, str]:
    """Those of the places whose images do not decode on the settings' device, and why."""
    reasons: dict[int, str] = {}
    contents, pipe = contents_of(request.encoded), None
    for place in places:
        pipe = pipe or _build_probe(settings, from_files=not isinstance(request.encoded, list))
        pipe.feed_input("one", [contents[place]])
        try:
            pipe.run()
        except RuntimeError as error:
            reasons[place] = why_not(request.encoded, place) or _first_line(error)
            pipe = None  # a pipeline that has failed is not used again
    return reasons


def _build_probe(settings: BackendSettings, *, from_files: bool) -> Pipeline:
    pipe = Pipeline(batch_size=1, num_threads=1, device_id=device_id(settings), prefetch_queue_depth=1, exec_dynamic=True)
    with pipe:
        encoded = read(fn.external_source(name="one"), from_files)
        pipe.set_outputs(decode(encoded, settings))
    build(pipe)
    return pipe


def _first_line(error: RuntimeError) -> str:
    """The telling line of DALI's message, which goes on with the operator's whole call stack."""
    lines = [line.strip() for line in str(error).splitlines()]
    return next((line for line in lines if "Failed to decode" in line or "failure" in line or "file" in line), lines[0])
