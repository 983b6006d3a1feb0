"""The header scan: size, EXIF orientation and format of every image, read once and cached outside the user's data.

Boxes are drawn before decoding, so sizes must be known; and damage that a header shows is found before the run, not in it.
A cached entry is used while the file's length and time of change are those that were scanned.
"""

import contextlib
import hashlib
import os
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from hjepa.pipeline.source import BadImage

# N files
VERSION = 1
FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "BMP", "TIFF")
"""Formats that every backend decodes; MPO is the JPEG with a preview that some cameras write."""
ORIENTATION_TAG = 0x0112


@dataclass(frozen=True, kw_only=True, slots=True)
class Files:
    """What a walk of the folder says of each file."""

    paths: npt.NDArray[np.bytes_]
    """[N] relative paths, sorted."""
    length: npt.NDArray[np.int64]
    """[N] bytes."""
    changed_ns: npt.NDArray[np.int64]
    """[N] time of last change, in nanoseconds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Headers:
    """What the header of each file says. A height of 0 marks a file that is no readable image."""

    height: npt.NDArray[np.int32]
    """[N] rows as stored."""
    width: npt.NDArray[np.int32]
    """[N] columns as stored."""
    orientation: npt.NDArray[np.uint8]
    """[N] EXIF orientation, 1 to 8; 1 where there is none."""
    format: npt.NDArray[np.bytes_]
    """[N] one of FORMATS."""
    length: npt.NDArray[np.int64]
    """[N] bytes of the file."""

    def take(self, chosen: npt.NDArray[np.bool_]) -> "Headers":
        """The headers of some of the files."""
        return Headers(**{field.name: getattr(self, field.name)[chosen] for field in fields(Headers)})


def cache_folder() -> Path:
    """$HJEPA_CACHE, else $XDG_CACHE_HOME/hjepa, else ~/.cache/hjepa."""
    if "HJEPA_CACHE" in os.environ:
        return Path(os.environ["HJEPA_CACHE"]).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hjepa"


def read_index(
    root: Path, files: Files, *, num_workers: int, progress: Callable[[int, int], None] | None
) -> tuple[Headers, tuple[BadImage, ...]]:
    """Headers of all files, from the cache where it is still true, and the list of unreadable ones."""
    cache = cache_folder() / "index" / f"{hashlib.sha256(os.fsencode(root)).hexdigest()[:24]}.npz"
    table = _empty(len(files.paths))
    stale = _reuse(table, _load(cache), files)
    if len(stale):
        with ThreadPoolExecutor(num_workers, thread_name_prefix="hjepa-index") as pool:
            absolute = [os.path.join(os.fsencode(root), path) for path in files.paths[stale].tolist()]
            for done, (number, header) in enumerate(zip(stale, pool.map(_read_header, absolute), strict=True), start=1):
                table[number] = header
                if progress:
                    progress(done, len(stale))
        _store(cache, files, table)
    bad = np.nonzero(table["height"] == 0)[0]
    headers = Headers(**{name: table[name] for name in ("height", "width", "orientation", "format")}, length=files.length)
    return headers, tuple(
        BadImage(path=files.paths[number].decode(errors="replace"), reason=table["reason"][number].decode()) for number in bad
    )


def _empty(count: int) -> npt.NDArray[Any]:
    fields = [("height", "i4"), ("width", "i4"), ("orientation", "u1"), ("format", "S4"), ("reason", "S120")]
    return np.zeros(count, dtype=fields)


def _read_header(path: bytes) -> tuple[int, int, int, bytes, bytes]:
    try:
        with Image.open(os.fsdecode(path)) as image:
            if image.format not in FORMATS:
                return 0, 0, 0, b"", f"its content is {image.format}, which not every backend decodes".encode()
            orientation = _orientation(image)
            if image.format == "TIFF" and orientation != 1:
                return 0, 0, 0, b"", b"a TIFF with an orientation, which libraries read differently; save it upright"
            if image.mode == "F" or (image.mode == "I" and image.format == "TIFF"):
                return 0, 0, 0, b"", b"its pixels are 32 bits deep, a range without a defined white; save it with 8 or 16 bits"
            return image.height, image.width, orientation, image.format.encode(), b""
    except Exception as error:  # PIL raises OSError, SyntaxError, struct.error and more for bad headers: all are reasons
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
        reason = "not an image that can be identified" if "cannot identify" in reason else reason
        return 0, 0, 0, b"", reason.encode(errors="replace")[:120]


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 where there is none. Of a PNG only a tag before the pixels counts: others cost a decode."""
    if image.format == "TIFF":
        orientation = image.tag_v2.get(ORIENTATION_TAG, 1)  # type: ignore[attr-defined]  # of TiffImageFile alone
    elif image.format == "PNG":
        exif = Image.Exif()
        exif.load(image.info.get("exif", b""))
        orientation = exif.get(ORIENTATION_TAG, 1)
    else:
        orientation = image.getexif().get(ORIENTATION_TAG, 1)
    return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1


def _reuse(table: npt.NDArray[Any], cached: dict[str, npt.NDArray[Any]] | None, files: Files) -> npt.NDArray[np.int64]:
    """Fills the table with the cached rows that are still true; returns the numbers of the others."""
    if cached is None or not len(cached["paths"]):
        return np.arange(len(table))
    row = np.searchsorted(cached["paths"], files.paths).clip(max=len(cached["paths"]) - 1)
    fresh = cached["paths"][row] == files.paths
    fresh &= (cached["length"][row] == files.length) & (cached["changed_ns"][row] == files.changed_ns)
    table[fresh] = cached["table"][row[fresh]]
    return np.nonzero(~fresh)[0]


def _load(cache: Path) -> dict[str, npt.NDArray[Any]] | None:
    try:
        with np.load(cache, allow_pickle=False) as stored:
            return dict(stored) if stored["version"] == VERSION else None
    except (FileNotFoundError, NotADirectoryError):
        return None
    except Exception as error:  # a damaged cache costs a new scan, not the run
        warnings.warn(f"index cache {cache} is unreadable ({error}) and is made anew", stacklevel=4)
        return None


def _store(cache: Path, files: Files, table: npt.NDArray[Any]) -> None:
    partial = cache.with_suffix(f".{os.getpid()}.npz")  # ranks that scan at once do not write into each other's file
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        np.savez(partial, version=VERSION, paths=files.paths, length=files.length, changed_ns=files.changed_ns, table=table)
        os.replace(partial, cache)
    except OSError as error:
        with contextlib.suppress(OSError):  # there may be nothing to remove, or no folder
            partial.unlink()
        warnings.warn(f"the index is not cached ({error}); set HJEPA_CACHE to a writable folder", stacklevel=4)
