"""The training run: steps, what is measured between them, and checkpoints from which it continues bitwise."""

import math
import signal
from dataclasses import asdict
from typing import Any

import torch

from hjepa import checkpoint
from hjepa.assembly import build_loader, build_masks, open_probe_source
from hjepa.configs.schema import Settings
from hjepa.display import Display
from hjepa.distributed import Ranks
from hjepa.evaluate import check_labels, measure
from hjepa.gpu_monitor import GpuMonitor
from hjepa.kept import Kept
from hjepa.metrics import Metrics
from hjepa.model_assembly import Model, build_model
from hjepa.pipeline.batch import Batch
from hjepa.pipeline.source import Source
from hjepa.result import Result
from hjepa.result_table import counted
from hjepa.schedules import Schedule, schedule
from hjepa.sharding import is_sharded, load_model, load_optimizer, whole
from hjepa.step import backward, build_optimizer, update, watch
from hjepa.step_masks import StepMasks, draw_masks
from hjepa.stop import StopAskedError, StopRequest
from hjepa.view import save_picture
from hjepa.wandb_run import check_wandb
from hjepa.window import Window


class DivergedError(RuntimeError):
    """The loss is no longer a number."""


class Trainer:
    """Trains one model; use it as a context manager. `resume` is a loaded checkpoint; `ranks` have been joined."""

    def __init__(
        self,
        settings: Settings,
        source: Source,
        display: Display,
        resume: dict[str, Any] | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        check_wandb(settings)
        self.settings = settings
        self.source = source
        self.display = display
        self.ranks = Ranks(settings) if ranks is None else ranks
        self.probe_source = open_probe_source(settings, display.show) if self.ranks.is_first else None
        if self.ranks.is_first:
            check_labels(settings, source, self.probe_source)
        self.result = Result()
        self.picture = settings.log_folder / "crops.png"
        self.loader = build_loader(settings, source, "train")
        self.model = build_model(settings, self.ranks.device)
        self.joined_model = self.ranks.wrap(self.model)
        self.masks = build_masks(settings) if settings.objective == "hjepa" else None
        self.optimizer = build_optimizer(self.model, settings)
        if not self.steps_per_epoch:
            raise ValueError(
                f"training.accumulation_steps={settings.training.accumulation_steps} is more than the {len(self.loader)} "
                "batches of an epoch, so no update would ever be made; lower it, or data.batch_size"
            )
        self.step = 0
        self._kept = Kept(settings)
        self._unended = 0  # a number of epochs whose end, with evaluation and checkpoint, is still to come or under way
        self._window = Window()
        self._note = ""  # what is shown beside the bar
        self._request = StopRequest()
        if resume is not None:
            self._restore(resume)
        self.metrics = Metrics(settings, resume) if self.ranks.is_first else None
        self.gpu = GpuMonitor(self.ranks.device)

    @property
    def steps_per_epoch(self) -> int:
        """Updates per epoch; batches that fill no update are left out."""
        return len(self.loader) // self.settings.training.accumulation_steps

    @property
    def is_done(self) -> bool:
        """Whether a resumed run has nothing left to do."""
        return self.loader.epoch >= self.settings.training.epochs and not self._unended

    def run(self) -> Result:
        """Trains to the end, or until a signal on any rank (stop.py), which saves a checkpoint after the step in progress."""
        with self._request.listening():
            if self.result.first_loss is None:  # nothing was trained yet
                self.evaluate(0)
            if self._unended:
                self.end_epoch(self._unended)
            for epoch in range(self.loader.epoch, self.settings.training.epochs):
                if self._agree_to_stop():
                    break
                if self.train_epoch(epoch):
                    self.end_epoch(epoch + 1)
            if self.result.signal:
                self.display.clear()
                self.display.say(f"{signal.Signals(self.result.signal).name}: saving a checkpoint")
                self.save()
        self.display.clear()
        self.result.finished = self.step == self.settings.training.epochs * self.steps_per_epoch and not self._unended
        self.result.step = self.step
        self.result.bad_images = len(self.loader.quarantine or ())
        return self.result

    def train_epoch(self, epoch: int) -> bool:
        """One epoch, or what a resumed run has left of it; False where a signal ended it early."""
        accumulation = self.settings.training.accumulation_steps
        num_batches = ((epoch + 1) * self.steps_per_epoch - self.step) * accumulation
        self.loader.set_epoch(epoch)
        if self.masks is not None:
            self.masks = build_masks(self.settings, epoch)  # their grid and scale may follow the epochs
        self._window = Window()
        for number, batch in enumerate(self.loader, start=1):
            if number > num_batches:
                continue  # these fill no update
            values = schedule(self.settings, self.step, self.steps_per_epoch)
            watched = watch(self.model, batch, self.settings)
            masks = None if self.masks is None else draw_masks(self.masks, batch, self.settings, watched)
            last = number % accumulation == 0
            losses = backward(self.joined_model, batch, masks, values, self.settings, last=last)
            self._window.add(batch, losses, self.loader.wait_seconds)
            if self.step == 0 and number == 1:
                self._show(batch, masks)
            if last:
                norm = update(self.model, self.optimizer, values, self.settings.training.clip_grad)
                self.step += 1
                stopping = self._agree_to_stop()
                self._report(epoch, values, norm, stopping)
                if stopping and self.step % self.steps_per_epoch:
                    return False
        return True

    def end_epoch(self, epochs_done: int) -> None:
        """Evaluation and checkpoint, as often as the settings say, and both at the end of the run.

        The checkpoint comes first, so that no epoch is lost with an evaluation that fails; one that is written on the way to
        the evaluation, or to a stop, has the resumed run do what is left.
        """
        settings, self._unended = self.settings, epochs_done
        if self._agree_to_stop():
            return
        last = epochs_done == settings.training.epochs
        to_save = last or epochs_done % settings.checkpoint.save_frequency == 0
        if last or epochs_done % settings.evaluation.eval_frequency == 0:
            if to_save:
                self.save()
            if self.evaluate(epochs_done):
                return
        self._unended = 0
        if to_save:
            self.save(epochs_done)

    def evaluate(self, epochs_done: int) -> bool:
        """Collapse monitors of the teacher's features, and accuracies where the images have labels.

        The first rank measures, the others wait. Says whether a signal broke it off, which leaves it to a resumed run.
        """
        model, broken_off = self._whole_model(), False
        if self.metrics is not None:
            try:
                self._evaluate(epochs_done, model, self.metrics)
            except StopAskedError:
                broken_off = True
        return self.ranks.largest(broken_off) > 0 and self._agree_to_stop()

    def save(self, epochs_done: int | None = None) -> None:
        """Writes the latest checkpoint; at the end of an epoch also keeps it under its name while it is among the best."""
        state = self._state()
        if not self.ranks.is_first:
            return
        folder = self.settings.checkpoint_folder
        if epochs_done is not None:
            name = f"epoch_{epochs_done:04d}.pt"
            self._kept.add(name, epochs_done, self.result)
            checkpoint.save(folder / name, state | self._kept.state())
            self._kept.delete_worse()
        checkpoint.save(folder / checkpoint.LATEST, state | self._kept.state())

    def close(self) -> None:
        """Ends the loader and the logs."""
        self.loader.close()
        self.gpu.close()
        if self.metrics is not None:
            self.metrics.close()

    def __enter__(self) -> "Trainer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _show(self, batch: Batch, masks: StepMasks | None) -> None:
        """A picture of the first batch's crops and masks."""
        if self.metrics is not None:
            save_picture(self.picture, batch, masks, self.loader.recipe, self.source)
            self.metrics.picture("crops and masks", self.step, self.picture)

    def _agree_to_stop(self) -> bool:
        """Whether a signal came to any rank; all of them ask after the same steps, so all stop after the same one."""
        self.result.signal = self.ranks.largest(self._request.signal)
        return self.result.signal > 0

    def _whole_model(self) -> Model:
        """The model, for the first rank a copy in one piece where each rank holds a part of it; all ranks must ask."""
        if not is_sharded(self.model):
            return self.model
        weights = whole(self.model.state_dict())
        if not self.ranks.is_first:
            return self.model
        copy = build_model(self.settings, self.ranks.device)
        copy.load_state_dict(weights)
        return copy

    def _evaluate(self, epochs_done: int, model: Model, metrics: Metrics) -> None:
        def show(done: int, total: int) -> None:
            self._request.check()
            self.display.show(f"evaluation after {counted(epochs_done, 'epoch')}", done, total)

        found = measure(model, self.source, self.settings, show, self.probe_source)
        self.result.rankme[epochs_done] = found.rankme
        if found.knn_accuracy is not None:
            self.result.accuracies[epochs_done] = found.knn_accuracy
        if found.linear_probe_accuracy is not None:
            self.result.probe_accuracies[epochs_done] = found.linear_probe_accuracy
        measured = {name: value for name, value in asdict(found).items() if value is not None}
        metrics.record("evaluation", self.step, {"epoch": epochs_done, **measured})
        self.display.say(f"after {counted(epochs_done, 'epoch')}: {found.in_words}")
        if found.collapse is not None and epochs_done:  # an untrained encoder has nothing to lose
            self.display.say(found.collapse)

    def _report(self, epoch: int, values: Schedule, norm: torch.Tensor, stopping: bool) -> None:
        first = self.step - epoch * self.steps_per_epoch
        window, result = self._window, self.result
        if self.step % self.settings.logging.log_frequency == 0 or first == self.steps_per_epoch or stopping:
            line = window.summary()  # waits for the GPU: the only place in the loop that does
            if not (math.isfinite(line["loss"]) and math.isfinite(norm)):
                raise DivergedError(
                    f"the loss is {line['loss']} and its gradient {float(norm)} at step {self.step}; begin another run with a "
                    f"lower training.lr (now {self.settings.training.lr:g}; {values.learning_rate:.2g} in this step) or "
                    "training.clip_grad. Checkpoints, if any, are of earlier steps"
                )
            result.last_loss = line["loss"]
            result.first_loss = line["loss"] if result.first_loss is None else result.first_loss
            result.images += window.images
            result.seconds += window.seconds
            result.wait_seconds += window.wait_seconds
            rates = {"lr": values.learning_rate, "weight_decay": values.weight_decay, "momentum": values.momentum}
            if self.metrics is not None:
                self.metrics.record("train", self.step, {"epoch": epoch, **line, **rates, "grad_norm": float(norm)})
                if telemetry := self.gpu.read():
                    self.metrics.record("gpu", self.step, telemetry)
            self._note = (
                f"loss {line['loss']:.4f}  {line['images_per_second']:.0f} images/s  data wait {line['wait_share']:.0%}"
            )
            self._window = Window()
        description = f"epoch {epoch + 1}/{self.settings.training.epochs}"
        self.display.show(description, first, self.steps_per_epoch, self._note)

    def _state(self) -> dict[str, Any]:
        return {
            "model": whole(self.model.state_dict()),
            "optimizer": whole(self.optimizer.state_dict()),
            "step": self.step,
            "steps_per_epoch": self.steps_per_epoch,
            "world_size": self.ranks.world_size,
            "loader": self.loader.state_dict(),
            "engine": self.loader.engine,
            "torch_rng": torch.get_rng_state(),
            "settings": checkpoint.plain_settings(self.settings),
            "accuracies": dict(self.result.accuracies),
            "probe_accuracies": dict(self.result.probe_accuracies),
            "rankme": dict(self.result.rankme),
            "first_loss": self.result.first_loss,
            "unended": self._unended,
            **self._kept.state(),
        }

    @checkpoint.damage_said()
    def _restore(self, state: dict[str, Any]) -> None:
        load_model(self.model, state["model"])
        load_optimizer(self.optimizer, state["optimizer"])
        self.loader.load_state_dict(state["loader"])
        torch.set_rng_state(state["torch_rng"].cpu())
        self.result.accuracies, self.result.first_loss = state["accuracies"], state["first_loss"]
        # A checkpoint that is older than these has none.
        self.result.probe_accuracies, self.result.rankme = state.get("probe_accuracies", {}), state.get("rankme", {})
        # On another number of ranks an epoch has other steps: done are those that are not to come.
        to_come = self.loader.remaining // self.settings.training.accumulation_steps
        self.step = (self.loader.epoch + 1) * self.steps_per_epoch - to_come
        epochs, rest = divmod(state["step"], state.get("steps_per_epoch", self.steps_per_epoch))
        emptied = epochs + 1 if rest and epochs < self.loader.epoch else 0  # larger batches leave nothing of that epoch
        self._unended = state.get("unended", 0) or emptied
        self._kept.restore(state)
