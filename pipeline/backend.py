"""What a backend is: it turns requests (encoded images and draws) into crops, and draws nothing itself.

The texts in backends/ are parallel: the same functions in the same order, so that a diff of two shows only the library.
"""

import importlib
import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hjepa.kernels.fused_crops import MissingKernelError, builds
from hjepa.pipeline.draws import Draws
from hjepa.pipeline.recipe import Recipe
from hjepa.pipeline.source import Encoded
from hjepa.pipeline.spelling import suggest

# B images, V crops of one name, S pixels
Engine: TypeAlias = Literal["fused", "dali-ops", "torchvision"]
"""Who makes the crops: hjepa's kernel on what DALI decoded, DALI's operators alone, or torchvision (the reference)."""
BackendName: TypeAlias = Literal["dali", "fused", "dali-ops", "torchvision"]
"""An engine, or "dali": the fastest one that decodes with DALI here."""
Crops: TypeAlias = dict[str, Tensor]
"""Name of the view -> normalised crops [V, B, 3, S, S] on the loader's device; the strides are the backend's own."""
OLDEST_TRITON = (3, 3)
"""That compiles the kernels of crops, which pass tuples to each other; torch 2.7 brings it."""
OLDEST_GPU = (7, 2)
"""Compute capability of the first that has all of their instructions (cvt.pack); a V100 has not."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """One batch to render. All requests of a stream are of one kind: paths, or contents."""

    encoded: Encoded
    sizes: npt.NDArray[np.int32]
    """[B, 2]: height and width in pixels that the boxes were drawn for, and that the decoded images must have."""
    draws: Draws


@dataclass(frozen=True, kw_only=True, slots=True)
class BackendSettings:
    """What every backend needs to know. Only the recipe changes pixels; dtype, decoder and hw_decoder_load round them."""

    recipe: Recipe
    batch_size: int
    """Images per batch, at most."""
    device: torch.device
    num_workers: int
    """Threads of DALI and of the kernel, or processes of torchvision."""
    prefetch: int
    """Batches in flight."""
    pin_memory: bool
    """Whether batches made on the CPU for a GPU lie in page-locked memory."""
    dtype: torch.dtype
    """float32, float16 or bfloat16."""
    decoder: Literal["cpu", "gpu"] = "cpu"
    """Where images are decoded."""
    hw_decoder_load: float = 1.0
    """Share of a batch's JPEGs, 0 to 1, that a GPU's JPEG engines decode, of those that it decodes; all else there rounds
    otherwise."""

    def __post_init__(self) -> None:
        if self.dtype not in (torch.float32, torch.float16, torch.bfloat16):
            raise ValueError(f"dtype={self.dtype} is not supported; use torch.float32, torch.float16 or torch.bfloat16")


class Backend(Protocol):
    """Renders requests in their order and reads ahead of what is taken."""

    def render(self, requests: Iterator[Request]) -> Iterator[Crops]:
        """One dictionary of crops per request. Ends with BadBatchError where images of one do not decode.

        Of a batch with bad images at least one is named; images of later requests may be named along, or none at all: then the
        same batch may be asked for again. What remains of the work is kept for the next call, until close.
        """
        ...

    def close(self) -> None:
        """Frees what was kept. Call it while no render runs; one that is closed frees it by itself."""
        ...


class BadBatchError(Exception):
    """Images of the batch that was to come next, or of one after it, do not decode, or did not just now."""

    def __init__(self, reasons: Mapping[tuple[int, int], str]) -> None:
        super().__init__(dict(reasons))  # as arguments, so that it survives the way out of a worker process
        self.reasons = reasons
        """(number of the request, from the next one on; place in it) -> why."""


def check_size(decoded: tuple[int, int], expected: tuple[int, int]) -> str | None:
    """What is wrong with a decoded image of this height and width, which boxes were drawn for the expected ones."""
    if decoded == expected:
        return None
    return (
        f"it has {decoded[0]}x{decoded[1]} pixels (height x width), and {expected[0]}x{expected[1]} when it was indexed: "
        "it was overwritten since"
    )


def engine_of(name: BackendName, device: torch.device) -> Engine:
    """The engine that a backend's name stands for on this device: "dali" is "fused" wherever its kernels can run.

    Raises ValueError for another name.
    """
    if name not in get_args(BackendName):
        raise ValueError(f"backend={name!r} is unknown; {suggest(name, get_args(BackendName))}")
    if name != "dali":
        return name
    if device.type != "cpu":
        return "dali-ops" if lacking(device) else "fused"
    try:
        builds()
    except MissingKernelError:
        return "dali-ops"
    return "fused"


def lacking(device: torch.device) -> str:
    """What hjepa's kernels lack to make crops on this GPU; "" for nothing."""
    found = importlib.util.find_spec("triton") is not None
    version: str = importlib.import_module("triton").__version__ if found else "0.0"
    if tuple(map(int, version.split(".")[:2])) < OLDEST_TRITON:
        return "Triton 3.3 or later on a GPU, which comes with torch 2.7 or later for Linux"
    if torch.cuda.get_device_capability(device) < OLDEST_GPU:
        return "a GPU of compute capability 7.2 or later"
    return ""


def open_backend(name: BackendName, settings: BackendSettings) -> Backend:
    """The backend of that name. Raises ValueError for another name, or where what it needs is not installed."""
    engine = engine_of(name, settings.device)
    if settings.recipe.decoding == "reduced" and (
        engine == "dali-ops" or (engine == "fused" and settings.device.type != "cpu")
    ):
        lacks_kernel = name == "dali" and settings.device.type == "cpu"
        kernel = ", or install hjepa again, with a C++ compiler: its own kernel is not built here" if lacks_kernel else ""
        raise ValueError(
            f"the recipe's decoding='reduced' is for a CPU and backend='fused' or 'torchvision', not for {engine!r} on "
            f"{settings.device}; use decoding='full'{kernel}"
        )
    if engine == "torchvision":
        from hjepa.pipeline.backends.torchvision import TorchvisionBackend

        return TorchvisionBackend(settings)
    try:
        if engine == "fused" and settings.device.type == "cuda":
            if missing := lacking(settings.device):
                raise MissingKernelError(missing)
            from hjepa.pipeline.backends.fused_gpu import FusedGpuBackend

            return FusedGpuBackend(settings)
        if engine == "fused":
            from hjepa.pipeline.backends.fused import FusedBackend

            return FusedBackend(settings)
        from hjepa.pipeline.backends.dali_ops import DaliOpsBackend

        return DaliOpsBackend(settings)
    except MissingKernelError as error:
        raise ValueError(f"backend='fused' needs {error}, or use backend='dali-ops'") from error
    except ImportError as error:
        raise ValueError(
            f"backend={name!r} needs NVIDIA DALI, which does not import here ({error}); "
            "pip install nvidia-dali-cuda120, or use backend='torchvision'"
        ) from error
