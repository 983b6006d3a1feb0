"""What the mask generators share: the levels' laws, masks for any crops of keyed samples, and the stream of keys of a seed.

A row of masks belongs to one sample, crop and level, and its key is the sample's key with crop and level folded in. So a
sample's masks depend on nothing but its key: not on the batch, the rank, the device, or how many crops and levels there are.
"""

# G crops, L levels, B samples, T targets, N patches

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isinf
from numbers import Real
from typing import Literal, get_args

import torch
from torch import Tensor

from hjepa.kernels import chance
from hjepa.kernels.block_masks import BlockLaw, block_masks, law_tensor
from hjepa.kernels.exact_blocks import exact_law_tensor, exact_masks
from hjepa.kernels.folded_keys import fold_ranges
from hjepa.kernels.nested_blocks import nested_masks
from hjepa.kernels.weighted_blocks import weight_sums, weighted_exact, weighted_reference
from hjepa.pipeline.recipe import integer, whole

Law = Literal["exact", "reference"]
"""exact: targets never overlap and keep their areas (`kernels.exact_blocks`). reference: as published (`block_masks`)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockMasks:
    """Masks of a batch for one size of crop; True = use."""

    context: Tensor
    """bool [G, L, B, N], disjoint from the targets of the same crop and level; under the law "reference" it may be empty"""
    targets: Tensor
    """bool [G, L, B, T, N]"""


class MaskSampler:
    """Draws the masks of every crop, level and sample in one call, without waiting for the device."""

    def __init__(
        self,
        laws: Sequence[BlockLaw],
        grid: tuple[int, int],
        *,
        num_target_masks: int,
        law: Law,
        max_attempts: int,
        min_keep: int,
        nested: bool = False,
    ) -> None:
        """max_attempts is the reference's. The exact law's are min_keep, context patches that every row has, at least, and
        nested: each target lies in the one of the same number of the next coarser level."""
        if law not in get_args(Law):
            raise ValueError(f"unknown law={law!r}; use one of {get_args(Law)}")
        num_target_masks = whole("num_target_masks", num_target_masks, 1)
        max_attempts = whole("max_attempts", max_attempts, 1)
        min_keep = whole("min_keep", min_keep, 1)
        if law == "reference":
            _check_reference(laws, num_target_masks)
            if nested:
                raise ValueError("nested=True needs targets that do not overlap; use law='exact'")
        self.laws = tuple(laws)
        self.grid = grid
        self.num_target_masks = num_target_masks
        self.law = law
        self.max_attempts = max_attempts
        self.min_keep = min_keep
        self.nested = nested
        exact = law == "exact"
        self._law_tensor = exact_law_tensor(laws, grid, num_target_masks, min_keep) if exact else law_tensor(laws)
        self._law_tensors: dict[torch.device, Tensor] = {}

    def sample(self, keys: Tensor, crops: range, weights: Tensor | None = None) -> BlockMasks:
        """Masks for keys int64 [B], one for each sample, and for the crops with these numbers, on the device of the keys.

        weights: floating [B, N], or [G, B, N] where crops differ, 0 or more: targets lean to where they are greater, as
        `kernels.weighted_blocks` says. Equal weights change nothing. With nested levels they move the coarsest one.
        """
        rows = fold_ranges(keys, crops, range(len(self.laws)))
        laws, count = self._laws_on(keys.device), self.num_target_masks
        if weights is not None:
            rows = self._weighted(rows, laws, weights)
        if self.nested:
            context, targets = nested_masks(rows, laws, self.grid, num_targets=count, min_keep=self.min_keep)
        elif self.law == "exact":
            context, targets = exact_masks(rows, laws, self.grid, num_targets=count, min_keep=self.min_keep)
        else:
            context, targets = block_masks(rows, laws, self.grid, num_targets=count, max_attempts=self.max_attempts)
        return BlockMasks(context=context, targets=targets)

    def _weighted(self, rows: Tensor, laws: Tensor, weights: Tensor) -> Tensor:
        """The keys int64 [G, L, B] that the weights choose in these rows' stead."""
        self._check_weights(weights, rows)
        sums = weight_sums(weights if weights.ndim == 3 else weights.unsqueeze(0), self.grid)
        count = self.num_target_masks
        if self.law == "reference":
            return weighted_reference(rows, laws, sums, self.grid, num_targets=count, max_attempts=self.max_attempts)
        moved = len(self.laws) - 1 if self.nested else 0  # the first level that weights move
        chosen = weighted_exact(rows[:, moved:], laws[moved:], sums, self.grid, num_targets=count, min_keep=self.min_keep)
        return torch.cat([rows[:, :moved], chosen], 1) if moved else chosen

    def _check_weights(self, weights: Tensor, rows: Tensor) -> None:
        if not isinstance(weights, Tensor):
            raise ValueError(f"weights are of type {type(weights).__name__}; use a tensor, as of torch.from_numpy")
        num_crops, _, num_samples = rows.shape
        shapes = [(num_samples, self.grid[0] * self.grid[1]), (num_crops, num_samples, self.grid[0] * self.grid[1])]
        if tuple(weights.shape) not in shapes:
            raise ValueError(
                f"weights of shape {list(weights.shape)} are none of these masks'; use {list(shapes[0])} or {list(shapes[1])}"
            )
        if weights.device != rows.device:
            raise ValueError(f"weights on {weights.device} cannot weigh masks on {rows.device}; move them there")
        # On a GPU the values are not looked at: that would wait.
        if weights.device.type == "cpu" and not bool(((weights >= 0) & (weights < float("inf"))).all()):
            raise ValueError("weights must be finite and not negative; shift or exponentiate them, as a softmax does")

    def _laws_on(self, device: torch.device) -> Tensor:
        if device not in self._law_tensors:  # copied once: a copy in every step would wait for the device
            self._law_tensors[device] = self._law_tensor.to(device)
        return self._law_tensors[device]


def _check_reference(laws: Sequence[BlockLaw], num_target_masks: int) -> None:
    """Refuses what can only be done by overlapping."""
    for level, law in enumerate(laws):
        least = law.target_scale[0]
        if num_target_masks * least > 1 + 1e-9:
            raise ValueError(
                f"{num_target_masks} target blocks of at least {least:.0%} of the grid cannot be disjoint (level {level}); "
                f"use at most {int(1 / least)} blocks, smaller scales or fewer levels"
            )


class KeyStream:
    """The keys of one seed's samples, in order; its state is the number of samples so far, however they were batched.

    The mask generators are such streams: a call takes the keys of the next samples.
    """

    def __init__(self, seed: int) -> None:
        self._seed = integer("seed", seed)
        self._seed_key = int(chance.key_tensor(chance.key(self._seed)))
        self._position = 0

    def take(self, batch_size: int, device: torch.device | str) -> Tensor:
        """Keys int64 [B] of the next samples."""
        batch_size = whole("batch_size", batch_size, 0)
        numbers = torch.arange(self._position, self._position + batch_size, device=device)
        self._position += batch_size
        return chance.fold_tensor(torch.full_like(numbers, self._seed_key), numbers)

    def state_dict(self) -> dict[str, int]:
        """Seed and position."""
        return {"seed": self._seed, "position": self._position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Goes on where the saved stream stood. Raises ValueError for a stream of another seed."""
        if not isinstance(state, Mapping):
            raise ValueError(f"the state is of type {type(state).__name__}; give what state_dict() returned")
        if missing := self.state_dict().keys() - state.keys():
            raise ValueError(f"the state lacks {', '.join(sorted(missing))}; give what state_dict() returned")
        if state["seed"] != self._seed:
            raise ValueError(f"the saved stream has seed={state['seed']}, this one seed={self._seed}; use the saved seed")
        self._position = whole("position", state["position"], 0)


def patch_grid(input_size: int | tuple[int, int], patch_size: int, name: str = "input_size") -> tuple[int, int]:
    """Rows and columns of whole patches; pixels left over at the bottom and the right belong to none."""
    sides = tuple(input_size) if isinstance(input_size, list | tuple) else (input_size, input_size)
    if len(sides) != 2:
        raise ValueError(f"{name}: an input has a height and a width, got {input_size!r}; use a side or a pair")
    height, width = (whole(name, side, 1) for side in sides)
    patch_size = whole("patch_size", patch_size, 1)
    if min(height, width) < patch_size:
        raise ValueError(
            f"{name}: {height}x{width} is smaller than a patch of {patch_size}; use a larger input or smaller patches"
        )
    return height // patch_size, width // patch_size


def check_range(name: str, value: tuple[float, float], greatest: float = float("inf")) -> None:
    """Refuses what is not 0 < low <= high <= greatest, and infinite ends."""
    if not isinstance(value, list | tuple) or len(value) != 2 or not all(isinstance(end, Real) for end in value):
        raise ValueError(f"{name} is a pair (low, high), got {value!r}")
    low, high = value
    if not 0 < low <= high <= greatest or isinf(high):
        most = "" if isinf(greatest) else f" <= {greatest}"
        raise ValueError(f"{name}={tuple(value)} is no range; use finite numbers, 0 < low <= high{most}")
