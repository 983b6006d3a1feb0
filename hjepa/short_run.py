"""A short run of the loader on one's own images: how fast it is, how fast it could be, and where the time goes.

Decoding alone is timed with the same loader and a recipe of tiny crops, so that everything but the crops is the same.
"""

import os
import resource
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hjepa.pipeline.backend import BackendName, Engine
from hjepa.pipeline.batch import Batch
from hjepa.pipeline.device import resolve_workers
from hjepa.pipeline.draws import draw
from hjepa.pipeline.loader import Loader
from hjepa.pipeline.multicrop_masks import MultiCropMaskGenerator
from hjepa.pipeline.recipe import Recipe, View
from hjepa.pipeline.source import Source, spread, upright_sizes

MIB = 1 << 20
SMALLEST = 8
"""Side of the crops of what only decodes."""
DECODE_ONLY = Recipe(
    name="decode-only",
    source="hjepa doctor",
    views=(View(name="global", count=1, size=SMALLEST, area=(0.001, 0.001), ratio=(1, 1), flip=0, gray=0, blur=0),),
)
"""Whatever reads and decodes whole images, and next to nothing after it."""
WARM_UP = 2
"""Batches that are not counted: threads start, and memory is taken."""
READ_FILES = 400


@dataclass(frozen=True, kw_only=True, slots=True)
class Rate:
    """What a loader did."""

    images_per_second: float
    busy: float
    """Share of the cores' time that this process used, from 0 to 1; worker processes of torchvision are not in it."""
    others: float
    """Share of the machine's time that other processes used meanwhile, torchvision's workers among them; 0 where not known."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ShortRun:
    """What was measured."""

    engine: Engine
    device: str
    recipe: str
    batch_size: int
    threads: int
    loader: Rate
    """The whole pipeline."""
    decode: Rate
    """Reading and decoding alone: what no loader that decodes with this engine can exceed."""
    read_per_second: float
    """Images that one thread reads, as far from the disk as the system lets go of them; 0 where the source has no files."""
    read_mib_per_second: float
    draw_us: float
    """Time of the draws for one image, in microseconds."""
    mask_us: float
    """Time of three levels of masks for one image, in microseconds, on the device."""
    replaced: int
    """Images known to be bad, which their headers did not show: others stood in for them."""


def run_shortly(
    source: Source,
    recipe: Recipe,
    *,
    backend: BackendName = "dali",
    device: str = "auto",
    batch_size: int = 64,
    seconds: float = 4,
) -> ShortRun:
    """Measures for about `seconds` each: the loader, decoding alone, and the disk. Raises what a Loader raises."""
    size = min(batch_size, len(source))
    options: dict[str, Any] = {"batch_size": size, "backend": backend, "device": device}
    read = _read(source)  # first: what the loader has read is in memory
    with Loader(source, decode_only(recipe), **options) as loader:
        decode = rate(loader, seconds)
    with Loader(source, recipe, **options) as loader:
        whole = rate(loader, seconds)
        batch = next(iter(loader))
        engine, where, replaced = loader.engine, loader.device, len(loader.quarantine or ())
    return ShortRun(
        engine=engine,
        device=str(where),
        recipe=recipe.name,
        batch_size=size,
        threads=resolve_workers("auto", "dali"),
        loader=whole,
        # with all crops it decodes, too: that a tiny one took longer was the machine's doing
        decode=max(decode, whole, key=lambda each: each.images_per_second),
        read_per_second=read[0],
        read_mib_per_second=read[1],
        draw_us=_draws(source, recipe, size),
        mask_us=_masks(batch),
        replaced=replaced,
    )


def decode_only(recipe: Recipe) -> Recipe:
    """What decodes as the recipe does; at a reduced scale crops and boxes shrink alike, so that images are as much reduced."""
    if recipe.decoding == "full":
        return DECODE_ONLY
    views = []
    for view in recipe.views:
        low, high = (share * (SMALLEST / max(SMALLEST, view.size)) ** 2 for share in view.area)
        small = replace(view, size=min(SMALLEST, view.size), area=(low, high), same_box_as=None)
        views.append(replace(small, jitter=None, flip=0, gray=0, blur=0, solarize=0))
    return replace(recipe, name=DECODE_ONLY.name, views=tuple(views))


def rate(loader: Loader, seconds: float) -> Rate:
    """Images per second over that time, after a warm-up; the loader goes through as many epochs as it takes."""
    if not seconds > 0:  # nan, too
        raise ValueError(f"seconds={seconds:g} measures nothing; use 1 or more")
    batches = _endless(loader)
    for _ in range(WARM_UP):
        next(batches)
    _wait(loader.device)
    images, start, used, machine = 0, time.perf_counter(), _cpu_seconds(), _machine_seconds()
    while not images or time.perf_counter() - start < seconds:
        images += len(next(batches).labels)
    _wait(loader.device)
    took = time.perf_counter() - start
    own, every = _cpu_seconds() - used, _machine_seconds() - machine
    return Rate(
        images_per_second=images / took,
        busy=min(1.0, own / (took * resolve_workers("auto", "dali"))),
        others=min(1.0, max(0.0, every - own) / (took * (os.cpu_count() or 1))),
    )


def _endless(loader: Loader) -> Iterator[Batch]:
    while True:
        yield from loader


def _read(source: Source) -> tuple[float, float]:
    """Files and MiB per second that one thread reads, after asking the system to forget them; by the middle file's time, so
    that a moment in which another process ran does not count as the disk's."""
    some = spread(source, READ_FILES)
    paths = some.fetch(np.arange(len(some))).encoded
    if isinstance(paths, list):
        return 0.0, 0.0
    lengths, times = list[int](), list[float]()
    for path in paths.tolist():
        # One that is gone, or not to be read, the loader names, and another image stands in for it.
        with suppress(OSError), open(path, "rb", buffering=0) as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            length, start = 0, time.perf_counter()
            while part := file.read(MIB):
                length += len(part)
            times.append(time.perf_counter() - start)
            lengths.append(length)
    if not times:
        return 0.0, 0.0
    middle = float(np.median(times))
    return 1 / middle, float(np.mean(lengths)) / MIB / middle


def _draws(source: Source, recipe: Recipe, batch_size: int) -> float:
    indices = np.arange(batch_size)
    sizes = upright_sizes(source.fetch(indices), recipe.orientation)
    return _fastest(lambda: draw(recipe, 0, 0, indices, sizes)) / batch_size * 1e6


def _masks(batch: Batch) -> float:
    generator, keys = MultiCropMaskGenerator(), batch.mask_keys

    def sample() -> None:
        generator.sample(keys)
        _wait(keys.device)

    return _fastest(sample) / len(keys) * 1e6


def _fastest(work: Any) -> float:
    times = []
    for _ in range(5):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _machine_seconds() -> float:
    """Processor time of all processes since the machine was started, where the system tells it (Linux)."""
    try:
        user, nice, system = Path("/proc/stat").read_text(encoding="ascii").split()[1:4]
    except OSError:
        return 0.0
    return (int(user) + int(nice) + int(system)) / os.sysconf("SC_CLK_TCK")


def _cpu_seconds() -> float:
    own = resource.getrusage(resource.RUSAGE_SELF)
    return own.ru_utime + own.ru_stime
