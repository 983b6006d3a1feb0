"""Curves and pictures for Weights & Biases, where a run asks for them (logging.wandb); it is no dependency of hjepa."""

import importlib
from pathlib import Path
from typing import Any

from hjepa.configs.schema import Settings

IDENTITY = "wandb_id.txt"
"""File in the log folder, so that a resumed run goes on with its curves."""


def check_wandb(settings: Settings) -> None:
    """Raises ValueError where it is asked for and not installed."""
    if settings.logging.wandb.enabled:
        _import_wandb()


class WandbRun:
    """One run there, which may go on with the one of this log folder; call close() at its end."""

    def __init__(self, settings: Settings, *, goes_on: bool) -> None:
        asked, identity = settings.logging.wandb, settings.log_folder / IDENTITY
        self._wandb = _import_wandb()
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
        identity.write_text(self._run.id, encoding="utf-8")

    def record(self, step: int, curves: dict[str, float | int]) -> None:
        """A point of each curve."""
        self._run.log(curves, step=step)

    def picture(self, step: int, name: str, path: Path) -> None:
        """The picture in a file."""
        self._run.log({name: self._wandb.Image(str(path))}, step=step)

    def close(self) -> None:
        """Sends what is left."""
        self._run.finish()


def _import_wandb() -> Any:
    try:
        return importlib.import_module("wandb")
    except ImportError:
        raise ValueError(
            "logging.wandb.enabled=true needs the package wandb, which is not installed; pip install wandb, or set "
            "logging.wandb.enabled=false (curves go to TensorBoard, too)"
        ) from None
