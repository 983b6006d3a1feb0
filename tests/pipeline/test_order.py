"""Orders without memory: permutations, by image and by block."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hjepa.kernels import chance
from hjepa.pipeline.order import permute, permute_blocks

LENGTHS = [1, 2, 5, 64, 100, 1023, 1024, 1025, 5000, 40_000]


@pytest.mark.parametrize("length", LENGTHS)
def test_orders_hold_every_image_once(length: int) -> None:
    positions = np.arange(length)
    for number in range(3):
        key = chance.key(number)
        orders = [permute(positions, length, key), *(permute_blocks(positions, length, key, *sizes) for sizes in [(), (7, 3)])]
        for order in orders:
            np.testing.assert_array_equal(np.sort(order), positions)


@pytest.mark.parametrize("length", [100, 40_000])
def test_an_image_does_not_depend_on_which_positions_are_asked_for(length: int) -> None:
    key = chance.key(1)
    whole = permute_blocks(np.arange(length), length, key, 8, 4)
    np.testing.assert_array_equal(permute_blocks(np.array([17, 3, 99]), length, key, 8, 4), whole[[17, 3, 99]])


@pytest.mark.parametrize(
    ("order", "length", "images"),
    [
        (permute, 10, [7, 6, 1, 3, 0]),
        (permute, 5000, [751, 3376, 3556, 2475, 121]),
        (permute_blocks, 5000, [2084, 2614, 1897, 1, 4128]),
        (permute_blocks, 100_000, [3480, 56954, 21340, 61502, 34080]),
    ],
)
def test_orders_are_those_of_earlier_runs(order: Callable[..., np.ndarray], length: int, images: list[int]) -> None:
    """Another order would change every experiment, and what a saved state goes on with: state.VERSION says which it is."""
    assert order(np.arange(5) * length // 5, length, chance.key(1, 2)).tolist() == images


def test_blocks_are_read_forwards_and_a_window_of_them_side_by_side() -> None:
    length, block, window = 4096, 64, 4
    order = permute_blocks(np.arange(length), length, chance.key(0), block, window)
    for start in range(0, length, block * window):
        streams = order[start : start + block * window].reshape(block, window)
        assert (np.diff(streams, axis=0) % length == 1).all()  # each of the four goes on with its neighbour
        assert len(set(streams[0].tolist())) == window
    first_blocks = order[::block][::1]
    assert not (np.diff(first_blocks) > 0).all()


@pytest.mark.parametrize("length", [500, 2047, 5000, 100_000])
def test_few_images_are_shuffled_by_blocks_as_well(length: int) -> None:
    order = permute_blocks(np.arange(length), length, chance.key(0))
    classes = 20 * order // length  # as in a source that is sorted by classes
    batches = classes[: length - length % 100].reshape(-1, 100)
    assert np.mean([len(set(batch.tolist())) for batch in batches]) > 8
    assert np.mean(np.diff(order) == 1) < 0.1


def test_neighbours_that_fill_no_block_are_others_with_another_key() -> None:
    last = {tuple(permute_blocks(np.array([8, 9]), 10, chance.key(seed), 4, 2).tolist()) for seed in range(200)}
    assert last == {(image, (image + 1) % 10) for image in range(10)}


def test_seeds_and_epochs_give_other_orders_of_blocks() -> None:
    orders = {tuple(permute_blocks(np.arange(512), 512, chance.key(0, epoch), 16, 4).tolist()) for epoch in range(20)}
    assert len(orders) == 20


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
