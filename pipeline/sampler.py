"""Which images, when: a global order from (seed, epoch), and this rank's part of it.

The order is a keyed permutation computed position by position (a Feistel network with cycle walking: Black and Rogaway,
"Ciphers with arbitrary finite domains", 2002), so an epoch costs no memory however many images there are. The global
sequence depends on the global batch only: batch k takes positions k B W to (k + 1) B W, of which rank r has the r-th B.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from hjepa.kernels import chance

ROUNDS = 6


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampler:
    """Numbers of the images of each batch."""

    num_samples: int
    batch_size: int
    """Images per batch and rank."""
    seed: int = 0
    shuffle: bool = True
    tail: Literal["drop", "wrap", "keep"] = "drop"
    """Images that fill no global batch: left out; filled up from the epoch's start; or kept as a smaller batch (one rank)."""
    rank: int = 0
    world_size: int = 1

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size={self.batch_size} is not a number of images; use 1 or more")
        if not 0 <= self.rank < self.world_size:
            raise ValueError(f"rank={self.rank} is outside the {self.world_size} ranks; ranks count from 0")
        if self.tail not in ("drop", "wrap", "keep"):
            raise ValueError(f"tail={self.tail!r} is unknown; use 'drop', 'wrap' or 'keep'")
        if self.tail == "keep" and self.world_size > 1:
            raise ValueError(f"tail='keep' would give the {self.world_size} ranks unequal batches; use 'drop' or 'wrap'")
        if not len(self):
            raise ValueError(
                f"batch_size={self.batch_size} x {self.world_size} ranks is more than the {self.num_samples} images; "
                f"use a batch_size up to {self.num_samples // self.world_size}, or tail='wrap'"
            )

    @property
    def global_batch_size(self) -> int:
        """Images per batch over all ranks."""
        return self.batch_size * self.world_size

    def __len__(self) -> int:
        """Batches per epoch."""
        full = self.num_samples // self.global_batch_size
        partial = self.tail != "drop" and self.num_samples % self.global_batch_size > 0
        return full + partial

    def batch(self, epoch: int, number: int) -> npt.NDArray[np.int64]:
        """[B] numbers of the images of this rank's batch `number` of `epoch`."""
        start = number * self.global_batch_size + self.rank * self.batch_size
        positions = np.arange(start, start + self.batch_size)
        positions = positions[positions < self.num_samples] if self.tail == "keep" else positions % self.num_samples
        return permute(positions, self.num_samples, chance.key(self.seed, epoch)) if self.shuffle else positions


def permute(positions: npt.NDArray[np.int64], length: int, key: chance.Keys) -> npt.NDArray[np.int64]:
    """The images at these positions of a keyed random order of 0 .. length - 1."""
    half = np.uint64(max(1, ((length - 1).bit_length() + 1) // 2))  # bits of each half of the Feistel network
    mask = (np.uint64(1) << half) - np.uint64(1)
    walked = positions.astype(np.uint64)
    outside = np.ones(len(walked), dtype=np.bool_)
    while outside.any():  # the domain 4^half is under 4 times (16 times below 5) the length, so few steps are needed
        left, right = walked[outside] >> half, walked[outside] & mask
        for number in range(ROUNDS):
            left, right = right, left ^ (chance.bits(chance.key(0, key, number), right.view(np.int64)) & mask)
        walked[outside] = (left << half) | right
        outside = walked >= np.uint64(length)
    return walked.view(np.int64)
