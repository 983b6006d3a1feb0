"""Tuning takes the smallest setting that is as good as the best, the most that a budget allows, and writes what trains."""

import os
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
import yaml

from hjepa import commands
from hjepa.assembly import build_loader
from hjepa.configs.load import changes_to_yaml, load_settings, with_changes
from hjepa.configs.schema import Settings
from hjepa.configs.yaml_file import SettingsError
from hjepa.pipeline.open_source import open_source
from hjepa.short_run import Rate
from hjepa.step_cost import StepCost, measure_step
from hjepa.training_run import choose_settings
from hjepa.tune import Budget, first_near_best, last_that_fits, tune_loader, tune_step
from hjepa.tune_command import _write

PHASE = "data.multicrop.curriculum=[{{from_epoch: {}, global_crop_size: {}, num_local_crops: 2}}]"
TINY = (
    "data.batch_size=4",
    "data.pipeline=torchvision",
    "data.num_workers=0",
    "model.encoder.depth=1",
    "model.encoder.width=32",
    "model.embed_dim=32",
    "device=cpu",
)


@pytest.fixture
def tiny(labelled: Path) -> Settings:
    return load_settings(Path("small"), TINY, {"data.data_path": str(labelled), "data.dataset": "imagefolder"})


def test_first_of_those_alike_is_taken() -> None:
    assert first_near_best({1: 50, 2: 98, 4: 100, 8: 99}) == 2
    assert first_near_best({1: 50, 2: 90, 4: 100, 8: 99}) == 4
    assert first_near_best({3: 1}) == 3


@pytest.mark.parametrize("count", [1, 2, 3, 7, 11])
def test_last_that_fits_is_found_by_halves(count: int) -> None:
    values = list(range(10, 10 + count))
    for limit in range(9, 10 + count):
        asked: list[int] = []
        found = last_that_fits(values, lambda value, limit=limit, asked=asked: asked.append(value) or value <= limit)  # type: ignore[misc]
        assert found == (limit if limit >= 10 else None)
        assert len(asked) <= count.bit_length()


def test_budget_limits_what_it_names() -> None:
    cost = StepCost(seconds=0.2, memory_gib=3)
    for budget, allowed in ((Budget(), True), (Budget(step_ms=200), True), (Budget(step_ms=199), False)):
        assert budget.allows(cost) == allowed
    assert Budget(memory_gib=3, step_ms=300).allows(cost)
    assert not Budget(memory_gib=2.9, step_ms=300).allows(cost)
    assert Budget(memory_gib=3, step_ms=300).words == "3 GiB and 300 ms"


@pytest.mark.parametrize(
    "overrides",
    [(), ("seed=3", "loss.type=mse", "data.multicrop.num_local_crops=2"), ("objective=dino",), (PHASE.format(2, 128),)],
)
def test_what_is_written_are_the_same_settings(overrides: tuple[str, ...], tmp_path: Path) -> None:
    settings = load_settings(None, overrides)
    file = tmp_path / "changes.yaml"
    file.write_text(changes_to_yaml(settings))
    assert load_settings(file) == settings
    assert len(file.read_text().splitlines()) < 12


def test_changes_are_checked(tiny: Settings) -> None:
    assert with_changes(tiny, {"data.prefetch": 7}).data.prefetch == 7
    with pytest.raises(SettingsError, match=r"data\.prefetch"):
        with_changes(tiny, {"data.prefetch": 0})


def test_step_costs_more_memory_with_more_crops_and_images(tiny: Settings) -> None:
    source = open_source(tiny.data.data_path)

    def memory(changes: dict[str, object]) -> float:
        return measure_step(with_changes(tiny, changes), source).memory_gib

    base = memory({})
    assert base == memory({})  # counted, not sampled
    assert memory({"data.multicrop.num_local_crops": 6}) > base
    assert memory({"data.batch_size": 8}) > 1.3 * base
    assert memory({"model.encoder.depth": 3}) > base


def test_what_torch_kept_of_a_step_is_given_back_before_the_next(tiny: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """DALI, which has memory of its own, is opened after it."""
    order: list[str] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: order.append("given back"))
    monkeypatch.setattr("hjepa.step_cost.build_loader", lambda *_: order.append("loader") or build_loader(*_))
    measure_step(tiny, open_source(tiny.data.data_path))
    assert order == ["given back", "loader"]


def test_step_is_one_of_the_epoch_with_the_most_pixels(tiny: Settings) -> None:
    source = open_source(tiny.data.data_path)

    def memory(*overrides: str) -> float:
        place = {"data.data_path": tiny.data.data_path, "data.dataset": "imagefolder"}
        return measure_step(load_settings(Path("small"), [*TINY, *overrides], place), source).memory_gib

    plain, larger = (
        memory(),
        memory("data.multicrop.global_crop_size=80", "data.image_size=80", "data.multicrop.num_local_crops=2"),
    )
    assert plain < larger
    assert memory(PHASE.format(3, 80)) == pytest.approx(larger, rel=0.01)
    assert memory(PHASE.format(3, 40)) == pytest.approx(plain, rel=0.01)


def test_most_crops_within_the_budget_are_chosen(tiny: Settings) -> None:
    source, said = open_source(tiny.data.data_path), list[str]()
    six = measure_step(with_changes(tiny, {"data.multicrop.num_local_crops": 6}), source)
    budget = Budget(memory_gib=six.memory_gib)
    assert tune_step(tiny, source, budget, "crops", said.append).data.multicrop.num_local_crops == 6
    assert any(line.startswith("data.multicrop.num_local_crops=6:") and line.endswith("fits") for line in said)
    two = measure_step(with_changes(tiny, {"data.batch_size": 16}), source)
    assert tune_step(tiny, source, Budget(memory_gib=two.memory_gib), "batch", said.append).data.batch_size == 16
    with pytest.raises(ValueError, match=r"num_local_crops=1, the least, is beyond the budget of 1e-06 GiB"):
        tune_step(tiny, source, Budget(memory_gib=1e-6), "crops", said.append)


OF_DALI = """Critical error in pipeline:
Error in MIXED operator `nvidia.dali.fn.decoders.image`,
which was used in the pipeline definition with the following traceback:

  File "dali_decode.py", line 58, in decode
    return fn.decoders.image(

encountered:

Can't allocate 129499136 bytes on device 0.
Current pipeline object is no longer valid."""


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError(OF_DALI),
        RuntimeError("Critical error in pipeline:\nCUDA allocation failed"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("Triton Error [CUDA]: out of memory"),
        MemoryError("std::bad_alloc"),
    ],
    ids=["torch's", "DALI's", "DALI's of the driver", "cuBLAS's", "Triton's", "DALI's of the host"],
)
def test_a_step_that_there_is_no_memory_for_is_too_much(
    error: Exception, tiny: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def on_a_small_gpu(settings: Settings, _: object) -> StepCost:
        if settings.data.batch_size > 8:
            raise error
        return StepCost(seconds=0.001, memory_gib=1)

    monkeypatch.setattr("hjepa.tune.measure_step", on_a_small_gpu)
    said: list[str] = []
    assert tune_step(tiny, open_source(tiny.data.data_path), Budget(step_ms=9), "batch", said.append).data.batch_size == 8
    assert "data.batch_size=16: more memory than there is: too much" in said


def test_a_step_that_fails_for_another_reason_ends_the_search(tiny: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> StepCost:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr("hjepa.tune.measure_step", broken)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        tune_step(tiny, open_source(tiny.data.data_path), Budget(step_ms=9), "batch", print)


def test_crops_that_nothing_reads_are_not_tuned(tiny: Settings) -> None:
    source = open_source(tiny.data.data_path)
    unread = with_changes(tiny, {"model.view_weight": 0, "model.spread_weight": 0})
    with pytest.raises(ValueError, match="read by nothing"):
        tune_step(unread, source, Budget(step_ms=1), "crops", print)
    for changes in (
        {"data.multicrop.adaptive": True, "data.multicrop.num_local_crops": 6},
        {"data.multicrop.curriculum": [{"from_epoch": 2, "num_local_crops": 2}]},
        {"data.use_multicrop": False, "model.view_weight": 0, "model.spread_weight": 0},
    ):
        with pytest.raises(ValueError, match="--vary batch"):
            tune_step(with_changes(tiny, changes), source, Budget(step_ms=1), "crops", print)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "override",
    [
        "data.multicrop.num_global_crops=1",
        "data.multicrop.curriculum=[{from_epoch: 2, local_crop_size: 16}]",
        "dino.local_weight=2",
    ],
    ids=["one global crop", "local crops that a phase speaks of", "local crops that have a weight"],
)
def test_no_crops_are_tried_that_the_settings_would_refuse(override: str, tiny: Settings) -> None:
    head = ["dino.num_prototypes=16", "dino.hidden=16", "dino.bottleneck=8"]
    place = {"data.data_path": tiny.data.data_path, "data.dataset": "imagefolder"}
    settings = load_settings(Path("small_dino"), [*TINY, *head, override], place)
    said: list[str] = []
    with pytest.raises(ValueError, match=r"num_local_crops=1, the least, is beyond the budget"):
        tune_step(settings, open_source(tiny.data.data_path), Budget(memory_gib=1e-6), "crops", said.append)


@pytest.mark.dali
def test_bad_images_are_not_listed_in_the_folder_of_a_run(tiny: Settings, labelled: Path, tmp_path: Path) -> None:
    settings = with_changes(tiny, {"output_dir": str(tmp_path / "run"), "data.max_bad": 1.0, "data.on_error": "replace"})
    contents = [path.read_bytes() for path in sorted(labelled.rglob("*.*"))]
    cut = [content[:-20] if number % 2 else content for number, content in enumerate(contents)]
    measure_step(settings, open_source(cut))
    assert not (tmp_path / "run").exists()


def test_every_setting_of_the_loader_is_tried(tiny: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    rates = iter([10, 20, 21, 5, 5, 9])
    monkeypatch.setattr("hjepa.tune.share_of_workers", lambda *_: 4)
    monkeypatch.setattr("hjepa.tune.rate", lambda *_: Rate(images_per_second=next(rates), busy=1, others=0))
    said: list[str] = []
    dali = with_changes(tiny, {"data.pipeline": "dali", "data.num_workers": "auto"})
    found = tune_loader(dali, open_source(tiny.data.data_path), 0.1, said.append)
    assert [line.partition(":")[0] for line in said] == [
        *(f"data.num_workers={count}" for count in (1, 2, 4)),
        *(f"data.prefetch={count}" for count in (1, 2, 4)),
    ]
    assert (found.data.num_workers, found.data.prefetch) == (4, 4)


def test_decoders_for_a_gpu_are_tried_and_engines_shared_only_where_that_is_faster(
    tiny: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Settings] = []

    def no_loader(settings: Settings, *_: object) -> nullcontext[None]:
        opened.append(settings)
        return nullcontext()

    monkeypatch.setattr("hjepa.tune.resolve_device", lambda _: torch.device("cuda:0"))
    monkeypatch.setattr("hjepa.tune.build_loader", no_loader)
    dali = with_changes(tiny, {"data.pipeline": "dali", "data.num_workers": "auto"})
    choices = [("gpu", 1.0), ("cpu", 1.0), ("gpu", 0.0), ("gpu", 0.65)]
    for speeds, best in ((100, 102, 99, 101), 0), ((100, 140, 90, 142), 1), ((90, 80, 100, 99), 2), ((100, 140, 90, 200), 3):
        rates = iter(speeds)
        monkeypatch.setattr("hjepa.tune.rate", lambda *_, rates=rates: Rate(images_per_second=next(rates, 1), busy=1, others=0))
        opened.clear()
        found = tune_loader(dali, open_source(tiny.data.data_path), 0.1, lambda _: None)
        tried = [(settings.data.decoder, settings.data.hw_decoder_load) for settings in [*opened, found]]
        assert tried[:4] == choices
        assert set(tried[4:]) == {choices[best]}


def test_a_decoder_that_fails_is_passed_over_and_the_last_of_none_that_works_is_raised(
    tiny: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails = {"gpu"}

    def rate_or_fail(loader: Settings, _: float) -> Rate:
        if loader.data.decoder in fails:
            raise RuntimeError(OF_DALI)
        return Rate(images_per_second=1, busy=1, others=0)

    monkeypatch.setattr("hjepa.tune.resolve_device", lambda _: torch.device("cuda:0"))
    monkeypatch.setattr("hjepa.tune.build_loader", lambda settings, *_: nullcontext(settings))
    monkeypatch.setattr("hjepa.tune.rate", rate_or_fail)
    dali, said = with_changes(tiny, {"data.pipeline": "dali", "data.num_workers": "auto"}), list[str]()
    assert tune_loader(dali, open_source(tiny.data.data_path), 0.1, said.append).data.decoder == "cpu"
    assert [line for line in said if "fails" in line] == [
        f"data.decoder=gpu, data.hw_decoder_load={load}: fails: Critical error in pipeline: Error in MIXED operator "
        "`nvidia.dali.fn.decoders.image`, which was used in the pipeline definition with the following traceback: encountered: "
        "Can't allocate 129499136 bytes on device 0. Current pipeline object is no longer valid."
        for load in (1.0, 0.0, 0.65)
    ]
    fails.add("cpu")
    with pytest.raises(RuntimeError, match="Can't allocate"):
        tune_loader(dali, open_source(tiny.data.data_path), 0.1, said.append)


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["hjepa", "tune", *map(str, arguments)])
    monkeypatch.setenv("COLUMNS", "150")
    try:
        commands.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


@pytest.mark.dali
def test_file_is_what_training_starts_from(
    labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base.yaml").write_text(changes_to_yaml(load_settings(Path("small"), [*TINY[:1], *TINY[3:]], {"seed": 9})))
    budget = ("--memory-gib", 100, "--vary", "batch", "--seconds", 0.1)
    assert call(monkeypatch, labelled, "--config", "base.yaml", "data.dataset=imagefolder", *budget) == 2  # takes no overrides
    text = (tmp_path / "base.yaml").read_text().replace("dataset: sample", "dataset: imagefolder")
    tree = yaml.safe_load(text)
    (tmp_path / "photos").symlink_to(labelled)
    tree["data"] |= {"dataset": "imagefolder", "data_path": "photos"}
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(tree))
    assert call(monkeypatch, "--config", "base.yaml", *budget) == 0
    assert "hjepa-train --config tuned.yaml" in capsys.readouterr().out
    settings, _ = choose_settings(Path("tuned.yaml"), [], {"data.data_path": None, "device": None})
    assert (settings.seed, settings.data.batch_size) == (9, 32)  # the largest batch that 40 images fill
    assert settings.data.num_workers != "auto"
    assert settings.data.data_path == str(tmp_path / "photos")  # from any folder
    assert (tmp_path / "tuned.yaml").read_text().startswith("# Made by: hjepa tune --config base.yaml")


@pytest.mark.parametrize("arguments", [("--vary", "crop"), ("--step-ms", -1), ("--config", "missing")])
def test_mistakes_end_with_2(arguments: tuple[object, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, *arguments) == 2
    assert not list(tmp_path.iterdir())


def test_any_place_that_was_named_leaves_a_file_that_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["hjepa", "tune", os.fsdecode(b"new\nclass: caf\xe9")])
    settings = load_settings(overrides=["data.data_path=photos", "data.dataset=imagefolder", "data.prefetch=4"])
    _write(tmp_path / "tuned.yaml", settings, ["data.prefetch=4: 416 images/s"])
    assert load_settings(tmp_path / "tuned.yaml").data.prefetch == 4
