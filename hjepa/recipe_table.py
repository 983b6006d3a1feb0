"""A recipe's numbers as a table: for the terminal, and for docs/recipes.md."""

from collections.abc import Iterable

from rich.table import Table
from rich.text import Text

from hjepa.pipeline.recipe import Range, Recipe, View

COLUMNS = (
    "view",
    "n x size",
    "area",
    "ratio",
    "filter",
    "flip",
    "jitter b/c/s/h, p",
    "gray",
    "blur p, sigma, window",
    "solarize p, from",
)


def summary(recipe: Recipe) -> str:
    """Counts and sizes of the views: "2x224 global + 6x96 local"."""
    groups = recipe.groups()
    return " + ".join(f"{sum(view.count for view in group)}x{group[0].size} {group[0].name}" for group in groups)


def row(view: View) -> tuple[str, ...]:
    """The view's numbers under COLUMNS."""
    jitter = view.jitter
    strengths = () if jitter is None else (jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue)
    return (
        view.name,
        f"{view.count}x{view.size}",
        "center" if view.crop == "center" else f"boxes of {view.same_box_as}" if view.same_box_as else _range(view.area),
        _range(view.ratio),
        view.interpolation,
        _number(view.flip),
        "-" if jitter is None else f"{'/'.join(map(_number, strengths))}, {_number(jitter.probability)}",
        _number(view.gray),
        f"{_number(view.blur)}, {_range(view.sigma)}, {view.blur_window}" if view.blur else "0",
        f"{_number(view.solarize)}, {view.solarize_threshold}" if view.solarize else "0",
    )


def recipe_table(recipe: Recipe) -> Table:
    """One column per view, for the terminal."""
    table = Table(title=Text(f"{recipe.name}: {recipe.source}"), title_justify="left")
    views = [row(view) for view in recipe.views]
    for heading in (COLUMNS[0], *(cells[0] for cells in views)):
        table.add_column(Text(heading), overflow="fold")
    for name, *cells in list(zip(COLUMNS, *views, strict=True))[1:]:
        table.add_row(name, *cells)
    table.caption = f"normalised by {_statistics(recipe)}; EXIF orientation: {recipe.orientation}"
    if recipe.decoding != "full":
        table.caption += f"; decoding: {recipe.decoding}"
    table.caption_justify = "left"
    return table


def markdown(recipes: Iterable[Recipe]) -> str:
    """All recipes as one table in Markdown, followed by their sources."""
    recipes = list(recipes)
    lines = [_line(("recipe", *COLUMNS)), _line(["---"] * (1 + len(COLUMNS)))]
    for recipe in recipes:
        names = [f"`{recipe.name}`"] + [""] * (len(recipe.views) - 1)
        lines += [_line((name, *row(view))) for name, view in zip(names, recipe.views, strict=True)]
    lines += ["", _line(("recipe", "source", "normalised by")), _line(["---"] * 3)]
    lines += [_line((f"`{recipe.name}`", recipe.source, _statistics(recipe))) for recipe in recipes]
    return "\n".join(lines) + "\n"


def _statistics(recipe: Recipe) -> str:
    return "; ".join(f"{name} {', '.join(map(_number, getattr(recipe, name)))}" for name in ("mean", "std"))


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _range(pair: Range) -> str:
    return f"{_number(pair[0])}-{_number(pair[1])}"


def _number(value: float) -> str:
    return f"{value:.4g}"
