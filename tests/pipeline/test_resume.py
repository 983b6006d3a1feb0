"""A run that is killed, and goes on with another number of ranks, sees bitwise what one sees that was left alone."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pipeline.killed import digests, open_loader

ROOT = Path(__file__).parents[2]
STEPS = 11  # over the ends of two epochs of four


BACKENDS = [pytest.param("dali-ops", marks=pytest.mark.dali), pytest.param("fused", marks=pytest.mark.fused), "torchvision"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_killed_and_resumed_on_one_two_and_one_ranks_is_bitwise_the_same(
    backend: str, photographs: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for path in photographs.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    broken = folder / "09.jpg"  # found by whichever part of the run meets it first
    broken.write_bytes(broken.read_bytes()[:20_000])
    log, state = tmp_path / "log", tmp_path / "state.json"
    for ranks, first, last in ((1, 0, 3), (2, 3, 7)):
        parts = [
            [sys.executable, "tests/pipeline/killed.py", folder, backend, rank, ranks, first, last, f"{state}.{rank}", log]
            for rank in range(ranks)
        ]
        for rank in range(ranks):  # every rank has the state that rank 0 saved
            Path(f"{state}.{rank}").write_text(state.read_text()) if state.exists() else None
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        processes = [subprocess.Popen([str(part) for part in command], cwd=ROOT, env=environment) for command in parts]
        assert [process.wait(timeout=240) for process in processes] == [-signal.SIGKILL] * ranks
        state.write_text(Path(f"{state}.0").read_text())
    actual = [line.split(" ", 1) for line in log.read_text().splitlines()]
    expected: list[list[str]] = []
    with open_loader(folder, backend, 0, 1) as resumed, open_loader(folder, backend, 0, 1) as whole:
        resumed.load_state_dict(json.loads(state.read_text()))
        rest = (batch for _ in range(3) for batch in resumed)
        actual += [[str(number), line] for number in range(7, STEPS) for line in digests(next(rest), 0)]
        batches = (batch for _ in range(3) for batch in whole)
        expected += [[str(number), line] for number in range(STEPS) for line in digests(next(batches), 0)]
    assert sorted(actual) == sorted(expected)
    assert len(expected) == 8 * STEPS
