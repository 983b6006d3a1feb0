"""How every command of hjepa ends: a user's mistake with one clear message and exit code 2, a failure with 1, no traceback."""

import os
import re
import shlex
import sys
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, NoReturn, TypeAlias, cast

import typer

from hjepa.start import INTERRUPTED

MISTAKE, FAILURE = 2, 1
UsageError = cast("type[Exception]", typer.BadParameter.__mro__[1])
"""What the command line's parser raises; typer does not export it."""

LIMITS = {
    r"DataLoader worker \(.*(killed by signal: Killed|exited unexpectedly)": (
        "as where memory runs out: use fewer workers, smaller batches, or --pipeline dali, which has threads, then resume"
    ),
    r"can't start new thread|Resource temporarily unavailable": (
        "no more threads and processes are allowed here: raise the limit (ulimit -u, ulimit -v, a container's pids), or use "
        "fewer workers, then resume"
    ),
}
"""What is behind the bare words of torch, Python and the system where a limit of the machine or of the job is met."""


def show_version(asked: bool) -> None:
    """The option --version: prints it and ends."""
    if asked:
        print(f"hjepa {version('hjepa')}")
        raise typer.Exit


Version: TypeAlias = Annotated[bool, typer.Option("--version", callback=show_version, is_eager=True, help="Show the version.")]
"""For every command line's first function."""


def not_empty(option: str, place: str) -> str:
    """The place that an option names. Raises ValueError where it is empty, as that of a shell's variable that is not set."""
    if not place:
        raise ValueError(f"{option} is empty; give a folder, . for the current one, or leave it out")
    return place


def can_be_written(option: str, file: Path | None) -> None:
    """Raises ValueError where the file that an option names has no folder to lie in, or one that is read-only: before the work,
    not after it."""
    if file is None:
        return
    if file.is_dir():
        raise ValueError(f"{option} {file} is a folder; give a file in it")
    if not file.parent.is_dir():
        raise ValueError(f"{option} {file}: there is no folder {file.parent}; make it, or give another place")
    if not os.access(file if file.exists() else file.parent, os.W_OK):
        raise ValueError(f"{option} {file} cannot be written (it is read-only); give a file in another folder")


def write_text(option: str, file: Path, text: str) -> None:
    """Writes what a command found to the file that an option names. Raises OSError, with the place, as of a full disk."""
    try:
        file.write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError as error:  # which names no file where only writing fails
        raise OSError(
            f"cannot write {option} {file} ({error.strerror}); free some space there, or give a file in another folder"
        ) from error


def run_command(app: typer.Typer, name: str) -> None:
    """Runs a command line and turns what went wrong into a message and an exit code."""
    # a picture has boxes for the letters that its font lacks, as in a Japanese file's name: nothing that a user could mend
    warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from", UserWarning)
    # --batch_size is --batch-size
    arguments = [re.sub(r"^--[^=]+", lambda flag: flag[0].replace("_", "-"), argument) for argument in sys.argv[1:]]
    try:
        # its name is said here, where python -m and -c would have another; the code is typer.Exit's, which may be of Ctrl-C
        code = app(arguments, prog_name=name.split()[0], standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except UsageError as error:
        _fail(name, error.format_message(), MISTAKE)  # type: ignore[attr-defined]  # of click's exceptions
    except (ValueError, FileNotFoundError) as error:  # SettingsError, CheckpointError and the loaders' checks among them
        _fail(name, error, MISTAKE)
    except (OSError, RuntimeError, MemoryError) as error:  # DataError among them; Python's own MemoryError has no words
        _fail(name, _with_advice(f"{error}" or "out of memory"), FAILURE)
    if code == INTERRUPTED:
        _fail(name, "interrupted", INTERRUPTED)
    if code:
        sys.exit(code)


def _with_advice(message: str) -> str:
    advice = next((advice for words, advice in LIMITS.items() if re.search(words, message)), "")
    return f"{message.rstrip(' .')} ({advice})" if advice else message


def _fail(name: str, error: object, code: int) -> NoReturn:
    print(f"{name}: {error}", file=sys.stderr)
    sys.exit(code)


def command_line() -> str:
    """The call of `hjepa-train` that was given, without its own --resume."""
    arguments = iter(sys.argv[1:])
    kept = []
    for argument in arguments:
        if argument == "--resume":
            next(arguments, None)
        elif not argument.startswith("--resume="):
            kept.append(argument)
    return f"{_program()} {shlex.join(kept)}".rstrip()


def _program() -> str:
    """hjepa-train as it was started: a single process in place of several would train on smaller batches."""
    ranks, here = (int(os.environ.get(name, 1)) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"))
    if ranks == 1:
        return "hjepa-train"
    machines = "" if ranks == here else f"--nnodes {ranks // here} ... "
    return f"torchrun {machines}--nproc-per-node {here} $(which hjepa-train)"
