"""A background thread that works ahead of whoever consumes an iterator."""

import atexit
import contextlib
import os
import queue
import threading
from collections.abc import Iterator
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Ahead(Generic[Item], Iterator[Item]):
    """Iterates `items` on a thread of its own, at most `depth` items ahead. Exceptions reach the consumer in their place.

    It must be closed; one that is not is closed as the interpreter ends, whose threads may not be inside of a native library.
    """

    def __init__(self, items: Iterator[Item], depth: int) -> None:
        self._items = items
        self._queue: queue.Queue[tuple[bool, Item | BaseException]] = queue.Queue(depth)
        self._closed, self._ended = threading.Event(), threading.Event()
        self._process = os.getpid()
        self._thread = threading.Thread(target=self._work, name="hjepa-ahead", daemon=True)
        atexit.register(self.close)
        try:
            self._thread.start()
        except BaseException:  # where it was interrupted, the thread may run all the same, with nobody to close it
            self.close()
            raise

    def __next__(self) -> Item:
        ok, item = self._queue.get()
        if not ok:
            self._end_by(item)  # every later call ends alike
            assert isinstance(item, BaseException)
            try:
                raise item
            finally:
                del item  # else it holds, by its traceback, this frame, which holds it; and with them all that made it
        return item  # type: ignore[return-value]  # ok marks an Item

    def close(self) -> None:
        """Ends the thread; what it had made is dropped, and who waits for an item is told that there is none."""
        self._closed.set()
        if self._process != os.getpid():  # a forked process has not the thread
            return
        if threading.current_thread() is not self._thread:  # where garbage is collected, and with it an iterator nobody holds
            if self._thread.ident is not None:  # else it never ran, or is yet to find that this is closed
                self._ended.wait()  # join alone takes a thread for ended once it was interrupted (bpo-45274)
                self._thread.join()
            with self._queue.mutex:
                self._queue.queue.clear()
            self._end_by(StopIteration())
        atexit.unregister(self.close)  # not where this was interrupted

    def _end_by(self, end: Item | BaseException) -> None:
        with contextlib.suppress(queue.Full):  # another thread has closed this meanwhile
            self._queue.put_nowait((False, end))

    def _work(self) -> None:
        try:
            if not self._closed.is_set():
                self._make()
        finally:
            self._ended.set()

    def _make(self) -> None:
        try:
            for item in self._items:
                if not self._put((True, item)):
                    return
        except BaseException as error:  # not dropped: the consumer gets it
            self._put((False, error))
        else:
            self._put((False, StopIteration()))

    def _put(self, entry: tuple[bool, Item | BaseException]) -> bool:
        while not self._closed.is_set():
            try:
                self._queue.put(entry, timeout=0.1)  # seconds; a closed queue is noticed this late
                return True
            except queue.Full:
                continue
        return False
