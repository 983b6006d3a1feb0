"""The command line `hjepa-train`. A user's mistake ends with one clear message and exit code 2, a failure with 1."""

import os
from pathlib import Path
from typing import Annotated

import typer

from hjepa.completion import config_names, setting_names
from hjepa.display import Display
from hjepa.exits import Version, run_command

app = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode="markdown")


@app.command()
def train(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            help="Any setting by its path, such as masking.num_masks=6.", show_default=False, autocompletion=setting_names
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            help="YAML file, or the name of a shipped one: small, small_dino, cifar10_config, multicrop_training.",
            autocompletion=config_names,
        ),
    ] = None,
    objective: Annotated[str | None, typer.Option(help="What is learned: hjepa, or dino.")] = None,
    pipeline: Annotated[
        str | None, typer.Option(help="Who decodes and crops: dali, fused, dali-ops, or torchvision (the reference).")
    ] = None,
    data_path: Annotated[str | None, typer.Option(help="Folder of images, or what --dataset lies in.")] = None,
    dataset: Annotated[
        str | None, typer.Option(help="What lies there: imagefolder, cifar10, ...; found out by itself without.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images per step on each GPU.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the images.")] = None,
    warmup_epochs: Annotated[int | None, typer.Option(help="Epochs in which the learning rate rises.")] = None,
    lr: Annotated[float | None, typer.Option(help="Highest learning rate.")] = None,
    weight_decay: Annotated[float | None, typer.Option(help="Weight decay.")] = None,
    num_workers: Annotated[
        int | None, typer.Option(help="DALI's threads or torchvision's processes; all cores by default.")
    ] = None,
    output_dir: Annotated[str | None, typer.Option(help="Folder for logs, pictures and checkpoints.")] = None,
    resume: Annotated[str | None, typer.Option(help="auto, or a checkpoint: go on from there.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N.")] = None,
    seed: Annotated[int | None, typer.Option(help="Number that every random choice follows from.")] = None,
    distributed: Annotated[bool, typer.Option("--distributed", help="Refuse to run unless torchrun started this.")] = False,
    world_size: Annotated[
        int | None, typer.Option(help="How many ranks there must be; torchrun says how many there are.")
    ] = None,
    local_rank: Annotated[int | None, typer.Option(help="As torch.distributed.launch gives it; must be torchrun's.")] = None,
    no_wandb: Annotated[bool, typer.Option("--no-wandb", help="Do not report to Weights & Biases.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error came from.")] = False,
    version: Version = False,
) -> None:
    """Trains a hierarchical JEPA, or DINO, on images.

    Without any data it makes a small set of images once and trains on that. Settings come from the defaults, then --config,
    then arguments such as masking.num_masks=6, then the options below (--batch_size is --batch-size).
    The file configs/multicrop_training.yaml explains those of a full training.

    Examples:

      hjepa-train --pipeline dali

      hjepa-train --data-path photos --epochs 20 --output-dir runs/photos

      hjepa-train --config multicrop_training --data-path /data/imagenet --dataset imagenet loss.type=smoothl1

      hjepa-train --resume auto

      torchrun --nproc-per-node 8 $(which hjepa-train) --data-path photos
    """
    flags: dict[str, object] = {
        "objective": objective,
        "data.pipeline": pipeline,
        "data.data_path": data_path,
        "data.dataset": dataset,
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
        "distributed.enabled": True if distributed else None,
        "distributed.world_size": world_size,
        "logging.wandb.enabled": False if no_wandb else None,
    }
    with Display() as display:
        try:
            _train(config, overrides or [], flags, local_rank, display)
        except Exception:
            if debug:
                display.console.print_exception()
            raise


def _train(
    config: Path | None, overrides: list[str], flags: dict[str, object], local_rank: int | None, display: Display
) -> None:
    """Imports in stages: --help and completion wait for neither, and a misspelt setting is told before torch is loaded."""
    from hjepa.configs.load import asked

    asked(overrides, flags)
    from hjepa.distributed import check_local_rank
    from hjepa.training_run import run

    check_local_rank(local_rank)
    run(config, overrides, flags, display)


def main() -> None:
    """Runs the command line and turns what went wrong into a message and an exit code."""
    rank = os.environ.get("RANK", "0")
    run_command(app, "hjepa-train" if rank == "0" else f"hjepa-train (rank {rank})")
