"""Draws what `learning.py` measured, and writes it as the table of docs/training.md.

    python benchmarks/learning_curves.py [--input benchmarks/results/learning.json] [--picture docs/images/learning.png]

The picture shows the longest runs of each kind; lines are means over the seeds, bands go from the least to the most of them.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

RESULTS = Path(__file__).parent / "results"
PICTURE = Path(__file__).parents[1] / "docs" / "images" / "learning.png"
COLOURS = {
    "global_only": "#1f77b4",
    "global_with_local_context": "#2ca02c",
    "cross_crop_prediction": "#9467bd",
    "dino": "#ff7f0e",
}
"""Of each kind of run; those that are broken on purpose have the colour of what they break, and dashes."""

Runs = Sequence[dict[str, Any]]


def main() -> None:
    """Draws the picture and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", type=Path, default=RESULTS / "learning.json")
    parser.add_argument("--picture", type=Path, default=PICTURE)
    arguments = parser.parse_args()
    runs = json.loads(arguments.input.read_text())
    draw(runs, arguments.picture)
    print(table(runs), end="")


def table(runs: Runs) -> str:
    """Markdown: a line for each data set and kind of run, with every seed's figures."""
    lines = [
        "| data | run | epochs | seeds | untrained | trained | raw pixels | RankMe | found again | level 0: loss / mean's |",
        "|" + "---|" * 10,
    ]
    for (data, name, epochs), seeds in grouped(runs):
        first = ", ".join(f"{run['knn']['0']:.1f}" for run in seeds)
        last = ", ".join(f"{run['knn'][str(epochs)]:.1f}" for run in seeds)
        ranks = ", ".join(f"{run['rankme'][str(epochs)]:.0f}" for run in seeds)
        ratios = ", ".join(f"{list(run['baseline_ratio_level_0'].values())[-1]:.2f}" for run in seeds if has_levels(run))
        again = ", ".join(
            " to ".join(f"{share:.1f}" for share in run["found_again"].values()) for run in seeds if "found_again" in run
        )
        numbers = ", ".join(str(run["seed"]) for run in seeds)
        pixels = f"{seeds[0]['raw_pixels']:.1f}"
        cells = (data, name, str(epochs), numbers, first, f"**{last}**", pixels, ranks, again or "-", ratios or "-")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def draw(runs: Runs, path: Path) -> None:
    """A column for each data set: accuracy by epochs above, how much of the hidden blocks is known below."""
    sets = list(dict.fromkeys(run["data"] for run in runs))
    figure = Figure(figsize=(7.2 * len(sets), 7.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, len(sets), squeeze=False)
    for column, data in enumerate(sets):
        own = [run for run in longest(runs) if run["data"] == data]
        _draw_accuracies(axes[0, column], own, data)
        _draw_ratios(axes[1, column], [run for run in own if has_levels(run)])
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)


def longest(runs: Runs) -> Runs:
    """Of each data set and kind those with the most epochs."""
    most: dict[tuple[str, str], int] = {}
    for run in runs:
        kind = run["data"], run["run"]
        most[kind] = max(run["epochs"], most.get(kind, 0))
    return [run for run in runs if run["epochs"] == most[run["data"], run["run"]]]


def grouped(runs: Runs) -> Iterable[tuple[tuple[str, str, int], Runs]]:
    """Runs that differ by their seed alone, in the order of the file."""
    groups: dict[tuple[str, str, int], list[dict[str, Any]]] = defaultdict(list)
    for run in runs:
        groups[run["data"], run["run"], run["epochs"]].append(run)
    order = list(dict.fromkeys(data for data, _, _ in groups))
    return sorted(groups.items(), key=lambda group: order.index(group[0][0]))


def has_levels(run: dict[str, Any]) -> bool:
    """Whether something is predicted at levels: not with DINO."""
    return bool(run["baseline_ratio_level_0"])


def _draw_accuracies(axis: Axes, runs: Runs, data: str) -> None:
    for (_, name, epochs), seeds in grouped(runs):
        _draw_seeds(axis, [run["knn"] for run in seeds], name, epochs)
    axis.axhline(runs[0]["raw_pixels"], color="black", linewidth=1, linestyle=":", label="raw pixels")
    axis.set_title(f"{data}: {runs[0]['images']} images of {runs[0]['classes']} classes")
    axis.set_xlabel("epochs")
    axis.set_ylabel("kNN accuracy, percent")
    axis.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1, 1))


def _draw_ratios(axis: Axes, runs: Runs) -> None:
    if not runs:
        axis.set_axis_off()
        return
    for (_, name, epochs), seeds in grouped(runs):
        _draw_seeds(axis, [run["baseline_ratio_level_0"] for run in seeds], name, epochs)
    axis.axhline(1, color="black", linewidth=1, linestyle=":", label="the mean of all targets, everywhere")
    axis.set_ylim(0, 2)
    axis.set_xlabel("steps")
    axis.set_ylabel("loss of level 0 / loss of the mean")
    axis.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1, 1))


def _draw_seeds(axis: Axes, curves: Sequence[dict[str, float]], name: str, epochs: int) -> None:
    shared = [place for place in curves[0] if all(place in curve for curve in curves)]  # of runs evaluated unequally often
    places, columns = [int(place) for place in shared], [[curve[place] for curve in curves] for place in shared]
    family = next(kind for kind in sorted(COLOURS, key=len, reverse=True) if name.startswith(kind))
    style = {"color": COLOURS[family], "linestyle": "-" if name == family else ":" if name.endswith("shuffled") else "--"}
    axis.plot(places, [sum(column) / len(column) for column in columns], label=f"{name}, {epochs} epochs", **style)
    axis.fill_between(places, [min(column) for column in columns], [max(column) for column in columns], alpha=0.15, **style)


if __name__ == "__main__":
    main()
