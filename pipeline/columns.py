"""Named arrays in one file that is mapped, not read: all processes of a machine share its pages, and none waits for it.

The file is a text in JSON (what it is about, and where each array lies) after the text's length and checksum, then the arrays,
each at a multiple of 64 bytes. It is written under another name and moved into place, so that no reader meets half a file.
"""

import contextlib
import json
import os
import secrets
import struct
import warnings
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

# N texts
KIND = b"hjepa columns "
MAGIC = KIND + b"7\n"
"""What such a file of this version begins with."""
HEAD = struct.Struct(f"<{len(MAGIC)}sQL")
"""The magic, the length of the text, and its CRC-32."""
ALIGNMENT = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class Columns:
    """Arrays by name, and a JSON-able description."""

    arrays: Mapping[str, npt.NDArray[Any]]
    about: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Texts:
    """N byte strings without padding: one long text does not cost N times its length."""

    letters: npt.NDArray[np.uint8]
    """All texts, one after the other."""
    ends: npt.NDArray[np.int64]
    """[N] where each one ends."""

    def __len__(self) -> int:
        return len(self.ends)

    def take(self, numbers: npt.NDArray[np.int64]) -> list[bytes]:
        """The texts with these numbers."""
        ends = self.ends[numbers].tolist()
        starts = np.where(numbers > 0, self.ends[numbers - 1], 0).tolist()
        return [self.letters[start:end].tobytes() for start, end in zip(starts, ends, strict=True)]

    def all(self) -> list[bytes]:
        """Every text."""
        letters, ends = self.letters.tobytes(), self.ends.tolist()
        return [letters[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def texts(items: Sequence[bytes]) -> Texts:
    """The texts of a list."""
    ends = np.cumsum(np.fromiter(map(len, items), dtype=np.int64, count=len(items)), dtype=np.int64)
    return Texts(letters=np.frombuffer(b"".join(items), dtype=np.uint8), ends=ends)


def save(path: Path, columns: Columns) -> Columns:
    """Writes the file and maps it. Where it cannot be written, says so in a warning and gives the columns back as they are."""
    partial = path.with_suffix(f".{secrets.token_hex(6)}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(partial, columns)
        mapped = load(partial)  # before the move: without locks another builder's may take its place, not whole yet
        os.replace(partial, path)
    except OSError as error:
        with contextlib.suppress(OSError):  # there may be nothing to remove, or no folder
            partial.unlink()
        why = f"{path.parent}: {error.strerror or error}"  # the same each minute of a long scan: Python says it once
        warnings.warn(f"the index is not cached ({why}); set HJEPA_CACHE to a writable folder", stacklevel=2)
        return columns
    return mapped or columns


def load(path: Path) -> Columns | None:
    """The columns of a file, mapped; None for no file, one of another version, and a damaged one, which a warning names."""
    try:
        return _map(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except Exception as error:  # a damaged cache costs a new scan, not the run
        warnings.warn(f"index cache {path} is unreadable ({error}) and is made anew", stacklevel=1)  # said once, whoever asks
        return None


def _write(path: Path, columns: Columns) -> None:
    places, end = {}, 0
    for name, array in columns.arrays.items():
        start = _aligned(end)
        places[name] = [array.dtype.str, list(array.shape), start]
        end = start + array.nbytes
    text = json.dumps({"about": dict(columns.about), "places": places, "length": end}).encode()
    base = _aligned(HEAD.size + len(text))
    with open(path, "wb") as file:
        file.write(HEAD.pack(MAGIC, len(text), zlib.crc32(text)) + text)
        for name, array in columns.arrays.items():
            file.seek(base + places[name][2])
            file.write(np.ascontiguousarray(array).data)
        file.truncate(base + end)
        file.flush()
        os.fsync(file.fileno())  # else a machine that loses power may leave zeros for sizes, which no checksum covers


def _map(path: Path) -> Columns | None:
    whole = np.asarray(np.memmap(path, dtype=np.uint8, mode="r"))
    magic, length, checksum = HEAD.unpack(whole[: HEAD.size].tobytes())
    if magic != MAGIC:
        if magic.startswith(KIND):
            return None
        raise ValueError("it is no index")
    text = whole[HEAD.size : HEAD.size + length].tobytes()
    if zlib.crc32(text) != checksum:
        raise ValueError("its description is damaged")
    described = json.loads(text)
    body = whole[_aligned(HEAD.size + length) :]
    if len(body) != described["length"]:
        raise ValueError(f"it holds {len(body)} bytes of arrays, not {described['length']}")
    arrays = {}
    for name, (kind, shape, place) in described["places"].items():
        dtype = np.dtype(kind)
        count = int(np.prod(shape, dtype=np.int64))
        arrays[name] = body[place : place + count * dtype.itemsize].view(dtype).reshape(shape)
    return Columns(arrays=arrays, about=described["about"])


def _aligned(place: int) -> int:
    return -(-place // ALIGNMENT) * ALIGNMENT
