"""The training run: steps, what is measured between them, and checkpoints from which it continues bitwise."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from hjepa import checkpoint
from hjepa.assembly import build_loader, build_masks, build_model
from hjepa.configs.schema import Settings
from hjepa.display import Display
from hjepa.evaluate import check_labels, evaluate_features
from hjepa.metrics import Metrics
from hjepa.models.hjepa import JepaLosses
from hjepa.models.monitors import baseline_ratio
from hjepa.pipeline.batch import Batch
from hjepa.pipeline.device import resolve_device
from hjepa.pipeline.source import Source
from hjepa.schedules import Schedule, schedule
from hjepa.step import backward, build_optimizer, draw_masks, update
from hjepa.view import save_picture


class DivergedError(RuntimeError):
    """The loss is no longer a number."""


@dataclass(slots=True)
class Result:
    """What a run came to."""

    finished: bool = False
    """False where it was interrupted."""
    signal: int = 0
    """Number of the signal that interrupted it."""
    step: int = 0
    first_loss: float | None = None
    """Mean over the first line of the log; None before it."""
    last_loss: float | None = None
    accuracies: dict[int, float] = field(default_factory=dict)
    """kNN accuracy by the number of epochs trained."""
    probe_accuracies: dict[int, float] = field(default_factory=dict)
    """The same of the linear probe."""
    images: int = 0
    """Images trained on by this process."""
    bad_images: int = 0
    """Images that others stand in for."""
    seconds: float = 0.0
    """Time spent training, without evaluation."""
    wait_seconds: float = 0.0
    """Of it, waiting for data."""


class Trainer:
    """Trains one model; use it as a context manager. `resume` is a loaded checkpoint."""

    def __init__(self, settings: Settings, source: Source, display: Display, resume: dict[str, Any] | None = None) -> None:
        check_labels(settings, source)
        self.settings = settings
        self.source = source
        self.display = display
        self.result = Result()
        self.picture = settings.log_folder / "crops.png"
        self.loader = build_loader(settings, source, "train")
        self.model = build_model(settings, resolve_device(settings.device))
        self.masks = build_masks(settings)
        self.optimizer = build_optimizer(self.model, settings)
        if not self.steps_per_epoch:
            raise ValueError(
                f"training.accumulation_steps={settings.training.accumulation_steps} is more than the {len(self.loader)} "
                "batches of an epoch, so no update would ever be made; lower it, or data.batch_size"
            )
        self.step = 0
        self._kept: dict[str, float] = {}
        self._window = _Window()
        self._stop_signal = 0
        if resume is not None:
            self._restore(resume)
        self.metrics = Metrics(settings.metrics_file, tensorboard=settings.logging.tensorboard.enabled)

    @property
    def steps_per_epoch(self) -> int:
        """Updates per epoch; batches that fill no update are left out."""
        return len(self.loader) // self.settings.training.accumulation_steps

    def run(self) -> Result:
        """Trains to the end, or until Ctrl-C or SIGTERM, which saves a checkpoint after the step in progress."""
        if self.step == 0:
            self.evaluate(0)
        with self._catch_signals():
            for epoch in range(self.loader.epoch, self.settings.training.epochs):
                if self.train_epoch(epoch):
                    self.end_epoch(epoch + 1)
                if self._stop_signal:
                    self.display.clear()
                    self.display.say(f"{signal.Signals(self._stop_signal).name}: saving a checkpoint")
                    self.save()
                    break
        self.display.clear()
        self.result.finished = self.step == self.settings.training.epochs * self.steps_per_epoch
        self.result.signal = self._stop_signal
        self.result.step = self.step
        self.result.bad_images = len(self.loader.quarantine or ())
        return self.result

    def train_epoch(self, epoch: int) -> bool:
        """One epoch, or what a resumed run has left of it; False where a signal ended it early."""
        accumulation = self.settings.training.accumulation_steps
        self.loader.set_epoch(epoch)
        self._window = _Window()
        for number, batch in enumerate(self.loader, start=1):
            masks = draw_masks(self.masks, batch, self.settings)
            losses = backward(self.model, batch, masks, self.settings)
            self._window.add(batch, losses, self.loader.wait_seconds)
            if self.step == 0 and number == 1:
                save_picture(self.picture, batch, masks, self.loader.recipe, self.source)
            if number % accumulation == 0:
                values = schedule(self.settings, self.step, self.steps_per_epoch)
                norm = update(self.model, self.optimizer, values, self.settings.training.clip_grad)
                self.step += 1
                self._report(epoch, values, norm)
                if self._stop_signal and self.step % self.steps_per_epoch:
                    return False
        self.optimizer.zero_grad(set_to_none=True)  # of batches that fill no update
        return True

    def end_epoch(self, epochs_done: int) -> None:
        """Evaluation and checkpoint, as often as the settings say, and both at the end of the run."""
        settings = self.settings
        last = epochs_done == settings.training.epochs
        if last or epochs_done % settings.evaluation.eval_frequency == 0:
            self.evaluate(epochs_done)
        if last or epochs_done % settings.checkpoint.save_frequency == 0:
            self.save(f"epoch_{epochs_done:04d}.pt", self._score(epochs_done))

    def evaluate(self, epochs_done: int) -> None:
        """Accuracies and collapse monitors of the teacher's features, left out where the images have no two labels."""
        task = f"evaluation after {epochs_done} epochs"
        found = evaluate_features(
            self.model, self.source, self.settings, lambda done, total: self.display.show(task, done, total)
        )
        if found is None:
            return
        spoken = []
        if found.knn_accuracy is not None:
            self.result.accuracies[epochs_done] = found.knn_accuracy
            spoken.append(f"kNN accuracy {found.knn_accuracy:.1%}")
        if found.linear_probe_accuracy is not None:
            self.result.probe_accuracies[epochs_done] = found.linear_probe_accuracy
            spoken.append(f"linear probe {found.linear_probe_accuracy:.1%}")
        measured = {name: value for name, value in asdict(found).items() if value is not None}
        self.metrics.record("evaluation", self.step, {"epoch": epochs_done, **measured})
        self.display.say(f"after {epochs_done} epochs: {', '.join(spoken)}, RankMe {found.rankme:.1f}")

    def save(self, name: str | None = None, score: float = 0.0) -> None:
        """Writes the latest checkpoint; with a name also keeps it under that name while its score is among the best."""
        folder = self.settings.checkpoint_folder
        if name is not None:
            checkpoint.save(folder / name, self._state())
            self._kept = checkpoint.keep_best(folder, self._kept | {name: score}, self.settings.checkpoint.keep_best_n)
        checkpoint.save(folder / checkpoint.LATEST, self._state())

    def close(self) -> None:
        """Ends the loader and the logs."""
        self.loader.close()
        self.metrics.close()

    def __enter__(self) -> "Trainer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _score(self, epochs_done: int) -> float:
        """Higher is better: the kNN accuracy (epochs without one go first), or the negative loss where none is measured."""
        if self.result.accuracies:
            return self.result.accuracies.get(epochs_done, -1.0)
        return -float("inf") if self.result.last_loss is None else -self.result.last_loss

    def _report(self, epoch: int, values: Schedule, norm: torch.Tensor) -> None:
        first = self.step - epoch * self.steps_per_epoch
        window, result = self._window, self.result
        if self.step % self.settings.logging.log_frequency == 0 or first == self.steps_per_epoch or self._stop_signal:
            line = window.summary()  # waits for the GPU: the only place in the loop that does
            if not max(line["loss"], float(norm)) < float("inf"):
                raise DivergedError(
                    f"the loss is {line['loss']} and its gradient {float(norm)} at step {self.step}; lower training.lr "
                    f"(now {values.learning_rate:.2g}) or training.clip_grad, and resume from the latest checkpoint"
                )
            result.last_loss = line["loss"]
            result.first_loss = line["loss"] if result.first_loss is None else result.first_loss
            result.images += window.images
            result.seconds += window.seconds
            result.wait_seconds += window.wait_seconds
            rates = {"lr": values.learning_rate, "weight_decay": values.weight_decay, "momentum": values.momentum}
            self.metrics.record("train", self.step, {"epoch": epoch, **line, **rates, "grad_norm": float(norm)})
            self._note = (
                f"loss {line['loss']:.4f}  {line['images_per_second']:.0f} images/s  data wait {line['wait_share']:.0%}"
            )
            self._window = _Window()
        description = f"epoch {epoch + 1}/{self.settings.training.epochs}"
        self.display.show(description, first, self.steps_per_epoch, self._note)

    _note = ""

    def _state(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "loader": self.loader.state_dict(),
            "torch_rng": torch.get_rng_state(),
            "settings": checkpoint.plain_settings(self.settings),
            "kept": self._kept,
            "accuracies": dict(self.result.accuracies),
            "probe_accuracies": dict(self.result.probe_accuracies),
            "first_loss": self.result.first_loss,
        }

    def _restore(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.loader.load_state_dict(state["loader"])
        torch.set_rng_state(state["torch_rng"].cpu())
        self.step = state["step"]
        self._kept = state["kept"]
        self.result.accuracies, self.result.first_loss = state["accuracies"], state["first_loss"]
        self.result.probe_accuracies = state.get("probe_accuracies", {})  # older than the probe, a checkpoint has none

    @contextmanager
    def _catch_signals(self) -> Iterator[None]:
        """The first Ctrl-C or SIGTERM asks for a checkpoint and the end; the second acts as it would without us."""

        def stop(number: int, _: object) -> None:
            signal.signal(number, previous[signal.Signals(number)])
            self._stop_signal = number  # nothing is printed here: the signal may have come in the middle of a print

        previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            for number in previous:
                signal.signal(number, stop)
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)


class _Window:
    """Sums over the steps since the last line of the log; they stay on the device until the line is written."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._losses: list[JepaLosses] = []
        self.images = 0
        self.wait_seconds = 0.0
        self.seconds = 0.0

    def add(self, batch: Batch, losses: JepaLosses, wait_seconds: float) -> None:
        self._losses.append(losses)
        self.images += len(batch.labels)
        self.wait_seconds += wait_seconds

    def summary(self) -> dict[str, float]:
        levels = torch.stack([losses.levels for losses in self._losses]).mean(0)
        baselines = torch.stack([losses.baselines for losses in self._losses]).mean(0)
        ratios = baseline_ratio(levels, baselines).tolist()
        line = {
            "loss": torch.stack([losses.total.detach() for losses in self._losses]).mean().item(),
            **{f"loss_level_{number}": loss for number, loss in enumerate(levels.tolist())},
            **{f"baseline_ratio_level_{number}": ratio for number, ratio in enumerate(ratios)},
            "loss_view": torch.stack([losses.view for losses in self._losses]).mean().item(),
            "loss_spread": torch.stack([losses.spread for losses in self._losses]).mean().item(),
        }
        self.seconds = time.perf_counter() - self._start
        rates = {"images_per_second": self.images / self.seconds, "wait_share": self.wait_seconds / self.seconds}
        return line | rates
