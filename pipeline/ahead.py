"""A background thread that works ahead of whoever consumes an iterator."""

import queue
import threading
from collections.abc import Iterator
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Ahead(Generic[Item], Iterator[Item]):
    """Iterates `items` on a thread of its own, at most `depth` items ahead. Exceptions reach the consumer in their place."""

    def __init__(self, items: Iterator[Item], depth: int) -> None:
        self._items = items
        self._queue: queue.Queue[tuple[bool, Item | BaseException]] = queue.Queue(depth)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._work, name="hjepa-ahead", daemon=True)
        self._thread.start()

    def __next__(self) -> Item:
        ok, item = self._queue.get()
        if not ok:
            self._queue.put((ok, item))  # every later call ends alike
            assert isinstance(item, BaseException)
            raise item
        return item  # type: ignore[return-value]  # ok marks an Item

    def close(self) -> None:
        """Ends the thread; what it had made is dropped."""
        self._closed.set()
        if threading.current_thread() is not self._thread:  # where garbage is collected, and with it an iterator nobody holds
            self._thread.join()

    def _work(self) -> None:
        try:
            for item in self._items:
                if not self._put((True, item)):
                    return
            end: BaseException = StopIteration()
        except BaseException as error:  # not dropped: the consumer gets it
            end = error
        self._put((False, end))

    def _put(self, entry: tuple[bool, Item | BaseException]) -> bool:
        while not self._closed.is_set():
            try:
                self._queue.put(entry, timeout=0.1)  # seconds; a closed queue is noticed this late
                return True
            except queue.Full:
                continue
        return False
