"""What bounds a run, how fast it could be, and what to change, in plain words. Pure functions of what was measured."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np

from hjepa.data_check import DECODED, PROGRESSIVE, DataSet
from hjepa.findings import how_to_build
from hjepa.machine import Machine
from hjepa.pipeline.draws import draw
from hjepa.pipeline.recipe import Recipe
from hjepa.short_run import ShortRun

Bound: TypeAlias = Literal["model", "reading", "decoding", "crops"]
NEAR = 0.75
"""A loader at this share of decoding alone, or above, is bounded by decoding."""
ROOM = 1.3
"""Images are larger than the crops need from this factor on; a disk that gives less than this factor more is the bound."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What bounds a run."""

    bound: Bound
    text: str
    ceiling: float
    """Images per second that the machine can give, whatever is changed in the recipe's crops."""
    advice: tuple[str, ...]
    dali: str
    """Whether DALI helps here, and why."""


def judge_run(run: ShortRun, data: DataSet, recipe: Recipe, machine: Machine, step_ms: float = 0) -> Verdict:
    """What bounds the run. step_ms: how long a training step of one batch takes; 0 where that is not known."""
    bound = _bound(run, step_ms)
    advice: dict[Bound, list[str]] = {
        "model": ["Leave the loader as it is; a smaller model, fewer crops or mixed precision shorten the step."],
        "reading": ["Put the images on a faster disk, or pack them: tar shards are read forward (hjepa.open_webdataset)."],
        "decoding": list(_lighter_images(data, recipe, run, machine)),
        "crops": [*_reduced(data, recipe, run, machine), *_lighter_crops(run, machine)],
    }
    return Verdict(
        bound=bound,
        text=_say(bound, run, step_ms),
        ceiling=run.decode.images_per_second,
        advice=tuple(advice[bound]),
        dali=_help(bound, run, data),
    )


def useful_side(recipe: Recipe) -> int:
    """Pixels on an image's shorter side with which the smallest crop of each view is hardly enlarged."""
    return max(math.ceil(view.size / math.sqrt(view.area[0]) / 32) * 32 for group in recipe.groups() for view in group)


def _bound(run: ShortRun, step_ms: float) -> Bound:
    if step_ms and run.loader.images_per_second * step_ms / 1000 >= run.batch_size:
        return "model"
    if run.read_per_second and run.read_per_second * run.threads < ROOM * run.loader.images_per_second:
        return "reading"
    return "decoding" if run.loader.images_per_second >= NEAR * run.decode.images_per_second else "crops"


def _say(bound: Bound, run: ShortRun, step_ms: float) -> str:
    ceiling, whole = run.decode.images_per_second, run.loader.images_per_second
    left = (
        f"decoding alone gives {ceiling:.0f} images/s, and with all crops {whole:.0f} ({whole / ceiling:.0%} of it) are left."
    )
    texts: dict[Bound, str] = {
        "model": f"The model: a step of {run.batch_size} images takes {step_ms:g} ms, and the loader has them after "
        f"{1000 * run.batch_size / whole:.0f} ms.",
        "reading": f"Reading: the disk gives {run.read_mib_per_second:.0f} MiB/s to a thread, which is "
        f"{run.read_per_second:.0f} images/s, and {run.threads} threads work through {whole:.0f}.",
        "decoding": f"Decoding: {left}",
        "crops": f"Making the crops: {left}",
    }
    return texts[bound]


def _lighter_images(data: DataSet, recipe: Recipe, run: ShortRun, machine: Machine) -> Iterator[str]:
    side, now = useful_side(recipe), data.short_side[1]
    if now > ROOM * side:
        yield (
            f"Shrink the images once: half of them have {now} pixels or more on the short side, and {recipe.name} can use "
            f"{side}; that leaves {(side / now) ** 2:.0%} of the pixels to decode."
        )
    yield from _reduced(data, recipe, run, machine)
    if data.formats.get(PROGRESSIVE):
        yield "Write progressive JPEGs anew as baseline ones: they take longer to decode."
    if run.device == "cpu":
        yield "Use more cores: decoding goes up with them."
    elif run.engine != "torchvision":
        yield "Let `hjepa tune` find the best data.decoder: the CPU's cores, the GPU, or its JPEG engines where it has some."
        return
    if run.engine == "torchvision":
        yield "Use --backend dali, which decodes in C++."
    elif recipe.decoding == "full":
        ceiling = f"{run.decode.images_per_second:.0f} images/s on these files and this machine"
        yield f"No recipe that decodes whole images exceeds {ceiling}."


def _reduced(data: DataSet, recipe: Recipe, run: ShortRun, machine: Machine) -> Iterator[str]:
    """Where most draws of the middle image would let it be decoded at a reduced scale: its crops take less then, too."""
    are_jpegs = data.formats.get("JPEG", 0) + data.formats.get(PROGRESSIVE, 0) > sum(data.formats.values()) / 2
    cannot = run.device != "cpu" or run.engine == "dali-ops" or (run.engine == "fused" and not machine.jpeg_decoder)
    if cannot or recipe.decoding == "reduced" or not are_jpegs:
        return
    sizes = np.tile(np.array([data.short_side[1], data.long_side[1]], dtype=np.int32), (256, 1))
    reduction = draw(replace(recipe, decoding="reduced"), 0, 0, np.arange(len(sizes)), sizes).reduction
    if (reduction > 1).mean() > 0.5:
        yield (
            "Decode JPEGs to a half or a quarter of their sides where all of an image's crops are small enough, as most are: "
            "data.decoding=reduced in hjepa-train, decoding: reduced in a recipe."
        )


def _lighter_crops(run: ShortRun, machine: Machine) -> Iterator[str]:
    if run.engine == "torchvision":
        yield "Use --backend dali, which decodes once in C++ and takes hjepa's kernel for the crops on a CPU."
    elif run.engine == "dali-ops":
        yield "Let hjepa's own kernel make the crops instead of DALI's operators: " + (
            "backend='fused'." if machine.kernel or run.device != "cpu" else how_to_build(machine)
        )
    share = 1 - run.loader.images_per_second / run.decode.images_per_second
    whose = f"recipe {run.recipe}, engine {run.engine}"
    yield f"Take fewer or smaller crops: {share:.0%} of the time goes into their pixels ({whose})."


def _help(bound: Bound, run: ShortRun, data: DataSet) -> str:
    if bound == "model":
        return "DALI will not help you here: the images are there before the model asks for them."
    if bound == "reading":
        return "DALI will not help you here: it decodes no faster than the disk gives."
    if set(data.formats) == {DECODED}:
        return "DALI will not help you here with decoding: these images are decoded already."
    if run.engine == "torchvision":
        return "DALI helps here: it decodes on threads, without Python in between."
    if run.device == "cpu":
        return (
            "DALI will not help you here beyond what it does already, which is to decode: without a GPU its own operators are "
            "no match for hjepa's kernel."
        )
    return "DALI helps here: it decodes for the GPU, and the crops are made there."
