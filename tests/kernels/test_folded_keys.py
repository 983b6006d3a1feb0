"""Keys folded for all numbers of several parts at once: those of the keyed chance, number by number."""

import numpy as np
import pytest
import torch

from hjepa.kernels import chance
from hjepa.kernels.folded_keys import fold_ranges


@pytest.mark.parametrize("parts", [[range(5, 6)], [range(2, 4), range(3)], [range(1, 2), range(2), range(3), range(7, 9)]])
def test_each_key_is_its_samples_with_one_number_of_each_part_folded_in(parts: list[range]) -> None:
    samples = chance.key(3, np.arange(7))
    folded = fold_ranges(chance.key_tensor(samples), *parts)
    assert folded.shape == (*map(len, parts), 7)
    for place in np.ndindex(*folded.shape):
        wanted = samples[place[-1]]
        for part, number in zip(parts, place, strict=False):
            wanted = chance.bits(wanted, np.asarray(part[number]))
        assert folded[place] == torch.from_numpy(wanted.reshape(1).view(np.int64))


def test_a_part_without_numbers_gives_no_key() -> None:
    assert fold_ranges(chance.key_tensor(chance.key(0, np.arange(3))), range(2, 2), range(3)).shape == (0, 3, 3)
