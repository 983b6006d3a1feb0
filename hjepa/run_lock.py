"""One run at a time in a folder: a lock that goes with the process which holds it, however that ends."""

import fcntl
import logging
import os
import socket
from contextlib import suppress
from pathlib import Path

LOCK = ".lock"
"""File in a run's folder that its first rank holds, and in which stands who that is."""
log = logging.getLogger("hjepa")


class RunLock:
    """Keeps a second run, as of a job that was submitted twice, out of a folder; use it as a context manager."""

    def __init__(self) -> None:
        self._held: dict[Path, int] = {}
        self._without: set[Path] = set()
        # A worker that was forked would hold it beyond the life of a run that is killed.
        os.register_at_fork(after_in_child=self._forget)

    def take(self, folder: Path) -> None:
        """Holds the folder, if it does not yet. Raises ValueError where another run does."""
        file = folder / LOCK
        if file in self._held or file in self._without:
            return
        try:
            handle = _lock(file)
        except BlockingIOError:
            raise ValueError(
                f"another run is under way in {folder} ({_holder(file)}); wait for its end or stop it, or use another folder"
            ) from None
        except OSError as error:  # some disks of networks have no locks, which is no reason not to train
            self._without.add(file)  # a run that goes on asks for its folder twice
            log.warning("%s cannot be locked (%s): a second run in this folder would not be noticed", file, error.strerror)
            return
        self._held[file] = handle
        with suppress(OSError):  # on a full disk it is held all the same
            os.truncate(handle, 0)
            os.write(handle, f"process {os.getpid()} on {socket.gethostname()}".encode())

    def release(self) -> None:
        """Leaves the folder to others, without a trace."""
        while self._held:
            file, handle = self._held.popitem()
            with suppress(OSError):
                if _is_file(handle, file):
                    file.unlink()  # before the lock ends: after that the file may be another run's
            os.close(handle)

    def _forget(self) -> None:
        while self._held:
            os.close(self._held.popitem()[1])

    def __enter__(self) -> "RunLock":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def _lock(file: Path) -> int:
    """A handle of the file, locked. Raises BlockingIOError where another holds it, and OSError where it cannot be locked."""
    while True:
        handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_file(handle, file):  # and not one that its holder has deleted meanwhile
                return handle
        except OSError:
            os.close(handle)
            raise
        os.close(handle)


def _is_file(handle: int, file: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(file))
    except FileNotFoundError:
        return False


def _holder(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8") or "a process that has just begun"
    except OSError as error:
        return f"{file}: {error.strerror}"
