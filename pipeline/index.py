"""What is known of every image of a source before a run: size, orientation, label and key, scanned once and cached.

Boxes are drawn before decoding, so sizes must be known; and damage that a header shows is found before the run, not in it.
The cache lies outside the user's data and is mapped: a million images open in a fraction of a second, for all ranks at once.
"""

import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hjepa.pipeline import columns
from hjepa.pipeline.columns import Columns, Texts, texts
from hjepa.pipeline.header import too_large
from hjepa.pipeline.recipe import is_number
from hjepa.pipeline.scan import Scan
from hjepa.pipeline.source import BadImage, Encoded, Samples

# N images in use, R rows of the index: the images, and those that were refused
CHECKED_FILES = 100_000
"""Up to this many files on a disk each one's length and time of change are compared when they are opened again."""
LEFT = 86_400
"""Seconds after which nobody is at work on what is half made in the cache any more."""


@dataclass(frozen=True, kw_only=True)
class Index:
    """The images of a source by number."""

    stored: Columns
    """Arrays [R] height, width, orientation, label, length, ... and what they were made from."""
    rows: npt.NDArray[np.int64]
    """[N] row of each image in use."""
    bad: tuple[BadImage, ...]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return tuple(self.stored.about["classes"])

    def column(self, name: str) -> npt.NDArray[Any]:
        """An array [R]."""
        return self.stored.arrays[name]

    def keys(self, rows: npt.NDArray[np.int64]) -> list[bytes]:
        """The keys of some rows, as the file system's bytes."""
        return _texts(self.stored, "key").take(rows)

    def samples(self, rows: npt.NDArray[np.int64], encoded: Encoded, failures: Mapping[int, str] | None = None) -> Samples:
        """The rows of a batch as Samples, given their images."""
        return Samples(
            encoded=encoded,
            sizes=np.stack([self.column("height")[rows], self.column("width")[rows]], axis=-1),
            orientation=self.column("orientation")[rows],
            labels=self.column("label")[rows].astype(np.int64),
            keys=tuple(os.fsdecode(key) for key in self.keys(rows)),
            failures=failures or {},
        )

    def fingerprint(self) -> str:
        """Identifies the sequence of images (key and length of each), wherever they lie."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        """It is in every state of a loader, of which there may be one per batch."""
        whole = str(self.stored.about["fingerprint"])
        if len(self.rows) == len(self.stored.arrays["good"]):
            return whole
        return hashlib.sha256(whole.encode() + self.rows.tobytes()).hexdigest()[:16]


class Indexed:
    """What an index answers for the Source whose images it lists; how they are fetched is the source's own."""

    __slots__ = ()
    index: Index

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, by their numbers; empty without labels."""
        return self.index.classes

    @property
    def bad(self) -> Sequence[BadImage]:
        """What looked like an image but was left out, and what is wrong with the file that held it."""
        return self.index.bad

    def __len__(self) -> int:
        return len(self.index)

    def fingerprint(self) -> str:
        """Identifies the sequence of images by the key and length of each, wherever they lie."""
        return self.index.fingerprint()


def cache_folder() -> Path:
    """$HJEPA_CACHE, else $XDG_CACHE_HOME/hjepa, else ~/.cache/hjepa; for a user without a home one among temporary folders."""
    if os.environ.get("HJEPA_CACHE"):
        return Path(os.path.expanduser(os.environ["HJEPA_CACHE"]))
    home = os.path.expanduser("~")
    # without an entry in passwd: "~" as it is, or / as docker sets $HOME for such a user, who cannot write there
    if home in ("~", "/") and not os.environ.get("XDG_CACHE_HOME"):
        return Path(tempfile.gettempdir()) / f"hjepa-{os.getuid()}"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path(home, ".cache")) / "hjepa"


def cache_file(kind: str, place: bytes) -> Path:
    """Where the index of such a source at that place is cached."""
    return cache_folder() / "index" / f"{kind}-{hashlib.sha256(place).hexdigest()[:24]}.columns"


def remove_left(place: Path, pattern: str) -> None:
    """Removes the folders there that processes left half made when they were killed."""
    for folder in place.glob(pattern):
        with suppress(OSError):  # another process may be at the same
            if time.time() - folder.stat().st_mtime > LEFT:
                shutil.rmtree(folder)


def reuse(
    scan: Scan, keys: Sequence[bytes], length: npt.NDArray[np.int64], changed_ns: npt.NDArray[np.int64], stored: Columns
) -> npt.NDArray[np.int64]:
    """Fills a scan with the stored headers of files whose length and time of change are as stored; returns the other rows."""
    arrays = stored.arrays
    place = {key: row for row, key in enumerate(_texts(stored, "key").all())}
    old = np.fromiter((place.get(key, -1) for key in keys), dtype=np.int64, count=len(keys))
    is_same = (old >= 0) & (arrays["length"][old] == length) & (arrays["changed_ns"][old] == changed_ns)
    is_same &= ~np.isin(old, stored.about.get("passing", []))
    rows = np.nonzero(is_same)[0]
    scan.height[rows], scan.width[rows] = arrays["height"][old[rows]], arrays["width"][old[rows]]
    scan.orientation[rows] = arrays["orientation"][old[rows]]
    reasons = {os.fsencode(path): reason for path, reason in stored.about["bad"]}
    for row in rows[scan.height[rows] == 0].tolist():
        scan.reasons[row] = reasons[keys[row]]
    return np.nonzero(~is_same)[0]


def build(
    *,
    keys: Sequence[bytes],
    length: npt.NDArray[np.int64],
    labels: npt.NDArray[np.int64],
    classes: Sequence[str],
    scan: Scan,
    more: Mapping[str, npt.NDArray[Any]],
    made_from: Any,
    bad: Sequence[BadImage] = (),
) -> Columns:
    """The columns of an index: one row per key, `more` arrays of the source's own, and what was refused elsewhere (`bad`).

    Rows that the scan has not come to are passing ones.
    """
    good = np.nonzero(scan.height)[0]
    digest = hashlib.sha256(b"\0".join(keys[row] for row in good.tolist()))
    digest.update(length[good].tobytes())
    key = texts(keys)
    arrays: dict[str, npt.NDArray[Any]] = {
        "height": scan.height,
        "width": scan.width,
        "orientation": scan.orientation,
        "length": length,
        "label": labels.astype(np.int32),
        "good": good,
        "key_letters": key.letters,
        "key_ends": key.ends,
    }
    refused = [BadImage(path=os.fsdecode(keys[row]), reason=scan.reasons[row]) for row in sorted(scan.reasons)]
    about = {
        "made_from": made_from,
        "classes": list(classes),
        "bad": [[image.path, image.reason] for image in [*refused, *bad]],
        "fingerprint": digest.hexdigest()[:16],
        "passing": [*scan.passing, *(row for row in np.nonzero(scan.height == 0)[0].tolist() if row not in scan.reasons)],
    }
    return Columns(arrays=arrays | dict(more), about=about)


def cached(file: Path, fits: Callable[[Columns], bool], make: Callable[[Columns | None], Columns]) -> Columns:
    """The cached columns where they fit, or those that `make` makes, for which it gets the cached ones that do not fit."""
    stored = load(file, fits)
    if stored is None:
        with _one_builder(file):
            stored = load(file, fits) or columns.save(file, make(columns.load(file)))
    return stored


def load(file: Path, fits: Callable[[Columns], bool] = lambda stored: True) -> Columns | None:
    """The cached columns; None for none, for some that do not fit, or where images could not be read when they were made."""
    stored = columns.load(file)
    return stored if stored is not None and not stored.about.get("passing") and fits(stored) else None


@contextmanager
def _one_builder(file: Path) -> Iterator[None]:
    """Lets one process at a time build this index: the ranks of a machine wait for the first, and find it built."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = open(file.with_suffix(".lock"), "w")  # noqa: SIM115  # closed below
    except OSError:  # nothing can be cached either, which columns.save says: every process builds its own
        yield
        return
    with lock:
        with suppress(OSError):  # a file system without locks: the index is built more than once, which does no harm
            fcntl.flock(lock, fcntl.LOCK_EX)
            for left in file.parent.glob(f"{file.stem}.*.partial"):  # by a builder that was killed: there is no other now
                left.unlink()
        yield


def in_use(stored: Columns, max_pixels: int, name: str) -> Index:
    """The index of `name` with its images of at most max_pixels. Raises ValueError where no image is left."""
    if not is_number(max_pixels) or max_pixels < 1:
        raise ValueError(f"max_pixels={max_pixels!r} leaves no image; use 1 or more")
    rows = stored.arrays["good"]
    bad = [BadImage(path=path, reason=reason) for path, reason in stored.about["bad"]]
    height, width = stored.arrays["height"], stored.arrays["width"]
    large = np.nonzero(height.astype(np.int64) * width > max_pixels)[0]
    if len(large):
        keys = _texts(stored, "key").take(large)
        sizes = zip(height[large].tolist(), width[large].tolist(), strict=True)
        reasons = (too_large(*size, max_pixels) for size in sizes)
        bad += [BadImage(path=os.fsdecode(key), reason=reason) for key, reason in zip(keys, reasons, strict=True)]
        rows = np.setdiff1d(rows, large)
    if not len(rows):
        if not bad:
            raise ValueError(f"{name} has no images")
        raise ValueError(f"no image of {name} can be used; the first: {bad[0].path}: {bad[0].reason}")
    return Index(stored=stored, rows=rows, bad=tuple(bad))


def _texts(stored: Columns, name: str) -> Texts:
    return Texts(letters=stored.arrays[f"{name}_letters"], ends=stored.arrays[f"{name}_ends"])
