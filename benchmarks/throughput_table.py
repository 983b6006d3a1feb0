"""What throughput.py measured, as a table for the terminal and for Markdown, and as a picture."""

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib
from rich.table import Table
from stopwatch import median

matplotlib.use("Agg")
import matplotlib.pyplot as plt

HEADINGS = (
    "engine",
    "work-\ners",
    "images/s\n(min - max)",
    "crops/s\n",
    "x torch-\nvision",
    "of de-\ncoding",
    "CPU ms\nper image",
    "x in CPU\ntime",
    "cores\nused",
    "memory\nMiB",
    "first\nbatch, s",
)

LABELS = {"ffcv": "ffcv, crop\nand flip only"}
"""What an engine is called where its name alone would mislead."""
COLOURS = {**dict.fromkeys(("fused", "fused-reduced", "fused-cpu-decoded", "dali-ops"), "#2b7a78"), "decode": "#c9c9c9"}
"""Of the bars of hjepa's engines, and of what is no loader; all others have one."""
GPU_COLUMNS = {
    "gpu_ms_per_image": ("GPU ms\nper image", ".3f"),
    "from_host_kib_per_image": ("from host\nKiB/image", ".0f"),
    "gpu_memory_mib": ("GPU mem-\nory, MiB", ".0f"),
    "utilization_percent": ("GPU\nbusy, %", ".0f"),
    "jpeg_percent": ("JPEG en-\ngines, %", ".0f"),
}
"""Figures that only a GPU gives: heading and format."""


def rows(result: dict[str, Any]) -> list[dict[str, Any]]:
    """The medians of each engine, the fastest first; ratios are None where there is nothing to compare with."""
    rounds = result["rounds"]
    crops = sum(view["count"] for view in result["recipe"]["views"])
    found = []
    for name, samples in rounds.items():
        rate, cpu = median(samples, "images_per_second"), median(samples, "cpu_ms_per_image")
        rates = [sample["images_per_second"] for sample in samples]
        found.append(
            {
                "engine": name,
                "workers": result["workers"][name],
                "rate": rate,
                "range": (min(rates), max(rates)),
                "crops": rate * crops if name != "decode" else None,
                "ratio": _ratio(rounds, "torchvision", "images_per_second", rate),
                "share": None if name == "decode" else _ratio(rounds, "decode", "images_per_second", rate),
                "cpu": cpu,
                "cpu_ratio": None if "torchvision" not in rounds else median(rounds["torchvision"], "cpu_ms_per_image") / cpu,
                **{key: median(samples, key) for key in ("cores", "memory_mib", "first_batch_seconds")},
                **{key: median(samples, key) for key in GPU_COLUMNS if all(key in sample for sample in samples)},
            }
        )
    return sorted(found, key=lambda row: -row["rate"])


def table(result: dict[str, Any]) -> Table:
    """The table of medians."""
    shown, found = Table(title=title(result), title_justify="left"), rows(result)
    columns = _gpu_columns(found)
    for heading in (*HEADINGS, *(GPU_COLUMNS[key][0] for key in columns)):
        shown.add_column(heading, no_wrap=True, justify="left" if heading == "engine" else "right")
    for row in found:
        shown.add_row(
            LABELS.get(row["engine"], row["engine"]),
            str(row["workers"]),
            f"{row['rate']:.0f} ({row['range'][0]:.0f} - {row['range'][1]:.0f})",
            _number(row["crops"], ".0f"),
            _number(row["ratio"], ".2f"),
            _number(row["share"], ".0%"),
            f"{row['cpu']:.2f}",
            _number(row["cpu_ratio"], ".2f"),
            f"{row['cores']:.1f}",
            f"{row['memory_mib']:.0f}",
            f"{row['first_batch_seconds']:.2f}",
            *(_number(row.get(key), GPU_COLUMNS[key][1]) for key in columns),
        )
    return shown


def title(result: dict[str, Any]) -> str:
    """Machine, images and recipe in a line."""
    machine, images, recipe = result["machine"], result["images"], result["recipe"]
    width, height = images["mean_size"]
    views = " + ".join(f"{view['count']}x{view['size']}" for view in recipe["views"] if view["count"])
    where = f"{machine['cpu']}, {machine['cores']} cores, {machine['device']}"
    size = f"{width}x{height} px in {images['mean_kib']:.0f} KiB"
    return f"{where}; {images['count']} images of {size}, recipe {recipe['name']} ({views}); medians"


def markdown(result: dict[str, Any]) -> str:
    """The command, the machine and the table of medians."""
    versions = ", ".join(f"{name} {number}" for name, number in result["machine"]["versions"].items())
    found = rows(result)
    columns = _gpu_columns(found)
    headings = ["memory, MiB", *(GPU_COLUMNS[key][0].replace("-\n", "").replace("\n", " ") for key in columns)]
    lines = [
        f"`{result['command']}`, {result['date']}: {title(result)}. Python {result['machine']['python']}, {versions}.",
        "",
        "| engine | images/s (min - max) | x torchvision | of decoding | CPU ms per image | x in CPU time | "
        f"{' | '.join(headings)} |",
        f"|{'---|' * (6 + len(headings))}",
    ]
    for row in found:
        low, high = row["range"]
        memory = [f"{row['memory_mib']:.0f}", *(_number(row.get(key), GPU_COLUMNS[key][1]) for key in columns)]
        lines.append(
            f"| {_in_markdown(row['engine'])} | {row['rate']:.0f} ({low:.0f} - {high:.0f}) | {_number(row['ratio'], '.1f')} | "
            f"{_number(row['share'], '.0%')} | {row['cpu']:.2f} | {_number(row['cpu_ratio'], '.1f')} | "
            f"{' | '.join(memory)} |"
        )
    lines += [f"| `{name}` | failed: {reason} |{' |' * (4 + len(headings))}" for name, reason in result["failed"].items()]
    return "\n".join([*lines, ""])


def earlier(text: str) -> list[dict[str, Any]]:
    """The results in a file of an earlier run, named on the command line; what is none is said before the time is spent."""
    try:
        held = json.loads(Path(text).read_text(encoding="utf-8"))
        results: list[dict[str, Any]] = held if isinstance(held, list) else [held]
        for result in results:
            title(result), rows(result)
    except (OSError, ValueError, LookupError, TypeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise argparse.ArgumentTypeError(f"{text} is no result of throughput.py ({reason}); name another file") from error
    return results


def changes(before: list[dict[str, Any]], now: list[dict[str, Any]]) -> list[str]:
    """How the ratios to torchvision have changed since an earlier run, a line for each engine that both measured."""
    lines = []
    for was, result in zip(before, now, strict=False):
        if title(was) != title(result):
            lines.append(f"then: {title(was)}")
            lines.append(f"now: {title(result)}")
        rows_then = {row["engine"]: row for row in rows(was)}
        for row in rows(result):
            then = rows_then.get(row["engine"])
            if row["engine"] != "torchvision" and then and then["ratio"] and row["ratio"]:
                rate, cpu = (_change(then[key], row[key]) for key in ("ratio", "cpu_ratio"))
                lines.append(f"{row['engine']}: x torchvision {rate}; x in CPU time {cpu}")
    return lines or ["nothing to compare: no engine beside torchvision was measured in both"]


def chart(results: list[dict[str, Any]], path: Path) -> None:
    """A bar per engine, and a panel per result."""
    tall = 1.2 + 0.36 * max(len(result["rounds"]) for result in results)
    figure, panels = plt.subplots(len(results), 1, figsize=(9, tall * len(results)), squeeze=False)
    for result, panel in zip(results, panels[:, 0], strict=True):
        found = rows(result)[::-1]
        names = [row["engine"] for row in found]
        colours = [COLOURS.get(name, "#8d99ae") for name in names]
        panel.barh([LABELS.get(name, name) for name in names], [row["rate"] for row in found], color=colours)
        for place, row in enumerate(found):
            ratio = "" if row["ratio"] is None else f"  {row['ratio']:.1f}x"
            panel.text(row["rate"], place, f" {row['rate']:.0f}{ratio}", va="center", fontsize=8)
        panel.set_xlabel("images per second, and that over torchvision's")
        panel.set_title(title(result), fontsize=8, loc="left")
        panel.margins(x=0.14)
        panel.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _change(then: float, now: float) -> str:
    return f"{then:.2f} then, {now:.2f} now ({now / then - 1:+.0%})"


def _ratio(rounds: dict[str, Any], reference: str, name: str, value: float) -> float | None:
    return value / median(rounds[reference], name) if reference in rounds else None


def _gpu_columns(found: list[dict[str, Any]]) -> list[str]:
    """The figures of a GPU that any engine has."""
    return [key for key in GPU_COLUMNS if any(key in row for row in found)]


def _in_markdown(name: str) -> str:
    first, comma, rest = LABELS.get(name, name).replace("\n", " ").partition(",")
    return f"`{first}`{comma}{rest}"


def _number(value: float | None, spec: str) -> str:
    return "" if value is None else format(value, spec)
