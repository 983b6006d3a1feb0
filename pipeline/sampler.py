"""Which images, when: a global order from (seed, epoch), and this rank's part of it.

The order is computed position by position, so an epoch costs no memory. The global sequence depends on the global batch
only: batch k takes positions k B W to (k + 1) B W, of which rank r has the r-th B.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from hjepa.kernels import chance
from hjepa.pipeline.mixture import MixtureOrder
from hjepa.pipeline.order import permute, permute_blocks

AT_ONCE = 512
"""Images whose order is computed in one go: numpy's time goes by the number of its calls."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Chosen:
    """The images of a batch."""

    indices: npt.NDArray[np.int64]
    """[B] numbers in the source."""
    passes: npt.NDArray[np.int64]
    """[B] how often each image has come before, which keys its draws: the epoch, but for mixtures."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampler:
    """Numbers of the images of each batch."""

    num_samples: int
    """Images per epoch."""
    batch_size: int
    """Images per batch and rank."""
    seed: int = 0
    shuffle: bool | Literal["blocks"] = True
    """Any order; neighbours close together ("blocks": order.permute_blocks); or the source's own order (False)."""
    mixture: MixtureOrder | None = None
    """The order of a mixture of sources, in place of shuffle."""
    tail: Literal["drop", "wrap", "keep"] = "drop"
    """Images that fill no global batch: left out; filled up from the epoch's start, with the same crops once more; or kept as a
    smaller batch (one rank)."""
    rank: int = 0
    world_size: int = 1

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size={self.batch_size} is not a number of images; use 1 or more")
        if self.shuffle not in (True, False, "blocks"):
            raise ValueError(f"shuffle={self.shuffle!r} is unknown; use True, False or 'blocks'")
        if not 0 <= self.rank < self.world_size:
            raise ValueError(f"rank={self.rank} is outside the {self.world_size} ranks; ranks count from 0")
        if self.tail not in ("drop", "wrap", "keep"):
            raise ValueError(f"tail={self.tail!r} is unknown; use 'drop', 'wrap' or 'keep'")
        if self.tail == "keep" and self.world_size > 1:
            raise ValueError(f"tail='keep' would give the {self.world_size} ranks unequal batches; use 'drop' or 'wrap'")
        if not len(self):
            most = self.num_samples // self.world_size
            advice = f"a batch_size up to {most}, or in a Loader tail='wrap'" if most else "fewer ranks"
            ranks = f" x {self.world_size} ranks" if self.world_size > 1 else ""
            raise ValueError(f"batch_size={self.batch_size}{ranks} is more than the {self.num_samples} images; use {advice}")

    @property
    def global_batch_size(self) -> int:
        """Images per batch over all ranks."""
        return self.batch_size * self.world_size

    def __len__(self) -> int:
        """Batches per epoch."""
        full = self.num_samples // self.global_batch_size
        partial = self.tail != "drop" and self.num_samples % self.global_batch_size > 0
        return full + partial

    def batch(self, epoch: int, number: int) -> Chosen:
        """The images of this rank's batch `number` of `epoch`."""
        return self._choose(epoch, np.array([number]))

    def batches(self, epoch: int, number: int) -> Iterator[Chosen]:
        """This rank's batches of `epoch` from `number` on. Some are chosen at once, which takes hardly longer than one."""
        at_once = max(1, AT_ONCE // self.batch_size)
        for first in range(number, len(self), at_once):
            chosen = self._choose(epoch, np.arange(first, min(first + at_once, len(self))))
            for start in range(0, len(chosen.indices), self.batch_size):
                part = slice(start, start + self.batch_size)
                yield Chosen(indices=chosen.indices[part], passes=chosen.passes[part])

    def _choose(self, epoch: int, numbers: npt.NDArray[np.int64]) -> Chosen:
        """The images of the batches with these numbers, one batch after the other."""
        starts = numbers * self.global_batch_size + self.rank * self.batch_size
        positions = (starts[:, None] + np.arange(self.batch_size)).ravel()
        positions = positions[positions < self.num_samples] if self.tail == "keep" else positions % self.num_samples
        if self.mixture is not None:
            return Chosen(**self.mixture.choose(positions + epoch * self.num_samples))
        key = chance.key(self.seed, epoch)
        if self.shuffle == "blocks":
            positions = permute_blocks(positions, self.num_samples, key)
        elif self.shuffle:
            positions = permute(positions, self.num_samples, key)
        return Chosen(indices=positions, passes=np.full_like(positions, epoch))
