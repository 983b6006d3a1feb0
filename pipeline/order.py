"""Random orders of an epoch as functions of the position: no order is stored, however many images there are.

Keyed permutations are Feistel networks with cycle walking: Black and Rogaway, "Ciphers with arbitrary finite domains", 2002.
"""

import numpy as np
import numpy.typing as npt

from hjepa.kernels import chance

# P positions
ROUNDS = 6
BLOCK, WINDOW = 1024, 16
"""Images of a block, and blocks that are read side by side, of the order by blocks."""


def permute(positions: npt.NDArray[np.int64], length: int, key: chance.Keys) -> npt.NDArray[np.int64]:
    """[P] the images at these positions of a keyed random order of 0 .. length - 1."""
    half = np.uint64(max(1, ((length - 1).bit_length() + 1) // 2))  # bits of each half of the Feistel network
    mask = (np.uint64(1) << half) - np.uint64(1)
    walked = positions.astype(np.uint64)
    outside = np.ones(len(walked), dtype=np.bool_)
    round_keys = chance.key(0, key, np.arange(ROUNDS))
    while outside.any():  # the domain 4^half is under 4 times (16 times below 5) the length, so few steps are needed
        left, right = walked[outside] >> half, walked[outside] & mask
        for round_key in round_keys:
            left, right = right, left ^ (chance.bits(round_key, right.view(np.int64)) & mask)
        walked[outside] = (left << half) | right
        outside = walked >= np.uint64(length)
    return walked.view(np.int64)


def permute_blocks(
    positions: npt.NDArray[np.int64], length: int, key: chance.Keys, block: int = BLOCK, window: int = WINDOW
) -> npt.NDArray[np.int64]:
    """[P] the images at these positions of an order in which reads go forward: for archives, and disks that seek slowly.

    Images are cut into blocks of `block` neighbours, from a random start; blocks come in random order, `window` of them at a
    time, of which one image each is taken in turn, first to last. Neighbours that fill no block come at the end.
    """
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
