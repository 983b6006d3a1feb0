"""Curves and pictures for Weights & Biases, where a run asks for them (logging.wandb); it is no dependency of hjepa."""

import importlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hjepa.configs.schema import Settings

IDENTITY = "wandb_id.txt"
"""File in the log folder, so that a resumed run goes on with its curves."""
STEP = "step"
"""Under this name each point has its step, which is the axis of all curves."""


def check_wandb(settings: Settings) -> None:
    """Raises ValueError where it is asked for and not installed."""
    if settings.logging.wandb.enabled:
        _import_wandb()


class WandbRun:
    """One run there, which may go on with the one of this log folder; call close() at its end.

    Raises RuntimeError where it cannot begin, as without an account. What fails later is said, and training goes on.
    """

    def __init__(self, settings: Settings, *, goes_on: bool) -> None:
        asked, identity = settings.logging.wandb, settings.log_folder / IDENTITY
        self._wandb = _import_wandb()
        try:
            self._run: Any = self._wandb.init(
                project=asked.project,
                entity=asked.entity,
                tags=list(asked.tags),
                name=settings.logging.experiment_name,
                dir=str(settings.log_folder),
                config=settings.model_dump(mode="json"),
                id=identity.read_text(encoding="utf-8") if goes_on and identity.exists() else None,
                resume="allow",
            )
        except self._wandb.Error as error:
            raise RuntimeError(
                f"Weights & Biases did not begin a run ({error}); log in (wandb login, or WANDB_API_KEY), set "
                "WANDB_MODE=offline where it cannot be reached, to send the run later (wandb sync), or set "
                "logging.wandb.enabled=false"
            ) from error
        identity.write_text(self._run.id, encoding="utf-8")
        # Not log(step=...): in a resumed run it drops steps that were told before, such as those that are made again, and the
        # evaluation that a signal left to it.
        self._run.define_metric("*", step_metric=STEP)

    def record(self, step: int, curves: dict[str, float | int]) -> None:
        """A point of each curve."""
        self._log({**curves, STEP: step})

    def picture(self, step: int, name: str, path: Path) -> None:
        """The picture in a file."""
        self._log({name: self._wandb.Image(str(path)), STEP: step})

    def close(self) -> None:
        """Sends what is left."""
        if self._run is not None:
            with self._loss_said():
                self._run.finish()

    def _log(self, values: dict[str, Any]) -> None:
        if self._run is not None:
            with self._loss_said():
                self._run.log(values)

    @contextmanager
    def _loss_said(self) -> Iterator[None]:
        """Reports nothing more once wandb's own process is gone; it hears Slurm's SIGTERM, too, before the run's checkpoint."""
        try:
            yield
        except Exception as error:  # of a process that was killed: OSError, or one of several classes of its own
            self._run = None
            lost = f"Weights & Biases is told nothing more of this run ({error}); lines and checkpoints are written as before"
            warnings.warn(lost, stacklevel=2)


def _import_wandb() -> Any:
    try:
        return importlib.import_module("wandb")
    except ImportError:
        raise ValueError(
            "logging.wandb.enabled=true needs the package wandb, which is not installed; pip install wandb, or set "
            "logging.wandb.enabled=false (curves go to TensorBoard, too)"
        ) from None
