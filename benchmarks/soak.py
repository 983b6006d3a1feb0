"""Resident memory of hjepa's loader over an hour: epoch after epoch of the sample images, mapped files not counted.

    python benchmarks/soak.py [--minutes 60] [--recipe dino] [--output FILE.json]

What counts is what is resident beside mapped files, taken every few seconds and written down as the lowest and the highest of
each minute. It should rise in the first minutes, until all buffers have met their largest batch, and then stay.
"""

import argparse
import time
from collections.abc import Iterator
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from record import RESULTS, described, output_file, whole, write
from rich.console import Console
from rich.markdown import Markdown
from rich.progress import track
from scaling import memory_mib

from hjepa import sample_data
from hjepa.pipeline.batch import Batch
from hjepa.pipeline.folder import open_folder
from hjepa.pipeline.loader import Loader
from hjepa.pipeline.presets import PRESETS, preset

MINUTE, BETWEEN = 60.0, 2.0
"""Seconds of a minute, and from one reading of the memory to the next."""
FIGURES = ("lowest_mib", "highest_mib")
SHOWN = (1, 2, 5, 10, 20, 30, 60, 120, 240)
"""Minutes with a row of the table."""


def main() -> None:
    """Runs for so long, shows the table, and writes the figures and a plot."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=whole, default=60)
    parser.add_argument("--recipe", choices=PRESETS, default="dino")
    parser.add_argument("--threads", type=whole, default=1)
    parser.add_argument("--output", type=output_file, default=RESULTS / "soak.json")
    arguments = parser.parse_args()
    source = open_folder(sample_data.make(sample_data.default_folder()))
    recipe = preset(arguments.recipe)
    with Loader(source, recipe, batch_size=32, device="cpu", num_workers=arguments.threads) as loader:
        batches = chain.from_iterable(repeat(loader))
        minutes = [minute(batches) for _ in track(range(arguments.minutes), "minutes", transient=True)]
        result = {**described(), "engine": loader.engine, "images": len(source), "minutes": minutes}
    Console().print(Markdown(markdown(result)))
    write(arguments.output, result)
    chart([result], arguments.output.with_suffix(".png"))


def minute(batches: Iterator[Batch]) -> dict[str, float]:
    """Reads batches for a minute: images, and the least and the most memory in MiB."""
    start = read = time.perf_counter()
    images, memory = 0, [memory_mib("RssAnon", "RssShmem")]
    while (now := time.perf_counter()) - start < MINUTE:
        images += len(next(batches).labels)
        if now - read > BETWEEN:
            memory.append(memory_mib("RssAnon", "RssShmem"))
            read = now
    return {"images": images, "lowest_mib": min(memory), "highest_mib": max(memory)}


def markdown(result: dict[str, Any]) -> str:
    """The command, the machine, some of the minutes, and by how much the memory grows in an hour in the end."""
    minutes, machine = result["minutes"], result["machine"]
    read = np.cumsum([each["images"] for each in minutes])
    lines = [
        f"`{result['command']}`, {result['date']}: {machine['cpu']}, engine {result['engine']}. Resident memory of the process "
        "beside mapped files, torch and all, in MiB.",
        "",
        "| minute | epochs so far | lowest | highest |",
        "|---|---|---|---|",
    ]
    for number in (number for number in SHOWN if number <= len(minutes)):
        low, high = (minutes[number - 1][name] for name in FIGURES)
        lines.append(f"| {number} | {read[number - 1] / result['images']:.0f} | {low:.0f} | {high:.0f} |")
    half = minutes[len(minutes) // 2 :]
    if len(half) > 2:
        low, high = (60 * np.polyfit(np.arange(len(half)), [each[name] for each in half], 1)[0] for name in FIGURES)
        lines += [
            "",
            f"In the second half the straight line through the lowest changes by {low:+.0f} MiB in an hour, that through the "
            f"highest by {high:+.0f}.",
        ]
    return "\n".join([*lines, ""])


def chart(results: list[dict[str, Any]], path: Path) -> None:
    """The memory by minutes, from zero."""
    minutes = results[0]["minutes"]
    time_axis = np.arange(1, len(minutes) + 1)
    figure, axes = plt.subplots(figsize=(7, 3), layout="constrained")
    axes.fill_between(time_axis, [each["lowest_mib"] for each in minutes], [each["highest_mib"] for each in minutes], alpha=0.4)
    axes.plot(time_axis, [each["highest_mib"] for each in minutes])
    axes.set(xlabel="minutes", ylabel="resident memory, MiB", ylim=(0, None), xlim=(0, None))
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)
    plt.close(figure)


if __name__ == "__main__":
    main()
