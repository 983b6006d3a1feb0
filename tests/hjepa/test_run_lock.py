"""Of two runs in one folder the second ends before it writes; no lock outlives its run, nor keeps one from a disk without."""

import errno
import fcntl
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hjepa import cli
from hjepa.run_lock import LOCK, RunLock
from tests.hjepa.calling import Call
from tests.hjepa.test_cli import REFERENCE, TINY

ROOT = Path(cli.__file__).resolve().parents[1]
HOLD = """
import os, time
from pathlib import Path
from hjepa.run_lock import RunLock
lock = RunLock()
lock.take(Path())
if not os.fork():
    print(os.getpid(), flush=True)  # the worker, once it has let go of the lock
time.sleep(60)
"""


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Call:
    monkeypatch.chdir(tmp_path)
    return Call("hjepa-train", cli.main, monkeypatch, capsys)


def contents(folder: Path) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("resume", ["auto", "out/checkpoints/latest.pt"])
def test_second_run_in_a_folder_is_refused_and_writes_nothing(resume: str, call: Call, labelled: Path, tmp_path: Path) -> None:
    command = ["--data_path", labelled, "--output_dir", "out", *REFERENCE, *TINY]
    assert call(*command)[0] == 0
    assert not (tmp_path / "out" / LOCK).exists()
    with RunLock() as lock:
        lock.take(tmp_path / "out")
        before = contents(tmp_path)
        code, _, errors = call(*command, "--resume", resume)
        assert contents(tmp_path) == before
    holder = f"process {os.getpid()} on {socket.gethostname()}"
    assert code == 2
    assert errors == (
        f"hjepa-train: another run is under way in out ({holder}); wait for its end or stop it, or use another folder\n"
    )
    assert call(*command, "--resume", resume)[0] == 0


def test_run_without_a_checkpoint_that_is_under_way_is_known_as_such(call: Call, labelled: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "settings.yaml").touch()
    with RunLock() as lock:
        lock.take(tmp_path / "out")
        code, _, errors = call("--data_path", labelled, "--output_dir", "out", "--resume", "auto", *REFERENCE, *TINY)
    assert code == 2
    assert "another run is under way in out" in errors


def test_run_holds_its_folder_while_it_trains(call: Call, labelled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def another(*_: object) -> None:
        with pytest.raises(ValueError, match="another run is under way"):
            RunLock().take(Path("out"))
        tried.append(0)

    monkeypatch.setattr("hjepa.trainer.Trainer.evaluate", another)
    command = ["--data_path", labelled, "--output_dir", "out", *REFERENCE, *TINY]
    assert call(*command, "evaluation.knn.enabled=false")[0] == 0
    assert len(tried) == 2


def test_lock_of_a_run_that_is_killed_is_gone_though_its_workers_live(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", HOLD], cwd=tmp_path, env=environment, stdout=subprocess.PIPE) as run:
        assert run.stdout is not None
        worker = int(run.stdout.readline())
        with pytest.raises(ValueError, match=f"process {run.pid} on "):
            RunLock().take(tmp_path)
        run.kill()
        run.wait()
        with RunLock() as lock:
            lock.take(tmp_path)
            assert (tmp_path / LOCK).read_text() == f"process {os.getpid()} on {socket.gethostname()}"
            os.kill(worker, signal.SIGKILL)
    assert list(tmp_path.iterdir()) == []


def test_disk_without_locks_stops_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def missing(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", missing)
    with caplog.at_level(logging.WARNING), RunLock() as lock:
        lock.take(tmp_path)
        lock.take(tmp_path)  # as a resumed run does
    assert caplog.text.count("cannot be locked (No locks available)") == 1


def test_file_that_its_holder_deletes_just_then_is_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, real = RunLock(), fcntl.flock
    first.take(tmp_path)

    def flock(handle: int, operation: int, then: Callable[[], None] = first.release) -> None:
        then()  # between the other's open and its lock
        real(handle, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    with RunLock() as second:
        second.take(tmp_path)
        assert (tmp_path / LOCK).exists()
        with pytest.raises(ValueError, match="another run"):
            RunLock().take(tmp_path)
