"""`hjepa doctor`: what this machine and these images are good for, what bounds a run, and what to change."""

import json
import sys
from dataclasses import asdict
from typing import Annotated, cast

import typer
from rich.table import Table

from hjepa.command_data import open_data
from hjepa.configs.recipe_file import find_recipe
from hjepa.data_check import look_at_data
from hjepa.display import Display
from hjepa.exits import FAILURE
from hjepa.findings import Finding, is_healthy, judge_data, judge_machine, judge_quiet
from hjepa.machine import look_at_machine
from hjepa.pipeline.backend import BackendName
from hjepa.short_run import ShortRun, run_shortly
from hjepa.troubleshooting import advise
from hjepa.verdict import Verdict, judge_run
from hjepa.view_command import Data

MARKS = {"ok": "[green]ok[/green]", "note": "[yellow]note[/yellow]", "problem": "[red]problem[/red]"}


def doctor(
    data: Data = None,
    recipe: Annotated[str, typer.Option(help="Name of a preset, or path of a recipe's YAML file.")] = "hjepa",
    backend: Annotated[str, typer.Option(help="dali, fused, dali-ops, or torchvision (the reference).")] = "dali",
    batch_size: Annotated[int, typer.Option(help="Images per batch.")] = 64,
    step_ms: Annotated[float, typer.Option(help="How long a training step of one batch takes, in ms; 0: not known.")] = 0,
    seconds: Annotated[float, typer.Option(help="Length of each measurement.")] = 4,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Only JSON, for machines.")] = False,
) -> None:
    """Looks at the machine, at the images and at a short run, and says what bounds you and what to change.

    Exit code 0 where nothing is wrong, 1 where something is.

    Examples:

      hjepa doctor

      hjepa doctor photos --recipe dinov2 --batch-size 128 --step-ms 210

      hjepa doctor photos --json > doctor.json
    """
    wanted = find_recipe(recipe)
    with Display() as display:
        if as_json:
            display.console.quiet = True
        display.say("looking at the machine")
        machine = look_at_machine()
        source = open_data(data, display)
        display.say(f"looking at {source.name}")
        images = look_at_data(source)
        display.say(f"running {wanted.name} for {2 * seconds:g} seconds")
        run = run_shortly(
            source,
            wanted,
            backend=cast(BackendName, backend),  # the Loader refuses others
            device=device,
            batch_size=batch_size,
            seconds=seconds,
        )
        verdict = judge_run(run, images, wanted, machine, step_ms)
        findings = [*judge_machine(machine), *judge_data(images, wanted, batch_size), judge_quiet(run)]
        advice = advise(wanted, batch_size, machine.cores)
        healthy = is_healthy(findings)
        if as_json:
            parts = {"verdict": verdict, "findings": findings, "run": run, "data": images, "machine": machine, "advice": advice}
            print(json.dumps({"healthy": healthy, **parts}, default=asdict, indent=1))
        else:
            _tell(display, findings, run, verdict, advice)
    if not healthy:
        sys.exit(FAILURE)


def _tell(
    display: Display, findings: list[Finding], run: ShortRun, verdict: Verdict, advice: dict[str, tuple[str, ...]]
) -> None:
    table = Table(title="Machine and images", title_justify="left", show_header=False)
    for _ in range(3):
        table.add_column(overflow="fold")
    for finding in findings:
        text = f"{finding.text}\n-> {finding.advice}" if finding.advice else finding.text
        table.add_row(MARKS[finding.level], finding.subject, text)
    display.console.print(table)
    display.table("Where the time goes", _stages(run))
    display.say(f"\nWhat bounds you: {verdict.text}")
    display.say(f"The ceiling: {verdict.ceiling:.0f} images/s, which is decoding alone.")
    batch_ms = 1000 * run.batch_size / run.loader.images_per_second
    display.say(f"A training step that takes longer than {batch_ms:.0f} ms for {run.batch_size} images never waits for data.")
    for line in verdict.advice:
        display.say(f"  -> {line}")
    display.say(verdict.dali)
    for complaint, tries in advice.items():
        display.say(f"\nIf it is {complaint}:" if complaint != "poor results" else "\nIf results are poor:")
        for line in tries:
            display.say(f"  -> {line}")
    problems = sum(finding.level == "problem" for finding in findings)
    display.say(f"\n{'Healthy.' if not problems else f'Not healthy: {problems} of the above are problems.'}")


def _stages(run: ShortRun) -> dict[str, str]:
    share = run.loader.images_per_second / run.decode.images_per_second
    disk = f"{run.read_per_second:.0f} images/s, {run.read_mib_per_second:.0f} MiB/s, by one thread"
    return {
        "reading files": disk if run.read_per_second else "the source has no files of single images",
        "reading and decoding": f"{run.decode.images_per_second:.0f} images/s, threads {run.decode.busy:.0%} busy",
        f"all of {run.recipe}": f"{run.loader.images_per_second:.0f} images/s by {run.engine} on {run.device}, "
        f"{share:.0%} of decoding alone; threads {run.loader.busy:.0%} busy",
        "draws": f"{run.draw_us:.1f} us an image",
        "masks": f"{run.mask_us:.1f} us an image, three levels for two global crops",
    }
