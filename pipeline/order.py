"""Random orders of an epoch as functions of the position: no order is stored, however many images there are.

Keyed permutations are Feistel networks over rows and columns, with cycle walking: Black and Rogaway, "Ciphers with arbitrary
finite domains", 2002.
"""

import math

import numpy as np
import numpy.typing as npt

from hjepa.kernels import chance

# P positions
ROUNDS = 6
BLOCK, WINDOW = 1024, 16
"""Images of a block at most, and blocks that are read side by side, of the order by blocks."""


def permute(positions: npt.NDArray[np.int64], length: int, key: chance.Keys) -> npt.NDArray[np.int64]:
    """[P] the images at these positions of a keyed random order of 0 .. length - 1."""
    rows = math.isqrt(max(1, length) - 1) + 1
    columns = -(-length // rows)  # rows * columns is less than `rows` beyond the length, so hardly any position walks on
    round_keys = chance.key(0, key, np.arange(ROUNDS))
    walked: npt.NDArray[np.int64] = positions.copy()
    outside = np.arange(len(walked))
    while outside.size:
        row, column = np.divmod(walked[outside], columns)
        for first, second in zip(round_keys[::2], round_keys[1::2], strict=True):
            row = (row + _below(first, column, rows)) % rows
            column = (column + _below(second, row, columns)) % columns
        walked[outside] = row * columns + column
        outside = outside[walked[outside] >= length]
    return walked


def _below(key: chance.Keys, counters: npt.NDArray[np.int64], bound: int) -> npt.NDArray[np.int64]:
    below: npt.NDArray[np.int64] = (chance.bits(key, counters) % np.uint64(bound)).view(np.int64)
    return below


def permute_blocks(
    positions: npt.NDArray[np.int64], length: int, key: chance.Keys, block: int | None = None, window: int = WINDOW
) -> npt.NDArray[np.int64]:
    """[P] the images at these positions of an order in which reads go forward: for archives, and disks that seek slowly.

    Images are cut into blocks of `block` neighbours, from a random start; blocks come in random order, `window` of them at a
    time, of which one image each is taken in turn, first to last. Neighbours that fill no block come at the end. Blocks are
    of 1024, or smaller, so that there are four windows: a few large blocks would hardly be an order of their own.
    """
    block = block or min(BLOCK, max(1, length // (4 * window)))
    start = int(chance.bits(key, np.array(0)) % np.uint64(length))
    num_blocks = length // block
    inside = positions.copy()
    full = positions < num_blocks * block
    group, place = positions[full] // (window * block), positions[full] % (window * block)
    width = np.minimum(window, num_blocks - group * window)  # blocks of this window; the last window may have fewer
    chosen = permute(group * window + place % width, num_blocks, key)
    inside[full] = chosen * block + place // width
    images: npt.NDArray[np.int64] = (inside + start) % length
    return images
