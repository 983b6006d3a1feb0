"""What a backend is: it turns requests (paths and draws) into crops, and draws nothing itself.

The texts in backends/ are parallel: the same functions in the same order, so that a diff of two shows only the library.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hjepa.pipeline.draws import Draws
from hjepa.pipeline.recipe import Recipe

# B images, V crops of one name, S pixels
Crops: TypeAlias = dict[str, Tensor]
"""Name of the view -> normalised crops [V, B, 3, S, S] on the loader's device; the strides are the backend's own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """One batch to render."""

    paths: npt.NDArray[np.bytes_]
    """[B] absolute paths, as the file system's bytes."""
    draws: Draws


@dataclass(frozen=True, kw_only=True, slots=True)
class BackendSettings:
    """What every backend needs to know. None of it changes a pixel, but for the recipe and the rounding of dtype."""

    recipe: Recipe
    batch_size: int
    """Images per batch, at most."""
    device: torch.device
    num_workers: int
    """Threads of DALI, processes of torchvision."""
    prefetch: int
    """Batches in flight."""
    pin_memory: bool
    """Whether batches made on the CPU for a GPU lie in page-locked memory."""
    dtype: torch.dtype
    """float32, float16 or bfloat16."""


class Backend(Protocol):
    """Renders requests in their order and reads ahead of what is taken."""

    def render(self, requests: Iterator[Request]) -> Iterator[Crops]:
        """One dictionary of crops per request. Raises BadImageError for an image that does not decode."""
        ...


class BadImageError(RuntimeError):
    """An image could not be decoded; the message names the file and the reason."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)  # as arguments, so that it survives the way out of a worker process
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"cannot decode {self.path}: {self.reason}; repair or delete the file, then resume"


def open_backend(name: Literal["dali", "torchvision"], settings: BackendSettings) -> Backend:
    """The backend of that name. Raises ValueError for another name, or where its library is not installed."""
    if name == "torchvision":
        from hjepa.pipeline.backends.torchvision import TorchvisionBackend

        return TorchvisionBackend(settings)
    if name == "dali":
        try:
            from hjepa.pipeline.backends.dali import DaliBackend
        except ImportError as error:
            raise ValueError(
                f"backend='dali' needs NVIDIA DALI, which does not import here ({error}); "
                "pip install nvidia-dali-cuda120, or use backend='torchvision'"
            ) from error
        return DaliBackend(settings)
    raise ValueError(f"backend={name!r} is unknown; use 'dali' or 'torchvision'")
