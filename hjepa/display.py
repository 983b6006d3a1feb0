"""What the terminal shows: a live bar while a run works, its parameters before and its results after."""

import logging
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

from rich.console import Console
from rich.file_proxy import FileProxy
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""What a terminal obeys in place of showing it, but for a tab and the end of a line."""
QUIET_SECONDS = 10.0
"""Where there is no terminal, one line of progress per this many seconds, beside the first and the last step's."""


class Display:
    """A progress bar on a terminal; plain lines anywhere else. One task at a time.

    What is only told on the way ends no work where it cannot be written, as where a job's output lies on a full disk; a table
    is a result, whose loss is an OSError.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
        )
        self._task: TaskID | None = None
        self._description = ""
        self._spoke = 0.0
        self._is_lost = False

    def say(self, text: str) -> None:
        """Prints one line."""
        with self._lossy():
            self.console.print(self.printable(text), markup=False, soft_wrap=True)

    def printable(self, text: str) -> str:
        """The text with \\x1b and the like for what this terminal would obey or cannot show: no file's name may end a run."""
        shown = CONTROLS.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
        return shown.encode(self.console.encoding, "backslashreplace").decode(self.console.encoding)

    def show(self, description: str, done: int, total: int, note: str = "") -> None:
        """Moves the bar; another description starts another bar."""
        description, note = self.printable(description), self.printable(note)
        if self.console.is_terminal:
            with self._lossy():
                if self._task is None or description != self._description:
                    self.clear()
                    self._progress.start()
                    self._task = self._progress.add_task(self._cut(description, total, note), total=total, note=note)
                self._progress.update(self._task, completed=done, total=total, note=note)
        elif description != self._description or time.monotonic() - self._spoke > QUIET_SECONDS or done == total:
            self._spoke = time.monotonic()
            self.say(f"{description}: {done}/{total} {note}".rstrip())
        self._description = description

    def _cut(self, description: str, total: int, note: str) -> str:
        """The description, without its end where counters and times would not fit beside it."""
        room = max(self.console.width - len(f" {'━' * 10} {total}/{total} {note} 0:00:00 0:00:00"), 16)
        return description if len(description) <= room else f"{description[: room - 1]}…"

    def clear(self) -> None:
        """Takes the bar away."""
        if self._task is not None:
            self._progress.remove_task(self._task)
            self._progress.stop()
            self._task = None
        self._description = ""

    def table(self, title: str, rows: Mapping[str, str]) -> None:
        """Prints a table of names and values."""
        table = Table(title=Text(self.printable(title)), show_header=False, title_justify="left")
        table.add_column(style="bold")
        table.add_column(overflow="fold")
        for name, value in rows.items():
            table.add_row(name, Text(self.printable(value)))
        try:
            self.console.print(table)
        except OSError as error:
            raise OSError(f"cannot write the output ({error.strerror or error}); free some space where it goes") from error

    @contextmanager
    def _lossy(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if not self._is_lost:
                self._is_lost = True
                with suppress(OSError):  # both may go to one file
                    print(f"cannot write the output ({error.strerror or error}); the work goes on", file=sys.stderr)

    def __enter__(self) -> "Display":
        self._handler = DisplayHandler(self)
        logging.getLogger("hjepa").addHandler(self._handler)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger("hjepa").removeHandler(self._handler)
        self.clear()


def _write_past_the_bar() -> None:
    """In a forked worker: what is printed while a bar is shown goes through it, and a worker that warns of an image would wait
    for the bar's lock for ever, where the thread that draws it held it just then."""
    for name in ("stdout", "stderr"):
        if isinstance(stream := getattr(sys, name), FileProxy):
            setattr(sys, name, stream.rich_proxied_file)


os.register_at_fork(after_in_child=_write_past_the_bar)


class DisplayHandler(logging.Handler):
    """Shows what hjepa's own log says, such as a bad image that was replaced, above the bar."""

    def __init__(self, display: Display) -> None:
        super().__init__()
        self._display = display

    def emit(self, record: logging.LogRecord) -> None:
        """See logging.Handler."""
        self._display.say(self.format(record))
