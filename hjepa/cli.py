"""The command line: `hjepa-train`. A user's mistake ends with one clear message and exit code 2, a failure with 1."""

import errno
import glob
import re
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from hjepa import checkpoint
from hjepa.assembly import build_recipe, open_source
from hjepa.configs.load import load_settings, to_yaml
from hjepa.configs.schema import Settings
from hjepa.display import Display
from hjepa.exits import INTERRUPTED, run_command
from hjepa.pipeline.curriculum import Curriculum, recipe_at
from hjepa.pipeline.device import resolve_device
from hjepa.pipeline.source import Source
from hjepa.recipe_table import summary

SMALL = "small"
"""Name of the shipped settings that train in minutes without a GPU."""
SHOWN_BAD_IMAGES = 5
SETTINGS = "settings.yaml"
"""File that marks a folder as a run's."""


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def train(
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Any setting by its path, such as masking.num_masks=6.", show_default=False)
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="YAML file, or the name of a shipped one: small, multicrop_training.")
    ] = None,
    pipeline: Annotated[str | None, typer.Option(help="Who decodes and crops: dali, or torchvision (the reference).")] = None,
    data_path: Annotated[str | None, typer.Option(help="Folder of images, or what --dataset lies in.")] = None,
    dataset: Annotated[str | None, typer.Option(help="sample (made by hjepa), imagefolder, cifar10, ...")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images per step.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the images.")] = None,
    warmup_epochs: Annotated[int | None, typer.Option(help="Epochs in which the learning rate rises.")] = None,
    lr: Annotated[float | None, typer.Option(help="Highest learning rate.")] = None,
    weight_decay: Annotated[float | None, typer.Option(help="Weight decay.")] = None,
    num_workers: Annotated[
        int | None, typer.Option(help="DALI's threads or torchvision's processes; all cores by default.")
    ] = None,
    output_dir: Annotated[Path | None, typer.Option(help="Folder for logs, pictures and checkpoints.")] = None,
    resume: Annotated[str | None, typer.Option(help="auto, or a checkpoint: go on from there.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N.")] = None,
    seed: Annotated[int | None, typer.Option(help="Number that every random choice follows from.")] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error came from.")] = False,
) -> None:
    """Trains a hierarchical JEPA on images.

    Without any data it makes a small set of images once and trains on that. Settings come from the defaults, then --config,
    then arguments such as masking.num_masks=6, then the options below (--batch_size is --batch-size).
    The file configs/multicrop_training.yaml explains every setting.

    Examples:

      hjepa-train --pipeline dali

      hjepa-train --data-path photos --epochs 20 --output-dir runs/photos

      hjepa-train --config multicrop_training --data-path /data/imagenet --dataset imagenet loss.type=smoothl1

      hjepa-train --resume auto
    """
    flags: dict[str, object] = {
        "data.pipeline": pipeline,
        "data.data_path": data_path,
        "data.dataset": "imagefolder" if data_path is not None and dataset is None and config is None else dataset,
        "data.batch_size": batch_size,
        "training.epochs": epochs,
        "training.warmup_epochs": warmup_epochs,
        "training.lr": lr,
        "training.weight_decay": weight_decay,
        "data.num_workers": num_workers,
        "output_dir": output_dir,
        "checkpoint.resume": resume,
        "device": device,
        "seed": seed,
    }
    with Display() as display:
        try:
            run(config, overrides or [], flags, display)
        except Exception:
            if debug:
                display.console.print_exception()
            raise


def main() -> None:
    """Runs the command line and turns what went wrong into a message and an exit code."""
    run_command(app, "hjepa-train")


def run(config: Path | None, overrides: list[str], flags: dict[str, object], display: Display) -> None:
    """Trains as asked, and says what is done with what, and where the results are."""
    settings, reason = _choose_settings(config, overrides, flags)
    device = resolve_device(settings.device)
    state = _find_resume(settings)
    if state is None:
        settings = _fresh_folder(settings)
    else:
        settings = settings.model_copy(update={"output_dir": str(state.output)})
        checkpoint.check_settings(state.content["settings"], settings, state.path)
    display.say(f"settings: {reason}")
    display.say(f"device: {_name(device)}; pipeline: {settings.data.pipeline}")
    source = open_source(settings, display.show)
    display.clear()
    _introduce(settings, source, display)
    try:
        _train(settings, source, display, state)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES):
            raise
        raise OSError(
            f"cannot write {error.filename or f'to {settings.output_dir} or {settings.log_folder}'} ({error.strerror}); "
            "free some space there or choose another --output-dir"
        ) from error


def _train(settings: Settings, source: Source, display: Display, state: "_Resume | None") -> None:
    from hjepa.trainer import Trainer  # imports tensorboard and matplotlib, which take seconds that --help need not wait

    if state is not None:
        display.say(f"resuming from {state.path}, step {state.content['step']}")
    start = time.perf_counter()
    with Trainer(settings, source, display, None if state is None else state.content) as trainer:
        output = Path(settings.output_dir)
        output.mkdir(parents=True, exist_ok=True)
        (output / SETTINGS).write_text(to_yaml(settings), encoding="utf-8")
        result = trainer.run()
        latest = settings.checkpoint_folder / checkpoint.LATEST
        rows = {
            "steps": f"{result.step} of {trainer.steps_per_epoch * settings.training.epochs}",
            "images/s": f"{result.images / max(result.seconds, 1e-9):.0f} (training)",
            "data wait": f"{result.wait_seconds / max(result.seconds, 1e-9):.1%} of the training time",
            "loss": "-" if result.last_loss is None else f"{result.first_loss:.4f} at first, {result.last_loss:.4f} at last",
            "kNN accuracy": _accuracies(result.accuracies),
            **({"linear probe": _accuracies(result.probe_accuracies)} if result.probe_accuracies else {}),
            "time": f"{time.perf_counter() - start:.0f} s",
            **({"bad images": f"{result.bad_images} replaced, see {settings.bad_images_file}"} if result.bad_images else {}),
            "checkpoint": str(latest),
            "metrics": str(trainer.metrics.path),
            "TensorBoard": f"tensorboard --logdir {settings.log_folder}",
            "crops and masks": str(trainer.picture),
        }
    display.table("Finished" if result.finished else "Interrupted", rows)
    if not result.finished:
        display.say(f"to go on: {_command_line()} --resume {latest}")
        sys.exit(INTERRUPTED if result.signal == 2 else 0)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Resume:
    """The checkpoint that a run continues from."""

    path: Path
    output: Path
    content: dict[str, Any]


def _choose_settings(config: Path | None, overrides: list[str], flags: dict[str, object]) -> tuple[Settings, str]:
    """The settings, and where they came from in words."""
    if flags["data.data_path"] == "":  # as of a shell's variable that is not set
        raise ValueError("--data-path is empty; give the place of the data, . for the current folder, or leave it out")
    if config is not None:
        return load_settings(config, overrides, flags), f"{config}"
    reasons = []
    if resolve_device(str(_asked("device", overrides, flags) or "auto")).type == "cpu":
        reasons.append("the device is the CPU" if torch.cuda.is_available() else "there is no GPU")
    if not _asked("data.data_path", overrides, flags):
        reasons.append("no data was given")
    if not reasons:
        return load_settings(None, overrides, flags), "the defaults"
    small = load_settings(Path(SMALL), overrides, flags)
    return small, f"configs/{SMALL}.yaml (small crops and a small ViT), because {' and '.join(reasons)}"


def _asked(name: str, overrides: list[str], flags: dict[str, object]) -> object:
    """What the command line says of a setting, None for nothing; before the settings can be loaded."""
    values = dict(override.split("=", 1) for override in overrides if "=" in override)
    return values.get(name) if flags[name] is None else flags[name]


def _find_resume(settings: Settings) -> _Resume | None:
    resume = settings.checkpoint.resume
    if resume is None:
        return None
    if resume != "auto":
        path, output = Path(resume), Path(settings.output_dir)
        if not settings.checkpoint.checkpoint_dir and path.parent.name == "checkpoints":
            output = path.parent.parent
        return _Resume(path=path, output=output, content=checkpoint.load(path, torch.device("cpu")))
    output = (_run_folders(settings) or [Path(settings.output_dir)])[-1]
    path = settings.model_copy(update={"output_dir": str(output)}).checkpoint_folder / checkpoint.LATEST
    if not path.exists():  # nothing to go on from: not even an older run, which would be another experiment
        return None
    return _Resume(path=path, output=output, content=checkpoint.load(path, torch.device("cpu")))


def _fresh_folder(settings: Settings) -> Settings:
    """Another output folder where this one has a run in it already: no run overwrites another."""
    if settings.checkpoint.checkpoint_dir and (settings.checkpoint_folder / checkpoint.LATEST).exists():
        raise ValueError(
            f"checkpoint.checkpoint_dir={settings.checkpoint_folder} holds the checkpoints of another run; "
            "use --resume auto to go on with it, or another folder"
        )
    if settings.logging.log_dir and settings.metrics_file.exists():
        raise ValueError(
            f"logging.log_dir={settings.log_folder} holds the log of another run; use --resume auto to go on with it, "
            "or another folder"
        )
    output = Path(settings.output_dir)
    if output.exists() and not output.is_dir():
        raise ValueError(f"--output-dir {output} is a file; give a folder, which may be a new one")
    taken = _run_folders(settings)
    if not taken:
        return settings
    number = 1 if taken[-1] == output else int(taken[-1].name.removeprefix(f"{output.name}-"))
    return settings.model_copy(update={"output_dir": f"{output}-{number + 1}"})


def _run_folders(settings: Settings) -> list[Path]:
    """The output folder and its numbered successors, as far as they hold runs, oldest first."""
    first = Path(settings.output_dir)
    runs = {1: first} if (first / SETTINGS).exists() else {}
    for file in first.parent.glob(f"{glob.escape(first.name)}-*/{SETTINGS}"):
        number = file.parent.name.removeprefix(f"{first.name}-")
        if number.isdecimal():
            runs[int(number)] = file.parent
    return [runs[number] for number in sorted(runs)]


def _introduce(settings: Settings, source: Source, display: Display) -> None:
    labels = f"{len(source.classes)} classes" if source.classes else "no labels"
    display.say(f"data: {len(source)} images in {source.name} ({labels})")
    for bad in source.bad[:SHOWN_BAD_IMAGES]:
        display.say(f"  left out: {bad.path}: {bad.reason}")
    if len(source.bad) > SHOWN_BAD_IMAGES:
        display.say(f"  left out: {len(source.bad) - SHOWN_BAD_IMAGES} more unreadable files")
    plan = build_recipe(settings)
    crops = summary(recipe_at(plan, 0))
    if isinstance(plan, Curriculum):
        crops += f" at first, {summary(plan.at(plan.last))} from epoch {plan.last + 1} on"
    encoder = settings.model.encoder
    display.say(f"crops: {crops}; encoder: width {encoder.width}, depth {encoder.depth}, patch {encoder.patch_size}")
    display.say(f"output of {settings.logging.experiment_name}: {settings.output_dir}")


def _accuracies(accuracies: dict[int, float]) -> str:
    if not accuracies:
        return "not measured (no labels)"
    before, after = min(accuracies), max(accuracies)
    if before == after:
        return f"{accuracies[after]:.1%} after {after} epochs"
    return f"{accuracies[before]:.1%} after {before} epochs, {accuracies[after]:.1%} after {after}"


def _name(device: torch.device) -> str:
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else f"{device}"


def _command_line() -> str:
    """The command that was given, without its own --resume."""
    return re.sub(r" --resume[ =]\S+", "", " ".join(["hjepa-train", *sys.argv[1:]]))
