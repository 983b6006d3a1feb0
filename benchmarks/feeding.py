"""What it costs to decide a batch and to hand it to DALI, per sample on one core, with no pixel touched.

    python benchmarks/feeding.py [--recipe dino] [--images 1000000] [--rounds 7]

"draws" is the sampler, the source and every random decision; "inputs" lays them out for DALI; "feed" is the time in which its
external source takes them in. Batch sizes take turns within a round; medians over the rounds.
"""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import nvidia.dali.fn as fn
from nvidia.dali.pipeline import Pipeline
from rich.console import Console
from rich.table import Table
from synthetic import SyntheticSource

from hjepa import sample_data
from hjepa.pipeline.backend import Request
from hjepa.pipeline.backends.dali_inputs import Inputs, inputs_of
from hjepa.pipeline.draws import draw
from hjepa.pipeline.presets import PRESETS, preset
from hjepa.pipeline.recipe import Recipe
from hjepa.pipeline.sampler import Sampler
from hjepa.pipeline.source import upright_sizes

BATCH_SIZES = (32, 64, 128, 256)
BATCHES = 40
STAGES = ("draws", "inputs", "feed")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--recipe", default="dino", choices=PRESETS)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--output", type=Path, help="JSON file for every figure")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    files = sorted(sample_data.make(sample_data.default_folder()).rglob("*.jpg"))
    recipe, source = preset(arguments.recipe), SyntheticSource(arguments.images, files)
    figures = [{size: measure(source, recipe, size) for size in BATCH_SIZES} for _ in range(arguments.rounds)]
    medians = {
        size: {stage: statistics.median(figure[size][stage] for figure in figures) for stage in STAGES} for size in BATCH_SIZES
    }
    table = Table(title=f"microseconds per sample on one core, {recipe.num_views} crops, recipe {recipe.name}; medians")
    for heading in ("batch size", *STAGES, "sum"):
        table.add_column(heading, justify="right")
    for size, parts in medians.items():
        table.add_row(str(size), *(f"{parts[stage]:.1f}" for stage in STAGES), f"{sum(parts.values()):.1f}")
    Console().print(table)
    if arguments.output:
        result = {
            "command": "python benchmarks/feeding.py",
            "machine": platform.processor() or platform.machine(),
            "rounds": figures,
        }
        arguments.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def measure(source: SyntheticSource, recipe: Recipe, batch_size: int) -> dict[str, float]:
    """Microseconds per sample of each stage."""
    sampler = Sampler(num_samples=len(source), batch_size=batch_size)

    def decide(number: int) -> Request:
        chosen = sampler.batch(0, number)
        samples = source.fetch(chosen.indices)
        sizes = upright_sizes(samples, recipe.orientation)
        draws = draw(recipe, 0, chosen.passes, chosen.indices, sizes)
        return Request(encoded=samples.encoded, sizes=sizes, draws=draws)

    decide(0)
    requests, draws_time = timed(lambda: [decide(number) for number in range(BATCHES)])
    inputs, inputs_time = timed(lambda: [inputs_of(request, recipe) for request in requests])
    feed_time = feed(inputs, batch_size)
    per_sample = 1e6 / (BATCHES * batch_size)
    return {"draws": draws_time * per_sample, "inputs": inputs_time * per_sample, "feed": feed_time * per_sample}


def feed(inputs: list[Inputs], batch_size: int) -> float:
    """Seconds in which a graph that only passes its inputs on takes all of them in, on the thread that runs it."""
    waiting = iter([inputs[0], *inputs])  # the first one warms up
    pipe = Pipeline(batch_size=batch_size, num_threads=1, device_id=None, prefetch_queue_depth=1, exec_dynamic=True)
    with pipe:
        pipe.set_outputs(*fn.external_source(source=lambda: next(waiting), num_outputs=len(inputs[0]), batch=True))
    pipe.build()
    seconds = 0.0
    for number in range(len(inputs) + 1):
        start = time.perf_counter()
        pipe.schedule_run()
        seconds += time.perf_counter() - start if number else 0.0
        pipe.outputs()
    return seconds


def timed(work: Callable[[], list]) -> tuple[list, float]:
    """What it makes, and seconds."""
    start = time.perf_counter()
    made = work()
    return made, time.perf_counter() - start


if __name__ == "__main__":
    main()
