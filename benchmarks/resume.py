"""Seconds to the first batch of a run, and of a run that goes on in the middle of an epoch, for data sets of any size.

    python benchmarks/resume.py [--sizes 1000 1000000 100000000] [--backend dali] [--rounds 5] [--output FILE.json]

Sizes take turns within a round; medians over the rounds. "state" is the size of what has to be saved.
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import get_args

from rich.console import Console
from rich.table import Table
from synthetic import SyntheticSource

from hjepa import sample_data
from hjepa.pipeline.backend import BackendName
from hjepa.pipeline.loader import Loader

BATCH_SIZE = 32
FIGURES = ("open", "first batch", "resumed batch")


def main() -> None:
    """Measures, and shows and writes the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 1_000_000, 100_000_000])
    parser.add_argument("--backend", default="dali", choices=get_args(BackendName))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, help="JSON file for every figure")
    arguments = parser.parse_args()
    files = sorted(sample_data.make(sample_data.default_folder()).rglob("*.jpg"))
    sources = {size: SyntheticSource(size, files) for size in arguments.sizes}
    rounds = [{size: measure(source, arguments.backend) for size, source in sources.items()} for _ in range(arguments.rounds)]
    table = Table(
        title=f"seconds, backend {arguments.backend}, batch {BATCH_SIZE}, recipe hjepa; medians", title_justify="left"
    )
    for heading in ("images", *FIGURES, "state, bytes"):
        table.add_column(heading, justify="right")
    for size in sources:
        medians = {name: statistics.median(figures[size][name] for figures in rounds) for name in rounds[0][size]}
        table.add_row(f"{size:,}", *(f"{medians[name]:.3f}" for name in FIGURES), f"{medians['state']:.0f}")
    Console().print(table)
    if arguments.output:
        arguments.output.write_text(json.dumps({"command": "python benchmarks/resume.py", "rounds": rounds}, indent=1) + "\n")


def measure(source: SyntheticSource, backend: str) -> dict[str, float]:
    """Opens a loader and takes a batch, then another one that goes on three quarters into the third epoch."""
    start = time.perf_counter()
    with Loader(source, batch_size=BATCH_SIZE, backend=backend) as loader:
        opened = time.perf_counter() - start
        next(iter(loader))
        first = time.perf_counter() - start
        state = loader.state_dict()
        state |= {"epoch": 2, "position": len(loader) * 3 // 4 * BATCH_SIZE}
    start = time.perf_counter()
    with Loader(source, batch_size=BATCH_SIZE, backend=backend) as loader:
        loader.load_state_dict(json.loads(json.dumps(state)))
        next(iter(loader))
        resumed = time.perf_counter() - start
    return {"open": opened, "first batch": first, "resumed batch": resumed, "state": len(json.dumps(state))}


if __name__ == "__main__":
    main()
