"""How fast any loader is, and what memory it takes: documents C's and D's benchmarks as functions, for yours as for ours.

Reports are medians over batches after a warm-up; for a comparison that holds, benchmarks/throughput.py takes turns in one run.
"""

import resource
import statistics
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from hjepa.pipeline.batch import Batch
from hjepa.pipeline.loader import Loader
from hjepa.pipeline.recipe import whole

# B images of a batch, S pixels, T frames
MIB = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class LoaderSpeed:
    """What a loader did."""

    num_batches: int
    """Batches that were timed, after the warm-up."""
    images: int
    """Images in them."""
    crops: int
    """Crops in them."""
    seconds: float
    """Time they took in all."""
    median_batch_seconds: float
    """Time of the middle one."""
    first_batch_seconds: float
    """Time from asking for the iterator to its first batch."""
    cpu_seconds: float
    """Processor time of this process and of its finished children in the timed part; running workers are not in it."""
    batch_mib: float
    """Crops of one batch, in MiB."""
    peak_mib: float
    """Most memory that this process has held so far, in MiB, as the system counts it."""
    gpu_peak_mib: float
    """Most memory that torch held on the current GPU in the timed part, in MiB; 0 without one."""

    @property
    def images_per_second(self) -> float:
        """Images over time."""
        return self.images / self.seconds

    @property
    def crops_per_second(self) -> float:
        """Crops over time."""
        return self.crops / self.seconds


def benchmark_augmentation_speed(
    dataloader: Iterable[Any], num_batches: int = 10, warmup_batches: int = 2, batch_size: int | None = None
) -> LoaderSpeed:
    """Times `num_batches` batches after a warm-up; starts the loader again where it ends. Document D's function.

    dataloader: anything that yields batches of crops [B, 3, S, S] or clips [B, 3, T, S, S], however nested (a Loader with any
    adapter, a DataLoader, ...). batch_size: images per batch; found by itself but for batches that are not a Loader's and
    whose tensors hold several crops of an image in one axis. Raises ValueError for a loader without crops.
    """
    num_batches, warmup_batches = whole("num_batches", num_batches, 1), whole("warmup_batches", warmup_batches, 0)
    batch_size = None if batch_size is None else whole("batch_size", batch_size, 1)
    start = time.perf_counter()
    batches = _endless(dataloader)
    batch = next(batches)
    first = time.perf_counter() - start
    for _ in range(warmup_batches - 1):
        batch = next(batches)
    _wait_for_gpu(reset=True)
    times, images, crops = [], 0, 0
    cpu = _cpu_seconds()
    for _ in range(num_batches):
        start = time.perf_counter()
        batch = next(batches)
        _wait_for_gpu()
        times.append(time.perf_counter() - start)
        found = _crops(batch)
        crops += sum(_axes(tensor).numel() for tensor in found)
        images += _num_images(dataloader, batch, found) if batch_size is None else batch_size
    return LoaderSpeed(
        num_batches=num_batches,
        images=images,
        crops=crops,
        seconds=sum(times),
        median_batch_seconds=statistics.median(times),
        first_batch_seconds=first,
        cpu_seconds=_cpu_seconds() - cpu,
        # the frames of a still image's clip are one memory
        batch_mib=sum(min(tensor.nbytes, tensor.untyped_storage().nbytes()) for tensor in _crops(batch)) / MIB,
        peak_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / MIB,
        gpu_peak_mib=torch.cuda.max_memory_allocated() / MIB if torch.cuda.is_available() else 0.0,
    )


def benchmark_multicrop_dataloader(dataloader: Iterable[Any], num_batches: int = 10) -> LoaderSpeed:
    """The same with a table of time and memory on the terminal. Document C's function."""
    speed = benchmark_augmentation_speed(dataloader, num_batches)
    table = Table(title=f"{num_batches} batches", title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    table.add_row("images per second", f"{speed.images_per_second:.1f}")
    table.add_row("crops per second", f"{speed.crops_per_second:.1f}")
    table.add_row("time per batch, median", f"{speed.median_batch_seconds * 1e3:.1f} ms")
    table.add_row("time to the first batch", f"{speed.first_batch_seconds:.2f} s")
    table.add_row("crops of one batch", f"{speed.batch_mib:.1f} MiB")
    table.add_row("peak memory of this process", f"{speed.peak_mib:.0f} MiB")
    if speed.gpu_peak_mib:
        table.add_row("peak memory of torch on the GPU", f"{speed.gpu_peak_mib:.0f} MiB")
    Console().print(table)
    return speed


def _endless(dataloader: Iterable[Any]) -> Iterator[Any]:
    while True:
        empty = True
        for batch in dataloader:
            empty = False
            yield batch
        if empty:
            raise ValueError("the loader yields no batch; give one with at least one")


def _crops(batch: Any) -> list[Tensor]:
    """The tensors of a batch that hold crops [..., 3, S, S] or clips [..., 3, T, S, S], wherever they are in it."""
    if isinstance(batch, Batch):
        return batch.views()
    if isinstance(batch, Tensor):
        has_colours = 3 in batch.shape[-4:-2] and len(_axes(batch)) > 0
        return [batch] if has_colours and batch.is_floating_point() else []
    if is_dataclass(batch):
        return [crop for field in fields(batch) for crop in _crops(getattr(batch, field.name))]
    if isinstance(batch, Mapping):
        return [crop for value in batch.values() for crop in _crops(value)]
    return [crop for value in batch for crop in _crops(value)] if isinstance(batch, list | tuple) else []


def _axes(crops: Tensor) -> torch.Size:
    """The axes before those of one crop [3, S, S] or clip [3, T, S, S]."""
    return crops.shape[:-3] if crops.shape[-3] == 3 else crops.shape[:-4]


def _num_images(dataloader: Iterable[Any], batch: Any, crops: list[Tensor]) -> int:
    if not crops:
        raise ValueError(f"a batch of type {type(batch).__name__} holds no crops [..., 3, S, S]; give a loader of images")
    if isinstance(dataloader, Loader):  # whose adapter may put several crops of an image in one axis, and leave crops out
        number = len(dataloader) - dataloader.remaining - 1
        return len(dataloader._sampler.batch(dataloader.epoch, number).indices)
    if isinstance(batch, Mapping) and isinstance(batch.get("batch_size"), int):
        return int(batch["batch_size"])
    return min(_axes(tensor)[-1] for tensor in crops)


def _wait_for_gpu(reset: bool = False) -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()  # what is timed is the batch, not the order for it
        if reset:
            torch.cuda.reset_peak_memory_stats()


def _cpu_seconds() -> float:
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
