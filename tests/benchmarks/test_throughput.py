"""The benchmark runs and compares like with like; its figures are nobody's test."""

import importlib
import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.dali


@pytest.fixture
def stopwatch(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("stopwatch")


@pytest.fixture
def in_classes(photographs: Path, tmp_path: Path) -> Path:
    for number, path in enumerate(sorted(photographs.iterdir())[:12]):
        folder = tmp_path / "classes" / str(number % 2)
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder)
    return tmp_path / "classes"


def bench(*arguments: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "benchmarks/throughput.py", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_all_engines_are_measured_in_every_round(in_classes: Path, tmp_path: Path) -> None:
    built = importlib.util.find_spec("hjepa.kernels._fused_crops") is not None
    engines = ["dali-ops", "torchvision", "decode", *(["fused"] if built else [])]
    output = tmp_path / "result.json"
    options = ["--workers", 1, "--batch-size", 4, "--rounds", 2, "--seconds", 0.1, "--recipe", "cifar10", "--sizes", "80x60"]
    options += ["--local-crops", 3]
    done = bench("--engines", *engines, *options, "--output", output, "--data", in_classes)
    assert done.returncode == 0, done.stderr
    assert "FAILED" not in done.stdout
    result = json.loads(output.read_text())
    assert {name: len(samples) for name, samples in result["rounds"].items()} == dict.fromkeys(engines, 2)
    assert result["images"]["mean_size"] == [80, 60]
    assert [view["count"] for view in result["recipe"]["views"]] == [1, 1, 3]
    assert result["machine"]["versions"]["torch"]
    assert result["command"].startswith("python benchmarks/throughput.py")
    assert all(sample["memory_mib"] > 1 for samples in result["rounds"].values() for sample in samples)
    with Image.open(tmp_path / "result.png") as picture:
        assert picture.width > 500


def test_levels_of_another_library_are_held_against_torchvisions(stopwatch: ModuleType) -> None:
    reference = [(224, -0.1, 1.1), (96, 0.0, 1.0)]
    assert stopwatch.compare_moments([(224, -0.2, 1.0), (96, 0.1, 1.1)], reference) == ""
    assert "crop 1" in stopwatch.compare_moments([(224, -0.1, 1.1), (96, 0.4, 1.0)], reference)
    assert "crop 0" in stopwatch.compare_moments([(224, -0.1, 0.6), (96, 0.0, 1.0)], reference)
    assert "sides [224]" in stopwatch.compare_moments([(224, -0.1, 1.1)], reference)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data", "missing"], "does not exist"),
        (["--sizes", "500"], "invalid Size value: '500'"),
        (["--recipe", "eval"], "not one of random crops alone"),
        (["--recipe", "simclr", "--local-crops", "6"], "does not go with --recipe simclr"),
        (["--local-crops", "0"], "--local-crops 0"),
    ],
)
def test_users_mistake_is_one_line(options: list[str], message: str, in_classes: Path) -> None:
    done = bench("--data", in_classes, "--batch-size", 4, *options)
    assert done.returncode == 2
    assert message in done.stdout + done.stderr
