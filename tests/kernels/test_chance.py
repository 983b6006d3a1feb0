"""The keyed generator: equal bits in numpy and torch, known answers, uniform."""

import numpy as np
import pytest
import torch

from hjepa.kernels import chance


def test_bits_are_those_of_the_published_splitmix64() -> None:
    # The first outputs of splitmix64 from state 0 (Vigna's reference, used as a test vector across implementations).
    expected = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert [int(b) for b in chance.bits(np.uint64(0), np.arange(3))] == expected


def test_torch_gives_the_bits_of_numpy() -> None:
    keys = chance.key(-7, np.arange(50)[:, None], np.arange(3))[..., None]
    counters = np.array([*range(17), 2**31, 2**32, 2**62])
    ours = chance.bits(keys, counters).view(np.int64)
    theirs = chance.bits_tensor(chance.key_tensor(keys), torch.from_numpy(counters))
    np.testing.assert_array_equal(ours, theirs.numpy())
    for part in (5, 2**40):
        for given in (part, torch.tensor(part)):
            folded = chance.fold_tensor(chance.key_tensor(chance.key(3, 4)), given)
            assert folded.numpy().view(np.uint64) == chance.key(3, 4, part)


def test_uniform_numbers_are_uniform_and_uncorrelated_between_neighbouring_keys() -> None:
    numbers = chance.uniform(chance.key(0, np.arange(2000))[:, None], np.arange(50))
    assert numbers.min() >= 0
    assert numbers.max() < 1
    assert abs((numbers * 2**53 % 2).mean() - 0.5) < 0.01  # the last of the 53 bits
    histogram = np.histogram(numbers, bins=20, range=(0, 1))[0]
    chi_square = ((histogram - 5000.0) ** 2 / 5000.0).sum()
    assert chi_square < 45  # 19 degrees of freedom: p = 0.0007
    assert abs(np.corrcoef(numbers[:-1, 0], numbers[1:, 0])[0, 1]) < 0.08
    assert abs(np.corrcoef(numbers[:, 0], numbers[:, 1])[0, 1]) < 0.08


def test_no_part_of_a_key_is_ignored() -> None:
    base = chance.key(1, 2, 3)
    assert len({int(k) for k in (base, chance.key(2, 2, 3), chance.key(1, 3, 3), chance.key(1, 2, 4), chance.key(1, 2))}) == 5
    assert len({int(chance.key(seed)) for seed in (0, 1, 2**32, 2**40, 2**63, -1)}) == 6
    with pytest.raises(TypeError, match="integer"):
        chance.key(1.5)


def test_keys_are_those_of_earlier_runs() -> None:
    """Another key would change every experiment, and what a saved state goes on with."""
    keys = [int(key) for key in (chance.key(5), chance.key(1, 2, 3, 4), chance.key(-1, 2**40))]
    assert keys == [13168350753275463132, 784958188270140166, 9502786061506340353]
