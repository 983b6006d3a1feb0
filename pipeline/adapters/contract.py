"""What an adapter is: a pure function from a Batch to what another trainer reads, and a check that its recipe suits it.

An adapter keeps no state: masks are drawn from the samples' keys, so they resume, shard and replay as the crops do.
"""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hjepa.kernels import chance
from hjepa.pipeline.batch import MASKS, Batch
from hjepa.pipeline.recipe import Recipe, whole

# B images, V crops of one name, S pixels


@runtime_checkable
class Adapter(Protocol):
    """One trainer's batch."""

    def check(self, recipe: Recipe) -> None:
        """Raises ValueError where a recipe's crops are not those that the trainer reads."""
        ...

    def __call__(self, batch: Batch) -> Any:
        """The trainer's batch, on the device of the crops."""
        ...


def require_views(trainer: str, recipe: Recipe, counts: Mapping[str, int | None]) -> None:
    """Refuses a recipe whose views have other names, or another number of crops (None for 1 or more)."""
    found = {name: recipe.count(name) for name in recipe.names}
    fits = found.keys() == counts.keys() and all(count in (None, found[name]) for name, count in counts.items())
    if not fits:
        wanted = " and ".join(f"{'1 or more' if count is None else count} {name!r}" for name, count in counts.items())
        given = " and ".join(f"{count} {name!r}" for name, count in found.items())
        raise ValueError(f"{trainer} reads {wanted} crops, recipe {recipe.name!r} makes {given}; use a recipe with those views")


def require_globals_first(trainer: str, recipe: Recipe) -> None:
    """Refuses a recipe whose first view is not named "global": the list would begin with other crops."""
    first = recipe.groups()[0][0].name
    if first != "global":
        raise ValueError(
            f"{trainer} reads the 'global' crops first, recipe {recipe.name!r} has {first!r} there; reorder its views"
        )


def require_patches(trainer: str, recipe: Recipe, patch_size: int) -> None:
    """Refuses crops that do not divide into whole patches."""
    whole("patch_size", patch_size, 1)
    for group in recipe.groups():
        rest = group[0].size % patch_size
        if rest:
            size = group[0].size
            raise ValueError(
                f"{trainer} cuts {group[0].name!r} crops of {size} px into patches of {patch_size}, which leaves {rest} px; "
                f"use a size such as {size - rest or patch_size} or {size - rest + patch_size}, or another patch_size"
            )


def crop_major(crops: Tensor, dtype: torch.dtype) -> Tensor:
    """[V * B, 3, S, S], crop 0 of all samples first, of [V, B, 3, S, S]: a view where dtype and strides allow, else a copy."""
    return crops.to(dtype, memory_format=torch.contiguous_format).flatten(0, 1)


def host_mask_keys(batch: Batch, *parts: int | npt.NDArray[np.integer[Any]]) -> chance.Keys:
    """`Batch.mask_keys` on the CPU, uint64 [..., B], with further parts folded in (arrays [..., 1] broadcast).

    For what decides a shape: on a GPU it would have to be waited for.
    """
    keys = batch.draws.keys
    for part in (MASKS, *parts):
        keys = chance.bits(keys, np.asarray(part))
    return keys
