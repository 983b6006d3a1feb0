"""The small benchmarks run and write what they measured; their figures are nobody's test."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.dali


def run(tmp_path: Path, script: str, *arguments: str) -> dict[str, object]:
    output = tmp_path / "result.json"
    command = [sys.executable, f"benchmarks/{script}", *arguments, "--output", str(output)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "medians" in done.stdout
    written: dict[str, object] = json.loads(output.read_text())
    return written


def test_resume_needs_no_more_state_for_more_images(tmp_path: Path) -> None:
    (figures,) = run(tmp_path, "resume.py", "--sizes", "1000", "1000000000", "--rounds", "1")["rounds"]
    assert abs(figures["1000"]["state"] - figures["1000000000"]["state"]) < 50  # bytes


def test_feeding_measures_every_stage(tmp_path: Path) -> None:
    (figures,) = run(tmp_path, "feeding.py", "--images", "10000", "--rounds", "1")["rounds"]
    assert all(set(stages) == {"draws", "inputs", "feed"} for stages in figures.values())
