"""`hjepa tune`: settings that fit this machine and a budget, as a YAML file that `hjepa-train --config` takes."""

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from hjepa.completion import config_names
from hjepa.display import Display
from hjepa.exits import can_be_written, write_text

if TYPE_CHECKING:
    from hjepa.configs.schema import Settings


def tune(
    data: Annotated[
        str | None, typer.Argument(help="Folder of images; the settings' own data without.", show_default=False)
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="imagefolder, imagenet, cifar10, ...: what lies there.")] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            help="YAML file, or the name of a shipped one, to start from; as in hjepa-train.", autocompletion=config_names
        ),
    ] = None,
    output: Annotated[Path, typer.Option(help="File to write.")] = Path("tuned.yaml"),
    memory_gib: Annotated[float, typer.Option(help="Memory that a training step may take, in GiB; 0: no limit.")] = 0,
    step_ms: Annotated[float, typer.Option(help="Time that a training step may take, in ms; 0: no limit.")] = 0,
    vary: Annotated[str, typer.Option(help="What the budget decides: crops (local ones), or batch (its size).")] = "crops",
    seconds: Annotated[float, typer.Option(help="Length of each trial of the loader.")] = 3,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N.")] = None,
) -> None:
    """Tries the loader's threads and depths, where a GPU's images are decoded, and with a budget the local crops or the batch.

    The best is written as YAML, which `hjepa-train --config tuned.yaml` trains by: all that differs from the defaults, what
    --config says included.

    Examples:

      hjepa tune photos

      hjepa tune photos --config multicrop_training --memory-gib 16 --vary batch

      hjepa tune --config small --step-ms 150
    """
    from hjepa.assembly import open_source
    from hjepa.training_run import choose_settings
    from hjepa.tune import Budget, Vary, tune_loader, tune_step

    if vary not in ("crops", "batch"):
        raise ValueError(f"--vary {vary} is unknown; use crops or batch")
    if min(memory_gib, step_ms) < 0:
        raise ValueError(f"--memory-gib {memory_gib:g} and --step-ms {step_ms:g} are no budget; use 0 for no limit, or more")
    output.parent.mkdir(parents=True, exist_ok=True)
    can_be_written("--output", output)
    flags: dict[str, object] = {
        "data.data_path": data,
        "data.dataset": dataset,
        "device": device,
    }
    said: list[str] = []
    with Display() as display:

        def tell(line: str) -> None:
            said.append(line)
            display.say(line)

        settings, reason = choose_settings(config, [], flags)
        tell(f"starting from {reason}")
        source = open_source(settings, display.show)
        display.clear()
        settings = tune_loader(settings, source, seconds, tell)
        if memory_gib or step_ms:
            budget = Budget(memory_gib=memory_gib, step_ms=step_ms)
            settings = tune_step(settings, source, budget, cast(Vary, vary), tell)
        _write(output, settings, said)
        rows = {
            "data.num_workers": f"{settings.data.num_workers}",
            "data.prefetch": f"{settings.data.prefetch}",
            "data.batch_size": f"{settings.data.batch_size}",
            "data.multicrop.num_local_crops": f"{settings.data.multicrop.num_local_crops}",
        }
        if settings.data.decoder != "auto":
            rows["data.decoder"] = settings.data.decoder
            rows["data.hw_decoder_load"] = f"{settings.data.hw_decoder_load:g}"
        display.table(f"Wrote {output}", rows)
        display.say(f"to train by it: hjepa-train --config {shlex.quote(str(output))}")


def _write(output: Path, settings: "Settings", said: list[str]) -> None:
    """The settings that differ from the defaults, below what was tried and found, as comments."""
    from hjepa.configs.load import changes_to_yaml, with_changes

    probe = settings.evaluation.linear_probe
    places = {"data.data_path": settings.data.data_path, "evaluation.linear_probe.data_path": probe.data_path}
    # absolute, so that the file trains from any folder
    whole = {name: os.path.abspath(os.path.expanduser(place)) for name, place in places.items() if place}
    settings = with_changes(settings, whole)
    lines = [f"Made by: {shlex.join(['hjepa', *sys.argv[1:]])}", *said]
    head = "".join(f"# {line}\n" for said_line in lines for line in said_line.splitlines())  # names may hold ends of lines
    write_text("--output", output, f"{head}\n{changes_to_yaml(settings)}")
