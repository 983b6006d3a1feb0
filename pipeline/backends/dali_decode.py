"""What every backend that decodes with DALI shares: reading, decoding, and finding out which images were bad."""

import re
from collections import deque
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
from hjepa.pipeline.source import Encoded, content_of, why_not

# B images
Node: TypeAlias = Any
"""A DALI graph node; DALI's own stubs type operators' results too loosely to be of use."""

SOI, SOS, EOI = b"\xff\xd8", b"\xff\xda", b"\xff\xd9"
"""JPEG's markers of an image's start, of a scan's, and of the image's end."""
TAIL = 4096
"""Last bytes of a content, among which the end of a picture almost always is."""
NAMED = re.compile(r"Failed to decode sample #(\d+)")
"""What DALI says of some bad images, with their places in the batch."""


def device_id(settings: BackendSettings) -> int | None:
    """The number of the GPU; None for the CPU."""
    return settings.device.index if settings.device.type == "cuda" else None


def current_device(settings: BackendSettings) -> torch.cuda.device:
    """Within it the GPU is the current one, of which DALI takes a default stream to be: its handle, 0, names no GPU."""
    number = device_id(settings)
    return torch.cuda.device(-1 if number is None else number)  # -1, for the CPU, changes nothing


def read(contents: Node, from_files: bool) -> Node:
    """The contents of paths, or contents as they are."""
    return fn.io.file.read(contents, dont_use_mmap=True) if from_files else contents


def decode(encoded: Node, settings: BackendSettings) -> Node:
    """RGB images of their own sizes, uint8 HWC, on the device."""
    encoded = _parsed(encoded)
    upright = settings.recipe.orientation == "exif"
    if settings.decoder == "cpu":
        images = fn.decoders.image(encoded, device="cpu", output_type=types.RGB, adjust_orientation=upright)
        return images.gpu() if settings.device.type == "cuda" else images
    return fn.decoders.image(
        encoded,
        device="mixed",
        output_type=types.RGB,
        adjust_orientation=upright,
        hw_decoder_load=settings.hw_decoder_load,
        jpeg_fancy_upsampling=True,
    )


def _parsed(encoded: Node) -> Node:
    """The same contents, without a copy, once all have been parsed: one that cannot be fails here, as an error.

    In DALI's decoder it would end the process (2.4, in batches above 16): an error in one thread takes away what others use.
    """
    shape = fn.peek_image_shape(encoded)
    return fn.reshape(encoded, shape=encoded.shape() + 0 * shape[0])


def check_sizes(shapes: npt.NDArray[np.int64], request: Request) -> None:
    """Raises BadBatchError unless the decoded images have the sizes of the request. shapes [B, 3]: height, width, channels."""
    if not np.array_equal(shapes[:, :2], request.sizes):
        pairs = zip(shapes[:, :2].tolist(), request.sizes.tolist(), strict=True)
        reasons = {(0, place): check_size(tuple(came), tuple(expected)) for place, (came, expected) in enumerate(pairs)}
        raise BadBatchError({place: reason for place, reason in reasons.items() if reason})


def ends(encoded: Node, settings: BackendSettings) -> tuple[Node, ...]:
    """For a GPU's decoder the first two and the last TAIL bytes of each image's content, uint8 [2 + TAIL], zeros in front
    where it has fewer. The CPU's needs no help."""
    if settings.decoder == "cpu":
        return ()
    first = fn.slice(encoded, 0, 2, axes=[0], out_of_bounds_policy="pad")
    before = fn.cast(encoded.shape() - TAIL, dtype=types.INT32)
    last = fn.slice(encoded, before, TAIL, axes=[0], out_of_bounds_policy="pad")
    return (fn.cat(first, last),)


def check_ends(found: npt.NDArray[np.uint8], request: Request, settings: BackendSettings) -> None:
    """Raises BadBatchError for JPEGs that were cut off, if the CPU's decoder refuses them: a GPU's makes a picture of them
    without a word. found [B, 2 + TAIL].

    What follows the end of a whole picture may be anything. Where the last bytes do not show that end, the file is read.
    """
    suspects = np.flatnonzero((found[:, :2] == tuple(SOI)).all(axis=1) & (found[:, -2:] != tuple(EOI)).any(axis=1)).tolist()
    tails = {place: found[place, 2:].tobytes() for place in suspects}
    places = [
        place for place, tail in tails.items() if tail.rfind(EOI) <= tail.rfind(SOS) and not _has_end(request.encoded, place)
    ]
    reasons = _probe(request, places, _on_cpu(settings)) if places else {}
    if reasons:
        raise BadBatchError({(0, place): reason for place, reason in reasons.items()})


def _has_end(encoded: Encoded, place: int) -> bool:
    """Whether a JPEG has an end of image after its first scan begins (a thumbnail before it has its own), or is gone by now."""
    try:
        content = bytes(content_of(encoded, place))
    except OSError:  # it was there when it was decoded
        return True
    at = 2
    while content[at : at + 1] == b"\xff" and content[at : at + 2] != SOS:
        marker = int.from_bytes(content[at + 1 : at + 2], "big")
        if marker == 0xFF:  # a byte that fills
            at += 1
        elif marker in (0x01, *range(0xD0, 0xDA)):  # alone
            at += 2
        else:
            at += 2 + max(2, int.from_bytes(content[at + 2 : at + 4], "big"))
    return content.find(EOI, at) >= 0


def find_bad(flying: deque[Request], settings: BackendSettings, said: str = "") -> dict[tuple[int, int], str]:
    """The images of the first batch with any that do not decode; said: DALI's message, which may name one of the first."""
    for number, request in enumerate(flying):
        places = list(range(len(request.encoded)))
        named = [int(place) for place in NAMED.findall(said if number == 0 else "") if int(place) in places]
        # On the CPU first: DALI takes seconds to open a pipeline on a GPU.
        reasons = _probe(request, named, _on_cpu(settings)) if named else {}
        reasons = reasons or _probe(request, places, _on_cpu(settings))
        if settings.decoder == "gpu" and len(reasons) != 1:  # the GPU may refuse others, or not all of them
            refused = _probe(request, list(reasons) or places, settings)
            # Where it refuses a whole batch of which the CPU takes every image, it is the GPU that lacks something: memory.
            lacks_memory = not reasons and 1 < len(refused) == len(places)
            reasons = {} if lacks_memory else refused or reasons
        if reasons:
            return {(number, place): reason for place, reason in reasons.items()}
    return {}


def _on_cpu(settings: BackendSettings) -> BackendSettings:
    return replace(settings, device=torch.device("cpu"), decoder="cpu")


def _probe(request: Request, places: list[int], settings: BackendSettings) -> dict[int, str]:
    """Those of the places whose images do not decode on the settings' device, and why; found by halves."""
    pipe = _build_probe(settings, len(places), from_files=not isinstance(request.encoded, list))
    contents, reasons = contents_of(request.encoded), {}
    groups = [places]
    while groups:
        group = groups.pop()
        pipe.feed_input("some", [contents[place] for place in group])
        try:
            pipe.run()
        except RuntimeError as error:  # the pipeline can be used on: see dali_pipe.py
            if len(group) == 1:
                reasons[group[0]] = why_not(request.encoded, group[0]) or _first_line(error)
            else:
                groups += [group[len(group) // 2 :], group[: len(group) // 2]]
    return reasons


def _build_probe(settings: BackendSettings, batch_size: int, *, from_files: bool) -> Pipeline:
    pipe = Pipeline(
        batch_size=batch_size,
        num_threads=settings.num_workers,
        device_id=device_id(settings),
        prefetch_queue_depth=1,
        exec_dynamic=True,
    )
    with pipe:
        encoded = read(fn.external_source(name="some"), from_files)
        pipe.set_outputs(decode(encoded, settings))
    build(pipe, settings.decoder)
    return pipe


def _first_line(error: RuntimeError) -> str:
    """The telling line of DALI's message, which goes on with the operator's whole call stack."""
    lines = [line.strip() for line in str(error).splitlines()]
    return next((line for line in lines if "Failed to decode" in line or "failure" in line or "file" in line), lines[0])
