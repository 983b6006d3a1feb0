"""What another thread has locked at a fork stays locked in the child, which waits for it for ever: that thread is not there.

So no process is forked while an image is rendered: oneDNN locks what it compiles, and Python before 3.12 locks PIL's contrast,
which is made of cached properties, for all threads. A data set's own code may be at a contrast, too, and is not waited for,
because it may wait for whoever forks: the child makes these locks anew.
"""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property

from PIL import ImageStat

_TURN, _RENDERING = threading.RLock(), threading.RLock()
"""Both are held while a process is forked."""


class OwnLock:
    """A lock that is made anew after a fork, where the old one may be held by a thread that was not forked along.

    The thread that holds it may take it again, as where an item of a data set is made of another's.
    """

    def __init__(self) -> None:
        self._lock, self._process = threading.RLock(), os.getpid()

    def __call__(self) -> "threading.RLock":
        """The lock to hold."""
        if self._process != os.getpid():
            self._lock, self._process = threading.RLock(), os.getpid()
        return self._lock


@contextmanager
def rendering() -> Iterator[None]:
    """Held for an image, by one thread at a time."""
    with _TURN:  # held by a fork that waits, which is then for one image and no longer
        pass
    with _RENDERING:
        yield


def _free_contrast() -> None:
    for value in vars(ImageStat.Stat).values():
        if isinstance(value, cached_property):
            vars(value)["lock"] = threading.RLock()


for _lock in (_RENDERING, _TURN):  # the last is taken first, and freed last
    # Ctrl-C may end a wait, and the process is forked all the same: what the renderer holds is then not free for release.
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)
if sys.version_info < (3, 12):
    os.register_at_fork(after_in_child=_free_contrast)
