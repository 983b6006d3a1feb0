"""Checkpoints: written whole or not at all, and continued only by the run they belong to.

A file is written beside its place, flushed to the disk and renamed; so a crash or a full disk leaves the previous checkpoint.
"""

import contextlib
import errno
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import UnionType
from typing import Any, TypeAlias

import torch

from hjepa.configs.load import flatten
from hjepa.configs.schema import Settings

FORMAT = 1
LATEST = "latest.pt"
Kinds: TypeAlias = Mapping[str, type | UnionType]
NEEDED: Kinds = {"model": dict, "settings": dict}
"""Of what a checkpoint holds: what everyone reads."""
RESUMED: Kinds = {
    **NEEDED,
    "optimizer": dict,
    "step": int,
    "loader": dict,
    "torch_rng": torch.Tensor,
    "accuracies": dict,
    "first_loss": float | None,
    "kept": dict,
}
"""What a run needs to go on from it; one without is still there to be evaluated and exported."""
LATER: Kinds = {
    "steps_per_epoch": int,
    "world_size": int,
    "probe_accuracies": dict,
    "rankme": dict,
    "unended": int,
}
"""The same, which older checkpoints lack."""

FREE = (
    "device",
    "output_dir",
    "data.pipeline",
    "data.data_path",
    "data.max_pixels",
    "data.verify",
    "data.num_workers",
    "data.prefetch",
    "data.pin_memory",
    "data.decoder",
    "data.hw_decoder_load",
    "data.on_error",
    "data.max_bad",
    "training.gradient_checkpointing",
    "training.compile",
)
"""Settings that a resumed run may change, with those in FREE_SECTIONS: none changes the draws of a sample. (Another pipeline
or decoder rounds pixels otherwise; the images themselves the loader compares.)"""
DIVISION = ("data.batch_size", "training.accumulation_steps")
"""Settings that with the number of ranks make up the images of an update."""
FREE_SECTIONS = ("checkpoint.", "logging.", "evaluation.", "distributed.")


class CheckpointError(ValueError):
    """A checkpoint that cannot be used here; the text says why and what to do."""


def save(path: Path, state: dict[str, Any]) -> None:
    """Writes a checkpoint atomically. Raises OSError, with the place and what to do, and leaves no partial file."""
    partial = path.with_name(f".{path.name}.partial")  # one name, so that what a killed run left is written over
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(partial, "wb") as file:
            torch.save({"format": FORMAT, **state}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
        _sync_folder(path.parent)
    except (OSError, RuntimeError) as error:  # torch reports a failed write as a RuntimeError
        with contextlib.suppress(OSError):  # there may be nothing to remove
            partial.unlink()
        cause = error if isinstance(error, OSError) else error.__context__  # torch's own words are of positions in the file
        reason = cause.strerror if isinstance(cause, OSError) and cause.strerror else str(error).splitlines()[0]
        raise OSError(
            f"cannot write the checkpoint {path} ({reason}); free some space there or set checkpoint.checkpoint_dir, "
            "then resume: what was saved before is untouched"
        ) from error


def load(path: Path, device: torch.device, needed: Kinds = NEEDED) -> dict[str, Any]:
    """Reads a checkpoint; it may hold nothing but tensors and plain values. Raises CheckpointError."""
    if not path.is_file():
        inside = [file for file in (path / "checkpoints" / LATEST, path / LATEST) if file.is_file()]
        example = inside[0] if inside else "runs/small/checkpoints/latest.pt"
        raise CheckpointError(f"there is no checkpoint {path}; give the path of a run's .pt file, such as {example}")
    try:
        state = torch.load(path, map_location=device, weights_only=True)
        version = state["format"]
        foreign = [name for name, kind in needed.items() if name not in state or not isinstance(state[name], kind)]
        if needed is RESUMED:
            foreign += [name for name, kind in LATER.items() if name in state and not isinstance(state[name], kind)]
    except Exception as error:  # whatever a damaged or foreign file makes the unpickler raise; its words help nobody
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # of a file that was cut off: sought before its start
            raise CheckpointError(
                f"cannot read the checkpoint {path} ({error.strerror or error}); see whether it can be"
            ) from error
        raise CheckpointError(f"{path} is not a checkpoint of hjepa, or it is damaged; resume from another") from error
    if version != FORMAT:
        raise CheckpointError(f"{path} has format {version}, this hjepa reads format {FORMAT}; use the hjepa that wrote it")
    if foreign:
        what = "not a checkpoint of hjepa" if NEEDED.keys() & foreign else "no checkpoint to go on from"
        raise CheckpointError(f"{path} is {what}: it lacks {', '.join(foreign)}; resume from another")
    loaded: dict[str, Any] = state
    return loaded


@contextlib.contextmanager
def damage_said() -> Iterator[None]:
    """Makes whatever the inside of a damaged checkpoint leads to, where it is taken over, a CheckpointError."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except (KeyError, TypeError, AttributeError, IndexError, RuntimeError) as error:  # RuntimeError: torch's, of other weights
        lines = f"{type(error).__name__}: {error}".splitlines()[:2]  # of torch's, a title first
        reason = " ".join(line.strip() for line in lines)
        raise CheckpointError(f"the checkpoint is damaged, or another hjepa's ({reason}); resume from another") from error


def newest_first(folder: Path) -> list[Path]:
    """The checkpoints of a run's folder: the latest, and those kept under the names of their epochs."""
    named = sorted(folder.glob("epoch_*.pt"), key=lambda path: _age(path.name), reverse=True)
    return [path for path in (folder / LATEST, *named) if path.exists()]


def saved_settings(state: dict[str, Any]) -> dict[str, Any]:
    """The settings of a checkpoint by dotted path. What it is too old to name was as it is by default."""
    return dict([*flatten(plain_settings(Settings())), *flatten(state["settings"])])


@damage_said()
def check_settings(state: dict[str, Any], current: Settings, path: Path, world_size: int = 1) -> None:
    """Raises CheckpointError where a setting that decides the experiment has changed since `state` was saved.

    An update may be divided otherwise among ranks and accumulated batches, as long as it has as many images; and with a term
    of the loss that sees all images of a batch together, as long as these are as many, too.
    """
    before, now = saved_settings(state), dict(flatten(plain_settings(current)))
    saved_by = state.get("world_size", world_size)
    divided = _images_together(before, saved_by, current) == _images_together(now, world_size, current)
    free = FREE + (DIVISION if divided else ())
    if not current.dino.teacher_temperature_warmup_epochs:  # then nothing reads it, and it is refused where it is given
        free += ("dino.teacher_temperature",)
    changed = [
        f"{name} was {before.get(name)!r}, now {value!r}"
        for name, value in now.items()
        if before.get(name) != value and name not in free and not name.startswith(FREE_SECTIONS)
    ]
    if changed:
        raise CheckpointError(
            f"{path} belongs to another experiment: {'; '.join(changed)}. "
            "Resume with the same settings, or start anew without --resume"
        )


def keep_best(folder: Path, scores: dict[str, float], count: int) -> dict[str, float]:
    """Deletes all but the best `count` of the named checkpoints, the newest of equals; returns the scores of those kept."""
    best = dict(sorted(scores.items(), key=lambda entry: (entry[1], *_age(entry[0])), reverse=True)[:count])
    for name in scores.keys() - best.keys():
        (folder / name).unlink(missing_ok=True)
    return best


def plain_settings(settings: Settings) -> dict[str, Any]:
    """The settings in the form in which a checkpoint carries them."""
    return settings.model_dump(mode="json")


def _images_together(settings: dict[str, Any], world_size: int, current: Settings) -> tuple[int, int]:
    """Images of an update, and of a batch on all ranks where the loss is no mean over images (0: where it is)."""
    images = settings["data.batch_size"] * world_size
    if current.objective == "dino":
        sees_batch = current.dino.koleo_weight > 0
    else:
        sees_batch = current.model.spread_weight > 0 or current.masking.strategy == "cross_crop_prediction"
    return images * settings["training.accumulation_steps"], images if sees_batch else 0


def _age(name: str) -> tuple[int, str]:
    """What orders the names of epochs from the oldest on, also where there are more than four digits."""
    return len(name), name


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)  # the rename itself must reach the disk, too
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
