"""Where figures and pictures go: lines, TensorBoard, and Weights & Biases where it is installed and asked for."""

import json
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from hjepa import checkpoint, metrics
from hjepa.configs.load import load_settings
from hjepa.configs.schema import Settings
from hjepa.display import Display
from hjepa.metrics import Metrics
from hjepa.pipeline.folder import open_folder
from hjepa.trainer import Trainer

REPORTED = "logging.wandb.enabled=true"


def quick(output: Path, *overrides: str) -> Settings:
    place = ["data.dataset=imagefolder", "data.data_path=unused", "data.pipeline=torchvision", "data.num_workers=0"]
    short = ["data.batch_size=8", "training.epochs=1", "logging.log_frequency=1", "device=cpu", f"output_dir={output}"]
    config = "small_dino" if "objective=dino" in overrides else "small"
    return load_settings(Path(config), [*place, *short, *overrides])


def train(settings: Settings, folder: Path) -> Trainer:
    with Display() as display, Trainer(settings, open_folder(folder), display) as trainer:
        trainer.run()
    return trainer


def train_lines(settings: Settings) -> list[dict[str, Any]]:
    lines = map(json.loads, settings.metrics_file.read_text().splitlines())
    return [line for line in lines if line["kind"] == "train"]


class FakeError(Exception):
    """As wandb.Error."""


class FakeWandb(SimpleNamespace):
    """Remembers what it is told."""

    def __init__(self) -> None:
        super().__init__(given=[], logged=[], axes=[], finished=0, Image=lambda path: ("picture", path), Error=FakeError)

    def init(self, **given: Any) -> "FakeWandb":
        self.given.append(given)
        self.id = given["id"] or "first"
        return self

    def define_metric(self, name: str, step_metric: str) -> None:
        self.axes.append((name, step_metric))

    def log(self, values: dict[str, Any]) -> None:
        self.logged.append((values["step"], values))

    def finish(self) -> None:
        self.finished += 1


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> FakeWandb:
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    return fake


def events(settings: Settings) -> EventAccumulator:
    accumulated = EventAccumulator(str(settings.log_folder))
    accumulated.Reload()
    return accumulated


@pytest.mark.parametrize(
    "objective",
    [
        ["model.view_weight=0", "model.spread_weight=0"],
        ["objective=dino", "dino.num_prototypes=16", "dino.hidden=16", "dino.bottleneck=8"],
    ],
    ids=["hjepa", "dino"],
)
def test_tensorboard_shows_the_curves_and_one_picture_of_the_first_crops(
    objective: list[str], labelled: Path, tmp_path: Path
) -> None:
    settings = quick(tmp_path, *objective)
    trainer = train(settings, labelled)
    seen = events(settings)
    steps = train_lines(settings)
    assert [event.value for event in seen.Scalars("train/loss")] == pytest.approx([line["loss"] for line in steps])
    assert {f"train/{name}" for name in steps[0].keys() - {"kind", "step", "time"}} <= set(seen.Tags()["scalars"])
    (shown,) = seen.Images("crops and masks")
    with Image.open(trainer.picture) as picture:
        assert (shown.step, shown.width, shown.height) == (0, *picture.size)
        assert min(picture.size) > 300


def test_steps_that_are_made_again_after_a_crash_are_written_once(labelled: Path, tmp_path: Path) -> None:
    settings = quick(tmp_path, "training.epochs=2", "checkpoint.save_frequency=1", "evaluation.eval_frequency=1")
    with Display() as display, Trainer(settings, open_folder(labelled), display) as crashed:
        crashed.evaluate(0)
        for epoch in range(2):
            crashed.train_epoch(epoch)
            if epoch == 0:
                crashed.end_epoch(1)
    with open(settings.metrics_file, "a", encoding="utf-8") as lines:
        lines.write('{"kind": "train", "st')  # it was killed while it wrote
    state = checkpoint.load(settings.checkpoint_folder / checkpoint.LATEST, torch.device("cpu"))
    with Display() as display, Trainer(settings, open_folder(labelled), display, state) as resumed:
        resumed.run()
    lines = list(map(json.loads, settings.metrics_file.read_text().splitlines()))
    assert [line["step"] for line in lines if line["kind"] == "train"] == list(range(1, 11))
    assert [line["step"] for line in lines if line["kind"] == "evaluation"] == [0, 5, 10]
    assert [event.step for event in events(settings).Scalars("train/loss")] == list(range(1, 11))
    assert [event.step for event in events(settings).Scalars("evaluation/rankme")] == [0, 5, 10]


def test_wandb_is_told_what_the_lines_say_and_the_picture(wandb: FakeWandb, labelled: Path, tmp_path: Path) -> None:
    settings = quick(tmp_path, REPORTED, "logging.wandb.project=p", "logging.wandb.tags=[a]")
    trainer = train(settings, labelled)
    (given,) = wandb.given
    assert (given["project"], given["entity"], given["tags"], given["name"]) == ("p", None, ["a"], "small")
    assert given["config"]["training"]["epochs"] == 1
    curves = {(step, name): value for step, values in wandb.logged for name, value in values.items()}
    for line in train_lines(settings):
        assert curves[line["step"], "train/loss"] == line["loss"]
    assert (0, "evaluation/knn_accuracy") in curves
    assert curves[0, "crops and masks"] == ("picture", str(trainer.picture))
    assert wandb.axes == [("*", "step")]  # its own steps only ever rise, those of a run that goes on do not
    assert wandb.finished == 1


def test_a_resumed_run_goes_on_with_its_own_curves(wandb: FakeWandb, tmp_path: Path) -> None:
    for resume in (None, {"step": 1, "first_loss": 1.0}):
        Metrics(quick(tmp_path, REPORTED), resume).close()
    assert [given["id"] for given in wandb.given] == [None, "first"]
    Metrics(quick(tmp_path / "other", REPORTED)).close()
    assert wandb.given[-1]["id"] is None


def test_a_new_run_shows_nothing_of_one_that_ended_before_its_first_checkpoint(wandb: FakeWandb, tmp_path: Path) -> None:
    """Its curves would be drawn as the new run's, and Weights & Biases would drop the new ones of the same steps."""
    settings = quick(tmp_path, REPORTED, f"logging.log_dir={tmp_path / 'curves'}")
    for value, steps in ((1.0, 5), (2.0, 2)):
        metrics = Metrics(settings)
        for step in range(steps):
            metrics.record("train", step, {"loss": value})
        metrics.close()
    assert [(event.step, event.value) for event in events(settings).Scalars("train/loss")] == [(0, 2.0), (1, 2.0)]
    assert [line["loss"] for line in train_lines(settings)] == [2.0, 2.0]
    assert [given["id"] for given in wandb.given] == [None, None]


def test_wandb_that_is_not_installed_is_refused_where_it_is_asked_for(
    labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ValueError, match="needs the package wandb, which is not installed; pip install wandb"):
        train(quick(tmp_path, REPORTED), labelled)
    assert not list(tmp_path.iterdir())
    Metrics(quick(tmp_path)).close()  # and imported nowhere else


def test_a_run_that_wandb_cannot_begin_says_what_to_do(
    wandb: FakeWandb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def init(**_: Any) -> None:
        raise FakeError("No API key configured.")

    monkeypatch.setattr(wandb, "init", init)
    with pytest.raises(RuntimeError, match=r"\(No API key configured\.\); log in \(wandb login.* WANDB_MODE=offline"):
        Metrics(quick(tmp_path, REPORTED))


@pytest.mark.parametrize("failing", ["log", "finish"])
def test_a_run_outlives_wandbs_own_process(
    failing: str, wandb: FakeWandb, labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise ConnectionResetError("Connection lost")

    monkeypatch.setattr(wandb, failing, fail)
    with pytest.warns(UserWarning, match=r"told nothing more of this run \(Connection lost\)") as warned:
        trainer = train(quick(tmp_path, REPORTED), labelled)
    assert len(warned) == 1
    assert trainer.result.finished
    assert (trainer.settings.checkpoint_folder / checkpoint.LATEST).exists()
    assert len(train_lines(trainer.settings)) == 5


def test_pictures_need_no_tensorboard(tmp_path: Path) -> None:
    settings = quick(tmp_path, "logging.tensorboard.enabled=false")
    picture = tmp_path / "picture.png"
    Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(picture)
    metrics = Metrics(settings)
    metrics.picture("crops", 0, picture)
    metrics.close()
    assert not list(settings.log_folder.glob("events*"))


def test_an_evaluation_that_no_checkpoint_knows_of_is_written_once(
    labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, real = quick(tmp_path, "training.epochs=1", "checkpoint.save_frequency=1"), Trainer.save

    def save(trainer: Trainer, epochs_done: int | None = None) -> None:
        if epochs_done is not None:
            raise OSError("killed after the evaluation")
        real(trainer)

    monkeypatch.setattr(Trainer, "save", save)
    with pytest.raises(OSError, match="killed"), Display() as display, Trainer(settings, open_folder(labelled), display) as run:
        run.run()
    monkeypatch.setattr(Trainer, "save", real)
    state = checkpoint.load(settings.checkpoint_folder / checkpoint.LATEST, torch.device("cpu"))
    with Display() as display, Trainer(settings, open_folder(labelled), display, state) as resumed:
        resumed.run()
    lines = list(map(json.loads, settings.metrics_file.read_text().splitlines()))
    assert [(line["kind"], line["step"]) for line in lines if line["kind"] == "evaluation"] == [
        ("evaluation", 0),
        ("evaluation", 5),
    ]


def test_lines_of_an_earlier_leg_stay_whatever_their_steps(tmp_path: Path) -> None:
    """One rank counts to 4; two go on from there as step 2, are killed after 4, and go on from 3."""
    legs = [1, 2, 3, 4, 3, 4]
    (tmp_path / "log").write_text("".join(json.dumps({"step": step}) + "\n" for step in legs) + '{"ste')
    metrics._drop_later(tmp_path / "log", 3, evaluates_again=False)
    assert [json.loads(line)["step"] for line in (tmp_path / "log").read_text().splitlines()] == [1, 2, 3, 4, 3]
    (tmp_path / "log").write_text('{"step": 1}\n{"step": 2, "lo{"step": 3}\n{"step": 4}\n')
    metrics._drop_later(tmp_path / "log", 3, evaluates_again=False)
    assert len((tmp_path / "log").read_text().splitlines()) == 2


def test_tensorboard_shows_the_evaluation_before_the_first_step_once(tmp_path: Path) -> None:
    settings = quick(tmp_path)
    for resume, value in ((None, 1.0), ({"step": 0, "first_loss": None}, 2.0)):
        metrics = Metrics(settings, resume)
        metrics.record("evaluation", 0, {"rankme": value})
        metrics.close()
    assert [(event.step, event.value) for event in events(settings).Scalars("evaluation/rankme")] == [(0, 2.0)]


def test_lines_of_a_full_disk_wait_until_there_is_room(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = quick(tmp_path, "logging.tensorboard.enabled=false")
    metrics = Metrics(settings)
    metrics.record("train", 1, {"loss": 1.0})
    whole, full = settings.metrics_file.rename(tmp_path / "whole"), settings.metrics_file
    full.symlink_to("/dev/full")
    for step in (2, 3):
        metrics.record("train", step, {"loss": 1.0})
    assert [record.message.partition(" (")[::2] for record in caplog.records] == [
        (f"cannot write the log {full}", "No space left on device); its lines wait until it can be")
    ]
    full.unlink()
    whole.rename(full)
    metrics.record("train", 4, {"loss": 1.0})
    assert [line["step"] for line in train_lines(settings)] == [1, 2, 3, 4]
    full.unlink()
    full.symlink_to("/dev/full")
    metrics.record("train", 5, {"loss": 1.0})
    metrics.close()
    assert caplog.records[-1].message == f"the last lines of the log {full}, 1, could not be written"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # of TensorBoard's own thread
def test_curves_that_cannot_be_written_end_and_the_lines_go_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = quick(tmp_path)
    before = set(threading.enumerate())
    metrics = Metrics(settings)
    (thread,) = set(threading.enumerate()) - before
    (file,) = settings.log_folder.glob("events*")
    file.unlink()
    file.symlink_to("/dev/full")
    for step in range(20):
        metrics.record("train", step, {"loss": 1.0})
    metrics.close()
    thread.join()
    assert [record.message for record in caplog.records] == [
        "TensorBoard's curves end here, as they cannot be written: No space left on device"
    ]
    assert len(train_lines(settings)) == 20
