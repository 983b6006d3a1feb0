"""`hjepa view`: pictures of what the pipeline makes of one's own images."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from hjepa.completion import recipe_names
from hjepa.display import Display

if TYPE_CHECKING:
    from hjepa.pipeline.backend import BackendName

FEW, MANY = 16, 50
"""Images that take no time worth a bar, and that make a sheet of which it is said that it is large."""
Data = Annotated[
    str | None, typer.Argument(help="Folder, .tar, .parquet or .csv of images; the sample images without.", show_default=False)
]

RecipeOption = Annotated[
    str, typer.Option(help="Name of a preset, or path of a recipe's YAML file.", autocompletion=recipe_names)
]


def view(
    data: Data = None,
    recipe: RecipeOption = "hjepa",
    backend: Annotated[str, typer.Option(help="dali, fused, dali-ops, or torchvision (the reference).")] = "dali",
    masks: Annotated[
        str, typer.Option(help="global_only, global_with_local_context, cross_crop_prediction, or none.")
    ] = "global_only",
    count: Annotated[int, typer.Option(help="How many images are shown.")] = 4,
    output: Annotated[
        list[Path] | None,
        typer.Option(help="File to write, .png or .html; may be given twice. Without: crops.png, crops.html."),
    ] = None,
    patch_size: Annotated[int, typer.Option(help="Side of the masks' patches, in pixels; 0 takes a usual one that fits.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    seed: Annotated[int, typer.Option(help="Number that every random choice follows from.")] = 0,
    epoch: Annotated[int, typer.Option(help="Epoch whose first images are shown, counted from 0.")] = 0,
) -> None:
    """Draws the crops that a recipe makes, and H-JEPA's masks: each image with its boxes, every crop with its draws in words.

    With recipe hjepa this is what hjepa-train gets. Masks of other works, such as dinov2's, come with their adapters and are
    not drawn here. The page shows the box and the masks of the crop that is pointed at. It needs no network.

    Examples:

      hjepa view

      hjepa view photos --recipe dinov2 --masks none --output dinov2.html

      hjepa view photos --masks cross_crop_prediction --count 2 --output sheet.png
    """
    from hjepa.command_data import open_data, say_left_out
    from hjepa.configs.recipe_file import find_recipe
    from hjepa.contact_sheet import check_place, gather, write
    from hjepa.result_table import counted

    files = output or [Path("crops.png"), Path("crops.html")]
    for file in files:
        check_place(file)
    wanted = find_recipe(recipe)
    with Display() as display:
        source = open_data(data, display, count)
        say_left_out(source, display)
        if min(count, len(source)) > MANY:
            display.say(f"note: --count {count} makes a large sheet, and takes a while; a few images show as much")
        sheet = gather(
            source,
            wanted,
            backend=cast("BackendName", backend),  # the Loader refuses others
            masks=masks,
            count=count,
            patch_size=patch_size or "auto",
            device=device,
            seed=seed,
            epoch=epoch,
            progress=partial(_show, display, "making crops"),
        )
        display.clear()
        display.say(f"{sheet.title}; {counted(len(sheet.images), 'image')}")
        for file in files:
            write(sheet, file, partial(_show, display, f"drawing {file}"))
            display.clear()
            display.say(f"wrote {file} ({file.stat().st_size / 1e6:.1f} MB)")


def _show(display: Display, what: str, done: int, total: int) -> None:
    if total > FEW:
        display.show(what, done, total)
