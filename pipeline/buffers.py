"""Memory for batches, used again as soon as nobody refers to it: the system takes longer to find new pages than to fill them.

A batch that was handed out is never overwritten, however long it is kept and whatever was made of it: views, slices, NumPy
arrays and DLPack capsules all keep its storage alive, and only the end of the storage gives the memory back.
"""

import weakref
from collections import defaultdict
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

ALIGNMENT = 64
"""Bytes: a line of the cache, and the widest register."""


class Buffers:
    """Keeps at most `spare` unused buffers of each size."""

    def __init__(self, spare: int) -> None:
        self._spare = spare
        self._unused: dict[int, list[npt.NDArray[np.uint8]]] = defaultdict(list)

    def take(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """A contiguous tensor on the CPU whose contents are not defined."""
        num_bytes = prod(shape) * dtype.itemsize
        unused = self._unused[num_bytes]
        memory = unused.pop() if unused else np.empty(num_bytes + ALIGNMENT, dtype=np.uint8)
        start = -memory.ctypes.data % ALIGNMENT
        lent = memory[start : start + num_bytes]
        # The tensor's storage refers to `lent`, and to no other array.
        end = weakref.finalize(lent, self._give_back, num_bytes, memory)
        end.atexit = False
        return torch.from_numpy(lent).view(dtype).view(shape)

    def _give_back(self, num_bytes: int, memory: npt.NDArray[Any]) -> None:
        if len(self._unused[num_bytes]) < self._spare:
            self._unused[num_bytes].append(memory)
