"""Keyed chance: splitmix64 as a counter-based generator, the same bits in numpy (draws) and in torch (masks).

A key stands for a place in the run, such as (seed, epoch, sample, view); number i of a key is a pure function of both. So a
number depends neither on the batch it is made in nor on the rank, the thread or the device, and nothing has to be saved.
Generator and finaliser: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014 (the finaliser
with Stafford's variant 13). Torch has no unsigned 64-bit arithmetic: int64 wraps alike, and right shifts are masked.
"""

import operator
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Keys: TypeAlias = npt.NDArray[np.uint64]

GOLDEN = 0x9E3779B97F4A7C15
MULTIPLIERS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
SHIFTS = (30, 27, 31)
_ONE, _GOLDEN = np.uint64(1), np.uint64(GOLDEN)
_MULTIPLIERS, _SHIFTS = tuple(map(np.uint64, MULTIPLIERS)), tuple(map(np.uint64, SHIFTS))


def key(seed: int, *parts: int | npt.NDArray[np.integer]) -> Keys:
    """Folds a seed and further parts (epoch, sample numbers, view, ...) into keys; arrays broadcast. uint64."""
    with np.errstate(over="ignore"):  # unsigned wrap-around is the arithmetic meant here
        folded = _mix(np.asarray(operator.index(seed) % 2**64, dtype=np.uint64))
        for part in parts:
            folded = _step(folded, np.asarray(part).astype(np.uint64))
    return folded


def bits(keys: Keys, counters: npt.NDArray[np.integer]) -> npt.NDArray[np.uint64]:
    """64 random bits for each key and counter (they broadcast against each other)."""
    with np.errstate(over="ignore"):
        return _step(keys, counters.astype(np.uint64))


def uniform(keys: Keys, counters: npt.NDArray[np.integer]) -> npt.NDArray[np.float64]:
    """Uniform float64 in [0, 1), 53 bits, for each key and counter (they broadcast)."""
    numbers: npt.NDArray[np.float64] = (bits(keys, counters) >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return numbers


def key_tensor(keys: Keys, device: torch.device | str = "cpu") -> Tensor:
    """The same keys as an int64 tensor (two's complement), for `bits_tensor`; a copy to a GPU is not waited for."""
    return torch.from_numpy(np.ascontiguousarray(keys).view(np.int64)).to(device, non_blocking=True)


def bits_tensor(keys: Tensor, counters: Tensor) -> Tensor:
    """`bits` in torch: int64 keys and counters, which broadcast; the int64 has the bit pattern of the uint64."""
    state = keys + (counters + 1) * _signed(GOLDEN)
    state ^= _shift_right(state, SHIFTS[0])
    state *= _signed(MULTIPLIERS[0])
    state ^= _shift_right(state, SHIFTS[1])
    state *= _signed(MULTIPLIERS[1])
    state ^= _shift_right(state, SHIFTS[2])
    return state


def fold_tensor(keys: Tensor, part: Tensor | int) -> Tensor:
    """`key` continued in torch: folds one more part into int64 keys."""
    if isinstance(part, Tensor):
        return bits_tensor(keys, part)
    return bits_tensor(keys, torch.full((), part, device=keys.device))  # as_tensor would copy it, and wait for the GPU


def _step(state: Keys, counter: Keys) -> Keys:
    return _mix(state + (counter + _ONE) * _GOLDEN)


def _mix(state: Keys) -> Keys:
    state = (state ^ (state >> _SHIFTS[0])) * _MULTIPLIERS[0]
    state = (state ^ (state >> _SHIFTS[1])) * _MULTIPLIERS[1]
    mixed: Keys = state ^ (state >> _SHIFTS[2])
    return mixed


def _signed(constant: int) -> int:
    return constant - 2**64 if constant >= 2**63 else constant


def _shift_right(value: Tensor, count: int) -> Tensor:
    return (value >> count) & ((1 << (64 - count)) - 1)
