"""JPEGs are decoded on the CPU by hjepa's decoder, within DALI: libjpeg-turbo's levels, sooner (benchmarks/decoding.py).

The decoder (kernels/csrc/jpeg) is an extension of nvImageCodec, the library that DALI decodes with. nvImageCodec asks it first,
and goes on to libjpeg-turbo with what it does not take, such as CMYK, and every file with an error in it, so that what a bad
file looks like, or whether it is one, is decided where it always was. Other formats do not come near it.

A JPEG with a segment of ours in it comes out at a half or a quarter of its sides, in the memory for the whole image. Another
decoder passes over the segment, and the image comes out whole; so whoever puts one in asks for what became of it.
"""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import nvidia.dali.fn as fn
from nvidia.dali import types
from nvidia.dali.pipeline import Pipeline
from PIL import Image

from hjepa.pipeline.forks import OwnLock

VARIABLE = "NVIMGCODEC_EXTENSIONS_PATH"
"""Folders of nvImageCodec's extensions, which are loaded when a pipeline with a decoder is built."""
_ONE_AT_A_TIME = OwnLock()
"""The environment is the process's, and loaders build their pipelines in threads."""


def decoder_file() -> Path | None:
    """The file of the decoder, or None where it was not built."""
    spec = find_spec("hjepa.kernels._jpeg")
    return None if spec is None or spec.origin is None else Path(spec.origin)


def build(pipe: Pipeline, decoder: Literal["cpu", "gpu"] = "cpu") -> None:
    """Builds a pipeline; one that decodes on the CPU does so with hjepa's decoder."""
    with _extended() if decoder == "cpu" else nullcontext():
        pipe.build()


def takes_part() -> bool:
    """Whether DALI decodes with it: not where it was not built, or with an nvImageCodec of another version."""
    if decoder_file() is None:
        return False
    stream, module = BytesIO(), import_module("hjepa.kernels._jpeg")
    Image.new("RGB", (16, 16)).save(stream, "JPEG")
    pipe = Pipeline(batch_size=1, num_threads=1, device_id=None, exec_dynamic=True)
    with pipe:
        encoded = fn.external_source(lambda: [np.frombuffer(stream.getvalue(), dtype=np.uint8)], batch=True)
        pipe.set_outputs(fn.decoders.image(encoded, device="cpu"))
    build(pipe)
    before = module.num_decoded()
    pipe.run()
    return bool(module.num_decoded() > before)


@lru_cache
def segment_of(reduction: int) -> npt.NDArray[np.uint8]:
    """What asks, behind the first two bytes of a JPEG, for an image whose sides are divided by 2 or 4; no bytes for 1."""
    segment = b"" if reduction == 1 or decoder_file() is None else import_module("hjepa.kernels._jpeg").segment(reduction)
    return np.frombuffer(segment, dtype=np.uint8)


def with_segment(encoded: Any, segment: Any) -> Any:
    """The contents with the segments in them, where they are JPEGs; nodes of DALI's graph."""
    is_jpeg = (encoded[0] == 0xFF) & (encoded[1] == 0xD8)
    length = fn.cast(segment.shape(), dtype=types.INT32) * fn.cast(is_jpeg, dtype=types.INT32)
    return fn.cat(encoded[:2], fn.slice(segment, 0, length, axes=[0]), encoded[2:])


def reductions(pointers: npt.NDArray[np.int64], sizes: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """[B]: what the sides of images were divided by that DALI decoded to addresses [B] and that have sizes [B, 2]."""
    if decoder_file() is None:
        return np.ones(len(pointers), dtype=np.int32)
    found: npt.NDArray[np.int32] = import_module("hjepa.kernels._jpeg").reductions(pointers, sizes)
    return found


@contextmanager
def _extended() -> Iterator[None]:
    """Only this long: no pipeline of the process gets the decoder but hjepa's, and what another thread builds just then."""
    decoder, library = decoder_file(), find_spec("nvidia.nvimgcodec")
    if decoder is None or library is None or not library.submodule_search_locations:
        yield
        return
    folder = _folder_of(decoder)
    if folder is None:
        yield
        return
    with _ONE_AT_A_TIME(), folder:
        before = os.environ.get(VARIABLE)
        own = before or str(Path(library.submodule_search_locations[0], "extensions"))
        os.putenv(VARIABLE, f"{folder.name}:{own}")  # not in os.environ, which another thread may be going through
        try:
            yield
        finally:
            if before is None:
                os.unsetenv(VARIABLE)
            else:
                os.putenv(VARIABLE, before)


def _folder_of(decoder: Path) -> TemporaryDirectory[str] | None:
    """A folder for nvImageCodec, which loads all that it finds in one: this holds one file, in the version of this Python.

    None where none can be made, as in a container that is read-only: the pixels are the same without the decoder.
    """
    try:
        folder = TemporaryDirectory(prefix="hjepa-")
        Path(folder.name, "libhjepa_jpeg.so").symlink_to(decoder)
    except OSError as error:
        warnings.warn(f"JPEGs take longer to decode: no temporary folder ({error}); set TMPDIR to a writable one", stacklevel=2)
        return None
    return folder
