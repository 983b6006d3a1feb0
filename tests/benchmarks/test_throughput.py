"""The benchmark runs and compares like with like; its figures are nobody's test."""

import importlib
import importlib.util
import json
import mmap
import multiprocessing
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, TypeAlias

import numpy as np
import pytest
import torch
from PIL import Image

from hjepa.pipeline.folder import open_folder
from hjepa.pipeline.presets import preset
from hjepa.pipeline.recipe import View

ROOT = Path(__file__).parents[2]
MEASURED = ROOT / "benchmarks/results/throughput-epyc-2cores-dino.json"
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


Bench: TypeAlias = Callable[..., tuple[str, Any]]


@pytest.fixture
def bench(stopwatch: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Bench:
    """Measures in this process and in forked ones, which do not import all anew: what was said, and what was written."""
    forking = multiprocessing.get_context("forkserver")
    forking.set_forkserver_preload(["hjepa.trainer"])
    monkeypatch.setattr(stopwatch, "multiprocessing", SimpleNamespace(get_context=lambda _: forking))

    def bench(*engines: str, options: Sequence[object]) -> tuple[str, Any]:
        short = ["--recipe", "cifar10", "--workers", 1, "--batch-size", 4, "--rounds", 2, "--seconds", 0.1]
        command = ["throughput.py", "--engines", *engines, *short, *options, "--output", tmp_path / "result.json"]
        monkeypatch.setattr(sys, "argv", [str(word) for word in command])
        importlib.import_module("throughput").main()
        return capsys.readouterr().out, json.loads((tmp_path / "result.json").read_text())

    return bench


def _skip_without(library: str) -> None:
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"needs {library}, which docs/performance.md says how to install")


def test_all_engines_are_measured_in_every_round(in_classes: Path, tmp_path: Path) -> None:
    built = importlib.util.find_spec("hjepa.kernels._fused_crops") is not None
    engines = ["dali-plain", "torchvision", "decode", *(["fused"] if built else [])]
    output = tmp_path / "result.json"
    options = ["--workers", 1, "--batch-size", 4, "--rounds", 2, "--seconds", 0.1, "--recipe", "cifar10", "--sizes", "80x60"]
    options += ["--local-crops", 3, "--compare", MEASURED]
    words = map(str, ["--engines", *engines, *options, "--output", output, "--data", in_classes])
    command = [sys.executable, "benchmarks/throughput.py", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert re.search(r"dali-plain: x torchvision \d+\.\d\d then, ", done.stdout)
    assert "FAILED" not in done.stdout
    not_compared = done.stdout.partition("not compared, because not installed: ")[2].split("\n")[0].split(", ")
    for library in ("ffcv", "spdl"):
        assert (library in not_compared) == (importlib.util.find_spec(library) is None)
    result = json.loads(output.read_text())
    assert {name: len(samples) for name, samples in result["rounds"].items()} == dict.fromkeys(engines, 2)
    assert result["images"]["mean_size"] == [80, 60]
    assert [view["count"] for view in result["recipe"]["views"]] == [1, 1, 3]
    assert result["machine"]["versions"]["torch"]
    assert result["command"].startswith("python benchmarks/throughput.py")
    assert all(sample["memory_mib"] > 1 for samples in result["rounds"].values() for sample in samples)
    with Image.open(tmp_path / "result.png") as picture:
        assert picture.width > 500


@pytest.mark.parametrize("sizes", [["--sizes", "80x60"], []], ids=["one size", "mixed sizes"])
def test_ffcv_is_measured_as_what_crops_and_flips(
    sizes: list[str], labelled: Path, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    _skip_without("ffcv")
    monkeypatch.setenv("NUMBA_NUM_THREADS", "1")  # for several it compiles three times as long
    said, result = bench("ffcv", "decode", options=["--local-crops", 1, *sizes, "--data", labelled])
    assert "FAILED" not in said, said
    assert "ffcv, crop" in said
    assert len(result["rounds"]["ffcv"]) == 2
    assert result["machine"]["versions"]["ffcv"]


def test_engine_that_cannot_read_an_image_leaves_the_others_their_figures(in_classes: Path, bench: Bench) -> None:
    whole = next((in_classes / "0").iterdir()).read_bytes()
    (in_classes / "1" / "half.jpg").write_bytes(whole[: len(whole) // 2])
    _, result = bench("torchvision", "dali-ops", "dali-ops", options=["--rounds", 1, "--data", in_classes])
    assert list(result["rounds"]) == ["dali-ops"]
    assert "image file is truncated" in result["failed"]["torchvision"]


def test_memory_is_that_of_the_process_without_the_files_that_it_maps(stopwatch: ModuleType) -> None:
    library = Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"  # a temporary file may lie in memory
    before = stopwatch.memory_mib()
    with library.open("rb") as file, mmap.mmap(file.fileno(), 64 << 20, prot=mmap.PROT_READ) as mapped:
        assert sum(mapped[:: mmap.PAGESIZE]) > 0
        assert stopwatch.memory_mib() - before < 16
        held = np.ones(64 << 20, dtype=np.uint8)
        assert stopwatch.memory_mib() - before > 48
        del held


def test_opencv_normalises_as_torchvision_does(stopwatch: ModuleType) -> None:
    _skip_without("cv2")
    view = View(name="global", count=1, size=4, area=(1, 1), ratio=(1, 1), flip=0, jitter=None, gray=0, blur=0)
    recipe = replace(preset("dino"), views=(view,))
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    crop = importlib.import_module("opencv_crops").crop_of(pixels, view, recipe, np.random.default_rng(0))
    expected = (torch.from_numpy(pixels).permute(2, 0, 1) / 255 - torch.tensor(recipe.mean)[:, None, None]) / torch.tensor(
        recipe.std
    )[:, None, None]
    torch.testing.assert_close(crop, expected, rtol=0, atol=1e-6)


def test_copy_that_was_interrupted_is_made_again(
    stopwatch: ModuleType, in_classes: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interrupted(_: Image.Image, path: Path, *__: object, **___: object) -> None:
        path.write_bytes(b"half of a JPEG")
        raise KeyboardInterrupt

    monkeypatch.setenv("HJEPA_CACHE", str(tmp_path / "cache"))
    images = importlib.import_module("images")
    size = images.Size("80x60")
    with monkeypatch.context() as patched:
        patched.setattr(Image.Image, "save", interrupted)
        with pytest.raises(KeyboardInterrupt):
            images.resized(in_classes, size)
    for path in images.resized(in_classes, size).rglob("*.jpg"):
        with Image.open(path) as copy:
            assert copy.size == (80, 60)
            copy.load()


def test_image_that_cannot_be_copied_is_named(stopwatch: ModuleType, in_classes: Path) -> None:
    whole = next((in_classes / "0").iterdir()).read_bytes()
    (in_classes / "1" / "half.jpg").write_bytes(whole[: len(whole) // 2])
    images = importlib.import_module("images")
    with pytest.raises(ValueError, match=r"half\.jpg cannot be read .*truncated"):
        images.resized(in_classes, images.Size("80x60"))


def test_ffcv_is_left_out_where_it_cannot_decode(in_classes: Path, bench: Bench) -> None:
    _skip_without("ffcv")
    with Image.open(next((in_classes / "0").iterdir())) as image:
        image.save(in_classes / "1" / "drawing.png")
    said, result = bench("ffcv", "decode", options=["--data", in_classes])
    assert "left out: ffcv: FFCV reads JPEGs" in said
    assert "drawing.png is PNG in RGB" in said
    assert "ffcv" not in result["rounds"]


def test_spdl_is_measured(labelled: Path, bench: Bench) -> None:
    _skip_without("spdl")
    said, result = bench("spdl", "decode", options=["--data", labelled])
    if "Failed to import libspdl" in said:
        pytest.skip("SPDL finds none of FFmpeg's libraries")
    assert "FAILED" not in said, said
    assert len(result["rounds"]["spdl"]) == 2


def test_table_says_that_ffcv_only_crops_and_flips(stopwatch: ModuleType) -> None:
    result = json.loads(MEASURED.read_text())
    result["rounds"]["ffcv"], result["workers"]["ffcv"] = result["rounds"]["opencv"], 2
    lines = importlib.import_module("throughput_table").markdown(result).splitlines()
    cells = {line.split(" | ", 1)[0]: line.split(" | ", 1)[1] for line in lines if line.startswith("| `")}
    assert cells["| `ffcv`, crop and flip only"] == cells["| `opencv`"]


def test_changes_since_an_earlier_run_are_those_of_the_ratios(stopwatch: ModuleType) -> None:
    tables = importlib.import_module("throughput_table")
    (then,), (now,) = tables.earlier(str(MEASURED)), tables.earlier(str(MEASURED))
    now["rounds"] = {name: now["rounds"][name] for name in ("fused", "torchvision")}
    for sample in now["rounds"]["torchvision"]:  # the reference is twice as fast, in half of the CPU time
        sample["images_per_second"] *= 2
        sample["cpu_ms_per_image"] /= 2
    (line,) = tables.changes([then], [now])
    assert line.startswith("fused: x torchvision ")
    assert line.count("(-50%)") == 2
    without = then | {"rounds": {"fused": then["rounds"]["fused"]}}
    assert "nothing to compare" in tables.changes([then], [without])[0]
    now["images"]["count"] += 1
    assert [line.split(":")[0] for line in tables.changes([then], [now])] == ["then", "now", "fused"]


def test_levels_of_another_library_are_held_against_torchvisions(stopwatch: ModuleType) -> None:
    reference = [(224, -0.1, 1.1), (96, 0.0, 1.0)]
    assert stopwatch.compare_moments([(224, -0.2, 1.0), (96, 0.1, 1.1)], reference) == ""
    assert "crop 1" in stopwatch.compare_moments([(224, -0.1, 1.1), (96, 0.4, 1.0)], reference)
    assert "crop 0" in stopwatch.compare_moments([(224, -0.1, 0.6), (96, 0.0, 1.0)], reference)
    assert "sides [224]" in stopwatch.compare_moments([(224, -0.1, 1.1)], reference)


@pytest.mark.parametrize(("dark_looks", "is_wrong"), [(0, False), (1, False), (2, True)])
def test_engine_is_wrong_when_it_is_beyond_twice(
    dark_looks: int, is_wrong: bool, in_classes: Path, stopwatch: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A single view of a right engine is now and then beyond by chance, of which a landing and a user's table were lost."""
    recipe, source = preset("cifar10"), open_folder(in_classes)
    looks: list[int] = []

    def stacked(crops: Any, paths: list[Path]) -> list[torch.Tensor]:
        if crops == "theirs":
            looks.append(len(paths))
        dark = crops == "theirs" and len(looks) <= dark_looks
        levels = torch.tensor([-2.0, 0.0] if dark else [-1.0, 1.0])
        return [levels for _ in recipe.views]

    monkeypatch.setattr(stopwatch, "_stacked", stacked)
    monkeypatch.setitem(stopwatch.PEERS, "kornia", (None, lambda recipe: "theirs"))
    assert bool(stopwatch._levels("kornia", source, recipe, 4, [Path("a"), Path("b")])) == is_wrong
    assert looks == ([2] if dark_looks == 0 else [2, 8])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data", "missing"], "does not exist"),
        (["--sizes", "500"], "invalid Size value: '500'"),
        (["--recipe", "eval"], "not one of random crops alone"),
        (["--recipe", "simclr", "--local-crops", "6"], "does not go with --recipe simclr"),
        (["--local-crops", "0"], "--local-crops 0"),
        (["--sizes", "0x60"], "invalid Size value: '0x60'"),
        (["--workers", "0"], "argument --workers: 0 is less than 1"),
        (["--rounds", "0"], "argument --rounds: 0 is less than 1"),
        (["--seconds", "0"], "argument --seconds: 0 is no time to measure in"),
        (["--compare", str(ROOT / "README.md")], "README.md is no result of throughput.py"),
        (["--compare", str(ROOT / "benchmarks/results/masks-xeon-2cores.json")], "is no result of throughput.py (KeyError"),
        (["--output", str(ROOT)], "cannot be written (Is a directory)"),
        (["--output", str(ROOT / "README.md" / "result.json")], "cannot be written (File exists)"),
        (["--engines", "lightly", "--recipe", "asymmetric"], "none of these engines can be measured here"),
    ],
)
def test_users_mistake_is_one_line(
    options: list[str],
    message: str,
    in_classes: Path,
    stopwatch: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["throughput.py", "--data", str(in_classes), "--batch-size", "4", *options])
    with pytest.raises(SystemExit) as stop:
        importlib.import_module("throughput").main()
    assert stop.value.code == 2
    said = capsys.readouterr()
    assert message in said.out + said.err


@pytest.mark.parametrize(
    ("name", "load", "device", "given"),
    [
        ("fused", 0.65, "cuda:0", ("auto", 0.65)),
        ("fused", 0.0, "cuda:0", ("gpu", 0.0)),
        ("fused-cpu-decoded", 0.65, "cuda:0", ("cpu", 1.0)),
        ("fused", 0.0, "cpu", ("auto", 0.0)),
    ],
)
def test_share_of_the_jpeg_engines_goes_to_who_has_a_use_for_it(
    stopwatch: ModuleType, monkeypatch: pytest.MonkeyPatch, name: str, load: float, device: str, given: tuple[str, float]
) -> None:
    engines, asked = importlib.import_module("engines"), list[Any]()
    monkeypatch.setattr(engines, "loader_batches", lambda *arguments: asked.append(arguments[-1]))
    engines.engine(name, None, preset("dino"), 4, torch.device(device), load)(2)
    assert (asked[0]["decoder"], asked[0]["hw_decoder_load"]) == given


@pytest.mark.parametrize(
    ("name", "mean", "is_wrong"),
    [("fused", 0.9, False), ("fused", 1.5, True), ("fused-cpu-decoded", 0.9, True), ("fused-cpu-decoded", 0.3, False)],
)
def test_an_engine_is_not_left_without_a_speed_for_what_a_gpus_decoder_rounds_otherwise(
    stopwatch: ModuleType, monkeypatch: pytest.MonkeyPatch, name: str, mean: float, is_wrong: bool
) -> None:
    bound = stopwatch.parity.Bound(mean=0.4, p99=2, reason="")
    found = stopwatch.parity.Difference(backend="fused", part="dino: global", mean=mean, p99=2, max=9, bound=bound)
    monkeypatch.setattr(stopwatch.parity, "end_to_end", lambda *_, **__: iter([found]))
    monkeypatch.setattr("hjepa.pipeline.device.has_jpeg_engines", lambda _: True)
    wrong = stopwatch._parity(preset("dino"), name, torch.device("cuda:0"), 1.0, Path())
    assert wrong == (f"dino: global is {mean:.2f} levels off" if is_wrong else "")


@pytest.mark.parametrize(("device", "own"), [("cpu", {"dali-ops"}), ("cuda:0", {"dali-ops", "fused"})])
def test_engine_without_native_kernel_is_there_for_a_gpu_alone(
    device: str, own: set[str], stopwatch: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "hjepa.kernels._fused_crops", None)
    monkeypatch.delattr("hjepa.kernels._fused_crops", raising=False)
    monkeypatch.setattr("hjepa.pipeline.backend.lacking", lambda _: "")
    assert own == {"fused", "dali-ops"} & set(importlib.import_module("throughput").usual(False, torch.device(device)))


@pytest.mark.parametrize(
    ("load", "given"), [(0.65, {"decoder": "auto", "hw_decoder_load": 0.65}), (0.0, {"decoder": "gpu", "hw_decoder_load": 0.0})]
)
def test_pixels_are_checked_with_the_decoder_that_is_timed(
    load: float, given: dict[str, object], stopwatch: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, object]] = []
    monkeypatch.setattr(stopwatch.parity, "end_to_end", lambda *_, **how: asked.append(how) or [])
    stopwatch._parity(preset("dino"), "fused", torch.device("cuda:0"), load, Path())
    assert asked == [{"device": "cuda:0", "backend": "fused", **given}]


def test_memory_that_the_check_of_pixels_leaves_is_not_taken_for_others(
    stopwatch: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    class Usage:
        def __init__(self, _: torch.device) -> None:
            pass

        @contextmanager
        def measurement(self) -> Iterator[None]:
            seen.append("before")
            yield
            seen.append("after")

    def end() -> None:
        raise EOFError

    questions = iter([lambda: ("parity", Path()), end])
    pipe = SimpleNamespace(recv=lambda: next(questions)(), send=seen.append)
    monkeypatch.setattr(stopwatch, "GpuUsage", Usage)
    monkeypatch.setattr(stopwatch, "open_folder", lambda _: None)
    monkeypatch.setattr(stopwatch, "_parity", lambda *_: seen.append("parity") or "")
    stopwatch._serve(pipe, "fused", Path(), preset("dino"), 4, torch.device("cpu"), 1.0)
    assert seen == ["before", "parity", "after", (False, "")]
