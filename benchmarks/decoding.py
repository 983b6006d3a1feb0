"""How fast DALI decodes JPEGs on the CPU: by libjpeg-turbo, and with hjepa's decoder in front of it.

    python benchmarks/decoding.py [--data FOLDER] [--sizes 500x375 2000x1500] [--qualities 75 90 95] [--rounds 3]

Both read the same files in the same order, take turns within a round, and must give the same levels; medians over the rounds.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from itertools import chain, count, product
from pathlib import Path
from typing import Any

import numpy as np
import nvidia.dali.fn as fn
import torch
from images import Size, resized
from nvidia.dali.pipeline import Pipeline
from record import RESULTS, described, duration, output_file, whole, write
from rich.console import Console
from rich.markdown import Markdown
from rich.progress import track

import hjepa
from hjepa import sample_data
from hjepa.pipeline.backend import BackendSettings
from hjepa.pipeline.backends import dali_jpeg
from hjepa.pipeline.backends.dali_decode import decode, read
from hjepa.pipeline.backends.dali_inputs import Contents, contents_of
from hjepa.pipeline.device import resolve_workers
from hjepa.pipeline.folder import FolderSource, open_folder
from hjepa.pipeline.sampler import Sampler

BATCH_SIZE = 32
COMPARED = 4
"""Batches whose levels are compared."""
DECODERS: dict[str, Callable[[Pipeline], None]] = {"libjpeg-turbo": Pipeline.build, "hjepa": dali_jpeg.build}


def main() -> None:
    """Measures, shows the table, and writes the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, help="a folder of images; hjepa's sample images without it")
    parser.add_argument("--sizes", type=Size, nargs="+", default=[Size("500x375"), Size("2000x1500")])
    parser.add_argument("--qualities", type=int, nargs="+", default=[75, 90, 95])
    parser.add_argument("--rounds", type=whole, default=3)
    parser.add_argument("--seconds", type=duration, default=4.0, help="of each turn")
    parser.add_argument("--output", type=output_file, default=RESULTS / "decoding.json")
    arguments = parser.parse_args()
    data = arguments.data or sample_data.make(sample_data.default_folder())
    result = {**described(), "threads": resolve_workers("auto", "dali"), "files": []}
    for progressive, size, quality in product((False, True), arguments.sizes, arguments.qualities):
        source = open_folder(resized(data, size, quality, progressive=progressive))
        result["files"].append(
            {
                "size": size.text,
                "quality": quality,
                "progressive": progressive,
                "kib": mean_kib(source),
                "rounds": measure(source, result["threads"], arguments.rounds, arguments.seconds),
            }
        )
    Console().print(Markdown(markdown(result)))
    write(arguments.output, result)


def markdown(result: dict[str, Any]) -> str:
    """The command, the machine, and a row for each kind of file; medians over the rounds."""
    lines = [
        f"`{result['command']}`, {result['date']}: {result['machine']['cpu']}, {result['threads']} threads. DALI only reads "
        "and decodes; images per second, and ms of CPU time of an image; medians.",
        "",
        "| JPEGs, 4:2:0 | KiB | libjpeg-turbo | hjepa's decoder | x | CPU, libjpeg-turbo | CPU, hjepa's | x |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for files in result["files"]:
        kind = ", progressive" if files["progressive"] else ""
        rates, times = (
            [statistics.median(turn[decoder][number] for turn in files["rounds"]) for decoder in DECODERS] for number in (0, 1)
        )
        lines.append(
            f"| {files['size']}, quality {files['quality']}{kind} | {files['kib']:.0f} | {rates[0]:,.0f} | {rates[1]:,.0f} "
            f"| {rates[1] / rates[0]:.2f} | {times[0]:.3f} | {times[1]:.3f} | {times[0] / times[1]:.2f} |"
        )
    return "\n".join([*lines, ""])


def mean_kib(source: FolderSource) -> float:
    """Size of a file."""
    paths = source.fetch(np.arange(len(source))).encoded
    return statistics.mean(Path(path.decode()).stat().st_size for path in paths) / 1024


def measure(source: FolderSource, threads: int, rounds: int, seconds: float) -> list[dict[str, tuple[float, float]]]:
    """Of each round and decoder: images per second, and ms of CPU time for an image. Raises RuntimeError for other levels."""
    pipes = {name: pipeline(source, threads, build) for name, build in DECODERS.items()}
    for _ in range(COMPARED):
        ours, theirs = (pipe.run()[0] for pipe in pipes.values())
        if not all(np.array_equal(np.array(a), np.array(b)) for a, b in zip(ours, theirs, strict=True)):
            raise RuntimeError("the decoders give other levels, so that their speeds say nothing")
    turns = track(range(rounds), "rounds", transient=True)
    return [{name: speed(pipe, seconds) for name, pipe in pipes.items()} for _ in turns]


def speed(pipe: Pipeline, seconds: float) -> tuple[float, float]:
    """Images per second, and ms of CPU time for an image, once what was decoded ahead is taken."""
    for _ in range(4):
        pipe.run()
    start, cpu_start, images = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - start < seconds:
        pipe.run()
        images += BATCH_SIZE
    return images / (time.perf_counter() - start), 1000 * (time.process_time() - cpu_start) / images


def pipeline(source: FolderSource, threads: int, build: Callable[[Pipeline], None]) -> Pipeline:
    """Reads and decodes in the loader's order, and does no more."""
    sampler = Sampler(num_samples=len(source), batch_size=BATCH_SIZE)
    batches = chain.from_iterable(sampler.batches(epoch, 0) for epoch in count())

    def feed() -> Contents:
        return contents_of(source.fetch(next(batches).indices).encoded)

    settings = BackendSettings(
        recipe=hjepa.preset("hjepa"),
        batch_size=BATCH_SIZE,
        device=torch.device("cpu"),
        num_workers=threads,
        prefetch=2,
        pin_memory=False,
        dtype=torch.float32,
    )
    pipe = Pipeline(batch_size=BATCH_SIZE, num_threads=threads, device_id=None, prefetch_queue_depth=2, exec_dynamic=True)
    with pipe:
        pipe.set_outputs(decode(read(fn.external_source(source=feed, batch=True), from_files=True), settings))
    build(pipe)
    return pipe


if __name__ == "__main__":
    main()
