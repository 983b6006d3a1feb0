"""A contact sheet as a PNG: a block for each image, its source with all boxes on the left, crops and masks beside it."""

import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.patches import Rectangle

from hjepa.contact_sheet import Sheet, ShownCrop, ShownImage, thumbnail
from hjepa.mask_veil import LEGEND_ROW, add_legend, legend_rows, show_over
from hjepa.pipeline.mask_panel import INK
from hjepa.pipeline.scan import Progress

COLUMNS = 8
"""Cells beside the source at most: a recipe of 2 global crops with three levels each fills one row."""
CELL, CAPTION = 1.75, 0.75
"""Inches: side of a cell, and height of the words below it."""
WIDE = 2
"""Columns of the source."""
DPI = 110
MOST_PIXELS = 65_000
"""What matplotlib draws on a side: a sheet of more images is drawn smaller."""
LETTERS = 12.5
"""Letters of the title in an inch."""
COLOURS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a5fb5", "#8c510a", "#b3b300", "#e34a6f")
"""Of crops in order, and over again: frame of the crop and of its box."""
Cell: TypeAlias = tuple[int, ShownCrop, int | None]
"""Number of a crop among the image's, the crop, and the level of masks over it; None for the crop itself."""


def colour(number: int) -> str:
    """The colour of a crop of this number."""
    return COLOURS[number % len(COLOURS)]


def save_sheet(sheet: Sheet, path: Path, progress: Progress) -> None:
    """Writes the PNG."""
    rows = [list(_rows(image)) for image in sheet.images]
    total, columns = sum(map(len, rows)), WIDE + max(len(cells) for own in rows for cells in own)
    shown = {int(role) for image in sheet.images for crop in image.crops for level in crop.levels for role in level.flat}
    title = textwrap.wrap(sheet.title, int(columns * CELL * LETTERS))
    head, legend = 0.17 + 0.18 * len(title), legend_rows(shown, columns * CELL) * LEGEND_ROW + 0.15 if shown else 0
    height = total * (CELL + CAPTION) + head + legend
    figure = Figure(figsize=(columns * CELL, height), dpi=min(DPI, MOST_PIXELS / height))
    FigureCanvasAgg(figure)
    bottom, top = (CAPTION + legend) / height, 1 - head / height
    grid = figure.add_gridspec(
        total, columns, left=0.005, right=0.995, bottom=bottom, top=top, wspace=0.04, hspace=CAPTION / CELL
    )
    first = 0
    for number, (image, own) in enumerate(zip(sheet.images, rows, strict=True)):
        progress(number, len(rows))
        _show_source(figure.add_subplot(grid[first : first + len(own), :WIDE]), image)
        for row, cells in enumerate(own, start=first):
            for column, cell in enumerate(cells, start=WIDE):
                _show_cell(figure, grid, (row, column), cell)
        first += len(own)
    words = "\n".join(title)
    figure.suptitle(words, x=0.005, y=1 - 0.08 / height, ha="left", va="top", fontsize=10, color=INK, parse_math=False)
    if shown:
        add_legend(figure, shown)
    figure.savefig(path)
    progress(len(rows), len(rows))


def _rows(image: ShownImage) -> Iterator[list[Cell]]:
    """The cells of an image: a new row for each name of view, and where a crop with its levels does not fit any more."""
    row: list[Cell] = []
    name = ""
    for number, crop in enumerate(image.crops):
        cells: list[Cell] = [(number, crop, None), *((number, crop, level) for level in range(len(crop.levels)))]
        if row and (crop.name.rpartition(" ")[0] != name or len(row) + len(cells) > COLUMNS):
            yield row
            row = []
        name = crop.name.rpartition(" ")[0]
        row += cells
    yield row


def _show_source(axis: Axes, image: ShownImage) -> None:
    height, width = image.pixels.shape[:2]
    axis.imshow(thumbnail(image.pixels, 640), extent=(0, width, height, 0))
    for number, crop in enumerate(image.crops):
        top, left, rows, columns = crop.box
        line = 2.2 if crop.name.startswith("global") else 1.4
        axis.add_patch(Rectangle((left, top), columns, rows, fill=False, edgecolor=colour(number), linewidth=line))
    axis.set_anchor("NW")
    _bare(axis)
    label = f" ({image.label})" if image.label else ""
    words = textwrap.fill(f"{image.key}{label}, {width}x{height} px", 44)
    axis.set_xlabel(words, fontsize=8, color=INK, loc="left", parse_math=False)  # a name with two dollar signs is no formula


def _show_cell(figure: Figure, grid: GridSpec, place: tuple[int, int], cell: Cell) -> None:
    """Draws a crop, or one level of its masks."""
    number, crop, level = cell
    axis = figure.add_subplot(grid[place])
    if level is None:
        axis.imshow(crop.pixels)
        _bare(axis)
        axis.spines[:].set(visible=True, color=colour(number), linewidth=2.5)
        _caption(axis, "\n".join([crop.name, *_wrapped(crop.words)]))
        return
    shown = crop.levels[level]
    patch = crop.pixels.shape[0] // shown.shape[0]
    covered = tuple(side * patch for side in shown.shape)  # what is left over at the bottom and the right is in no patch
    show_over(axis, shown, crop.pixels[: covered[0], : covered[1]])
    axis.spines[:].set(color=colour(number), linewidth=1)
    _caption(axis, f"{crop.name}, level {level}")


def _wrapped(words: Sequence[str]) -> list[str]:
    return textwrap.wrap("; ".join(words), 33)


def _caption(axis: Axes, text: str) -> None:
    axis.annotate(
        text, (0, 0), (0, -4), "axes fraction", "offset points", fontsize=6.5, color=INK, ha="left", va="top", linespacing=1.15
    )


def _bare(axis: Any) -> None:
    axis.set_xticks([])
    axis.set_yticks([])
    axis.spines[:].set_visible(False)
