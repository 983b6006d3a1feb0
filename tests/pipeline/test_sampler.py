"""The order: every image once per epoch over all ranks, the same global sequence for any number of ranks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hjepa.kernels import chance
from hjepa.pipeline.sampler import Sampler, permute


@given(st.integers(1, 3000), st.integers(0, 2**32))
def test_order_is_a_permutation(length: int, seed: int) -> None:
    order = permute(np.arange(length), length, chance.key(seed))
    assert np.array_equal(np.sort(order), np.arange(length))


def test_order_is_computed_position_by_position() -> None:
    order = permute(np.arange(1000), 1000, chance.key(1))
    np.testing.assert_array_equal(permute(np.array([17, 999, 3]), 1000, chance.key(1)), order[[17, 999, 3]])


@pytest.mark.parametrize("length", [5, 10, 100])
def test_every_image_is_equally_likely_at_every_position(length: int) -> None:
    rounds = 1500
    counts = np.zeros((length, length))
    for seed in range(rounds):
        counts[np.arange(length), permute(np.arange(length), length, chance.key(seed))] += 1
    expected = rounds / length
    chi_square, freedom = ((counts - expected) ** 2 / expected).sum(), (length - 1) ** 2
    assert abs(chi_square - freedom) < 4.5 * np.sqrt(2 * freedom)


def test_orders_of_two_epochs_are_unrelated() -> None:
    first, second = (permute(np.arange(5000), 5000, chance.key(0, epoch)) for epoch in (0, 1))
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.06
    assert abs(np.corrcoef(first[:-1], first[1:])[0, 1]) < 0.06
    assert (first == second).sum() < 10


@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
@pytest.mark.parametrize("tail", ["drop", "wrap"])
def test_ranks_together_see_every_image_once(world_size: int, tail: str) -> None:
    ranks = [Sampler(num_samples=1003, batch_size=7, tail=tail, rank=rank, world_size=world_size) for rank in range(world_size)]
    seen = np.concatenate([rank.batch(4, number) for rank in ranks for number in range(len(rank))])
    counts = np.bincount(seen, minlength=1003)
    full, rest = divmod(1003, 7 * world_size)
    if tail == "drop":
        assert (counts <= 1).all()
        assert counts.sum() == 1003 - rest
    else:
        assert (counts >= 1).all()
        assert counts.sum() == (full + 1) * 7 * world_size


def test_global_batches_are_the_same_for_any_number_of_ranks() -> None:
    alone = Sampler(num_samples=100, batch_size=12)
    ranks = [Sampler(num_samples=100, batch_size=4, rank=rank, world_size=3) for rank in range(3)]
    for number in range(len(alone)):
        np.testing.assert_array_equal(alone.batch(1, number), np.concatenate([rank.batch(1, number) for rank in ranks]))


def test_kept_tail_is_a_smaller_batch() -> None:
    sampler = Sampler(num_samples=10, batch_size=4, tail="keep", shuffle=False)
    assert [sampler.batch(0, number).tolist() for number in range(len(sampler))] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size=0"),
        ({"batch_size": 11}, "batch_size up to 10"),
        ({"batch_size": 2, "rank": 2, "world_size": 2}, "rank=2"),
        ({"batch_size": 2, "tail": "keep", "world_size": 2}, "unequal"),
        ({"batch_size": 2, "tail": "cut"}, "tail='cut'"),
    ],
)
def test_impossible_setting_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Sampler(num_samples=10, **options)
