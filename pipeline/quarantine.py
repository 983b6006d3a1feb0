"""Images that cannot be used: which they are, written down as they are found, and which image stands in for each.

Nothing is done for good images. A bad one is found when its batch fails, and from then on replaced before its batch is made.
What stands in for image i is the first good one of a keyed walk over its source (of a Mixture's the one it is of, whose share
so stays what its weight says), so it is the same on every rank, in every backend and after a resume, whether i was known to be
bad already or is found to be only now.
"""

import hashlib
import json
import logging
import os
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from hjepa.kernels import chance
from hjepa.pipeline.index import cache_folder
from hjepa.pipeline.mixture import Mixture
from hjepa.pipeline.recipe import is_number
from hjepa.pipeline.source import BadImage, Source

WALK = 0x62616421  # "bad!": keeps the walk's chance apart from the draws'
log = logging.getLogger("hjepa")


class DataError(RuntimeError):
    """Data that a run cannot go on with."""


class BadImageError(DataError):
    """An image cannot be used, and it is not to be replaced; the message names it and the reason."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return (
            f"cannot decode {self.path}: {self.reason}; repair or delete it, or let bad images be replaced "
            "(on_error='replace', in hjepa-train data.on_error=replace), then resume"
        )


class TooManyBadImagesError(DataError):
    """More images are bad than max_bad allows."""


class Quarantine:
    """The bad images of sources of these lengths, kept in a file of JSON lines that other ranks and later runs share.

    file: where each is written to (id, path, reason, source), and read from at the start, as far as its lines are of the
    sources with this fingerprint and will not pass: what could not be fetched is tried again by a later run. max_bad: share of
    the images beyond which the run is not what it was meant to be (one bad image is allowed, unless it is 0).

    Raises TooManyBadImagesError where the file has too many already.
    """

    def __init__(self, lengths: Sequence[int], fingerprint: str, file: Path, max_bad: float) -> None:
        if not is_number(max_bad) or not 0 <= max_bad <= 1:
            raise ValueError(f"max_bad={max_bad!r} is no share of the images; use 0 to 1, such as 0.01")
        if file.is_dir():
            raise ValueError(f"the list of bad images {file} is a folder; give a file, such as {file / 'bad_images.jsonl'}")
        self.file = file
        self._ends = list(accumulate(lengths))
        self._fingerprint = fingerprint
        # rounded, because 0.29 * 100 is a little less than 29
        self._limit = max(1, int(round(max_bad * self._ends[-1], 6))) if max_bad else 0
        self._max_bad = max_bad
        self._bad = [set[int]() for _ in lengths]
        self._noted: set[str] = set()
        self._read()
        self._check("as an earlier run found")

    def __len__(self) -> int:
        return sum(map(len, self._bad))

    def __contains__(self, index: int) -> bool:
        return index in self._bad[self._owner(index)]

    def add(self, index: int, path: str, reason: str, *, lasting: bool = True) -> None:
        """Takes image `index` out, and writes it down. Raises TooManyBadImagesError."""
        if index in self:
            return
        self._bad[self._owner(index)].add(index)
        self._write([{"id": index, "path": path, "reason": reason, "lasting": lasting}])
        log.warning("bad image %s: %s; replaced by another (list: %s)", path, reason, self.file)
        self._check(f"the last: {path}: {reason}")

    def note(self, left_out: Sequence[BadImage]) -> None:
        """Writes down, with no id, what was left out when the source was opened; it needs no replacement."""
        new = [image for image in left_out if image.path not in self._noted]
        self._noted.update(image.path for image in new)
        self._write([{"id": None, "path": image.path, "reason": image.reason} for image in new])

    def replace(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """[B] the same numbers where the images are good, others in place of the bad ones."""
        if not any(self._bad):
            return indices
        return np.array([self._stand_in(index) for index in indices.tolist()], dtype=np.int64)

    def _owner(self, index: int) -> int:
        """The number of the image's source."""
        return bisect_right(self._ends, index)

    def _stand_in(self, index: int) -> int:
        owner = self._owner(index)
        bad, start = self._bad[owner], self._ends[owner - 1] if owner else 0
        length = self._ends[owner] - start
        if len(bad) >= length:
            raise TooManyBadImagesError(f"all {length} images of a source are bad; see {self.file}")
        walked, step = index, 0
        while walked in bad:
            walked = start + int(chance.bits(chance.key(WALK, index), np.array(step)) % np.uint64(length))
            step += 1
        return walked

    def _check(self, why: str) -> None:
        if len(self) > self._limit:
            raise TooManyBadImagesError(
                f"{len(self)} of {self._ends[-1]} images are bad, more than max_bad={self._max_bad:g} allows, {why}; "
                f"see {self.file}, repair or delete them, or raise max_bad (in hjepa-train data.max_bad)"
            )

    def _write(self, entries: Sequence[dict[str, object]]) -> None:
        if not entries:
            return
        lines = "".join(json.dumps({**entry, "source": self._fingerprint}) + "\n" for entry in entries)
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with open(self.file, "a+b", buffering=0) as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - 1))
                torn = file.read(1) not in (b"", b"\n")  # by a full disk, or the machine's end
                file.write(("\n" * torn + lines).encode())  # one write: lines of several ranks do not mix
        except OSError as error:  # a run that survives bad images does not die of the list of them
            log.warning("cannot write the list of bad images %s: %s", self.file, error.strerror or error)

    def _read(self) -> None:
        try:
            lines = self.file.read_text(encoding="utf-8").split("\n")
        except (FileNotFoundError, NotADirectoryError):
            return
        for number, line in enumerate(lines, start=1):
            if not line or _is_torn(line):  # whatever it was is found once more
                continue
            try:
                entry = json.loads(line)
                index, path, owner = entry["id"], str(entry["path"]), entry["source"]
                lasting = index is not None and entry["lasting"]
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(
                    f"{self.file}, line {number}: not an entry of bad images ({error}); delete the line, or the file"
                ) from error
            if owner != self._fingerprint:
                continue
            if index is None:
                self._noted.add(path)
            elif lasting and index < self._ends[-1]:  # a user's own source may have become shorter under its fingerprint
                self._bad[self._owner(index)].add(index)


def _is_torn(line: str) -> bool:
    """Whether a line is one that a full disk or the machine's end cut off, perhaps with the next one behind it."""
    try:
        json.loads(line)
    except ValueError:
        return "\0" in line or line.startswith("{")  # zeros: what some disks have in place of what was written last
    return False


def open_quarantine(
    source: Source, on_error: Literal["replace", "raise"], max_bad: float, file: str | Path | None, *, is_first: bool
) -> Quarantine | None:
    """The quarantine that a Loader's options ask for, None where bad images are to end the run. Raises ValueError.

    is_first: whether this is the first rank, which alone writes down what was left out: all ranks leave out the same.
    """
    if on_error not in ("replace", "raise"):
        raise ValueError(f"on_error={on_error!r} is unknown; use 'replace' or 'raise'")
    if on_error == "raise":
        return None
    fingerprint = source.fingerprint()
    default = cache_folder() / "bad_images" / f"{hashlib.sha256(fingerprint.encode()).hexdigest()[:24]}.jsonl"
    lengths = source.lengths if isinstance(source, Mixture) else (len(source),)
    quarantine = Quarantine(lengths, fingerprint, default if file is None else Path(os.path.expanduser(file)), max_bad)
    if is_first:
        quarantine.note(source.bad)
    return quarantine
