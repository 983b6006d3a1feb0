"""What a doctor finds of a machine, its images and a short run: each thing with a level, and with what to do about it.

Pure functions of what was found, so that machines that are not here can be judged in tests.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from hjepa.data_check import PROGRESSIVE, DataSet
from hjepa.machine import Machine
from hjepa.pipeline.device import HOPPER, VIDEO_LIBRARY
from hjepa.pipeline.recipe import Recipe
from hjepa.short_run import ShortRun
from hjepa.unread_files import in_words, what_to_do

Level: TypeAlias = Literal["ok", "note", "problem"]
BAD_SHARE, UNEVEN, SMALL_MEMORY_GIB, SMALL_SHARED_GIB = 0.01, 10.0, 4.0, 1.0
"""Share of bad files that ends a run, ratio of classes that is worth a word, and memory that is little."""
BUSY = 0.1
"""Other processes that take this share of the machine make the figures worse than they are."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One thing that was looked at."""

    level: Level
    subject: str
    text: str
    advice: str = ""
    """What to do; empty where there is nothing to do."""


def judge_machine(machine: Machine) -> list[Finding]:
    """Findings about GPU, driver, wheels, cores, memory and hjepa's kernel."""
    return [
        _cores(machine),
        _memory(machine),
        *_gpu(machine),
        *_dali(machine),
        _kernel(machine),
    ]


def judge_data(data: DataSet, recipe: Recipe, batch_size: int) -> list[Finding]:
    """Findings about the images."""
    files = [_images(data, batch_size), _bad(data), *_unread(data), _duplicates(data), _formats(data)]
    return [*files, _sizes(data, recipe), *_classes(data)]


def judge_conduct(run: ShortRun) -> list[Finding]:
    """Findings about the short run itself: whether all images decoded, and whether it had the machine for itself."""
    text = f"other processes took {run.loader.others:.0%} of the machine"
    busy = run.loader.others > BUSY and run.engine != "torchvision"  # whose own workers are other processes
    quiet = Finding(
        level="note" if busy else "ok",
        subject="short run",
        text=text,
        advice="the figures below are lower than on a quiet machine" if busy else "",
    )
    if not run.replaced:
        return [quiet]
    images = "1 image does" if run.replaced == 1 else f"{run.replaced} images do"
    text = f"{images} not decode; others stand in"
    return [quiet, Finding(level="note", subject="short run", text=text, advice="hjepa-train lists them in bad_images.jsonl")]


def is_healthy(findings: list[Finding]) -> bool:
    """Whether nothing is a problem."""
    return all(finding.level != "problem" for finding in findings)


def how_to_build(machine: Machine) -> str:
    """What to do for hjepa's native kernel to be there."""
    reinstall = "pip install --force-reinstall --no-deps -e . in the folder that hjepa was installed from"
    return reinstall if machine.compiler else f"apt install g++ python3-dev, then {reinstall}"


def _cores(machine: Machine) -> Finding:
    text = f"{machine.cores} to use ({machine.cpu})"
    if 0 < machine.quota < machine.cores:
        text += f", of which the container's limit grants the time of {machine.quota:g}"
    return Finding(level="ok", subject="cores", text=text)


def _memory(machine: Machine) -> Finding:
    shared = min(machine.shared_memory_gib, machine.memory_gib)  # the machine's may be more than the container's limit grants
    text = f"{machine.memory_gib:.1f} GiB, of it {shared:.1f} GiB can be shared between processes"
    advice = ["keep batch_size and prefetch small"] if machine.memory_gib < SMALL_MEMORY_GIB else []
    if machine.shared_memory_gib < SMALL_SHARED_GIB:
        advice.append("with backend='torchvision' and workers, start the container with --shm-size 8g")
    return Finding(level="note" if advice else "ok", subject="memory", text=text, advice="; ".join(advice))


def _gpu(machine: Machine) -> Iterator[Finding]:
    if not machine.gpus:
        if machine.has_gpu_files or machine.torch_gpus:
            advice = "pip install nvidia-ml-py" if "nvidia-ml-py" in machine.nvml_error else "see whether nvidia-smi works"
            yield Finding(
                level="problem", subject="GPU", text=f"there is one, but NVML says: {machine.nvml_error}", advice=advice
            )
        else:
            yield Finding(level="note", subject="GPU", text="none: decoding, crops and training run on the CPU")
        return
    names = ", ".join(f"{gpu.name} ({gpu.memory_gib:.0f} GiB)" for gpu in machine.gpus)
    newest = ".".join(map(str, machine.driver_cuda))
    yield Finding(level="ok", subject="GPU", text=f"{names}; driver {machine.driver}, which runs CUDA up to {newest}")
    yield _torch(machine)
    yield _jpeg_engine(machine)
    if machine.gpu_lacks:
        text = f"hjepa's kernel of crops needs {machine.gpu_lacks}: they are made by DALI's operators, which takes longer"
        yield Finding(level="note", subject="GPU kernel", text=text)


def _torch(machine: Machine) -> Finding:
    name = f"torch {machine.torch_version}"
    if not machine.torch_cuda:
        advice = "install torch with CUDA: https://pytorch.org/get-started"
        return Finding(level="problem", subject="torch", text=f"{name} was built for the CPU alone", advice=advice)
    if int(machine.torch_cuda.partition(".")[0]) > machine.driver_cuda[0]:
        advice = f"update the driver, or install torch for CUDA {machine.driver_cuda[0]}"
        text = f"{name} was built for CUDA {machine.torch_cuda}, newer than the driver's {machine.driver_cuda[0]}"
        return Finding(level="problem", subject="torch", text=text, advice=advice)
    if not machine.torch_gpus:
        advice = "see CUDA_VISIBLE_DEVICES, and restart after an update of the driver"
        return Finding(level="problem", subject="torch", text=f"{name} finds no GPU", advice=advice)
    return Finding(level="ok", subject="torch", text=f"{name} for CUDA {machine.torch_cuda} uses {machine.torch_gpus} GPUs")


def _jpeg_engine(machine: Machine) -> Finding:
    has_engine = any(gpu.jpeg_engine for gpu in machine.gpus)
    text = "the GPU has an engine for JPEGs" if has_engine else "the GPU has no engine for JPEGs"
    if has_engine and not machine.video_driver:
        text += (
            f", which needs the driver's {VIDEO_LIBRARY}, and that is not here; a container gets it with "
            "NVIDIA_DRIVER_CAPABILITIES=compute,utility,video"
        )
    elif has_engine:
        by_it = _decodes_by_engines(machine)
        text += ", by which images are decoded" if by_it else "; before Hopper the CPU decodes all the same"
        text += "; `hjepa tune` finds out what is fastest here"
    return Finding(level="ok", subject="JPEG engine", text=text)


def _decodes_by_engines(machine: Machine) -> bool:
    """Whether data.decoder=auto is a GPU's JPEG engines here; elsewhere the CPU decodes."""
    return machine.video_driver and any(gpu.jpeg_engine and gpu.capability >= HOPPER for gpu in machine.gpus)


def _dali(machine: Machine) -> Iterator[Finding]:
    wheel = f"nvidia-dali-cuda{130 if machine.driver_cuda[0] >= 13 else 120}"
    if len(machine.dali) > 1:
        text = f"{' and '.join(machine.dali)} are both installed, under one name"
        others = " ".join(machine.dali)
        yield Finding(level="problem", subject="DALI", text=text, advice=f"pip uninstall {others}, then pip install {wheel}")
    elif machine.dali_error:
        yield Finding(
            level="problem", subject="DALI", text=f"does not import: {machine.dali_error}", advice=f"pip install {wheel}"
        )
    else:
        name, number = next(iter(machine.dali.items()), ("nvidia-dali", "of an unknown version"))
        built_for = int(name.rpartition("cuda")[2] or 0) // 10
        if machine.gpus and built_for > machine.driver_cuda[0]:
            text = f"{name} is for CUDA {built_for}, newer than the driver's {machine.driver_cuda[0]}"
            yield Finding(level="problem", subject="DALI", text=text, advice=f"pip uninstall {name}, then pip install {wheel}")
        else:
            yield Finding(level="ok", subject="DALI", text=f"{name} {number}")


def _kernel(machine: Machine) -> Finding:
    decodes_slowly = not (machine.jpeg_decoder or _decodes_by_engines(machine) or machine.dali_error)
    slowly = "DALI decodes JPEGs without hjepa's decoder, which takes longer"
    if machine.kernel and decodes_slowly:
        text = f"built, and runs with {machine.kernel}; but {slowly}"
        return Finding(level="note", subject="native kernel", text=text, advice=how_to_build(machine))
    if machine.kernel:
        return Finding(level="ok", subject="native kernel", text=f"built, and runs with {machine.kernel}")
    level: Level = "note" if machine.gpus else "problem"
    text = f"not built: on a CPU the crops are several times slower without it{f', and {slowly}' if decodes_slowly else ''}"
    return Finding(level=level, subject="native kernel", text=text, advice=how_to_build(machine))


def _images(data: DataSet, batch_size: int) -> Finding:
    text = f"{data.images} in {data.name}, {data.mean_kib:.0f} KiB each ({data.looked_at} were looked at)"
    if data.images < batch_size:
        advice = f"lower batch_size to {data.images} or less"
        return Finding(level="problem", subject="images", text=f"{text}: fewer than a batch of {batch_size}", advice=advice)
    return Finding(level="ok", subject="images", text=text)


def _bad(data: DataSet) -> Finding:
    if not data.bad:
        return Finding(level="ok", subject="bad files", text="none that a header shows")
    share = data.bad / (data.bad + data.images)
    text = f"{data.bad} ({share:.2%}) are left out, such as {data.bad_examples[0]}"
    level: Level = "problem" if share > BAD_SHARE else "note"
    return Finding(level=level, subject="bad files", text=text, advice="repair or delete them")


def _unread(data: DataSet) -> Iterator[Finding]:
    if data.unread:
        text = f"{in_words(data.unread)} are not read"
        yield Finding(level="note", subject="other files", text=text, advice=what_to_do(data.unread))


def _duplicates(data: DataSet) -> Finding:
    if not data.duplicates:
        return Finding(level="ok", subject="duplicates", text="no file has two names; copies were not looked for")
    text = f"{data.duplicates} of {data.looked_at} are files that are there already, such as {data.duplicate_examples[0]}"
    return Finding(level="note", subject="duplicates", text=text, advice="drop them, unless they are to count twice")


def _formats(data: DataSet) -> Finding:
    total = sum(data.formats.values())
    text = ", ".join(f"{name} {count / total:.0%}" for name, count in data.formats.items())
    unreadable = [name for name in data.formats if name.startswith("unreadable")]
    if unreadable:
        return Finding(level="problem", subject="formats", text=text, advice="see whether the files can be read at all")
    if data.formats.get(PROGRESSIVE):
        return Finding(level="note", subject="formats", text=text, advice="baseline JPEGs are faster to decode")
    return Finding(level="ok", subject="formats", text=text)


def _sizes(data: DataSet, recipe: Recipe) -> Finding:
    largest = max(view.size for group in recipe.groups() for view in group)
    sides = f"{data.short_side[1]} x {data.long_side[1]}"
    text = f"{sides} pixels in the middle, 5 % up to {data.short_side[0]} on the short side, 5 % from {data.short_side[2]} on"
    if data.short_side[1] < largest:
        advice = (
            f"they are enlarged to crops of {largest}: set data.multicrop.global_crop_size lower in hjepa-train, or give "
            "a recipe of your own with a smaller size (hjepa recipes NAME --yaml > mine.yaml)"
        )
        return Finding(level="note", subject="sizes", text=text, advice=advice)
    return Finding(level="ok", subject="sizes", text=text)


def _classes(data: DataSet) -> Iterator[Finding]:
    if not data.classes:
        yield Finding(level="ok", subject="classes", text="no labels; training needs none, kNN and linear probe do")
        return
    least, most = (choose(data.classes.items(), key=lambda pair: pair[1]) for choose in (min, max))
    text = f"{len(data.classes)}, from {least[1]} ({least[0]}) to {most[1]} images ({most[0]})"
    if most[1] == least[1]:
        text = f"{len(data.classes)}, with {most[1]} images each"
    if most[1] > UNEVEN * least[1]:
        advice = "accuracies will be those of the large classes; weigh sources by hjepa.Mixture if that matters"
        yield Finding(level="note", subject="classes", text=text, advice=advice)
    else:
        yield Finding(level="ok", subject="classes", text=text)
