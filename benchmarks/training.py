"""What the data cost a training run: its step with each engine, against the same step on a batch that lies in memory.

    python benchmarks/training.py [--config small] [--engines fused dali-ops torchvision] [--steps 30] [--rounds 3]

"waiting" is the share of the time in which the step had to wait for a batch. "slower step" is how much longer the step itself
took than without a loader beside it: threads, memory and, on a GPU, operators that share it with the model. The engines run
in turn within a round; medians over the rounds.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, get_args

import torch
from record import described, output_file, whole, write
from rich.console import Console
from rich.markdown import Markdown
from rich.progress import track

from hjepa.assembly import build_loader, build_masks, open_source
from hjepa.configs.load import load_settings
from hjepa.configs.schema import Settings
from hjepa.configs.yaml_file import SettingsError
from hjepa.distributed import share_of_workers
from hjepa.model_assembly import build_model
from hjepa.pipeline.backend import BackendName
from hjepa.pipeline.batch import Batch
from hjepa.pipeline.device import resolve_device
from hjepa.pipeline.source import Source
from hjepa.schedules import schedule
from hjepa.step import backward, build_optimizer, update, watch
from hjepa.step_masks import draw_masks

ENGINES: tuple[BackendName, ...] = ("fused", "dali-ops", "torchvision")
IN_MEMORY = "in memory"
WARM_UP = 5
"""Steps before the time is taken, in which what was made ahead is used up: by each process of torchvision a batch more."""


def main() -> None:
    """Measures, and shows and writes the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--config", type=Path, default=Path("small"), help="settings, as for hjepa-train")
    parser.add_argument("--engines", nargs="+", default=ENGINES, choices=get_args(BackendName))
    parser.add_argument("--steps", type=whole, default=30)
    parser.add_argument("--rounds", type=whole, default=3)
    parser.add_argument("--output", type=output_file, help="JSON file for every figure")
    parser.add_argument("overrides", nargs="*", help="settings, such as data.batch_size=64")
    arguments = parser.parse_args()
    try:
        settings = load_settings(arguments.config, arguments.overrides, {})
    except SettingsError as error:
        parser.error(str(error))
    source, device = open_source(settings, lambda *_: None), resolve_device(settings.device)
    step = build_step(settings, device)
    workers = max(1, share_of_workers(settings.data.num_workers, "torchvision"))
    steps = -(-arguments.steps // workers) * workers  # processes that keep step deliver in bursts
    names = [IN_MEMORY, *arguments.engines]
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for _ in track(range(arguments.rounds), "rounds", transient=True):
        for name in names:
            with closing(batches(settings, source, name)) as loader:
                rounds[name].append(measure(step, loader, WARM_UP + workers, steps, device))
    result = {
        **described(device),
        "what": describe(settings),
        "rounds": rounds,
    }
    Console().print(Markdown(markdown(result)))
    if arguments.output:
        write(arguments.output, result)


def build_step(settings: Settings, device: torch.device) -> Callable[[Batch], None]:
    """A whole update of the model, as the trainer makes it."""
    model = build_model(settings, device)
    optimizer = build_optimizer(model, settings)
    masks = build_masks(settings) if settings.objective == "hjepa" else None
    values = schedule(settings, 0, 1000)

    def step(batch: Batch) -> None:
        drawn = None if masks is None else draw_masks(masks, batch, settings, watch(model, batch, settings))
        backward(model, batch, drawn, values, settings, last=True)
        update(model, optimizer, values, settings.training.clip_grad)

    return step


def batches(settings: Settings, source: Source, name: str) -> Iterator[Batch]:
    """The batches of an engine, for ever; or always the same one, with no loader at work."""
    data = settings.data.model_copy(update={"pipeline": "torchvision" if name == IN_MEMORY else name})
    with build_loader(settings.model_copy(update={"data": data}), source, "train") as loader:
        first = next(iter(loader)) if name == IN_MEMORY else None
        while first is None:
            yield from loader
    while first is not None:
        yield first


def measure(
    step: Callable[[Batch], None], loader: Iterator[Batch], warm_up: int, steps: int, device: torch.device
) -> dict[str, float]:
    """Milliseconds of an update and of the wait for its batch, and images per second."""
    waits, times, images = [], [], 0
    for number in range(warm_up + steps):
        start = time.perf_counter()
        batch = next(loader)
        taken = time.perf_counter()
        step(batch)
        if device.type == "cuda":
            torch.cuda.synchronize()
        if number >= warm_up:
            waits.append(taken - start)
            times.append(time.perf_counter() - taken)
            images += len(batch.labels)
    total = sum(waits) + sum(times)
    return {
        "images_per_second": images / total,
        "wait_share": sum(waits) / total,
        "step_ms": 1e3 * statistics.median(times),
        "wait_ms": 1e3 * statistics.mean(waits),
    }


def describe(settings: Settings) -> str:
    """Model, crops and batch in a line."""
    encoder, crops = settings.model.encoder, settings.data.multicrop
    return (
        f"{settings.objective}, ViT of width {encoder.width} and depth {encoder.depth}, {crops.num_global_crops} x "
        f"{crops.global_crop_size} + {crops.num_local_crops} x {crops.local_crop_size}, batch {settings.data.batch_size}"
    )


def markdown(result: dict[str, Any]) -> str:
    """The command, the machine, and the medians over the rounds."""
    where, rounds = result["machine"], result["rounds"]
    medians = {
        name: {key: statistics.median(sample[key] for sample in samples) for key in samples[0]}
        for name, samples in rounds.items()
    }
    alone = medians[IN_MEMORY]["step_ms"]
    lines = [
        f"`{result['command']}`, {result['date']}: {where['cpu']}, {where['cores']} cores, {where['device']}; "
        f"{result['what']}; medians.",
        "",
        "| batches | images/s | step, ms | slower step | wait, ms | waiting |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in medians.items():
        slower = "" if name == IN_MEMORY else f"{row['step_ms'] / alone - 1:+.0%}"
        lines.append(
            f"| {name} | {row['images_per_second']:.3g} | {row['step_ms']:.1f} | {slower} | {row['wait_ms']:.1f} | "
            f"{row['wait_share']:.1%} |"
        )
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
