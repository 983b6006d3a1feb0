"""Memory of hjepa's loader over batch sizes and recipes, beside the arithmetic: 12 B (G S^2 + L s^2) bytes of crops.

    python benchmarks/memory.py [--output FILE.json]

See scaling.py for how it is measured: what the loader adds to its process at most, with the batch that the consumer holds.
"""

import argparse
from typing import Any

from record import RESULTS, described, output_file, write
from rich.console import Console
from rich.markdown import Markdown
from rich.progress import track
from scaling import Point, measure

RECIPES = {
    "1 x 224": ((1, 224),),
    "2 x 224": ((2, 224),),
    "2 x 224 + 6 x 96": ((2, 224), (6, 96)),
    "2 x 224 + 8 x 96": ((2, 224), (8, 96)),
}
BATCHES = (16, 32, 64, 128, 256)
FIGURES = ("batch_mib", "needed_mib", "held_mib")
MB = 1e6
MIB = 1 << 20


def main() -> None:
    """Measures, shows the table, and writes the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=output_file, default=RESULTS / "memory.json")
    arguments = parser.parse_args()
    points = [(recipe, size) for recipe in RECIPES for size in BATCHES]
    found: dict[str, dict[str, dict[str, float]]] = {recipe: {} for recipe in RECIPES}
    for recipe, size in track(points, "batches", transient=True):
        found[recipe][str(size)] = measure(Point(views=RECIPES[recipe], batch_size=size), 0)
    result = {**described(), "memory": found}
    Console().print(Markdown(markdown(result)))
    write(arguments.output, result)


def markdown(result: dict[str, Any]) -> str:
    """The command, the machine, and a row per batch; in a cell the crops and all that the loader needs."""
    memory, machine = result["memory"], result["machine"]
    lines = [
        f"`{result['command']}`, {result['date']}: {machine['cpu']}. Images of 500x500 px, 1 thread; in MB: the batch's "
        "crops / all that the loader needs / what the process holds for it.",
        "",
        f"| batch | {' | '.join(memory)} |",
        f"|{'---|' * (1 + len(memory))}",
    ]
    for size in BATCHES:
        cells = [" / ".join(f"{megabytes(row[str(size)], name):.0f}" for name in FIGURES) for row in memory.values()]
        lines.append(f"| {size} | {' | '.join(cells)} |")
    one, largest = next(iter(memory.values())), str(max(BATCHES))
    ratios = [row[largest]["batch_mib"] / one[largest]["batch_mib"] for row in memory.values()]
    lines += [f"| crops against {next(iter(memory))} | {' | '.join(f'{ratio:.2f}' for ratio in ratios)} |", ""]
    return "\n".join(lines)


def megabytes(row: dict[str, float], name: str) -> float:
    """A figure, in units of 1 000 000 bytes."""
    return row[name] * MIB / MB


if __name__ == "__main__":
    main()
