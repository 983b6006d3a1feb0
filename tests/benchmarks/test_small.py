"""The small benchmarks run and write what they measured; their figures are nobody's test."""

import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import hjepa

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.dali


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Runs a benchmark in this process, which has imported what it needs, and returns what it wrote."""

    def run(script: str, *arguments: str) -> dict[str, Any]:
        output = tmp_path / "result.json"
        monkeypatch.setattr(sys, "argv", [f"benchmarks/{script}.py", *arguments, "--output", str(output)])
        importlib.import_module(script).main()
        assert "medians" in capsys.readouterr().out
        written: dict[str, Any] = json.loads(output.read_text())
        return written

    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return run


def test_resume_needs_no_more_state_for_more_images(
    run: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.import_module("resume"), "NUM_FILES", 8)
    (figures,) = run("resume", "--sizes", "1000", "1000000000", "--rounds", "1")["rounds"]
    assert abs(figures["1000"]["state"] - figures["1000000000"]["state"]) < 50  # bytes


def test_decoding_measures_both_decoders_on_every_kind_of_file(run: Callable[..., dict[str, Any]], labelled: Path) -> None:
    options = ("--data", str(labelled), "--sizes", "64x48", "--qualities", "75", "90", "--rounds", "1", "--seconds", "0.1")
    small, large, *progressive = run("decoding", *options)["files"]
    assert small["kib"] < large["kib"]
    assert [files["progressive"] for files in (small, large, *progressive)] == [False, False, True, True]
    assert set(small["rounds"][0]) == {"libjpeg-turbo", "hjepa"}


def test_decoding_on_a_gpu_has_a_table_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    turn = {"libjpeg-turbo": (10, 100), "hjepa": (20, 50), "GPU": (30, 20), "engines": (40, 10)}
    files = {"size": "500x375", "quality": 95, "progressive": False, "kib": 80.0, "rounds": [turn]}
    where = {"device": "NVIDIA H200", "cpu": "Xeon"}
    result = {"command": "", "date": "", "machine": where, "threads": 16, "batch_size": 256, "files": [files]}
    table = importlib.import_module("decoding").markdown(result)
    assert "NVIDIA H200" in table
    assert "| 10 (1.0) | 20 (1.0) | 30 (0.6) | 40 (0.4) |" in table


def test_decoding_is_not_measured_without_what_it_is_about(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    decoding = importlib.import_module("decoding")
    monkeypatch.setattr(decoding.dali_jpeg, "takes_part", lambda: False)
    monkeypatch.setattr(sys, "argv", ["decoding.py"])
    with pytest.raises(SystemExit):
        decoding.main()
    assert "takes no part" in capsys.readouterr().err


def test_feeding_measures_every_stage(run: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    feeding = importlib.import_module("feeding")
    for name, few in {"NUM_FILES": 8, "BATCHES": 4, "BATCH_SIZES": (8, 32)}.items():
        monkeypatch.setattr(feeding, name, few)
    monkeypatch.setattr(feeding.os, "sched_setaffinity", lambda *_: None)  # or other tests were on one core, too
    (figures,) = run("feeding", "--images", "10000", "--rounds", "1")["rounds"]
    assert all(set(stages) == {"draws", "inputs", "feed"} for stages in figures.values())


def test_scaling_adds_the_ranks_rates_and_takes_the_mean_of_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    scaling = importlib.import_module("scaling")
    monkeypatch.setitem(scaling.SERIES, "ranks", {count: scaling.Point(ranks=count) for count in (1, 2)})
    output = str(tmp_path / "result.json")
    options = ["--series", "ranks", "--seconds", "0.1", "--rounds", "1", "--output", output]
    monkeypatch.setattr(sys, "argv", ["scaling.py", *options])
    scaling.main()
    ranks = json.loads(Path(output).read_text())["series"]["ranks"]
    assert set(ranks) == {"1", "2"}
    for (sample,) in ranks.values():
        assert sample["batch_mib"] == 32 * 8 * 3 * 96 * 96 * 4 / 2**20
        assert sample["needed_mib"] > sample["batch_mib"]


def test_a_cliff_is_told_from_a_straight_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    table = importlib.import_module("scaling_table")
    pixels = np.array([64.0, 256, 1024, 4096]) ** 2
    assert table.deviation(pixels, 3 + 1e-6 * pixels) < 1e-6
    assert table.deviation(pixels, 3 + 1e-6 * pixels + np.where(pixels > 5e5, 3, 0)) > 0.1


def test_the_independent_script_asks_torchvision_for_the_loaders_crops(labelled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    script = importlib.import_module("independent")
    theirs, _ = script.ImageFolder(labelled, script.dino)[0]
    with hjepa.Loader(labelled, "dino", batch_size=2, device="cpu") as loader:
        ours = next(iter(loader)).views()
    assert [view.shape for view in theirs] == [view.shape[1:] for view in ours]


def test_no_epoch_of_the_independent_script_ends_while_it_measures(labelled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    script = importlib.import_module("independent")
    monkeypatch.setattr(script, "rate", lambda loader, batches: len(loader) / batches)
    assert script.torchvision_rate(labelled) > 1000


def test_memory_is_read_all_along_however_short_the_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    soak, readings = importlib.import_module("soak"), iter(range(1000))
    clock = iter(np.arange(0, 100, 0.25))  # seconds, each time that it is asked
    monkeypatch.setattr(soak.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(soak, "memory_mib", lambda *names: next(readings))
    minute = soak.minute(iter([SimpleNamespace(labels=[0, 1])] * 1000))
    assert minute["lowest_mib"] == 0
    assert minute["highest_mib"] > 20
    assert minute["images"] > 200


def test_masks_are_measured_up_to_the_form_that_the_published_loops_return(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    contests = importlib.import_module("masks").contests(4)
    published, (context, _, targets, kept) = (contests["I-JEPA, with indices"][name]() for name in ("loops", "hjepa"))
    assert [context.ndim, context.dtype] == [published[0].ndim, published[0].dtype] == [2, torch.int64]
    assert targets.shape[1] == len(published[1]) == 4
    assert bool(kept.all())
    published, ours = (contests["V-JEPA 2, 8 x 16 x 16, with indices"][name]() for name in ("loops", "hjepa"))
    for index, theirs in zip(ours, published, strict=True):
        assert index.shape[1] % 8 == 0  # of 8 frames
        assert bool((index.diff() > 0).all())
        assert [index.ndim, index.dtype] == [theirs.ndim, theirs.dtype]
    assert int(torch.cat([index.amax(1) for index in ours]).amax()) > 7 * 256


def test_masks_of_a_gpu_are_measured_against_the_torch_text_of_the_same_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    pytest.importorskip("triton")
    contests = importlib.import_module("masks_gpu").contests(3, "cpu")
    drawn = {name: draw() for name, draw in contests.items()}
    context, targets = drawn["exact, torch text"]
    assert torch.equal(drawn["exact"].context, context)
    assert torch.equal(drawn["exact"].targets, targets)
    assert [tensor.shape[-1] for tensor in drawn["their indices"]] == [98, 98, 49, 49]


def test_documents_show_the_results_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    monkeypatch.setattr(sys, "argv", ["report.py", "--check"])
    with pytest.raises(SystemExit) as end:
        importlib.import_module("report").main()
    assert not end.value.code
