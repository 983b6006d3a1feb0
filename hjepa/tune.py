"""Finds the loader's decoder, threads and depth on this machine, and the crops or the batch that a budget allows.

Of settings that are as good as the best the first is taken: threads and batches in flight cost memory, and other processes
their cores. A budget is searched by halves, because a step costs more with every crop and every image.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch

from hjepa.assembly import build_loader
from hjepa.configs.load import with_changes
from hjepa.configs.schema import Settings
from hjepa.distributed import share_of_workers
from hjepa.findings import BUSY
from hjepa.pipeline.device import resolve_device
from hjepa.pipeline.source import Source
from hjepa.short_run import rate
from hjepa.step_cost import StepCost, measure_step

Said: TypeAlias = Callable[[str], None]
"""Told what was tried and found."""
Vary: TypeAlias = Literal["crops", "batch"]
Choices: TypeAlias = Sequence[Mapping[str, object]]
"""Changes of settings, of which one is taken."""
SLACK = 0.03
"""Rates that are less than this share apart are alike."""
DEPTHS = (1, 2, 4)
DECODERS: Choices = [
    {"data.decoder": "gpu", "data.hw_decoder_load": 1.0},
    {"data.decoder": "cpu", "data.hw_decoder_load": 1.0},
    {"data.decoder": "gpu", "data.hw_decoder_load": 0.0},
    {"data.decoder": "gpu", "data.hw_decoder_load": 0.65},
]
"""A GPU's; DALI's own default comes last, because an image's pixels then depend on its batch."""
MOST_LOCALS = 10
"""Document D's most."""
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
NO_MEMORY = re.compile(r"allocat|alloc_failed|out of memory", re.IGNORECASE)
"""What DALI, Triton and CUDA's libraries say then, in errors that are not torch's own of a GPU's memory."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """What a step may cost; 0 for what is not limited."""

    memory_gib: float = 0.0
    step_ms: float = 0.0

    @property
    def words(self) -> str:
        """What is limited, for messages."""
        limits = {f"{self.memory_gib:g} GiB": self.memory_gib, f"{self.step_ms:g} ms": self.step_ms}
        return " and ".join(text for text, limit in limits.items() if limit)

    def allows(self, cost: StepCost) -> bool:
        """Whether a step of that cost is within it."""
        memory = not self.memory_gib or cost.memory_gib <= self.memory_gib
        return memory and (not self.step_ms or cost.seconds * 1000 <= self.step_ms)


def tune_loader(settings: Settings, source: Source, seconds: float, said: Said) -> Settings:
    """The settings with the decoder of a GPU, the threads and the depth that load fastest; each is tried for `seconds`."""
    cores = share_of_workers("auto", settings.data.pipeline)
    threads: Choices = [{"data.num_workers": count} for count in sorted({1, max(1, cores // 2), cores})]
    tried = [threads, [{"data.prefetch": depth} for depth in DEPTHS]]
    if settings.data.pipeline != "torchvision" and resolve_device(settings.device).type == "cuda":
        tried = [DECODERS, *tried]
    for choices in tried:
        rates = _rates(settings, source, choices, seconds, said)
        settings = with_changes(settings, choices[first_near_best(rates)])
    return settings


def _rates(settings: Settings, source: Source, choices: Choices, seconds: float, said: Said) -> dict[int, float]:
    """Images per second with each choice, by its place, but for those that fail: a GPU may lack what one of them needs.

    Raises what the last one does where none works.
    """
    rates: dict[int, float] = {}
    for number, changes in enumerate(choices):
        what = ", ".join(f"{name}={value}" for name, value in changes.items())
        try:
            with build_loader(with_changes(settings, changes), source, "measure") as loader:
                found = rate(loader, seconds)
        except (RuntimeError, MemoryError) as error:
            if not rates and number + 1 == len(choices):
                raise
            said(f"{what}: fails: {_in_a_line(error)}")
            continue
        rates[number] = found.images_per_second
        busy = f"; other processes took {found.others:.0%} of the machine" if found.others > BUSY else ""
        said(f"{what}: {found.images_per_second:.0f} images/s{busy}")
    return rates


def tune_step(settings: Settings, source: Source, budget: Budget, vary: Vary, said: Said) -> Settings:
    """The settings with the most local crops, or the largest batch, of which a step is within the budget. Raises ValueError."""
    name = "data.multicrop.num_local_crops" if vary == "crops" else "data.batch_size"
    values = _numbers_of_crops(settings) if vary == "crops" else [size for size in BATCHES if size <= len(source)]

    def fits(value: int) -> bool:
        try:
            cost = measure_step(with_changes(settings, {name: value}), source)
        except (RuntimeError, MemoryError) as error:
            if not _is_of_memory(error):
                raise
            said(f"{name}={value}: more memory than there is: too much")  # whatever the budget
            return False
        within = budget.allows(cost)
        said(f"{name}={value}: {cost.seconds * 1000:.0f} ms, {cost.memory_gib:.2f} GiB: {'fits' if within else 'too much'}")
        return within

    found = last_that_fits(values, fits)
    if found is None:
        raise ValueError(
            f"a step with {name}={values[0]}, the least, is beyond the budget of {budget.words}; raise it, lower "
            "data.batch_size, or take a smaller model"
        )
    return with_changes(settings, {name: found})


def first_near_best(rates: Mapping[int, float]) -> int:
    """The first choice whose rate is within SLACK of the best."""
    best = max(rates.values())
    return next(value for value, found in rates.items() if found >= (1 - SLACK) * best)


def last_that_fits(values: list[int], fits: Callable[[int], bool]) -> int | None:
    """The last value that fits, where all before one that fits do, too; None where the first does not. Asks log2 of them."""
    low, high = -1, len(values)  # the first of them fits, the second does not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(values[middle]) else (low, middle)
    return values[low] if low >= 0 else None


def _is_of_memory(error: RuntimeError | MemoryError) -> bool:
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or bool(NO_MEMORY.search(str(error)))


def _in_a_line(error: Exception) -> str:
    """What it says, without a traceback in it, whose lines are indented."""
    return " ".join(line for line in str(error).splitlines() if line and not line.startswith(" "))


def _numbers_of_crops(settings: Settings) -> list[int]:
    """What the settings allow, from the least on. Raises ValueError where local crops are not read."""
    strategy = settings.masking.strategy
    crops = settings.data.multicrop
    moves = crops.adaptive or any(phase.num_local_crops is not None for phase in crops.curriculum)
    if moves or not settings.data.use_multicrop:
        raise ValueError(
            "the number of local crops is not one number with data.multicrop.adaptive=true or where a phase of "
            "data.multicrop.curriculum changes it, and none with data.use_multicrop=false; change that, or use --vary batch"
        )
    if settings.objective == "hjepa" and strategy == "global_only" and not settings.model.view_weight:
        raise ValueError(
            "local crops are read by nothing with masking.strategy=global_only and model.view_weight=0, so any number of them "
            "fits; set either, or use --vary batch"
        )
    least = {"global_only": 0, "global_with_local_context": 1, "cross_crop_prediction": 2}[strategy]
    asked = any({"local_crop_size", "local_crop_scale"} & phase.changes.keys() for phase in crops.curriculum)
    # DINO needs two crops of an image, and a weight of local ones needs those.
    compared = settings.objective == "dino" and (crops.num_global_crops == 1 or settings.dino.local_weight != 1)
    return list(range(max(least, settings.model.view_weight > 0, asked, compared), MOST_LOCALS + 1))
