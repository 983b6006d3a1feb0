"""How fast DALI decodes JPEGs on the CPU: by libjpeg-turbo, and with hjepa's decoder in front of it; and on a GPU, and for it.

    python benchmarks/decoding.py [--data FOLDER] [--sizes 500x375 2000x1500] [--qualities 75 90 95] [--rounds 3]
    python benchmarks/decoding.py --device cuda --batch-size 256 --qualities 95

All read the same files in the same order and take turns within a round, and the CPU's two must give the same levels; medians
over the rounds. With --device cuda what the CPU decodes is copied to the GPU, which decodes by itself without its JPEG engines,
and by them alone.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from engines import decoding_pipeline
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
from hjepa.pipeline.device import resolve_device, resolve_workers
from hjepa.pipeline.folder import FolderSource, open_folder

COMPARED = 4
"""Batches whose levels are compared."""
DECODERS: dict[str, Callable[[Pipeline], None]] = {"libjpeg-turbo": Pipeline.build, "hjepa": dali_jpeg.build}
"""On the CPU: how their pipelines are built."""
OF_A_GPU = {"GPU": 0.0, "engines": 1.0}
"""A GPU's: the share of the JPEGs that its engines decode."""


def main() -> None:
    """Measures, shows the table, and writes the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, help="a folder of images; hjepa's sample images without it")
    parser.add_argument("--sizes", type=Size, nargs="+", default=[Size("500x375"), Size("2000x1500")])
    parser.add_argument("--qualities", type=int, nargs="+", default=[75, 90, 95])
    parser.add_argument("--batch-size", type=whole, default=32)
    parser.add_argument("--device", default="cpu", help="cpu, or cuda: on a GPU, and for it")
    parser.add_argument("--rounds", type=whole, default=3)
    parser.add_argument("--seconds", type=duration, default=4.0, help="of each turn")
    parser.add_argument("--output", type=output_file, default=RESULTS / "decoding.json")
    arguments = parser.parse_args()
    if not dali_jpeg.takes_part():
        parser.error("hjepa's decoder takes no part in DALI here: it is not built, or nvImageCodec is of another version")
    data = arguments.data or sample_data.make(sample_data.default_folder())
    device, threads = resolve_device(arguments.device), resolve_workers("auto", "dali")
    result = {**described(device), "threads": threads, "batch_size": arguments.batch_size, "files": []}
    for progressive, size, quality in product((False, True), arguments.sizes, arguments.qualities):
        source = open_folder(resized(data, size, quality, progressive=progressive))
        result["files"].append(
            {
                "size": size.text,
                "quality": quality,
                "progressive": progressive,
                "kib": mean_kib(source),
                "rounds": measure(source, settings(device, arguments.batch_size, threads), arguments.rounds, arguments.seconds),
            }
        )
    Console().print(Markdown(markdown(result)))
    write(arguments.output, result)


def markdown(result: dict[str, Any]) -> str:
    """The command, the machine, and a row for each kind of file; medians over the rounds."""
    return markdown_of_cpu(result) if result["machine"]["device"] == "cpu" else markdown_of_gpu(result)


def markdown_of_cpu(result: dict[str, Any]) -> str:
    """The CPU's decoders against each other."""
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


def markdown_of_gpu(result: dict[str, Any]) -> str:
    """The same with a GPU's decoders, and the cores that each takes."""
    where = result["machine"]
    lines = [
        f"`{result['command']}`, {result['date']}: {where['device']}, {where['cpu']}, {result['threads']} threads, batches of "
        f"{result['batch_size']}. DALI only reads, decodes and copies; images per second, and the CPU cores busy; medians.",
        "",
        "| JPEGs, 4:2:0 | KiB | " + " | ".join((*DECODERS, *OF_A_GPU)) + " |",
        "|---|---|" + "---|" * len((*DECODERS, *OF_A_GPU)),
    ]
    for files in result["files"]:
        kind = ", progressive" if files["progressive"] else ""
        cells = []
        for name in (*DECODERS, *OF_A_GPU):
            rate, cpu_ms = (statistics.median(turn[name][number] for turn in files["rounds"]) for number in (0, 1))
            cells.append(f"{rate:,.0f} ({rate * cpu_ms / 1000:.1f})")
        lines.append(f"| {files['size']}, quality {files['quality']}{kind} | {files['kib']:.0f} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def mean_kib(source: FolderSource) -> float:
    """Size of a file."""
    paths = source.fetch(np.arange(len(source))).encoded
    return statistics.mean(Path(path.decode()).stat().st_size for path in paths) / 1024


def measure(source: FolderSource, how: BackendSettings, rounds: int, seconds: float) -> list[dict[str, tuple[float, float]]]:
    """Of each round and decoder: images per second, and ms of CPU time for an image. Raises RuntimeError for other levels."""
    pipes = {name: decoding_pipeline(source, how, build) for name, build in DECODERS.items()}
    for _ in range(COMPARED):
        ours, theirs = (pipe.run()[0].as_cpu() for pipe in pipes.values())
        if not all(np.array_equal(np.array(a), np.array(b)) for a, b in zip(ours, theirs, strict=True)):
            raise RuntimeError("the decoders give other levels, so that their speeds say nothing")
    for name, load in OF_A_GPU.items() if how.device.type == "cuda" else ():
        pipes[name] = decoding_pipeline(source, replace(how, decoder="gpu", hw_decoder_load=load))
    turns = track(range(rounds), "rounds", transient=True)
    return [{name: speed(pipe, how, seconds) for name, pipe in pipes.items()} for _ in turns]


def speed(pipe: Pipeline, how: BackendSettings, seconds: float) -> tuple[float, float]:
    """Images per second, and ms of CPU time for an image, once what was decoded ahead is taken."""
    for _ in range(4):
        pipe.run()
    start, cpu_start, images = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - start < seconds:
        pipe.run()
        images += how.batch_size
    if how.device.type == "cuda":
        torch.cuda.synchronize(how.device)
    return images / (time.perf_counter() - start), 1000 * (time.process_time() - cpu_start) / images


def settings(device: torch.device, batch_size: int, threads: int) -> BackendSettings:
    """The loader's, with the CPU's decoder."""
    return BackendSettings(
        recipe=hjepa.preset("hjepa"),
        batch_size=batch_size,
        device=device,
        num_workers=threads,
        prefetch=2,
        pin_memory=False,
        dtype=torch.float32,
    )


if __name__ == "__main__":
    main()
