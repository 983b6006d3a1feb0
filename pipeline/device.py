"""Where batches go, with how many threads or engines they are made, and for which of the ranks."""

import ctypes
import importlib
import os
from functools import lru_cache
from math import ceil
from typing import Any, Literal, TypeAlias, get_args

import torch

from hjepa.pipeline.control_groups import quota
from hjepa.pipeline.recipe import is_number, whole

Decoder: TypeAlias = Literal["auto", "cpu", "gpu"]
"""Where images are decoded."""
HOPPER = (9, 0)
"""Compute capability of the first GPUs whose JPEG engines are used without being asked for; an A100 has but one."""
VIDEO_LIBRARY = "libnvcuvid.so.1"
"""The driver's part for video."""


def resolve_device(device: str | torch.device) -> torch.device:
    """The device of that name; "auto" is the GPU where there is one. Raises ValueError for a GPU that is not there."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        resolved = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"device={device!r} is unknown; use 'auto', 'cpu', 'cuda' or 'cuda:N'") from error
    if resolved.type not in ("cpu", "cuda"):
        raise ValueError(f"device={device!r} is not supported; use 'auto', 'cpu', 'cuda' or 'cuda:N'")
    if resolved.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device={str(device)!r}, but torch finds no GPU here; use device='cpu' or 'auto'")
    if resolved.type == "cuda" and (resolved.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device={str(device)!r}, but there are only {torch.cuda.device_count()} GPUs, counted from 0")
    # The number is spelt out, because DALI takes "no number" for GPU 0, and torch for the current one.
    return torch.device("cuda", torch.cuda.current_device()) if resolved == torch.device("cuda") else resolved


def cores() -> int:
    """The cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def resolve_workers(num_workers: int | Literal["auto"], backend: str) -> int:
    """Threads of DALI, processes of torchvision (0: a thread of this process); "auto" is one per core of this process.

    Where a container grants less time than its cores have, it is as many as use that up: more would only be stopped in turns.
    """
    if num_workers == "auto":
        return min(cores(), ceil(quota()) or cores())
    if num_workers == 0 and backend != "torchvision":  # as scripts have it that were written for torch's DataLoader
        raise ValueError("num_workers=0, but DALI needs a thread; use 1 or 'auto', or backend='torchvision' for none")
    return whole("num_workers", num_workers, 0 if backend == "torchvision" else 1)


def resolve_decoder(decoder: Decoder, hw_decoder_load: float, device: torch.device, backend: str) -> Literal["cpu", "gpu"]:
    """Where images are decoded; "auto" is the GPU if it has several JPEG engines, or is given a share for them, else the CPU.

    On an H200 the engines were fastest, then hjepa's decoder on 16 cores, then the GPU without its engines, which takes as much
    of the cores (docs/performance.md). Raises ValueError for what cannot be.
    """
    if decoder not in get_args(Decoder):
        raise ValueError(f"decoder={decoder!r} is unknown; use 'auto', 'cpu' or 'gpu'")
    if not is_number(hw_decoder_load) or not 0 <= hw_decoder_load <= 1:
        raise ValueError(f"hw_decoder_load={hw_decoder_load!r} is no share; use a number from 0 to 1")
    on_cpu, is_share = device.type == "cpu" or backend == "torchvision", 0 < hw_decoder_load < 1
    if on_cpu and (decoder == "gpu" or is_share):
        asked = "decoder='gpu'" if decoder == "gpu" else f"hw_decoder_load={hw_decoder_load}"
        raise ValueError(
            f"{asked} has no effect with backend={backend!r} and device={str(device)!r}: only DALI decodes on a GPU; drop it"
        )
    if decoder == "cpu" and is_share:
        raise ValueError(f"hw_decoder_load={hw_decoder_load} has no effect with decoder='cpu'; drop either")
    if decoder == "auto":
        return "gpu" if is_share or (not on_cpu and hw_decoder_load and has_jpeg_engines(device)) else "cpu"
    return decoder


@lru_cache
def has_jpeg_engines(device: torch.device) -> bool:
    """Whether the GPU has several JPEG engines, which can be used here."""
    if torch.cuda.get_device_capability(device) < HOPPER or not has_video_driver():
        return False
    try:
        nvml: Any = importlib.import_module("pynvml")
    except ImportError:
        return False
    try:
        nvml.nvmlInit()
        try:
            handle = nvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
            nvml.nvmlDeviceGetJpgUtilization(handle)
        finally:
            nvml.nvmlShutdown()
    except (nvml.NVMLError, AttributeError):  # "not supported" says that there is none; an old binding cannot ask
        return False
    return True


def has_video_driver() -> bool:
    """Whether the driver's part for video is there, without which DALI passes over JPEG engines; containers often lack it."""
    try:
        ctypes.CDLL(VIDEO_LIBRARY)
    except OSError:
        return False
    return True


def resolve_rank(rank: int | Literal["auto"], world_size: int | Literal["auto"]) -> tuple[int, int]:
    """This process's rank and the number of ranks; "auto" asks torch.distributed, and is one rank where that is not set up.

    Raises ValueError where there are several ranks and none can ask for its own: all would read the same images.
    """
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    num_ranks = _num_ranks(distributed) if world_size == "auto" else whole("world_size", world_size, 1)
    if not distributed and num_ranks > 1 and "auto" in (rank, world_size):
        raise ValueError(
            f"there are {num_ranks} ranks, and torch.distributed is not set up to say which one this is: all would read the "
            "same images; make the Loader after init_process_group, or give both rank and world_size"
        )
    own_rank = torch.distributed.get_rank() if distributed else 0
    return own_rank if rank == "auto" else whole("rank", rank, 0), num_ranks


def require_rank(rank: int | Literal["auto"], world_size: int | Literal["auto"], *, made_as: tuple[int, int]) -> None:
    """Raises ValueError where torch.distributed, set up since a Loader was made, says that it is another rank or of more."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        found = resolve_rank(rank, world_size)
        if found != made_as:
            raise ValueError(
                f"this Loader is rank {made_as[0]} of {made_as[1]}, and torch.distributed, which was set up after it was made, "
                f"says rank {found[0]} of {found[1]}: make it after that (with Lightning in train_dataloader), or give both "
                "rank and world_size"
            )


def _num_ranks(distributed: bool) -> int:
    """As torch.distributed says, or torchrun, which may have started this process though nothing was set up yet."""
    if distributed:
        return torch.distributed.get_world_size()
    launched = torch.distributed.is_available() and torch.distributed.is_torchelastic_launched()
    return int(os.environ.get("WORLD_SIZE", "1")) if launched else 1
