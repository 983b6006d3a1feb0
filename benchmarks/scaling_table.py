"""What scaling.py measured, as tables in Markdown and as a picture."""

import statistics
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

STRAIGHT = {"side of the image": 2, "crops": 1}
"""Series along which an image's cost should be a straight line, and the power of their values that it is straight in."""
HEADINGS = ("", "CPU ms per image", "images/s", "needs, MiB", "holds, MiB", "first batch, s")
SPREAD = ("side of the image", "images")
"""Series over orders of magnitude."""


def markdown(result: dict[str, Any]) -> str:
    """The command, the machine, and a table whose groups are the series; medians over the rounds."""
    machine = result["machine"]
    lines = [
        f"`{result['command']}`, {result['date']}: {machine['cpu']}, {machine['cores']} cores. Images of 500x500 px, 8 crops "
        "of 96, batch 32 (by side: 8), 1 thread, 1 rank, 10 000 images, but for what the group varies. Memory is what the "
        "loader adds to its process at most, for each rank: needed, and held by malloc; medians.",
        "",
        f"| {' | '.join(HEADINGS)} |",
        "|---|---|---|---|---|---|",
    ]
    for name in result["series"]:
        lines.append(f"| **{name}** | | | | | |")
        for value, row in medians(result, name).items():
            lines.append(
                f"| {value:,} | {row['cpu_ms_per_image']:.3f} | {row['images_per_second']:.0f} | {row['needed_mib']:.0f} | "
                f"{row['held_mib']:.0f} | {row['first_batch_seconds']:.2f} |"
            )
    lines.append("")
    for name in (name for name in STRAIGHT if name in result["series"]):
        time, memory = (deviation(*points(result, name, figure)) for figure in ("cpu_ms_per_image", "needed_mib"))
        lines += [
            f"Over the {_unit(name)}, time is within {time:.0%} of a straight line, and the memory needed within {memory:.0%}.",
            "",
        ]
    return "\n".join(lines)


def medians(result: dict[str, Any], name: str) -> dict[int, dict[str, float]]:
    """Value -> figures of a series."""
    return {
        int(value): {figure: statistics.median(sample[figure] for sample in samples) for figure in samples[0]}
        for value, samples in result["series"][name].items()
    }


def points(result: dict[str, Any], name: str, figure: str) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """What grows (pixels where it is the side), and the figure over it."""
    rows = medians(result, name)
    values = np.array(list(rows), dtype=np.float64) ** STRAIGHT.get(name, 1)
    return values, np.array([row[figure] for row in rows.values()])


def line(values: npt.NDArray[np.float64], figures: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The straight line that is nearest in proportion, at these values."""
    fitted: npt.NDArray[np.float64] = np.polyval(np.polyfit(values, figures, 1, w=1 / figures), values)
    return fitted


def deviation(values: npt.NDArray[np.float64], figures: npt.NDArray[np.float64]) -> float:
    """How far the figures are from that line, at most."""
    return float(np.abs(figures / line(values, figures) - 1).max())


def chart(results: list[dict[str, Any]], path: Path) -> None:
    """Time above memory for each series; dotted: a straight line where one is expected."""
    (result,) = results
    names = list(result["series"])
    figure, panels = plt.subplots(2, len(names), figsize=(2.9 * len(names), 5.2), squeeze=False, layout="constrained")
    for (above, below), name in zip(panels.T, names, strict=True):
        _draw(above, result, name, "cpu_ms_per_image", "#2b7a78")
        _draw(below, result, name, "held_mib", "#c9c9c9")
        _draw(below, result, name, "needed_mib", "#2b7a78")
        below.set_xlabel(_unit(name))
    panels[0, 0].set_ylabel("CPU ms per image")
    panels[1, 0].set_ylabel("MiB that the loader needs\n(gray: with what malloc keeps)")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _draw(panel: Axes, result: dict[str, Any], name: str, measured: str, colour: str) -> None:
    values, figures = points(result, name, measured)
    panel.plot(values, figures, "o-", color=colour, markersize=4)
    if name in STRAIGHT and measured != "held_mib":
        panel.plot(values, line(values, figures), ":", color="#c1121f")
    panel.set_xscale("log" if name in SPREAD else "linear")
    if name == "side of the image":
        panel.set_yscale("log")
    else:
        panel.set_ylim(0, max(1.15 * figures.max(), panel.get_ylim()[1]))
    panel.spines[["top", "right"]].set_visible(False)


def _unit(name: str) -> str:
    return "pixels of the image" if name == "side of the image" else name
