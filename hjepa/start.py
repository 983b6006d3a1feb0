"""Where the programs `hjepa` and `hjepa-train` start: Ctrl-C is answered from here on, not only once torch is loaded."""

import sys
from importlib import import_module

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""


def commands() -> None:
    """The program `hjepa`."""
    _start("hjepa", "hjepa.commands")


def train() -> None:
    """The program `hjepa-train`."""
    _start("hjepa-train", "hjepa.cli")


def _start(program: str, module: str) -> None:
    try:
        main = import_module(module).main
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
    main()
