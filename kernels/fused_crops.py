"""Every crop of every image of a batch, from the decoded pixels to normalised tensors, in one native kernel on the CPU.

It computes what torchvision computes on PIL images, level by level: a resize of two passes that are each rounded to 8 bits,
colour jitter whose parts are cut off to levels in the order that was drawn, hue in HSV of 8 bits, a windowed Gaussian blur.
The definition, in NumPy, is fused_reference.py; the C++ is in csrc/, compiled when hjepa is installed, for several instruction
sets, of which the fastest that runs here is chosen. All of them, with any number of threads, give the same bits.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

# B images, V crops of one name, S pixels
Colours: TypeAlias = tuple[float, float, float]

STORES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}
MAX_SIDE = 1 << 19
"""Pixels along a side of a box (csrc/checks.h); the weights of more would not fit into 64 MiB of scratch memory."""
INSTALL = (
    "that is built when hjepa is installed, which needs a C++17 compiler (GCC 9, Clang 12 or later) and the headers of Python: "
    "apt install g++ python3-dev, then pip install hjepa again (pip install -e . in a checkout)"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Decoded:
    """B decoded images, wherever they lie. Whoever makes this keeps their memory alive until render returns."""

    pointers: npt.NDArray[np.int64]
    """[B]: addresses of uint8 [height, width, 3], without gaps."""
    sizes: npt.NDArray[np.int32]
    """[B, 2]: height and width in pixels."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CropGroup:
    """What is done for the V crops of one name, and into what they are written."""

    box: npt.NDArray[np.int32]
    """[B, V, 4]: top, left, height, width in pixels."""
    flip: npt.NDArray[np.bool_]
    """[B, V]: mirrored left to right."""
    jitter: npt.NDArray[np.float32]
    """[B, V, 4]: factors of brightness, contrast, saturation, and hue in turns; 1, 1, 1, 0 change nothing."""
    order: npt.NDArray[np.uint8]
    """[B, V, 4]: the order of the four."""
    gray: npt.NDArray[np.bool_]
    """[B, V]: turned gray."""
    sigma: npt.NDArray[np.float32]
    """[B, V]: standard deviation of the blur, in pixels of the output; 0 for none."""
    solarize: npt.NDArray[np.bool_]
    """[B, V]: solarized."""
    interpolation: Literal["bicubic", "bilinear"]
    blur_window: int
    """Side of the blur's window, odd."""
    solarize_threshold: int
    """Levels from this one on are inverted."""
    out: Tensor
    """float32, float16 or bfloat16 [V, B, 3, S, S], contiguous; on the CPU, or where the images are."""


class MissingKernelError(ImportError):
    """The native kernel was not built; says how to get it."""


class Threads:
    """Native threads that render, and the scratch memory that each of them keeps (see scratch_bytes)."""

    def __init__(self, count: int) -> None:
        if count < 1:
            raise ValueError(f"count={count} is not a number of threads; use 1 or more")
        self._native = _native().Threads(count)

    @property
    def scratch_bytes(self) -> int:
        """Bytes that the thread with the most of them keeps."""
        return int(self._native.scratch_bytes)

    def render(self, decoded: Decoded, groups: Sequence[CropGroup], mean: Colours, std: Colours, build: str = "") -> None:
        """Writes all crops into the groups' tensors; other Python threads run meanwhile.

        build: one of `builds()`; the fastest by default. Raises ValueError for what cannot be rendered, before any pixel is.
        """
        self._native.render(*arguments_of(decoded, groups, mean, std), build)


def arguments_of(decoded: Decoded, groups: Sequence[CropGroup], mean: Colours, std: Colours) -> tuple[Any, list[Any]]:
    """A batch as the native module takes it, without a copy. Raises ValueError for shapes and types it cannot take."""
    dtype = check_groups(decoded, groups)
    _require(all(group.out.device.type == "cpu" for group in groups), "out must be on the CPU")
    native, deviations = _native(), np.asarray(std, dtype=np.float64)
    images = native.Images(
        np.ascontiguousarray(decoded.pointers, dtype=np.int64),
        decoded.sizes,
        (1 / (255 * deviations)).astype(np.float32),
        (-np.asarray(mean, dtype=np.float64) / deviations).astype(np.float32),
        STORES[dtype],
    )
    return images, [_group(native, group) for group in groups]


def check_groups(decoded: Decoded, groups: Sequence[CropGroup]) -> torch.dtype:
    """The type of the outputs. Raises ValueError for shapes and types that no kernel takes."""
    dtypes = {group.out.dtype for group in groups}
    _require(len(dtypes) == 1, f"the outputs are of several types, {dtypes}; use one")
    (dtype,) = dtypes
    _require(dtype in STORES, f"an output of {dtype} cannot be written; use torch.float32, torch.float16 or torch.bfloat16")
    devices = {group.out.device for group in groups}
    _require(len(devices) == 1, f"the outputs are on several devices, {devices}; use one")
    _check_array("sizes", decoded.sizes, np.int32, (len(decoded.pointers), 2))
    for group in groups:
        _check_group(group, decoded)
    return dtype


def builds() -> list[str]:
    """The instruction sets that the kernel was compiled for and that run here, the fastest first. Raises MissingKernelError."""
    names: list[str] = _native().builds()
    return names


def _native() -> Any:
    try:
        from hjepa.kernels import _fused_crops  # type: ignore[attr-defined]  # compiled
    except ImportError as error:
        raise MissingKernelError(f"hjepa's native kernel, {INSTALL}") from error
    return _fused_crops


def _group(native: Any, group: CropGroup) -> Any:
    return native.Group(
        *(getattr(group, name) for name in ARRAYS),
        group.out.shape[-1],
        group.interpolation == "bilinear",
        group.blur_window,
        group.solarize_threshold,
        group.out.data_ptr(),
    )


ARRAYS: Mapping[str, tuple[type[np.generic], tuple[int, ...]]] = {
    "box": (np.int32, (4,)),
    "flip": (np.bool_, ()),
    "jitter": (np.float32, (4,)),
    "order": (np.uint8, (4,)),
    "gray": (np.bool_, ()),
    "sigma": (np.float32, ()),
    "solarize": (np.bool_, ()),
}
"""Fields of a group that are arrays [B, V, ...], in the order in which the module takes them."""
assert list(ARRAYS) == [field.name for field in fields(CropGroup)][: len(ARRAYS)]


def _check_group(group: CropGroup, decoded: Decoded) -> None:
    """Shapes and types; the values of each crop are checked by the module (csrc/checks.cpp)."""
    out, num_images = group.out, len(decoded.pointers)
    holds = out.ndim == 5 and out.shape[1] == num_images and out.shape[2] == 3 and out.shape[3] == out.shape[4] > 0
    _require(holds, f"out is {list(out.shape)}; for {num_images} images it must be [V, {num_images}, 3, S, S]")
    _require(out.is_contiguous(), "out must be contiguous")
    for name, (dtype, shape) in ARRAYS.items():
        _check_array(name, getattr(group, name), dtype, (num_images, out.shape[0], *shape))
    window = group.blur_window
    _require(window >= 1 and window % 2 == 1, f"blur_window={window} is not an odd number of pixels")


def _check_array(name: str, array: npt.NDArray[Any], dtype: type[np.generic], shape: tuple[int, ...]) -> None:
    if array.dtype != dtype or array.shape != shape or not array.flags.c_contiguous:  # the text takes longer than the check
        came, wanted = f"{array.dtype} {list(array.shape)}", f"{dtype.__name__} {list(shape)}"
        raise ValueError(f"{name} is {came}; it must be {wanted}, contiguous")


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ValueError(message)
