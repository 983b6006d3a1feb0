"""What an image costs hjepa's loader, in processor time and in memory, where one thing at a time grows.

    python benchmarks/scaling.py [--seconds 1.5] [--rounds 3] [--output FILE.json]

That is the image's side, the number of crops, the batch, the threads, the ranks (processes beside each other, each with its
share of the data set) and the size of the data set, which is one file under many numbers. Every measurement is made in a
process forked for it, so that its memory is its own. Time and memory should follow the pixels and the crops along straight
lines, and nothing else but a batch's memory should grow at all. The series are gone through in turn, round by round.

Memory is taken twice: what the process holds, which is some hundred MiB more than it needs, because glibc keeps what is freed
in pieces below 32 MiB to give it out again; and what it needs, where glibc is told to give everything back at once.
"""

import argparse
import ctypes
import multiprocessing
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, repeat
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from record import RESULTS, described, duration, output_file, whole, write
from rich.console import Console
from rich.markdown import Markdown
from rich.progress import track
from scaling_table import chart, markdown
from synthetic import SyntheticSource

from hjepa.pipeline.batch import Batch
from hjepa.pipeline.loader import Loader
from hjepa.pipeline.recipe import Jitter, Recipe, View

MIB = 1 << 20
QUALITY = 95
M_MMAP_THRESHOLD, PAGE = -3, 4096
"""From malloc.h: what is longer than this is the system's again as soon as it is freed."""
WARM_UP = 4
"""Batches before the time is taken: the loader's buffers are all in use then."""
FEWEST = 3
"""Batches that are timed, however long they take."""
PATIENCE = 300.0
"""Seconds that ranks wait for each other."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """What is measured: the usual thing, but for what its series varies."""

    size: int = 500
    """Side of the square images, in pixels."""
    views: tuple[tuple[int, int], ...] = ((8, 96),)
    """Number of crops and their side, of each kind."""
    batch_size: int = 32
    threads: int = 1
    ranks: int = 1
    images: int = 10_000


SERIES: dict[str, dict[int, Point]] = {
    "side of the image": {size: Point(size=size, batch_size=8) for size in (64, 128, 256, 500, 1000, 2000, 4000)},
    "crops": {count: Point(views=((count, 96),)) for count in (1, 2, 4, 8, 16, 32)},
    "batch": {count: Point(batch_size=count) for count in (8, 16, 32, 64, 128, 256)},
    "threads": {count: Point(threads=count) for count in (1, 2, 4, 8)},
    "ranks": {count: Point(ranks=count) for count in (1, 2, 4)},
    "images": {count: Point(images=count) for count in (1_000, 100_000, 10_000_000, 100_000_000)},
}


def main() -> None:
    """Measures, shows the tables, and writes the figures and a plot."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=duration, default=1.5, help="length of one measurement")
    parser.add_argument("--rounds", type=whole, default=3)
    parser.add_argument("--series", nargs="+", choices=SERIES, default=list(SERIES))
    parser.add_argument("--output", type=output_file, default=RESULTS / "scaling.json")
    arguments = parser.parse_args()
    points = [(name, value) for name in arguments.series for value in SERIES[name]]
    series: dict[str, dict[str, list[dict[str, float]]]] = {name: {} for name in arguments.series}
    for name, value in track(points * arguments.rounds, "points", transient=True):
        series[name].setdefault(str(value), []).append(measure(SERIES[name][value], arguments.seconds))
    result = {**described(), "series": series}
    Console().print(Markdown(markdown(result)))
    write(arguments.output, result)
    chart([result], arguments.output.with_suffix(".png"))
    print(f"written: {arguments.output} and {arguments.output.with_suffix('.png').name}")


def measure(point: Point, seconds: float) -> dict[str, float]:
    """The figures of a point, and the memory that it needs."""
    return {**run(point, seconds), "needed_mib": run(point, 0, give_back=True)["held_mib"]}


def run(point: Point, seconds: float, *, give_back: bool = False) -> dict[str, float]:
    """The ranks' figures: their rates together, and the mean of what each takes. give_back is about memory that is freed."""
    context = multiprocessing.get_context("fork")  # this process has only imported: nothing of torch or DALI runs in it
    barrier = context.Barrier(point.ranks, timeout=PATIENCE)
    with tempfile.TemporaryDirectory() as folder:
        file, started = draw_image(point.size, Path(folder)), []
        for rank in range(point.ranks):
            pipe, other = context.Pipe(duplex=False)
            process = context.Process(target=_serve, args=(other, point, rank, file, seconds, give_back, barrier))
            process.start()
            other.close()
            started.append((process, pipe))
        ranks = [pipe.recv() for _, pipe in started]
        for process, _ in started:
            process.join()
    found = {name: float(np.mean([figures[name] for figures in ranks])) for name in ranks[0]}
    return {**found, "images_per_second": found["images_per_second"] * point.ranks}


def draw_image(size: int, folder: Path) -> Path:
    """A JPEG file with detail at the scale of pixels, whatever its size, as photographs have."""
    chance = np.random.default_rng(size)
    coarse = chance.integers(0, 256, (size // 16 + 1, size // 16 + 1, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC), dtype=np.int16)
    pixels = np.clip(smooth + chance.normal(0, 6, smooth.shape), 0, 255).astype(np.uint8)
    path = folder / f"{size}.jpg"
    Image.fromarray(pixels).save(path, quality=QUALITY, subsampling="4:2:0")
    return path


def _serve(pipe: Connection, point: Point, rank: int, file: Path, seconds: float, give_back: bool, barrier: Any) -> None:
    if give_back:
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, PAGE)
    empty, start = memory_mib("RssAnon", "RssShmem"), time.perf_counter()
    with open_loader(point, rank, file) as loader:
        batches: Iterator[Batch] = chain.from_iterable(repeat(loader))
        batch = next(batches)
        first = time.perf_counter() - start
        for _ in range(WARM_UP):
            batch = next(batches)
        barrier.wait()
        start, cpu, number = time.perf_counter(), time.process_time(), 0
        while time.perf_counter() - start < seconds or number < FEWEST:
            batch = next(batches)
            number += 1
        elapsed, cpu, images = time.perf_counter() - start, time.process_time() - cpu, number * point.batch_size
        figures = {
            "images_per_second": images / elapsed,
            "cpu_ms_per_image": 1000 * cpu / images,
            "held_mib": memory_mib("VmHWM") - memory_mib("RssFile") - empty,  # the peak, without the libraries' files
            "batch_mib": sum(crops.nbytes for crops in batch.crops.values()) / MIB,
            "first_batch_seconds": first,
        }
    pipe.send(figures)


def open_loader(point: Point, rank: int, file: Path) -> Loader:
    """The default engine on the CPU, with the usual colour jitter and blur."""
    jitter = Jitter(brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1)
    views = tuple(
        View(name=f"crops of {side}", count=count, size=side, area=(0.05, 1), jitter=jitter) for count, side in point.views
    )
    return Loader(
        SyntheticSource(point.images, [file]),
        Recipe(name="scaling", source="", views=views),
        batch_size=point.batch_size,
        device="cpu",
        num_workers=point.threads,
        rank=rank,
        world_size=point.ranks,
    )


def memory_mib(*names: str) -> float:
    """The sum of what the system counts under these names for this process."""
    lines = Path(f"/proc/{os.getpid()}/status").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.split(":")[0] in names) / 1024


if __name__ == "__main__":
    main()
