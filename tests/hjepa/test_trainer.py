"""The run: it learns, measures, saves, and goes on bitwise where it was stopped."""

import json
import math
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from hjepa import checkpoint
from hjepa import trainer as trainer_module
from hjepa.configs.load import load_settings
from hjepa.configs.schema import Settings
from hjepa.display import Display
from hjepa.evaluate import Evaluation
from hjepa.models.hjepa import HierarchicalJepa
from hjepa.pipeline.batch import Batch
from hjepa.pipeline.folder import open_folder
from hjepa.pipeline.loader import Loader
from hjepa.step_masks import draw_masks
from hjepa.trainer import DivergedError, Trainer

TINY = [
    "data.dataset=imagefolder",
    "data.data_path=unused",
    "data.batch_size=8",
    "data.image_size=32",
    "data.multicrop.global_crop_size=32",
    "data.multicrop.local_crop_size=16",
    "data.multicrop.num_local_crops=2",
    "model.encoder.patch_size=8",
    "model.encoder.width=16",
    "model.encoder.depth=1",
    "model.encoder.num_heads=2",
    "model.embed_dim=16",
    "training.epochs=3",
    "training.warmup_epochs=1",
    "training.lr=1e-3",
    "logging.log_frequency=1",
    "device=cpu",
]
JEPA = [
    "model.predictor.width=8",
    "model.predictor.depth=1",
    "model.predictor.num_heads=2",
    "model.view_weight=1.0",
    "masking.context_tokens=0.5",
    "masking.target_tokens=0.3",
    "masking.min_keep=2",
]
DINO = ["objective=dino", "dino.num_prototypes=16", "dino.hidden=16", "dino.bottleneck=8"]
CPU = torch.device("cpu")
BACKENDS = [pytest.param("dali-ops", marks=pytest.mark.dali), pytest.param("fused", marks=pytest.mark.fused), "torchvision"]


@pytest.fixture(autouse=True)
def _undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """No picture, which takes a quarter of so short a run; test_metrics.py looks at it."""
    monkeypatch.setattr(Trainer, "_show", lambda *_: None)


def tiny(output: Path, *overrides: str, pipeline: str = "torchvision") -> Settings:
    workers = 0 if pipeline == "torchvision" else 1
    given = [f"output_dir={output}", f"data.pipeline={pipeline}", f"data.num_workers={workers}"]
    config, own = ("small_dino", []) if "objective=dino" in overrides else ("small", JEPA)
    return load_settings(Path(config), [*TINY, *own, *given, *overrides])


def train(settings: Settings, folder: Path, resume: dict[str, Any] | None = None) -> Trainer:
    with Display() as display, Trainer(settings, open_folder(folder), display, resume) as trainer:
        trainer.run()
    return trainer


def interrupt_at(trainer: Trainer, step: int, monkeypatch: pytest.MonkeyPatch, number: signal.Signals = signal.SIGINT) -> None:
    """Presses Ctrl-C, or sends another signal, while that step is under way."""
    real = Loader.__iter__

    def iterate(loader: Loader) -> Iterator[Batch]:
        for batch in real(loader):
            if loader is trainer.loader and trainer.step + 1 == step:
                os.kill(os.getpid(), number)
            yield batch

    monkeypatch.setattr(Loader, "__iter__", iterate)


def lines(settings: Settings, kind: str) -> list[dict[str, Any]]:
    text = (settings.log_folder / "metrics.jsonl").read_text().splitlines()
    return [line for line in map(json.loads, text) if line["kind"] == kind]


def test_run_leaves_everything_it_promises(labelled: Path, tmp_path: Path) -> None:
    settings = tiny(tmp_path, "evaluation.eval_frequency=2", "checkpoint.keep_best_n=2")
    trainer = train(settings, labelled)
    assert trainer.result.finished
    assert trainer.result.step == 15
    assert set(trainer.result.accuracies) == {0, 2, 3}
    steps = lines(settings, "train")
    assert [line["step"] for line in steps] == list(range(1, 16))
    assert all(math.isfinite(line["loss"]) and line["images_per_second"] > 0 and 0 <= line["wait_share"] <= 1 for line in steps)
    names = sorted(path.name for path in settings.checkpoint_folder.iterdir())
    assert len(names) == 3
    assert names[-1] == "latest.pt"
    assert list(settings.log_folder.glob("events.out.tfevents.*"))


@pytest.mark.parametrize("pipeline", BACKENDS)
@pytest.mark.parametrize("stop_at", [7, 10], ids=["inside an epoch", "at the end of an epoch"])
def test_interrupted_and_resumed_run_is_bitwise_the_same(
    pipeline: str, stop_at: int, labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe = ["evaluation.linear_probe.enabled=true", "evaluation.linear_probe.epochs=3"]
    whole = tiny(tmp_path / "whole", *probe, pipeline=pipeline)
    expected = train(whole, labelled)
    parts = tiny(tmp_path / "parts", *probe, pipeline=pipeline)
    with Display() as display, Trainer(parts, open_folder(labelled), display) as stopped, monkeypatch.context() as patch:
        interrupt_at(stopped, stop_at, patch)
        stopped.run()
    assert not stopped.result.finished
    assert stopped.result.step == stop_at
    state = checkpoint.load(parts.checkpoint_folder / checkpoint.LATEST, torch.device("cpu"))
    actual = train(parts, labelled, resume=state)
    losses = ("loss", "loss_level_0", "loss_level_2", "baseline_ratio_level_1", "loss_view")
    for name in (*losses, "lr", "momentum", "grad_norm"):
        assert [line[name] for line in lines(parts, "train")] == [line[name] for line in lines(whole, "train")], name
    for name, tensor in expected.model.state_dict().items():
        assert torch.equal(tensor, actual.model.state_dict()[name]), name
    assert actual.result.accuracies == expected.result.accuracies
    assert set(expected.result.probe_accuracies) == {0, 3}
    assert actual.result.probe_accuracies == expected.result.probe_accuracies


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_dino_that_a_scheduler_stops_goes_on_bitwise(
    number: signal.Signals, labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moving = ["dino.held_prototypes_epochs=1", "dino.teacher_temperature_end=0.07", "dino.teacher_temperature_warmup_epochs=2"]
    chosen = [*DINO, *moving, "evaluation.knn.enabled=false"]
    whole, parts = (tiny(tmp_path / name, *chosen) for name in ("whole", "parts"))
    expected = train(whole, labelled)
    with Display() as display, Trainer(parts, open_folder(labelled), display) as stopped, monkeypatch.context() as patch:
        interrupt_at(stopped, 7, patch, number)
        stopped.run()
    assert (stopped.result.signal, stopped.result.step) == (number, 7)
    actual = train(parts, labelled, checkpoint.load(parts.checkpoint_folder / checkpoint.LATEST, torch.device("cpu")))
    for name in ("loss", "student_norm", "teacher_norm", "center_norm", "grad_norm"):
        assert [line[name] for line in lines(parts, "train")] == [line[name] for line in lines(whole, "train")], name
    for name, tensor in expected.model.state_dict().items():
        assert torch.equal(tensor, actual.model.state_dict()[name]), name
    assert expected.model.state_dict()["center"].any()


def test_a_run_whose_masks_grow_goes_on_bitwise_with_the_masks_of_its_epoch(
    labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = ["masking.mask_scale=[0.03, 0.05]", "masking.mask_scale_end=[0.05, 0.2]", "evaluation.knn.enabled=false"]
    whole, parts = (tiny(tmp_path / name, *chosen) for name in ("whole", "parts"))
    expected = train(whole, labelled)
    assert expected.masks is not None
    assert expected.masks.global_sampler.laws[0].target_scale == (0.05, 0.2)
    with Display() as display, Trainer(parts, open_folder(labelled), display) as stopped, monkeypatch.context() as patch:
        interrupt_at(stopped, 7, patch)
        stopped.run()
    train(parts, labelled, checkpoint.load(parts.checkpoint_folder / checkpoint.LATEST, torch.device("cpu")))
    assert [line["loss"] for line in lines(parts, "train")] == [line["loss"] for line in lines(whole, "train")]


def test_a_run_whose_masks_follow_the_teacher_goes_on_bitwise(
    labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = ["masking.weights=attention", "evaluation.knn.enabled=false", "training.epochs=2"]
    whole, parts = (tiny(tmp_path / name, *chosen) for name in ("whole", "parts"))
    train(whole, labelled)
    with Display() as display, Trainer(parts, open_folder(labelled), display) as stopped, monkeypatch.context() as patch:
        interrupt_at(stopped, 3, patch)
        stopped.run()
    train(parts, labelled, checkpoint.load(parts.checkpoint_folder / checkpoint.LATEST, torch.device("cpu")))
    for name in ("loss", "grad_norm"):
        assert [line[name] for line in lines(parts, "train")] == [line[name] for line in lines(whole, "train")], name
    by_chance = tiny(tmp_path / "chance", *chosen[1:])
    train(by_chance, labelled)
    assert [line["loss"] for line in lines(by_chance, "train")] != [line["loss"] for line in lines(whole, "train")]


PHASES = (
    "data.multicrop.curriculum=[{from_epoch: 1, global_crop_size: 48, num_local_crops: 3}, "
    "{from_epoch: 2, local_crop_size: 24, global_crop_size: 40, global_crop_scale: [0.5, 1.0]}]"
)


@pytest.mark.parametrize(
    ("pipeline", "stop_at"),
    [
        pytest.param("torchvision", 3, id="in the first phase"),
        pytest.param("torchvision", 5, id="at its end"),
        pytest.param("dali-ops", 7, id="in the second, dali", marks=pytest.mark.dali),
        pytest.param("fused", 7, id="in the second, fused", marks=pytest.mark.fused),
        pytest.param("torchvision", 12, id="in the third"),
    ],
)
def test_a_run_whose_crops_change_size_goes_on_bitwise_in_any_phase(
    pipeline: str, stop_at: int, labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = [PHASES, "data.image_size=40", "evaluation.eval_frequency=1", "masking.weights=attention"]
    whole, parts = (tiny(tmp_path / name, *chosen, pipeline=pipeline) for name in ("whole", "parts"))
    expected = train(whole, labelled)
    assert expected.masks is not None
    assert expected.masks.global_sampler.grid == (5, 5)
    with Display() as display, Trainer(parts, open_folder(labelled), display) as stopped, monkeypatch.context() as patch:
        interrupt_at(stopped, stop_at, patch)
        stopped.run()
    actual = train(parts, labelled, checkpoint.load(parts.checkpoint_folder / checkpoint.LATEST, torch.device("cpu")))
    assert len(lines(whole, "train")) == 15
    for name in ("loss", "grad_norm"):
        assert [line[name] for line in lines(parts, "train")] == [line[name] for line in lines(whole, "train")], name
    for name, tensor in expected.model.state_dict().items():
        assert torch.equal(tensor, actual.model.state_dict()[name]), name
    assert actual.result.accuracies == expected.result.accuracies


def test_a_run_sees_the_crops_of_each_phase(labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, real = [], Loader.__iter__

    def iterate(loader: Loader) -> Iterator[Batch]:
        for batch in real(loader):
            if batch.locals is not None:
                seen.append((loader.epoch, len(batch.locals), batch.globals.shape[-1], batch.locals.shape[-1]))
            yield batch

    monkeypatch.setattr(Loader, "__iter__", iterate)
    chosen = [*DINO, PHASES, "data.image_size=48", "evaluation.knn.enabled=false"]
    assert train(tiny(tmp_path, *chosen), labelled).result.finished
    assert seen == [(0, 2, 32, 16)] * 5 + [(1, 3, 48, 16)] * 5 + [(2, 3, 40, 24)] * 5


@pytest.mark.parametrize("strategy", ["global_with_local_context", "cross_crop_prediction"])
def test_strategies_that_read_local_crops_go_on_bitwise(
    strategy: str, labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = "data.multicrop.local_crop_size=24"  # 3 x 3 patches, which four blocks and a context fit into
    chosen = [f"masking.strategy={strategy}", "evaluation.knn.enabled=false", "training.epochs=2", room]
    whole, parts = (tiny(tmp_path / name, *chosen) for name in ("whole", "parts"))
    train(whole, labelled)
    with Display() as display, Trainer(parts, open_folder(labelled), display) as stopped, monkeypatch.context() as patch:
        interrupt_at(stopped, 3, patch)
        stopped.run()
    train(parts, labelled, checkpoint.load(parts.checkpoint_folder / checkpoint.LATEST, torch.device("cpu")))
    for name in ("loss", "loss_cross", "grad_norm"):
        assert [line[name] for line in lines(parts, "train")] == [line[name] for line in lines(whole, "train")], name
    assert all((line["loss_cross"] > 0) == (strategy == "cross_crop_prediction") for line in lines(whole, "train"))


@pytest.mark.parametrize(
    ("images", "batch_size", "accumulation", "step"),
    [(16, 8, 1, 2), (16, 8, 2, 1), (32, 8, 2, 2), (24, 12, 1, 2), (0, 8, 1, 0)],
)
def test_larger_batches_make_the_steps_that_are_left_of_the_epoch(
    images: int, batch_size: int, accumulation: int, step: int, labelled: Path, tmp_path: Path
) -> None:
    """As on more ranks: a run of batches of 4 stood at so many of 40 images."""
    options = ["evaluation.knn.enabled=false", "training.epochs=2"]
    with (
        Display() as display,
        Trainer(tiny(tmp_path, *options, "data.batch_size=4"), open_folder(labelled), display) as trainer,
    ):
        state = trainer._state() | {"step": images // 4}
        state["loader"]["position"] = images
    division = [f"data.batch_size={batch_size}", f"training.accumulation_steps={accumulation}"]
    with Display() as display, Trainer(tiny(tmp_path, *options, *division), open_folder(labelled), display, state) as resumed:
        assert resumed.step == step
        result = resumed.run()
        assert result.finished
        assert result.step == 2 * (40 // batch_size // accumulation)


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ({"optimizer": {}}, "KeyError: 'param_groups'"),
        ({"model": {}}, "RuntimeError: Error"),
        ({"torch_rng": torch.zeros(3)}, "TypeError: "),
        ({"loader": {"position": None}}, "TypeError: "),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_checkpoint_that_is_damaged_inside_is_refused(
    entry: dict[str, Any], reason: str, labelled: Path, tmp_path: Path
) -> None:
    with Display() as display, Trainer(tiny(tmp_path), open_folder(labelled), display) as trainer:
        state = trainer._state()
    state |= {"loader": state["loader"] | entry["loader"]} if "loader" in entry else entry
    with pytest.raises(checkpoint.CheckpointError, match=rf"is damaged, or another hjepa's \({reason}.*\); resume from"):
        train(tiny(tmp_path), labelled, state)


def test_larger_batches_that_leave_nothing_of_an_epoch_end_it(labelled: Path, tmp_path: Path) -> None:
    with Display() as display, Trainer(tiny(tmp_path, "data.batch_size=4"), open_folder(labelled), display) as trainer:
        state = trainer._state() | {"step": 9, "first_loss": 1.0}
        state["loader"]["position"] = 36
    settings = tiny(tmp_path, "data.batch_size=12", "training.epochs=1")
    with Display() as display, Trainer(settings, open_folder(labelled), display, state) as resumed:
        assert not resumed.is_done
        result = resumed.run()
    assert result.finished
    assert list(result.accuracies) == [1]
    assert (settings.checkpoint_folder / "epoch_0001.pt").exists()
    saved = checkpoint.load(settings.checkpoint_folder / checkpoint.LATEST, torch.device("cpu"))
    with Display() as display, Trainer(settings, open_folder(labelled), display, saved) as resumed:
        assert resumed.is_done


def test_a_run_on_another_thread_than_the_main_one_ends_as_any(labelled: Path, tmp_path: Path) -> None:
    """As under Ray: Python lets the main thread alone listen to signals."""
    settings = tiny(tmp_path, "training.epochs=1", "training.warmup_epochs=0")
    with ThreadPoolExecutor(1) as pool:
        trainer = pool.submit(train, settings, labelled).result()
    assert trainer.result.finished


def test_crash_resumes_from_the_end_of_the_last_saved_epoch(labelled: Path, tmp_path: Path) -> None:
    settings = tiny(tmp_path)
    with Display() as display, Trainer(settings, open_folder(labelled), display) as trainer:
        trainer.train_epoch(0)
        trainer.end_epoch(1)
        assert trainer.step == 5
    state = checkpoint.load(settings.checkpoint_folder / checkpoint.LATEST, torch.device("cpu"))
    assert (state["step"], state["loader"]["epoch"], state["loader"]["position"]) == (5, 1, 0)


def test_an_evaluation_that_fails_loses_no_epoch_and_is_made_up_for(
    labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parts = (tiny(tmp_path / name, "training.epochs=1", "evaluation.knn.k=3") for name in ("whole", "parts"))
    expected, real = train(whole, labelled), Trainer.evaluate

    def evaluate(trainer: Trainer, epochs_done: int) -> None:
        if epochs_done == 1:
            raise OSError("the disk of the images is away")
        real(trainer, epochs_done)

    monkeypatch.setattr(Trainer, "evaluate", evaluate)
    with pytest.raises(OSError, match="is away"):
        train(parts, labelled)
    monkeypatch.setattr(Trainer, "evaluate", real)
    latest = parts.checkpoint_folder / checkpoint.LATEST
    state = checkpoint.load(latest, CPU)
    assert (state["step"], state["accuracies"].keys()) == (5, {0})
    resumed = train(parts, labelled, state)
    assert resumed.result.finished
    assert (resumed.result.accuracies, resumed.result.rankme) == (expected.result.accuracies, expected.result.rankme)
    assert sorted(path.name for path in parts.checkpoint_folder.iterdir()) == ["epoch_0001.pt", "latest.pt"]
    with Display() as display, Trainer(parts, open_folder(labelled), display, checkpoint.load(latest, CPU)) as again:
        assert again.is_done


@pytest.mark.parametrize("stop_at", [5, 15], ids=["the first epoch", "the last one"])
def test_a_run_that_is_stopped_at_the_end_of_an_epoch_leaves_the_evaluation_to_the_resumed_one(
    stop_at: int, labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parts = (tiny(tmp_path / name, "evaluation.eval_frequency=1") for name in ("whole", "parts"))
    expected = train(whole, labelled)
    with Display() as display, Trainer(parts, open_folder(labelled), display) as stopped, monkeypatch.context() as patch:
        interrupt_at(stopped, stop_at, patch)
        stopped.run()
    assert not stopped.result.finished
    assert stop_at // 5 not in stopped.result.accuracies
    assert [path.name for path in parts.checkpoint_folder.glob(f"epoch_{stop_at // 5:04d}.pt")] == []
    actual = train(parts, labelled, checkpoint.load(parts.checkpoint_folder / checkpoint.LATEST, CPU))
    assert actual.result.finished
    assert actual.result.accuracies == expected.result.accuracies
    assert [line["rankme"] for line in lines(parts, "evaluation")] == [line["rankme"] for line in lines(whole, "evaluation")]
    for name, tensor in expected.model.state_dict().items():
        assert torch.equal(tensor, actual.model.state_dict()[name]), name
    left, wanted = ({path.name for path in run.checkpoint_folder.iterdir()} for run in (parts, whole))
    assert left == wanted


@pytest.mark.parametrize("epochs_done", [0, 2, 3], ids=["before the first step", "after an epoch", "after the last"])
def test_a_signal_breaks_an_evaluation_off_and_the_resumed_run_makes_it(
    epochs_done: int, labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parts = (tiny(tmp_path / name, "evaluation.eval_frequency=1") for name in ("whole", "parts"))
    expected, real, measured = train(whole, labelled), trainer_module.measure, []

    def measure(*given: Any, **named: Any) -> Evaluation:
        if len(measured) == epochs_done:
            os.kill(os.getpid(), signal.SIGTERM)
        found = real(*given, **named)
        measured.append(found)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(trainer_module, "measure", measure)
        stopped = train(parts, labelled)
    assert (stopped.result.signal, stopped.result.finished, stopped.step) == (signal.SIGTERM, False, 5 * epochs_done)
    assert len(measured) == epochs_done  # and not one more, which might take minutes
    actual = train(parts, labelled, checkpoint.load(parts.checkpoint_folder / checkpoint.LATEST, CPU, checkpoint.RESUMED))
    assert actual.result.finished
    assert actual.result.rankme == expected.result.rankme
    assert [line["rankme"] for line in lines(parts, "evaluation")] == [line["rankme"] for line in lines(whole, "evaluation")]
    assert [line["loss"] for line in lines(parts, "train")] == [line["loss"] for line in lines(whole, "train")]


def test_accumulated_batches_make_one_update_of_student_and_teacher(
    labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    followed = []
    real = HierarchicalJepa.update_teacher
    monkeypatch.setattr(HierarchicalJepa, "update_teacher", lambda *given: followed.append(0) or real(*given))
    backward, batches = trainer_module.backward, []
    monkeypatch.setattr(trainer_module, "backward", lambda *given, **options: batches.append(0) or backward(*given, **options))
    settings = tiny(tmp_path, "training.accumulation_steps=2", "training.epochs=2")
    trainer = train(settings, labelled)
    assert len(batches) == 8
    assert trainer.result.step == len(followed) == 4  # 5 batches per epoch make 2 updates, the fifth is left out
    assert [line["epoch"] for line in lines(settings, "train")] == [0, 0, 1, 1]


def test_accumulation_over_more_than_an_epoch_is_refused(labelled: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="more than the 5 batches"):
        train(tiny(tmp_path, "training.accumulation_steps=6"), labelled)


def test_only_the_student_learns_and_the_teacher_follows(labelled: Path, tmp_path: Path) -> None:
    settings = tiny(tmp_path, "training.epochs=1", "model.ema.momentum=1.0")
    with Display() as display, Trainer(settings, open_folder(labelled), display) as trainer:
        before = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
        trainer.train_epoch(0)
        after = trainer.model.state_dict()
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"encoder", "predictor", "view_projector"}  # at momentum 1 the teacher stays


@pytest.mark.parametrize("weights", ["none", "attention"])
def test_loss_that_is_no_number_stops_the_run(
    weights: str, labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Batch, "globals", property(lambda batch: batch.crops["global"] * float("nan")))
    monkeypatch.setattr(Trainer, "evaluate", lambda *_: None)  # it would read those images, too
    with pytest.raises(DivergedError, match=r"loss is nan and its gradient nan at step 1; .* lower training\.lr"):
        train(tiny(tmp_path, f"masking.weights={weights}"), labelled)


def test_gradient_that_is_no_number_in_the_last_step_is_not_saved(
    labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, real, seen = tiny(tmp_path, "training.epochs=1"), trainer_module.backward, []

    def backward(model: torch.nn.Module, *given: object, **options: object) -> object:
        losses = real(model, *given, **options)
        seen.append(0)
        if len(seen) == 5:
            next(model.parameters()).grad[0] = torch.nan
        return losses

    monkeypatch.setattr(trainer_module, "backward", backward)
    said = rf"the loss is \d.* and its gradient nan at step 5; .*lower training\.lr \(now {settings.training.lr:g};"
    with pytest.raises(DivergedError, match=said):
        train(settings, labelled)
    assert not list(settings.checkpoint_folder.glob("*.pt"))


def test_unlabelled_images_train_without_knn_and_show_a_collapse(
    photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = ["data.multicrop.num_local_crops=0", "model.view_weight=0", "model.spread_weight=0"]
    settings = tiny(tmp_path, "training.epochs=1", *plain)
    trainer = train(settings, photographs)
    assert trainer.result.finished
    assert trainer.result.accuracies == {}
    measured = lines(settings, "evaluation")
    assert [line["epoch"] for line in measured] == [0, 1]
    assert [line["rankme"] for line in measured] == list(trainer.result.rankme.values())
    assert all(line["feature_std"] > 0 and line["num_images"] == 32 and "knn_accuracy" not in line for line in measured)
    assert f"after 1 epoch: RankMe {measured[1]['rankme']:.1f}" in capsys.readouterr().out


def test_linear_probe_is_measured_where_asked_and_changes_nothing_else(
    labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = tiny(tmp_path / "plain", "training.epochs=2", "evaluation.eval_frequency=1")
    train(plain, labelled)
    assert "probe" not in capsys.readouterr().out
    probed = tiny(
        tmp_path / "probed", "training.epochs=2", "evaluation.eval_frequency=1", "evaluation.linear_probe.enabled=true"
    )
    train(probed, labelled)
    assert capsys.readouterr().out.count("linear probe") == 3
    assert [line["loss"] for line in lines(probed, "train")] == [line["loss"] for line in lines(plain, "train")]
    for with_probe, without in zip(lines(probed, "evaluation"), lines(plain, "evaluation"), strict=True):
        assert with_probe.pop("linear_probe_accuracy") > 0.8  # one class is dark, the other light
        assert with_probe | {"time": 0} == without | {"time": 0}


def test_a_run_that_asks_for_no_accuracy_is_watched_all_the_same(labelled: Path, tmp_path: Path) -> None:
    result = train(tiny(tmp_path, "training.epochs=1", "evaluation.knn.enabled=false"), labelled).result
    assert (set(result.accuracies), set(result.rankme)) == (set(), {0, 1})


def test_linear_probe_is_measured_without_knn_too(labelled: Path, tmp_path: Path) -> None:
    settings = tiny(tmp_path, "training.epochs=1", "evaluation.linear_probe.enabled=true", "evaluation.knn.enabled=false")
    result = train(settings, labelled).result
    assert (set(result.accuracies), set(result.probe_accuracies)) == (set(), {0, 1})
    assert all("knn_accuracy" not in line for line in lines(settings, "evaluation"))


def test_linear_probe_reads_the_labelled_images_that_are_named(photographs: Path, labelled: Path, tmp_path: Path) -> None:
    probe = "evaluation.linear_probe"
    settings = tiny(tmp_path, "training.epochs=1", f"{probe}.enabled=true", f"{probe}.data_path={labelled}")
    result = train(settings, photographs).result
    assert result.accuracies == {}  # the run's own images have no labels
    assert result.probe_accuracies[1] > 0.8  # one class is dark, the other light
    with pytest.raises(ValueError, match="two classes or more, and these have 0"):
        train(tiny(tmp_path / "other", f"{probe}.enabled=true", f"{probe}.data_path={photographs}"), labelled)


def test_a_collapse_is_said_of_trained_features_alone(
    labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("hjepa.evaluate.LEAST_RANK", 2.0)  # any features have collapsed then
    train(tiny(tmp_path, "training.epochs=1", "evaluation.eval_frequency=1"), labelled)
    untrained, trained = capsys.readouterr().out.split("after 1 epoch: kNN")
    assert "after 0 epochs: kNN" in untrained
    assert "have collapsed" not in untrained
    assert "have collapsed" in trained


def test_linear_probe_without_labels_is_refused(photographs: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs images of two classes or more, and these have 0"):
        train(tiny(tmp_path, "evaluation.linear_probe.enabled=true"), photographs)
    assert not list(tmp_path.iterdir())


def test_masks_are_keyed_by_sample_not_by_place_in_the_batch(labelled: Path, tmp_path: Path) -> None:
    seen: list[dict[int, torch.Tensor]] = []
    for size in (8, 5):
        settings = tiny(tmp_path / str(size), f"data.batch_size={size}")
        with Display() as display, Trainer(settings, open_folder(labelled), display) as trainer:
            masks = {}
            for batch in trainer.loader:
                drawn = draw_masks(trainer.masks, batch, settings)
                masks |= {int(index): drawn.context_index[:, :, place] for place, index in enumerate(batch.indices)}
            seen.append(masks)
    assert seen[0].keys() == seen[1].keys()
    assert all(torch.equal(seen[0][index], seen[1][index]) for index in seen[0])
