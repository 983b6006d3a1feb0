"""Many files of which parts are read at random: the ones last used stay open, for a process may open only so many."""

import os
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from hjepa.pipeline.forks import OwnLock

KEPT = 32
"""Files that stay open; a process may open 1024 as a rule, and shards are often more."""


def short_names(files: Sequence[Path]) -> list[str]:
    """What keys call the files: by their names, or where two have one, by their paths from the folder that holds all."""
    names = [file.name for file in files]
    if len(set(names)) == len(names):
        return names
    root = os.path.commonpath([file.parent for file in files])
    return [os.path.relpath(file, root) for file in files]


class FirstSeen:
    """What files are when their source is opened: places in them mean nothing in files that take theirs."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = files
        self._first: dict[int, os.stat_result] = {}
        for number, file in enumerate(files):
            with suppress(OSError):  # said where it is read
                self._first[number] = os.stat(file)

    def check(self, number: int) -> None:
        """Raises OSError where the file is another than it was; one that was only touched is the same."""
        now = os.stat(self._files[number])
        first = self._first.setdefault(number, now)
        is_new = now.st_ino != first.st_ino and now.st_mtime_ns != first.st_mtime_ns
        if is_new or now.st_size != first.st_size:
            raise OSError("it was changed while it was in use; open the source anew")


class Handles:
    """Reads files by their numbers. Any thread may read or close; files that were closed are opened again when needed."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = files
        self._first_seen = FirstSeen(files)
        self._opened: OrderedDict[int, int] = OrderedDict()
        self._lock = OwnLock()

    def __len__(self) -> int:
        """Files that are open now."""
        return len(self._opened)

    def read(self, number: int, length: int, offset: int) -> bytes:
        """Bytes of a file; fewer where it ends. Raises OSError."""
        with self._lock():  # held while reading: a handle that is closed meanwhile may already be another file's
            was_open = number in self._opened
            try:
                return os.pread(self._handle(number), length, offset)
            except OSError:
                if not was_open:
                    raise
                with suppress(OSError):  # on a network's disk it may be stale, though the file is there
                    os.close(self._opened.pop(number))
                return os.pread(self._handle(number), length, offset)

    def close(self) -> None:
        """Closes all."""
        with self._lock():
            while self._opened:
                os.close(self._opened.popitem()[1])

    def _handle(self, number: int) -> int:
        if number not in self._opened:
            while len(self._opened) >= KEPT:
                os.close(self._opened.popitem(last=False)[1])
            self._first_seen.check(number)
            self._opened[number] = os.open(self._files[number], os.O_RDONLY)
        self._opened.move_to_end(number)
        return self._opened[number]
