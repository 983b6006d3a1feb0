"""Seconds on the CPU to the first batch of a run, and of one that goes on in the middle of an epoch, for data sets of any size.

    python benchmarks/resume.py [--sizes 1000 1000000 100000000] [--backend dali] [--rounds 5] [--output FILE.json]

Sizes take turns within a round; medians over the rounds.
"""

import argparse
import json
import statistics
import time
from typing import Any, get_args

from record import RESULTS, described, output_file, whole, write
from rich.console import Console
from rich.markdown import Markdown
from rich.progress import track
from synthetic import SyntheticSource

from hjepa import sample_data
from hjepa.pipeline.backend import BackendName
from hjepa.pipeline.loader import Loader

BATCH_SIZE = 32
NUM_FILES = 256
"""Images that there are; the others are the same again."""
FIGURES = ("open", "first batch", "resumed batch", "state")


def main() -> None:
    """Measures, shows the table, and writes the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 1_000_000, 100_000_000])
    parser.add_argument("--backend", default="dali", choices=get_args(BackendName))
    parser.add_argument("--rounds", type=whole, default=5)
    parser.add_argument("--output", type=output_file, default=RESULTS / "resume.json")
    arguments = parser.parse_args()
    files = sorted(sample_data.make(sample_data.default_folder(NUM_FILES), NUM_FILES).rglob("*.jpg"))
    sources = {str(size): SyntheticSource(size, files) for size in arguments.sizes}
    rounds = [
        {size: measure(source, arguments.backend) for size, source in sources.items()}
        for _ in track(range(arguments.rounds), "rounds", transient=True)
    ]
    result = {**described(), "backend": arguments.backend, "rounds": rounds}
    Console().print(Markdown(markdown(result)))
    write(arguments.output, result)


def markdown(result: dict[str, Any]) -> str:
    """The command, the machine, and a row for each size; medians over the rounds."""
    rounds, machine = result["rounds"], result["machine"]
    lines = [
        f"`{result['command']}`, {result['date']}: {machine['cpu']}, backend {result['backend']}, "
        f"batch {BATCH_SIZE}, recipe hjepa. Seconds, medians; the state is what has to be saved, in bytes.",
        "",
        f"| images | {' | '.join(FIGURES)} |",
        f"|{'---|' * (1 + len(FIGURES))}",
    ]
    for size in rounds[0]:
        *seconds, state = (statistics.median(figures[size][name] for figures in rounds) for name in FIGURES)
        lines.append(f"| {int(size):,} | {' | '.join(f'{each:.3f}' for each in seconds)} | {state:.0f} |")
    return "\n".join([*lines, ""])


def measure(source: SyntheticSource, backend: str) -> dict[str, float]:
    """Opens a loader and takes a batch, then another one that goes on three quarters into the third epoch."""
    start = time.perf_counter()
    with Loader(source, batch_size=BATCH_SIZE, backend=backend, device="cpu") as loader:
        opened = time.perf_counter() - start
        next(iter(loader))
        first = time.perf_counter() - start
        state = loader.state_dict()
        state |= {"epoch": 2, "position": len(loader) * 3 // 4 * BATCH_SIZE}
    start = time.perf_counter()
    with Loader(source, batch_size=BATCH_SIZE, backend=backend, device="cpu") as loader:
        loader.load_state_dict(json.loads(json.dumps(state)))
        next(iter(loader))
        resumed = time.perf_counter() - start
    return {"open": opened, "first batch": first, "resumed batch": resumed, "state": len(json.dumps(state))}


if __name__ == "__main__":
    main()
