"""A process of its own for each engine, in which it is opened, warmed up and counted: its memory and its time are its own."""

import multiprocessing
import os
import statistics
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from engines import Batches, engine, loader_of, setup_of
from gpu_usage import GpuUsage
from peers import DALI_PLAIN, FFCV, PEERS, Torchvision

from hjepa import parity
from hjepa.pipeline.device import resolve_decoder
from hjepa.pipeline.folder import FolderSource, open_folder
from hjepa.pipeline.recipe import Recipe

TOLERANCE = 0.25
"""Standard deviations: how far a view's mean over some images may be from torchvision's, whose crops are others; and its
deviation's ratio from 1."""
OF_A_GPU = 1.0
"""Levels: what a GPU's decoder may add to the mean difference from torchvision, whose bounds are a CPU's (docs/parity.md)."""
SECOND_LOOK = 4
"""Times as many crops, all drawn anew, before an engine is said to be wrong."""
PATIENCE = 20.0
"""Seconds in which a process has to end."""
Moments = list[tuple[int, float, float]]
"""Side, mean and standard deviation of the normalised levels of each view."""


class Stopwatch:
    """Measures one engine in a process that lives until end()."""

    def __init__(
        self, name: str, folder: Path, recipe: Recipe, batch_size: int, device: torch.device, hw_decoder_load: float = 1.0
    ) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, name, folder, recipe, batch_size, device, hw_decoder_load))
        self._process.start()
        other.close()

    def measure(self, workers: int, seconds: float) -> dict[str, float]:
        """Opens the engine, lets every worker make a batch, and counts batches for some seconds."""
        return self._ask("measure", workers, seconds)

    def levels(self, paths: list[Path]) -> str:
        """What is wrong with what another library makes of some images, against torchvision on average; "" for nothing."""
        return self._ask("levels", paths)

    def parity(self, photographs: Path) -> str:
        """What is wrong with the pixels of one of hjepa's engines, against torchvision's of the same draws; "" for nothing."""
        return self._ask("parity", photographs)

    def end(self) -> None:
        """Tells the process to end."""
        self._pipe.close()

    def join(self) -> None:
        """Waits until it has; for one that hangs as it leaves CUDA or DALI not for ever, or all figures were lost."""
        self._process.join(PATIENCE)
        self._process.kill()  # nothing where it has ended

    def _ask(self, *question: Any) -> Any:
        try:
            self._pipe.send(question)
            failed, answer = self._pipe.recv()
        except (EOFError, OSError):
            raise RuntimeError("its process died") from None
        if failed:
            raise RuntimeError(answer)
        return answer


@contextmanager
def stopwatches(names: Iterable[str], *what: Any) -> Iterator[dict[str, Stopwatch]]:
    """One for each engine. All are told to end before any is waited for: Python needs a second to leave torch and DALI."""
    watches: dict[str, Stopwatch] = {}
    try:
        for name in names:
            watches[name] = Stopwatch(name, *what)
        yield watches
    finally:
        for watch in watches.values():
            watch.end()
        for watch in watches.values():
            watch.join()


def _serve(
    pipe: Connection, name: str, folder: Path, recipe: Recipe, batch_size: int, device: torch.device, hw_decoder_load: float
) -> None:
    warnings.filterwarnings("ignore", message="This DataLoader will create")  # the search tries more workers than cores
    source, usage = open_folder(folder), GpuUsage(device)
    with suppress(EOFError, KeyboardInterrupt):  # Ctrl-C comes to every process of a terminal, and one of them says so
        while True:
            task, *arguments = pipe.recv()
            try:
                if task == "parity":
                    with usage.measurement():  # what it leaves in the pools is this process's own later on
                        answer: Any = _parity(recipe, name, device, hw_decoder_load, *arguments)
                elif task == "levels":
                    answer = _levels(name, source, recipe, batch_size, *arguments)
                else:
                    batches = engine(name, source, recipe, batch_size, device, hw_decoder_load)
                    answer = _measure(batches, batch_size, usage, *arguments)
                pipe.send((False, answer))
            except Exception as error:
                pipe.send((True, "".join(traceback.format_exception_only(error)).strip()))


def _measure(batches: Batches, batch_size: int, usage: GpuUsage, workers: int, seconds: float) -> dict[str, float]:
    start = time.perf_counter()
    with usage.measurement(), closing(batches(workers)) as iterator:
        next(iterator)
        first_batch = time.perf_counter() - start
        for _ in range(workers + 2):  # a first batch of every worker, and DALI's queue
            next(iterator)
        _synchronize()
        with usage.watch() as of_gpu:
            start, cpu_start, number = time.perf_counter(), cpu_seconds(), 0
            while time.perf_counter() - start < seconds or number % workers:  # workers that keep step deliver in bursts
                next(iterator)
                number += 1
            _synchronize()
            elapsed, cpu, images = time.perf_counter() - start, cpu_seconds() - cpu_start, number * batch_size
        memory, traced = memory_mib(), usage.trace(iterator, batch_size)
    return {
        "images_per_second": images / elapsed,
        "cpu_ms_per_image": 1000 * cpu / images,
        "cores": cpu / elapsed,
        "memory_mib": memory,
        "first_batch_seconds": first_batch,
        **traced,
        **of_gpu,
    }


def _levels(name: str, source: FolderSource, recipe: Recipe, batch_size: int, paths: list[Path]) -> str:
    torch.set_num_threads(1)  # as in a DataLoader's worker; more only wait for each other on images this small
    if name in (FFCV, DALI_PLAIN):
        crops = loader_of(name, source, recipe, batch_size).crops
        recipe = _cropped_and_flipped(recipe) if name == FFCV else recipe
    else:
        crops = partial(_stacked, PEERS[name][1](recipe))
    wrong = ""
    for times in (1, SECOND_LOOK):  # both sides draw by chance, and one view in some hundred is beyond by chance alone
        some = paths * times
        wrong = compare_moments(_moments(crops(some)), _moments(_stacked(Torchvision(recipe), some)))
        if not wrong:
            break
    return wrong


def _cropped_and_flipped(recipe: Recipe) -> Recipe:
    """All that FFCV does of it."""
    views = (replace(view, jitter=None, gray=0.0, blur=0.0, solarize=0.0) for view in recipe.views)
    return replace(recipe, views=tuple(views))


def _stacked(crops: Callable[[str], list[torch.Tensor]], paths: list[Path]) -> list[torch.Tensor]:
    return [torch.stack(view) for view in zip(*(crops(str(path)) for path in paths), strict=True)]


def _moments(views: list[torch.Tensor]) -> Moments:
    return [(view.shape[-1], float(view.mean()), float(view.std())) for view in views]


def _parity(recipe: Recipe, name: str, device: torch.device, hw_decoder_load: float, photographs: Path) -> str:
    recipe, how = setup_of(name, recipe, device, hw_decoder_load)
    decoded_there = resolve_decoder(how["decoder"], how["hw_decoder_load"], device, how["backend"]) == "gpu"
    beyond = [
        f"{difference.part} is {difference.mean:.2f} levels off"
        for difference in parity.end_to_end(recipe, photographs, device=str(device), **how)
        if not (difference.mean <= difference.bound.mean + OF_A_GPU if decoded_there else difference.within)
    ]
    return ", ".join(beyond)


def compare_moments(found: Moments, reference: Moments) -> str:
    """What is wrong with an engine's levels, given torchvision's; "" for nothing."""
    if [side for side, *_ in found] != [side for side, *_ in reference]:
        return f"its crops have the sides {[side for side, *_ in found]}, not {[side for side, *_ in reference]}"
    for number, ((_, mean, std), (_, expected, deviation)) in enumerate(zip(found, reference, strict=True)):
        if abs(mean - expected) > TOLERANCE * deviation or abs(std / deviation - 1) > TOLERANCE:
            return f"crop {number} has levels of {mean:.2f} +- {std:.2f}, torchvision's {expected:.2f} +- {deviation:.2f}"
    return ""


def median(samples: list[dict[str, float]], name: str) -> float:
    """Over the rounds."""
    return statistics.median(sample[name] for sample in samples)


def cpu_seconds() -> float:
    """User and system time so far of this process and of the worker processes that live."""
    stats = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in _workers()]
    ticks = sum(int(stat[11]) + int(stat[12]) for stat in stats)
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


def memory_mib() -> float:
    """Memory of this process and of its workers beside mapped files; what several of them share is counted once (PSS).

    The libraries' files would be shared with the other engines' processes, and so be less the more engines there are.
    """
    return sum(_pss_kib(pid) for pid in [os.getpid(), *_workers()]) / 1024


def _pss_kib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(("Pss_Anon:", "Pss_Shmem:")))


def _workers() -> list[int]:
    return [child.pid for child in multiprocessing.active_children() if child.pid is not None]


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
