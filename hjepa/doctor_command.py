"""`hjepa doctor`: what this machine and these images are good for, what bounds a run, and what to change."""

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, cast

import typer
from rich.markup import escape
from rich.table import Table

from hjepa.display import Display
from hjepa.exits import FAILURE
from hjepa.view_command import Data, RecipeOption

if TYPE_CHECKING:
    from hjepa.findings import Finding
    from hjepa.pipeline.backend import BackendName
    from hjepa.short_run import ShortRun
    from hjepa.verdict import Verdict

MARKS = {"ok": "[green]ok[/green]", "note": "[yellow]note[/yellow]", "problem": "[red]problem[/red]"}


def doctor(
    data: Data = None,
    recipe: RecipeOption = "hjepa",
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
    from hjepa.command_data import open_data
    from hjepa.configs.recipe_file import find_recipe
    from hjepa.data_check import look_at_data
    from hjepa.findings import Finding, is_healthy, judge_conduct, judge_data, judge_machine
    from hjepa.machine import look_at_machine
    from hjepa.pipeline.device import resolve_workers
    from hjepa.short_run import run_shortly
    from hjepa.troubleshooting import advise
    from hjepa.verdict import judge_run

    if not step_ms >= 0:  # nan, too
        raise ValueError(f"--step-ms {step_ms:g} is no time; use 0 where it is not known")
    wanted = find_recipe(recipe)
    with Display() as display:
        if as_json:
            display.console.quiet = True
        display.say("looking at the machine")
        machine = look_at_machine()
        source = open_data(data, display)
        display.say(f"looking at {source.name}")
        images = look_at_data(source)
        # without DALI the doctor still sees what there is to see; the Loader refuses other names than it knows
        engine = cast("BackendName", "torchvision" if machine.dali_error and backend == "dali" else backend)
        display.say(f"running {wanted.name} with {engine} for {2 * seconds:g} seconds")
        findings = [*judge_machine(machine), *judge_data(images, wanted, batch_size)]
        run, verdict = None, None
        try:
            run = run_shortly(source, wanted, backend=engine, device=device, batch_size=batch_size, seconds=seconds)
            verdict = judge_run(run, images, wanted, machine, step_ms)
            findings += judge_conduct(run)
        except RuntimeError as error:  # of a driver that does not fit, too, which the table explains
            findings.append(Finding(level="problem", subject="short run", text=f"{error}", advice="then run this again"))
        advice = advise(wanted, batch_size, resolve_workers("auto", "dali"))
        healthy = is_healthy(findings)
        if as_json:
            parts = {"verdict": verdict, "findings": findings, "run": run, "data": images, "machine": machine, "advice": advice}
            print(json.dumps({"healthy": healthy, **parts}, default=asdict, indent=1))
        else:
            _tell_findings(display, findings)
            if run is not None and verdict is not None:
                _tell_run(display, run, verdict)
            _tell_advice(display, advice)
            count = sum(finding.level == "problem" for finding in findings)
            display.say("\nHealthy." if healthy else f"\nNot healthy; problems in the table: {count}.")
    if not healthy:
        sys.exit(FAILURE)


def _tell_findings(display: Display, findings: "list[Finding]") -> None:
    table = Table(title="Machine and images", title_justify="left", show_header=False)
    for _ in range(3):
        table.add_column(overflow="fold")
    for finding in findings:
        text = f"{finding.text}\n-> {finding.advice}" if finding.advice else finding.text
        table.add_row(MARKS[finding.level], finding.subject, escape(display.printable(text)))
    display.console.print(table)


def _tell_run(display: Display, run: "ShortRun", verdict: "Verdict") -> None:
    from hjepa.result_table import counted

    display.table("Where the time goes", _stages(run))
    display.say(f"\nWhat bounds you: {verdict.text}")
    how = " by torchvision's PIL" if run.engine == "torchvision" else ""
    display.say(f"The ceiling: {verdict.ceiling:.0f} images/s, which is decoding alone{how}.")
    batch_ms = 1000 * run.batch_size / run.loader.images_per_second
    images = counted(run.batch_size, "image")
    display.say(f"A training step that takes longer than {batch_ms:.0f} ms for {images} never waits for data.")
    for line in verdict.advice:
        display.say(f"  -> {line}")
    display.say(verdict.dali)


def _tell_advice(display: Display, advice: dict[str, tuple[str, ...]]) -> None:
    for complaint, tries in advice.items():
        display.say(f"\nIf it is {complaint}:" if complaint != "poor results" else "\nIf results are poor:")
        for line in tries:
            display.say(f"  -> {line}")


def _stages(run: "ShortRun") -> dict[str, str]:
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
