"""Ctrl-C ends every program with one line and exit code 130, whatever it was doing."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer

from hjepa import exits, start

ROOT = Path(exits.__file__).resolve().parents[1]
SIZES = ("data.image_size", "data.multicrop.global_crop_size", "model.encoder.width", "model.embed_dim")
SLOW = [f"{name}=240" for name in SIZES]
"""A network that takes seconds for a few images."""
REFERENCE = ["--pipeline", "torchvision", "--num-workers", "0", "--device", "cpu", "--batch-size", "1"]


def test_interrupt_ends_a_program_with_a_word_and_130(labelled: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").symlink_to(labelled)
    doctor = ["doctor", "photos", "--backend", "torchvision", "--seconds", "60"]
    assert interrupt("commands", doctor, "running hjepa with ", tmp_path, ROOT) == (130, "hjepa: interrupted\n")


def test_interrupt_before_the_first_step_leaves_a_checkpoint_to_go_on_from(labelled: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").symlink_to(labelled)
    arguments = ["--data-path", "photos", "--output-dir", "out", *REFERENCE, *SLOW]
    assert interrupt("train", arguments, "evaluation after 0 epochs: ", tmp_path, ROOT) == (130, "")
    assert (tmp_path / "out" / "checkpoints" / "latest.pt").exists()


@pytest.mark.parametrize(
    ("program", "function", "arguments"), [("hjepa-train", "train", []), ("hjepa", "commands", ["view"])], ids=["train", "view"]
)
def test_interrupt_while_torch_is_loading_shows_no_traceback(
    program: str, function: str, arguments: list[str], tmp_path: Path
) -> None:
    (tmp_path / "torch.py").write_text("import time\nprint('loading', flush=True)\ntime.sleep(60)\n")
    assert interrupt(function, arguments, "loading", tmp_path, tmp_path, ROOT) == (130, f"{program}: interrupted\n")


def test_warning_of_a_program_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "cautious.py").write_text("import warnings\ndef main():\n    warnings.warn('mind this')\n")
    script = "from hjepa import start; start._start('hjepa', 'cautious')"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    ended = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert ended.stderr == "hjepa: warning: mind this\n"


@pytest.mark.parametrize(("asked", "spins"), [({}, "3000"), ({"OMP_WAIT_POLICY": "passive"}, "0")], ids=str)
def test_torchs_threads_sleep_soon_unless_they_are_told_otherwise(asked: dict[str, str], spins: str, tmp_path: Path) -> None:
    (tmp_path / "threads.py").write_text("import torch\ndef main(): pass\n")
    script = "from hjepa.start import _start; _start('hjepa', 'threads')"  # as programs do: hjepa's own names load torch
    own = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    environment = {**own, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)]), "OMP_DISPLAY_ENV": "verbose", **asked}
    ended = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert f"GOMP_SPINCOUNT = '{spins}'" in ended.stderr


def test_file_that_is_read_only_or_would_lie_in_such_a_folder_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new, old = tmp_path / "new.json", tmp_path / "old.json"
    old.touch()
    for file, read_only in ((new, tmp_path), (old, old)):
        exits.can_be_written("--json", file)
        with monkeypatch.context() as patched:  # nothing is read-only to root, who may run this
            patched.setattr(os, "access", lambda place, _, read_only=read_only: place != read_only)
            with pytest.raises(ValueError, match=f"--json {file} cannot be written"):
                exits.can_be_written("--json", file)


@pytest.mark.parametrize(
    ("message", "advice"),
    [
        ("DataLoader worker (pid 7) is killed by signal: Killed. ", "(as where memory runs out: use fewer workers"),
        ("can't start new thread", "(no more threads and processes are allowed here: raise the limit (ulimit -u"),
        ("no advice is known", ""),
    ],
)
def test_limit_of_the_machine_says_what_to_do(
    message: str, advice: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    app = typer.Typer()

    @app.command()
    def fail() -> None:
        raise RuntimeError(message)

    monkeypatch.setattr(sys, "argv", ["hjepa"])
    with pytest.raises(SystemExit):
        exits.run_command(app, "hjepa")
    errors = capsys.readouterr().err
    assert errors.startswith(f"hjepa: {message.rstrip(' .')} {advice}".rstrip())
    assert errors.count("\n") == 1


def test_full_disk_under_a_file_that_was_asked_for_names_it() -> None:
    with pytest.raises(OSError, match=r"cannot write --json /dev/full \(No space left on device\); free some space there"):
        exits.write_text("--json", Path("/dev/full"), "{}")


def test_full_disk_under_tensorboard_is_said_once_and_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "full.py").write_text(
        """
import resource, signal, typer
from hjepa.exits import run_command
from torch.utils.tensorboard import SummaryWriter
app = typer.Typer()
@app.command()
def write():
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    writer = SummaryWriter("logs")
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))  # bytes
    writer.add_text("long", "word " * 100)
    writer.close()
main = lambda: run_command(app, "hjepa")
"""
    )
    script = "from hjepa import start; start._start('hjepa', 'full')"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    command = [sys.executable, "-c", script]
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (1, "hjepa: [Errno 27] File too large\n")


def interrupt(function: str, arguments: list[str], said: str, folder: Path, *search: Path) -> tuple[int, str]:
    """Sends a program SIGINT once it has printed a line that begins so; its exit code and standard error."""
    with subprocess.Popen(
        [sys.executable, "-c", f"from hjepa.start import {function}; {function}()", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, search)), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as run:
        assert run.stdout is not None
        assert run.stderr is not None
        assert any(line.startswith(said) for line in run.stdout)
        run.send_signal(signal.SIGINT)
        errors = run.stderr.read()
    return run.returncode, errors


def interrupted() -> None:
    raise KeyboardInterrupt


def aborted() -> None:
    raise typer.Abort


def left() -> None:
    raise typer.Exit(start.INTERRUPTED)


@pytest.mark.parametrize("command", [interrupted, aborted, left])
def test_interrupt_is_known_in_every_form_that_a_parser_gives_it(
    command: Callable[[], None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    app = typer.Typer()
    app.command()(command)
    monkeypatch.setattr(sys, "argv", ["hjepa"])
    with pytest.raises(SystemExit) as stop:
        exits.run_command(app, "hjepa")
    assert (stop.value.code, capsys.readouterr().err) == (130, "hjepa: interrupted\n")


@pytest.mark.parametrize(
    ("ranks", "here", "program"),
    [
        ("1", "1", "hjepa-train"),
        ("2", "2", "torchrun --nproc-per-node 2 $(which hjepa-train)"),
        ("16", "8", "torchrun --nnodes 2 ... --nproc-per-node 8 $(which hjepa-train)"),
    ],
)
def test_call_to_go_on_starts_as_many_ranks_as_there_were(
    ranks: str, here: str, program: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", ranks)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", here)
    monkeypatch.setattr(sys, "argv", ["hjepa-train", "--seed", "3", "--resume", "auto"])
    assert exits.command_line() == f"{program} --seed 3"
