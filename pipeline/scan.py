"""The scan of the headers of many images, by threads: what was found where; a long one is told of, and kept as it goes on."""

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from hjepa.pipeline.header import Header

# R rows of the index that is made: the images, and those that are refused
Progress: TypeAlias = Callable[[int, int], None]
"""Told (headers read, headers to read)."""
AT_ONCE = 64
"""Headers that a thread reads before it reports."""
KEEP_SECONDS = 60.0
"""A scan that is broken off loses the headers of so many seconds, or more where it takes long to keep them:"""
KEEP_SHARE = 20
"""Times as long as that takes it reads on before it keeps them again."""
SAY_SECONDS = 30.0
"""How often the log says how far a scan is that nobody else tells of."""
log = logging.getLogger("hjepa")


@dataclass(frozen=True, kw_only=True, slots=True)
class Scan:
    """What a header scan found in R places."""

    height: npt.NDArray[np.int32]
    """[R] rows as stored; 0 for an image that is refused."""
    width: npt.NDArray[np.int32]
    """[R]"""
    orientation: npt.NDArray[np.uint8]
    """[R]"""
    reasons: dict[int, str] = field(default_factory=dict)
    """Row -> why it is refused."""
    passing: list[int] = field(default_factory=list)
    """Refused rows whose files could not even be read: they are tried again whenever the source is opened."""

    def put(self, row: int, header: Header) -> None:
        """Enters one header."""
        self.height[row], self.width[row], self.orientation[row] = header.height, header.width, header.orientation
        if header.reason:
            self.reasons[row] = header.reason
        if header.passing:
            self.passing.append(row)


def empty_scan(count: int) -> Scan:
    """A scan of that many places, not filled yet."""
    return Scan(
        height=np.zeros(count, dtype=np.int32),
        width=np.zeros(count, dtype=np.int32),
        orientation=np.ones(count, dtype=np.uint8),
    )


def joined(parts: Sequence[Scan]) -> Scan:
    """One scan of the places of several."""
    starts = np.cumsum([0, *(len(part.height) for part in parts)]).tolist()
    offset = list(zip(starts, parts, strict=False))
    return Scan(
        height=np.concatenate([part.height for part in parts]),
        width=np.concatenate([part.width for part in parts]),
        orientation=np.concatenate([part.orientation for part in parts]),
        reasons={start + row: reason for start, part in offset for row, reason in part.reasons.items()},
        passing=[start + row for start, part in offset for row in part.passing],
    )


def in_log(name: str) -> Progress:
    """Says in the log how far a scan is, if it takes long: minutes without a word look like a run that hangs."""
    said = time.monotonic()

    def tell(done: int, total: int) -> None:
        nonlocal said
        if time.monotonic() - said >= SAY_SECONDS:
            said = time.monotonic()
            log.warning("reading the headers of %s, which is done once: %d of %d", name, done, total)

    return tell


def scan_headers(
    scan: Scan,
    rows: npt.NDArray[np.int64],
    read: Callable[[int], Header],
    *,
    num_workers: int,
    progress: Progress | None,
    keep: Callable[[], object] | None = None,
) -> None:
    """Fills some rows of a scan: `read` gives the header at a row, on any of the threads. keep: saves what is filled so far."""

    def read_some(some: npt.NDArray[np.int64]) -> list[Header]:
        return [read(row) for row in some.tolist()]

    parts = [rows[start : start + AT_ONCE] for start in range(0, len(rows), AT_ONCE)]
    done, due = 0, time.monotonic() + KEEP_SECONDS
    pool = ThreadPoolExecutor(max(1, num_workers), thread_name_prefix="hjepa-index")
    try:
        for part, headers in zip(parts, pool.map(read_some, parts), strict=True):
            for row, header in zip(part.tolist(), headers, strict=True):
                scan.put(row, header)
            done += len(part)
            if progress:
                progress(done, len(rows))
            if keep and (start := time.monotonic()) >= due:
                keep()
                end = time.monotonic()
                due = end + max(KEEP_SECONDS, KEEP_SHARE * (end - start))
    finally:
        pool.shutdown(cancel_futures=True)  # "with" reads first what was handed out, and Ctrl-C waits for it
