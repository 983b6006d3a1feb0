"""Seconds and memory that opening a large folder of images costs: the first time, and for processes that open it after.

    python benchmarks/index.py [--count 1000000] [--data FOLDER] [--processes 3] [--output FILE.json]

Without --data it makes that many small images (hard links to a few files, 1000 to a folder) in a temporary folder. Memory is
what a process gained by opening the folder and by fetching 100 batches of 256: resident, of which private to it.
"""

import argparse
import contextlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table

from hjepa.pipeline.folder import open_folder
from hjepa.pipeline.walk import SETTLED_NS

PER_FOLDER = 1000
LINKS = 50_000
"""Links to one file; ext4 allows 65 000."""
RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Measures in processes of their own, and shows the results."""
    arguments = parse()
    if arguments.open:
        print(json.dumps(measure(arguments.open)))
        return
    console = Console()
    with contextlib.ExitStack() as stack:
        folder = arguments.data or stack.enter_context(synthetic(arguments.count, console))
        cache = stack.enter_context(tempfile.TemporaryDirectory())
        first = run(folder, cache, 1, console)
        time.sleep(1.5 * SETTLED_NS / 1e9)  # folders are not trusted while their time of change is young
        second = run(folder, cache, 1, console)
        later = run(folder, cache, arguments.processes, console)
        size = sum(file.stat().st_size for file in Path(cache).rglob("*.columns"))
    rows = [
        ("first, scans all headers", *first),
        ("second", *second),
        *((f"together, {n}", one) for n, one in enumerate(later, 1)),
    ]
    show(console, rows, size)
    result = {
        "command": " ".join(["python", "benchmarks/index.py", *sys.argv[1:]]),
        "date": time.strftime("%Y-%m-%d"),
        "machine": {"cores": len(os.sched_getaffinity(0)), "python": platform.python_version(), "numpy": np.__version__},
        "index_bytes": size,
        "processes": dict(rows),
    }
    path = arguments.output or RESULTS / f"index-{platform.node() or 'machine'}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    console.print(f"written: {path}", soft_wrap=True)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=1_000_000, help="images to make")
    parser.add_argument("--data", type=Path, help="measure this folder instead")
    parser.add_argument("--processes", type=int, default=3, help="processes that open the folder together in the end")
    parser.add_argument("--output", type=Path, help="JSON file; benchmarks/results/ by default")
    parser.add_argument("--open", type=Path, help=argparse.SUPPRESS)  # what the measured processes are started with
    return parser.parse_args()


@contextlib.contextmanager
def synthetic(count: int, console: Console) -> Iterator[Path]:
    """A folder with that many JPEGs of 32 x 32 pixels."""
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary) / "images"
        picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8))
        for number in track(range(count), f"making {count} images", console=console, transient=True):
            original = Path(temporary) / f"{number // LINKS}.jpg"
            if number % LINKS == 0:
                picture.save(original)
            if number % PER_FOLDER == 0:
                folder = root / f"class{number // PER_FOLDER:05d}"
                folder.mkdir(parents=True)
            os.link(original, folder / f"image_{number:08d}.jpg")
        yield root


def run(folder: Path, cache: str, processes: int, console: Console) -> list[dict[str, float]]:
    """Opens the folder in so many processes at once."""
    command = [sys.executable, __file__, "--open", str(folder)]
    with console.status(f"opening {folder}, {processes} at once"):
        started = [
            subprocess.Popen(command, env=os.environ | {"HJEPA_CACHE": cache}, stdout=subprocess.PIPE) for _ in range(processes)
        ]
        lines = [process.communicate()[0] for process in started]
    if any(process.returncode for process in started):
        sys.exit(1)
    return [json.loads(line) for line in lines]


def measure(folder: Path) -> dict[str, float]:
    """Opens the folder in this process."""
    before = memory()
    start = time.perf_counter()
    source = open_folder(folder)
    source.fingerprint()
    seconds = time.perf_counter() - start
    opened = memory()
    chance = np.random.default_rng(0)
    start = time.perf_counter()
    for _ in range(100):
        source.fetch(chance.integers(0, len(source), 256))
    fetch = time.perf_counter() - start
    after = memory()
    return {
        "images": len(source),
        "seconds": seconds,
        "open_resident_mib": opened["Rss"] - before["Rss"],
        "open_private_mib": opened["Private"] - before["Private"],
        "resident_mib": after["Rss"] - before["Rss"],
        "private_mib": after["Private"] - before["Private"],
        "fetch_us_per_image": fetch / 25_600 * 1e6,
    }


def memory() -> dict[str, float]:
    """Memory of this process, in MiB: resident, and what of it no other process or file shares."""
    kib: dict[str, int] = {}
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]:
        name, value = line.split()[:2]
        kib[name.rstrip(":")] = int(value)
    return {"Rss": kib["Rss"] / 1024, "Private": kib["Anonymous"] / 1024}


def show(console: Console, rows: list[tuple[str, dict[str, Any]]], size: int) -> None:
    """A table of the measured processes."""
    table = Table(title=f"{rows[0][1]['images']} images, index of {size / 2**20:.0f} MiB", title_justify="left")
    for name in ("process", "seconds to open", "resident MiB", "of it private MiB", "fetch, us per image"):
        table.add_column(name, justify="left" if name == "process" else "right")
    for name, one in rows:
        numbers = (one["resident_mib"], one["private_mib"], one["fetch_us_per_image"])
        table.add_row(name, f"{one['seconds']:.3f}", *(f"{number:.1f}" for number in numbers))
    console.print(table)


if __name__ == "__main__":
    main()
