"""The benchmark runs and compares like with like; its figures are nobody's test."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.dali


def bench(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "benchmarks/throughput.py", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_all_engines_are_measured_in_every_round(labelled: Path, tmp_path: Path) -> None:
    output = tmp_path / "result.json"
    engines = [
        "dali-ops",
        "torchvision",
        "decode",
        *(["fused"] if importlib.util.find_spec("hjepa.kernels._fused_crops") else []),
    ]
    options = [
        "--engines",
        *engines,
        "--workers",
        "1",
        "--batch-size",
        "4",
        "--rounds",
        "2",
        "--seconds",
        "0.2",
        "--output",
        str(output),
        "--data",
        str(labelled),
    ]
    done = bench(*options)
    assert done.returncode == 0, done.stderr
    assert "ratio" in done.stdout
    result = json.loads(output.read_text())
    assert {name: len(samples) for name, samples in result["rounds"].items()} == dict.fromkeys(engines, 2)
    assert result["machine"]["versions"]["torch"]
    assert result["command"].startswith("python benchmarks/throughput.py")


def test_missing_folder_is_one_line() -> None:
    done = bench("--data", "missing")
    assert done.returncode == 2
    assert "does not exist" in done.stdout
