"""What it costs to decide a batch and to hand it to an engine, per sample on one core, with no pixel touched.

    python benchmarks/feeding.py [--recipe dino] [--engines fused dali-ops] [--images 1000000] [--rounds 7]

"draws" is the sampler, the source and every random decision; "inputs" lays them out for DALI's graph, or for the fused kernel;
"feed" is DALI's external source taking its part in. All are CPU time of the process, which other work on the machine changes
little. Engines and batch sizes take turns within a round; medians over the rounds.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from itertools import islice
from typing import Any

import numpy as np
import nvidia.dali.fn as fn
import torch
from nvidia.dali.pipeline import Pipeline
from record import described, output_file, whole, write
from rich.console import Console
from rich.table import Table
from synthetic import SyntheticSource

from hjepa import sample_data
from hjepa.kernels.fused_crops import Decoded, arguments_of
from hjepa.pipeline.backend import Request
from hjepa.pipeline.backends.dali_inputs import contents_of, count, inputs_of
from hjepa.pipeline.backends.fused import crop_group
from hjepa.pipeline.draws import draw
from hjepa.pipeline.presets import PRESETS, preset
from hjepa.pipeline.recipe import Recipe
from hjepa.pipeline.sampler import Sampler
from hjepa.pipeline.source import upright_sizes

BATCH_SIZES = (32, 64, 128, 256)
BATCHES = 40
NUM_FILES = 256
"""Images that there are; the others are the same again."""
STAGES = ("draws", "inputs", "feed")
ENGINES = ("fused", "dali-ops")
Row = tuple[str, int]
"""Engine and batch size."""


def main() -> None:
    """Measures, and shows and writes the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--recipe", default="dino", choices=PRESETS)
    parser.add_argument("--engines", nargs="+", default=ENGINES, choices=ENGINES)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=whole, default=7)
    parser.add_argument("--output", type=output_file, help="JSON file for every figure")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    files = sorted(sample_data.make(sample_data.default_folder(NUM_FILES), NUM_FILES).rglob("*.jpg"))
    recipe, source = preset(arguments.recipe), SyntheticSource(arguments.images, files)
    rows: list[Row] = [(engine, size) for size in BATCH_SIZES for engine in arguments.engines]
    figures = [{row: measure(source, recipe, *row) for row in rows} for _ in range(arguments.rounds)]
    table = Table(title=f"microseconds per sample on one core, {recipe.num_views} crops, recipe {recipe.name}; medians")
    for heading in ("batch size", "engine", *STAGES, "sum"):
        table.add_column(heading, justify="right")
    for row in rows:
        parts = [statistics.median(figure[row][stage] for figure in figures) for stage in STAGES]
        table.add_row(str(row[1]), row[0], *(f"{part:.1f}" for part in parts), f"{sum(parts):.1f}")
    Console().print(table)
    if arguments.output:
        result = {
            **described(),
            "rounds": [{f"{engine}, batch {size}": parts for (engine, size), parts in figure.items()} for figure in figures],
        }
        write(arguments.output, result)


def measure(source: SyntheticSource, recipe: Recipe, engine: str, batch_size: int) -> dict[str, float]:
    """Microseconds per sample of each stage."""
    sampler = Sampler(num_samples=len(source), batch_size=batch_size)

    def decide(first: int, batches: int) -> list[Request]:
        requests = []
        for chosen in islice(sampler.batches(0, first), batches):
            samples = source.fetch(chosen.indices)
            sizes = upright_sizes(samples, recipe.orientation)
            draws = draw(recipe, 0, chosen.passes, chosen.indices, sizes)
            requests.append(Request(encoded=samples.encoded, sizes=sizes, draws=draws))
        return requests

    decide(0, 2)
    requests, draws_time = timed(lambda: decide(0, BATCHES))
    if engine == "fused":
        hand_over = fused_inputs(recipe, batch_size)
        _, inputs_time = timed(lambda: [hand_over(request) for request in requests])
        inputs: list[list[Any]] = [[contents_of(request.encoded)] for request in requests]
    else:
        inputs, inputs_time = timed(lambda: [inputs_of(request, recipe) for request in requests])
    feed_time = feed(inputs, batch_size)
    per_sample = 1e6 / (BATCHES * batch_size)
    return {"draws": draws_time * per_sample, "inputs": inputs_time * per_sample, "feed": feed_time * per_sample}


def fused_inputs(recipe: Recipe, batch_size: int) -> Callable[[Request], object]:
    """What lays a request out for the kernel; the outputs' memory is made once, as in a run."""
    groups = recipe.groups()
    outputs = [torch.empty(count(group), batch_size, 3, group[0].size, group[0].size) for group in groups]
    pointers = np.zeros(batch_size, dtype=np.int64)

    def hand_over(request: Request) -> object:
        contents_of(request.encoded)
        crops = [crop_group(group[0], request, out) for group, out in zip(groups, outputs, strict=True)]
        return arguments_of(Decoded(pointers=pointers, sizes=request.sizes), crops, recipe.mean, recipe.std)

    return hand_over


def feed(inputs: list[Any], batch_size: int) -> float:
    """Seconds of CPU time in which a graph that only passes its inputs on takes all of them in."""
    waiting = iter([inputs[0], *inputs])  # the first one warms up
    pipe = Pipeline(batch_size=batch_size, num_threads=1, device_id=None, prefetch_queue_depth=1, exec_dynamic=True)
    with pipe:
        pipe.set_outputs(*fn.external_source(source=lambda: next(waiting), num_outputs=len(inputs[0]), batch=True))
    pipe.build()
    seconds = 0.0
    for number in range(len(inputs) + 1):
        start = time.process_time()
        pipe.schedule_run()
        seconds += time.process_time() - start if number else 0.0
        pipe.outputs()
    return seconds


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """What it makes, and seconds of CPU time."""
    start = time.process_time()
    made = work()
    return made, time.process_time() - start


if __name__ == "__main__":
    main()
