"""Signals that ask a run to save a checkpoint and end: Ctrl-C, SIGTERM, and SIGUSR1, which schedulers send ahead of time."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class StopAskedError(Exception):
    """One of the signals came, in the middle of what can be done again."""


class StopRequest:
    """Remembers that one of the signals came."""

    def __init__(self) -> None:
        self.signal = 0
        """Number of the signal; 0 before one came."""

    def check(self) -> None:
        """Raises StopAskedError once a signal came."""
        if self.signal:
            raise StopAskedError

    @contextmanager
    def listening(self) -> Iterator[None]:
        """The first Ctrl-C asks for the end; the second acts as it would without us. SIGTERM and SIGUSR1 only ever ask: where a
        scheduler sends one to all processes of a job, torchrun hands it on to a rank that has it already.

        In another thread than the main one, as under Ray, no signal can be listened to: none asks for anything.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def stop(number: int, _: object) -> None:
            if number == signal.SIGINT:
                signal.signal(number, previous[signal.Signals(number)])
            self.signal = number  # nothing is printed here: the signal may have come in the middle of a print

        previous = {number: signal.getsignal(number) for number in SIGNALS}
        try:
            for number in previous:
                signal.signal(number, stop)
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
