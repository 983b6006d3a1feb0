"""Where the programs `hjepa` and `hjepa-train` start: Ctrl-C is answered from here on, not only once torch is loaded."""

import os
import sys
import threading
import warnings
from importlib import import_module

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""
SPINS = "3000"
"""How often one of torch's threads looks for the others' end before it sleeps. OpenMP's own 300 000 take whole time slices of
the cores from what would end the wait, wherever there is other work: docs/troubleshooting.md has what that costs."""


def commands() -> None:
    """The program `hjepa`."""
    _start("hjepa", "hjepa.commands")


def train() -> None:
    """The program `hjepa-train`."""
    _start("hjepa-train", "hjepa.cli")


def _start(program: str, module: str) -> None:
    def in_a_line(message: Warning | str, category: type, filename: str, lineno: int, line: str | None = None) -> str:
        return f"{program}: warning: {message}\n"

    warnings.formatwarning = in_a_line  # Python's own adds the place and a line of the source
    threading.excepthook = _end_of_thread
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)  # read when torch is loaded
    try:
        main = import_module(module).main
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
    main()


def _end_of_thread(ended: threading.ExceptHookArgs) -> None:
    """Says nothing of TensorBoard's thread: what ended it, as a full disk, is raised by the curves' next point."""
    if not type(ended.thread).__module__.startswith("tensorboard."):
        threading.__excepthook__(ended)
