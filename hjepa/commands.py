"""The command line `hjepa`: recipes, how far the backends agree, and trained encoders. Training is `hjepa-train`.

A command imports what it works with when it is called: --help and completion wait for neither torch nor pydantic.
"""

import json
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from hjepa.completion import recipe_names
from hjepa.display import Display
from hjepa.doctor_command import doctor
from hjepa.exits import Version, can_be_written, not_empty, run_command, write_text
from hjepa.pipeline.presets import PRESETS, preset
from hjepa.pipeline.recipe import Recipe
from hjepa.recipe_table import markdown, recipe_table, summary
from hjepa.tune_command import tune
from hjepa.view_command import view

if TYPE_CHECKING:
    from hjepa import parity
    from hjepa.named_data import Split

app = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode="markdown", invoke_without_command=True)
app.command("view")(view)
app.command("doctor")(doctor)
app.command("tune")(tune)
NARROW = 70
"""Columns of a terminal below which a recipe's name has a line of its own."""
RecipeName = Annotated[
    str, typer.Argument(help="Name of a preset, or path of a recipe's YAML file.", autocompletion=recipe_names)
]


@app.callback()
def describe(context: typer.Context, version: Version = False) -> None:
    """Feeds self-supervised vision training. Every command has its own --help; `hjepa-train` trains."""
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command("recipes")
def show_recipes(
    name: Annotated[
        str | None,
        typer.Argument(help="Name of a preset, or path of a YAML file; all presets without.", autocompletion=recipe_names),
    ] = None,
    yaml: Annotated[bool, typer.Option("--yaml", help="Only the YAML, to be written into a file and edited.")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="The table of docs/recipes.md.")] = False,
) -> None:
    """Lists the recipes, or shows one as a table and as YAML.

    A recipe says which crops are made of an image, and what happens to them; `hjepa view` draws them.

    Examples:

      hjepa recipes

      hjepa recipes dinov2

      hjepa recipes dinov2 --yaml > mine.yaml (then hjepa.Loader(..., recipe=hjepa.load_recipe("mine.yaml")))
    """
    from hjepa.configs.recipe_file import find_recipe, recipe_to_yaml

    if yaml and name is None:
        raise ValueError("--yaml prints one recipe; name it, as in `hjepa recipes dino --yaml`")
    if yaml and as_markdown:
        raise ValueError("--yaml and --markdown are two forms; give one of them")
    recipes = [preset(each) for each in PRESETS] if name is None else [find_recipe(name)]
    if as_markdown:
        print(markdown(recipes), end="")
    elif yaml:
        print(recipe_to_yaml(recipes[0]), end="")
    elif name is None:
        _list(recipes)
    else:
        Display().console.print(recipe_table(recipes[0]))
        print(f"\n{recipe_to_yaml(recipes[0])}", end="")


@app.command("parity")
def check_parity(
    recipe: RecipeName = "hjepa",
    images: Annotated[
        str | None, typer.Option(help="Folder of photographs; scikit-image's and scikit-learn's without.")
    ] = None,
    device: Annotated[
        str, typer.Option(help="cpu, cuda or cuda:N: where the backends work; the bounds are the CPU's.")
    ] = "cpu",
    json_file: Annotated[Path | None, typer.Option("--json", help="File to write the figures to.")] = None,
) -> None:
    """Holds every backend against torchvision: each operator, and a recipe end to end, in levels of 255.

    Exit code 1 where one is further away than it may be.

    Examples:

      hjepa parity dino

      hjepa parity dino --device cuda --json figures.json
    """
    from hjepa import parity
    from hjepa.configs.recipe_file import find_recipe

    can_be_written("--json", json_file)
    wanted = find_recipe(recipe)
    backends = parity.available(device)
    folder = parity.photographs() if images is None else Path(not_empty("--images", images))
    differences: list[parity.Difference] = []
    with Display() as display:
        for backend in backends:
            measured = []
            # DALI's operators reduce nothing as they decode
            whole = replace(wanted, decoding="full") if backend == "dali-ops" else wanted
            for difference in chain(
                parity.operators(folder, backend, device), parity.end_to_end(whole, folder, backend, device)
            ):
                measured.append(difference)
                total = len(parity.OPERATORS) + len(wanted.groups())
                display.show(f"{backend} against torchvision", len(measured), total, difference.part)
            display.clear()
            display.console.print(_differences_table(backend, measured))
            differences += measured
    if json_file is not None:
        rows = [{**asdict(difference), "within": difference.within} for difference in differences]
        write_text("--json", json_file, json.dumps(rows, indent=1) + "\n")
    beyond = [f"{difference.backend} {difference.part}" for difference in differences if not difference.within]
    if beyond:
        raise RuntimeError(f"beyond the bound: {', '.join(beyond)}")


@app.command("eval")
def evaluate(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint of a run, such as runs/photos/checkpoints/latest.pt.")],
    data_path: Annotated[str | None, typer.Option(help="Labelled images; those of the run without.")] = None,
    dataset: Annotated[str | None, typer.Option(help="imagefolder, imagenet, cifar10, ...: what lies there.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    pipeline: Annotated[str | None, typer.Option(help="dali, or torchvision; as in training without.")] = None,
    num_workers: Annotated[int | None, typer.Option(help="Threads or processes for data; all cores without.")] = None,
    split: Annotated[
        str | None, typer.Option(help="train, or val, of data that has both (imagenet, cifar10, stl10, ...); train without.")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="File to write the figures to.")] = None,
) -> None:
    """Measures a trained encoder: nearest neighbours, a linear probe, and whether its features have collapsed.

    Without --data-path it reads the run's own images; of more than 10 000, so many, evenly spaced.

    Examples:

      hjepa eval runs/photos/checkpoints/latest.pt

      hjepa eval latest.pt --data-path /data/imagenet --dataset imagenet --split val
    """
    from hjepa import trained
    from hjepa.pipeline.open_source import name_of

    can_be_written("--json", json_file)
    place = None if data_path is None else not_empty("--data-path", data_path)
    if place is None and dataset == "sample":  # which lies nowhere, wherever the run's images lie
        place = ""
    changes = {
        "data.data_path": place,
        "data.dataset": name_of(data_path) if data_path is not None and dataset is None else dataset,
        "data.pipeline": pipeline,
        "data.num_workers": "auto" if num_workers is None else num_workers,
        "device": device,
        "evaluation.knn.enabled": True,
        "evaluation.linear_probe.enabled": True,
    }
    with Display() as display:
        found = trained.evaluate(checkpoint, changes, display.show, cast("Split | None", split))
        display.clear()
        display.table(f"Features of {checkpoint}", found.rows)
        if found.collapse is not None:
            display.say(found.collapse)
    if json_file is not None:
        write_text("--json", json_file, json.dumps(asdict(found), indent=1) + "\n")


@app.command("export")
def export(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint of a run.")],
    output: Annotated[Path, typer.Argument(help="File to write, which ends with .safetensors.")],
) -> None:
    """Writes the teacher's encoder as a file that timm loads.

    It prints the Python that loads it.

    Example:

      hjepa export runs/photos/checkpoints/latest.pt encoder.safetensors
    """
    from hjepa import trained

    arguments = trained.export(checkpoint, output)
    Display().say(f"{output}: load it with\n")
    Display().say(trained.loading(arguments, output))


def main() -> None:
    """Runs the command line and turns what went wrong into a message and an exit code."""
    run_command(app, "hjepa")


def _list(recipes: list[Recipe]) -> None:
    console = Display().console
    if console.width < NARROW:  # beside the names no word would fit
        for recipe in recipes:
            console.print(recipe.name)
            console.print(Padding(_described(recipe), (0, 0, 0, 2)))
        return
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for recipe in recipes:
        table.add_row(recipe.name, _described(recipe))
    console.print(table)


def _described(recipe: Recipe) -> Text:
    return Text.assemble(summary(recipe), "\n", (recipe.source, "dim"))


def _differences_table(backend: str, differences: "list[parity.Difference]") -> Table:
    table = Table(title=f"{backend}: difference from torchvision on PIL images, in levels of 255", title_justify="left")
    table.add_column("part")
    for name in ("mean", "p99", "max", "mean, p99 at most"):
        table.add_column(name, justify="right")
    table.add_column("why")
    for each in differences:
        figures = (f"{each.mean:.2f}", f"{each.p99:.1f}", f"{each.max:.0f}", f"{each.bound.mean:.3g}, {each.bound.p99:.3g}")
        why = each.bound.reason if each.within else f"BEYOND THE BOUND, which is for this: {each.bound.reason}"
        table.add_row(each.part, *figures, why, style=None if each.within else "red")
    return table
