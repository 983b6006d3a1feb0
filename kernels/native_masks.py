"""The masks of a batch in one native pass on the CPU, with the bits of the torch texts and many times as fast.

The C++ is in csrc/masks/, compiled when hjepa is installed. Where it was not, or on other devices, the callers go on with their
torch text; so nothing here decides what a mask is.
"""

# G crops, L levels, B samples, T targets, R rows, N patches

import math
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal

import torch
from torch import Tensor

from hjepa.kernels.rectangles import Grid

LAWS = {"exact": 0, "nested": 1, "reference": 2}
"""Numbers of the laws in csrc/masks/module.cpp."""


@lru_cache(maxsize=1)
def module() -> Any:
    """The extension module, or None where it was not built."""
    name = "hjepa.kernels._masks"
    return None if find_spec(name) is None else import_module(name)


def has_native(keys: Tensor, num_targets: int = 1) -> bool:
    """Whether the masks for these keys are made by the native pass."""
    return keys.device.type == "cpu" and module() is not None and num_targets <= module().MOST_TARGETS


def block_masks(
    keys: Tensor,
    laws: Tensor,
    grid: Grid,
    law: Literal["exact", "nested", "reference"],
    *,
    num_targets: int,
    min_keep: int = 0,
    max_attempts: int = 0,
) -> tuple[Tensor, Tensor]:
    """Contexts bool [..., L, B, N] and targets bool [..., L, B, T, N] for keys int64 [..., L, B], laws as the law's tensor."""
    _check_rows(keys, laws, law)
    keys, patches = keys.contiguous(), grid[0] * grid[1]
    contexts = torch.empty(*keys.shape, patches, dtype=torch.bool, device="cpu")
    targets = torch.empty(*keys.shape, num_targets, patches, dtype=torch.bool, device="cpu")
    rows = (math.prod(keys.shape[:-2]), *keys.shape[-2:])
    module().masks(
        keys.data_ptr(), laws.data_ptr(), *rows, *grid, num_targets, min_keep, max_attempts, LAWS[law],
        contexts.data_ptr(), targets.data_ptr(),
    )  # fmt: skip
    return contexts, targets


def weighted_keys(
    keys: Tensor,
    laws: Tensor,
    grid: Grid,
    law: Literal["exact", "reference"],
    sums: Tensor,
    *,
    num_targets: int,
    arrangements: int,
    min_keep: int = 0,
    max_attempts: int = 0,
) -> Tensor:
    """Keys int64 [G, L, B] as `kernels.weighted_blocks.weighted_keys` chooses them."""
    _check_rows(keys, laws, law)
    corners = (grid[0] + 1) * (grid[1] + 1)
    _check(sums, torch.int64, *((count, keys.shape[-1], corners) for count in {1, len(keys)}))
    keys, sums = keys.contiguous(), sums.contiguous()
    chosen = torch.empty_like(keys)
    module().weigh(
        keys.data_ptr(), laws.data_ptr(), *keys.shape, *grid, num_targets, min_keep, max_attempts, LAWS[law],
        sums.data_ptr(), len(sums) > 1, arrangements, chosen.data_ptr(),
    )  # fmt: skip
    return chosen


def blockwise_masks(
    keys: Tensor, counts: Tensor, grid: Grid, *, min_patches: int, most: int, rounds: int, log_aspect: float
) -> Tensor:
    """Masks bool [R, N] for keys int64 [R] and counts int64 [R] (`kernels.blockwise_masks`)."""
    assert grid[0] * grid[1] <= 1 << 16, grid
    _check(keys, torch.int64, (len(keys),))
    _check(counts, torch.int64, (len(keys),))
    keys, counts = keys.contiguous(), counts.contiguous()
    masks = torch.empty(len(keys), grid[0] * grid[1], dtype=torch.bool, device="cpu")
    module().blockwise(
        keys.data_ptr(), counts.data_ptr(), len(keys), *grid, min_patches, most, rounds, log_aspect, masks.data_ptr()
    )
    return masks


def shared_blocks(
    keys: Tensor, context: tuple[int, int], target: tuple[int, int], grid: Grid, *, num_targets: int, min_outside: int
) -> tuple[Tensor, Tensor]:
    """Contexts bool [R, N] and targets bool [R, T, N] for keys int64 [R] (`kernels.shared_blocks.block_masks`)."""
    _check(keys, torch.int64, (len(keys),))
    keys, patches = keys.contiguous(), grid[0] * grid[1]
    contexts = torch.empty(len(keys), patches, dtype=torch.bool, device="cpu")
    targets = torch.empty(len(keys), num_targets, patches, dtype=torch.bool, device="cpu")
    module().shared(
        keys.data_ptr(), len(keys), *target, *grid, num_targets, min_outside, *context, contexts.data_ptr(), targets.data_ptr()
    )
    return contexts, targets


def tube_masks(
    keys: Tensor, block: tuple[int, int, int], grid: tuple[int, int, int], num_blocks: int, context_frames: int
) -> tuple[Tensor, Tensor]:
    """Contexts and targets bool [R, N] for keys int64 [R] (`kernels.shared_blocks.tube_masks`)."""
    _check(keys, torch.int64, (len(keys),))
    keys = keys.contiguous()
    contexts = torch.empty(len(keys), math.prod(grid), dtype=torch.bool, device="cpu")
    targets = torch.empty_like(contexts)
    module().tubes(
        keys.data_ptr(), len(keys), *block, *grid, num_blocks, context_frames, contexts.data_ptr(), targets.data_ptr()
    )
    return contexts, targets


def indices(masks: Tensor, unions: Tensor | None, length: int, min_keep: int, keys: Tensor) -> tuple[Tensor, Tensor]:
    """Index int64 and valid bool [..., K] of masks bool [..., N], with unions of contexts (`kernels.mask_indices`)."""
    assert masks.shape[-1] <= 1 << 16, masks.shape
    masks, keys = masks.contiguous(), keys.expand(masks.shape[:-1]).contiguous()
    unions = None if unions is None else unions.contiguous()
    _check(keys, torch.int64, tuple(keys.shape))
    for given in (masks, masks if unions is None else unions):
        _check(given, torch.bool, tuple(masks.shape))
    index = torch.empty(*keys.shape, length, dtype=torch.int64, device="cpu")
    valid = torch.empty_like(index, dtype=torch.bool)
    module().indices(
        masks.data_ptr(), 0 if unions is None else unions.data_ptr(), keys.data_ptr(), keys.numel(), masks.shape[-1], length,
        min_keep, index.data_ptr(), valid.data_ptr(),
    )  # fmt: skip
    return index, valid


def _check_rows(keys: Tensor, laws: Tensor, law: str) -> None:
    """Keys int64 [..., L, B] and float32 laws of L levels."""
    _check(keys, torch.int64, tuple(keys.shape))
    _check(laws, torch.float32, (keys.shape[-2], 8 if law == "reference" else 7))
    assert laws.is_contiguous(), laws.stride()


def _check(tensor: Tensor, dtype: torch.dtype, *shapes: tuple[int, ...]) -> None:
    """The native pass gets addresses: what is of another kind or shape it would read as what it is not, and beyond its end."""
    assert tensor.device.type == "cpu", tensor.device
    assert tensor.dtype == dtype, tensor.dtype
    assert tuple(tensor.shape) in shapes, (tuple(tensor.shape), shapes)
