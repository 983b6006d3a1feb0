"""Which folder a run writes to, and which checkpoint it goes on from: no run overwrites another."""

import glob
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from hjepa import checkpoint
from hjepa.configs.load import to_yaml
from hjepa.configs.schema import Settings
from hjepa.distributed import Ranks
from hjepa.pipeline.backend import engine_of
from hjepa.run_lock import RunLock

SETTINGS = "settings.yaml"
"""File that marks a folder as a run's."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Resume:
    """The checkpoint that a run continues from."""

    path: Path
    output: Path
    content: dict[str, Any]
    damaged: dict[Path, str] = field(default_factory=dict)
    """Newer checkpoints that could not be read, and why."""


def find_resume(settings: Settings, lock: RunLock) -> Resume | None:
    """What checkpoint.resume asks for; with auto the newest run's newest checkpoint that can be read, None without a run.

    The folder is locked first: a run that is under way there writes newer ones.
    """
    resume = settings.checkpoint.resume
    if resume is None:
        return None
    if resume != "auto":
        return _named(Path(resume), settings, lock)
    output = (_run_folders(settings) or [Path(settings.output_dir)])[-1]
    if output.is_dir():
        lock.take(output)
    folder = settings.model_copy(update={"output_dir": str(output)}).checkpoint_folder
    damaged: dict[Path, str] = {}
    # Nothing to go on from starts anew: not even an older run is taken, which would be another experiment.
    for path in checkpoint.newest_first(folder):
        try:
            content = checkpoint.load(path, torch.device("cpu"), checkpoint.RESUMED)
        except checkpoint.CheckpointError as error:
            damaged[path] = str(error)
        else:
            return Resume(path=path, output=output, content=content, damaged=damaged)
    if damaged:
        raise checkpoint.CheckpointError("; ".join(damaged.values()))
    lock.release()
    return None


def _named(path: Path, settings: Settings, lock: RunLock) -> Resume:
    """The checkpoint of that path, to go on from in its own run's folder, or in one that no other run has."""
    if not settings.checkpoint.checkpoint_dir and path.parent.name == "checkpoints":
        settings = settings.model_copy(update={"output_dir": str(path.parent.parent)})
    output = Path(settings.output_dir)
    if output.is_dir():
        lock.take(output)
    content = checkpoint.load(path, torch.device("cpu"), checkpoint.RESUMED)
    elsewhere = path.parent.resolve() != settings.checkpoint_folder.resolve()
    if elsewhere and (settings.metrics_file.exists() or checkpoint.newest_first(settings.checkpoint_folder)):
        raise ValueError(
            f"--resume {path} would go on in {output}, over the log and the checkpoints of the run that is there; use --resume "
            f"auto to go on with that run, move the checkpoint into {settings.checkpoint_folder}, or give another --output-dir"
        )
    return Resume(path=path, output=output, content=content)


def check_output(resume: Resume, settings: Settings, given: object) -> None:
    """Raises ValueError where a run would go on in the folder of the checkpoint that was named, and not in the one given.

    A run that took a numbered folder, because the one given held another, is gone on with by either.
    """
    folders = [folder.absolute() for folder in (Path(settings.output_dir), *_run_folders(settings))]
    if settings.checkpoint.resume != "auto" and given and resume.output.absolute() not in folders:
        raise ValueError(
            f"--resume {resume.path} goes on in {resume.output}, where its log and checkpoints are, and --output-dir is "
            f"{given}; leave --output-dir out, or copy {resume.output} to {given} and resume from there"
        )


def resume_notes(resume: Resume, settings: Settings, ranks: Ranks) -> Iterator[str]:
    """What to say of a run that goes on, and of what is not as it was."""
    for reason in resume.damaged.values():
        yield f"passed over: {reason}"
    yield f"resuming from {resume.path}, step {resume.content['step']}"
    now, before = engine_of(settings.data.pipeline, ranks.device), resume.content.get("engine")
    if before not in (None, now):
        yield f"the crops were made by {before} so far and are by {now} from here on: the same crops in other colours"
    ranks_before = resume.content.get("world_size", ranks.world_size)
    images = settings.data.batch_size * settings.training.accumulation_steps
    saved = checkpoint.saved_settings(resume.content)
    images_before = saved["data.batch_size"] * saved["training.accumulation_steps"] * ranks_before
    if images_before != images * ranks.world_size:
        yield (
            f"note: an update was of {images_before} images on {ranks_before} ranks and is of {images * ranks.world_size} on "
            f"{ranks.world_size} from here on; set data.batch_size or training.accumulation_steps to keep it as it was"
        )


def fresh_folder(settings: Settings) -> Settings:
    """Another output folder where this one has a run in it already."""
    if settings.checkpoint.checkpoint_dir and (settings.checkpoint_folder / checkpoint.LATEST).exists():
        raise ValueError(
            f"checkpoint.checkpoint_dir={settings.checkpoint_folder} holds the checkpoints of another run; "
            "use --resume auto to go on with it, or another folder"
        )
    if settings.logging.log_dir and settings.metrics_file.exists():
        whose, way = "another run", "use --resume auto to go on with it"
        if settings.checkpoint.resume == "auto":
            whose = "a run without a checkpoint to go on from, which may be under way"
            way = f"if it is not, move {settings.metrics_file} elsewhere"
        raise ValueError(f"logging.log_dir={settings.log_folder} holds the log of {whose}; {way}, or use another folder")
    output = Path(settings.output_dir)
    there = next(place for place in (output, *output.absolute().parents) if place.exists())
    if not there.is_dir():
        why = "is a file" if there == output else f"cannot be made, because {there} is a file"
        raise ValueError(f"--output-dir {output} {why}; give a folder, which may be a new one")
    taken = _run_folders(settings)
    if not taken:
        return settings
    number = 1 if taken[-1] == output else int(taken[-1].name.removeprefix(f"{output.name}-"))
    return settings.model_copy(update={"output_dir": f"{output}-{number + 1}"})


def make_folder(folder: Path) -> None:
    """Makes a folder that a run writes to, and those above it. Raises ValueError where no folder can be made, as in /proc."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileNotFoundError as error:
        raise ValueError(
            f"the folder {folder} cannot be made ({error.strerror}: {error.filename}); choose another --output-dir"
        ) from error


def folder_note(settings: Settings, wanted: str) -> str | None:
    """What to say of the folder that a new run writes to; None where it is the one that was asked for."""
    output = settings.output_dir
    if output == wanted:
        return None
    if settings.checkpoint.resume == "auto":
        return f"note: {wanted} holds a run without a checkpoint to go on from, which may be under way; this one is {output}"
    return f"note: {wanted} holds another run, which --resume auto would go on with; this one is {output}"


def mark_folder(settings: Settings, lock: RunLock, *, is_new: bool) -> list[Path]:
    """Locks the folder and writes the settings, which makes it the run's; gives the folders that it made for that, inner first.

    Raises ValueError where another new run did so before.
    """
    output = Path(settings.output_dir)
    made = [folder for folder in (output, *output.parents) if not folder.exists()]
    make_folder(output)
    lock.take(output)
    # a resumed run's are written beside their place: a full disk must not leave the old ones empty
    written = output / (SETTINGS if is_new else f".{SETTINGS}.partial")
    try:
        with open(written, "x" if is_new else "w", encoding="utf-8") as file:
            file.write(to_yaml(settings))
        os.replace(written, output / SETTINGS)
    except FileExistsError:
        raise ValueError(
            f"another run began in {output} at the same time; start this one again, and it takes a folder of its own"
        ) from None
    except OSError:  # a new run that could not begin marks no folder
        with suppress(OSError):  # there may be nothing to remove
            written.unlink()
        raise
    return made


def release_folder(settings: Settings, lock: RunLock, made: list[Path]) -> None:
    """Leaves the folder of a run that ends before its first checkpoint to the next one, which would take another beside it."""
    output = Path(settings.output_dir)
    if not any(settings.checkpoint_folder.glob("*.pt")):  # of any name: a run may have gone on from it
        (output / SETTINGS).unlink(missing_ok=True)
        with suppress(OSError):  # or it would hide what ended the run
            set_log_aside(settings)  # in a logging.log_dir it would be taken for a run's to go on with
        lock.release()
        with suppress(OSError):  # one is not empty, unless the run could not start
            for folder in made:  # and not a user's own, which may be the current one
                folder.rmdir()


def set_log_aside(settings: Settings) -> None:
    """Keeps the log of a run that ended before its first checkpoint, under another name: the next run's begins empty."""
    if settings.metrics_file.exists():
        os.replace(settings.metrics_file, settings.metrics_file.with_suffix(".before.jsonl"))


def _run_folders(settings: Settings) -> list[Path]:
    """The output folder and its numbered successors, as far as they hold runs, oldest first."""
    first = Path(settings.output_dir)
    runs = {1: first} if (first / SETTINGS).exists() else {}
    for file in first.parent.glob(f"{glob.escape(first.name)}-*/{SETTINGS}"):
        number = file.parent.name.removeprefix(f"{first.name}-")
        if number.isdecimal():
            runs[int(number)] = file.parent
    return [runs[number] for number in sorted(runs)]
