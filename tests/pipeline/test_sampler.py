"""The order: every image once per epoch over all ranks, the same global sequence for any number of ranks."""

import numpy as np
import pytest

from hjepa.pipeline.sampler import Sampler


@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
@pytest.mark.parametrize("tail", ["drop", "wrap"])
def test_ranks_together_see_every_image_once(world_size: int, tail: str) -> None:
    ranks = [Sampler(num_samples=1003, batch_size=7, tail=tail, rank=rank, world_size=world_size) for rank in range(world_size)]
    seen = np.concatenate([rank.batch(4, number).indices for rank in ranks for number in range(len(rank))])
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
        np.testing.assert_array_equal(
            alone.batch(1, number).indices, np.concatenate([rank.batch(1, number).indices for rank in ranks])
        )


def test_kept_tail_is_a_smaller_batch() -> None:
    for num_samples, tail in ((10, [8, 9]), (9, [8])):
        sampler = Sampler(num_samples=num_samples, batch_size=4, tail="keep", shuffle=False)
        batches = [sampler.batch(0, number).indices.tolist() for number in range(len(sampler))]
        assert batches == [[0, 1, 2, 3], [4, 5, 6, 7], tail]


@pytest.mark.parametrize("shuffle", [True, False, "blocks"])
def test_wrapped_tail_is_filled_up_from_the_epochs_start(shuffle: bool | str) -> None:
    sampler = Sampler(num_samples=10, batch_size=4, tail="wrap", shuffle=shuffle)
    first, _, last = (sampler.batch(3, number).indices.tolist() for number in range(len(sampler)))
    assert last[2:] == first[:2]


def test_every_seed_and_every_epoch_has_an_order_of_its_own() -> None:
    samplers = [Sampler(num_samples=100, batch_size=100, seed=seed) for seed in range(4)]
    orders = {tuple(sampler.batch(epoch, 0).indices.tolist()) for sampler in samplers for epoch in range(4)}
    assert len(orders) == 16


@pytest.mark.parametrize(
    ("options", "indices"),
    [
        ({}, [3, 1, 8, 6, 4, 7, 0, 9, 5, 2]),
        ({"seed": 3}, [6, 7, 2, 5, 4, 9, 3, 0, 1, 8]),
        ({"shuffle": "blocks"}, [7, 5, 2, 0, 8, 1, 4, 3, 9, 6]),
        ({"shuffle": False}, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
    ],
    ids=str,
)
def test_order_is_the_one_of_earlier_runs(options: dict[str, object], indices: list[int]) -> None:
    chosen = Sampler(num_samples=10, batch_size=10, **options).batch(7, 0)
    assert chosen.indices.tolist() == indices
    assert chosen.passes.tolist() == [7] * 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size=0"),
        ({"batch_size": 11}, "batch_size=11 is more than the 10 images; use a batch_size up to 10"),
        ({"batch_size": 2, "world_size": 10}, "2 x 10 ranks is more than .* a batch_size up to 1,"),
        ({"batch_size": 1, "world_size": 11}, "use fewer ranks"),
        ({"batch_size": 2, "rank": 2, "world_size": 2}, "rank=2"),
        ({"batch_size": 2, "rank": -1, "world_size": 2}, "rank=-1"),
        ({"batch_size": 2, "tail": "keep", "world_size": 2}, "unequal"),
        ({"batch_size": 2, "tail": "cut"}, "tail='cut'"),
        ({"batch_size": 2, "shuffle": "block"}, "shuffle='block'"),
    ],
)
def test_impossible_setting_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Sampler(num_samples=10, **options)


@pytest.mark.parametrize("options", [{}, {"tail": "keep"}, {"tail": "wrap", "rank": 1, "world_size": 3}, {"shuffle": "blocks"}])
def test_batches_chosen_at_once_are_those_chosen_alone(options: dict[str, object]) -> None:
    for batch_size, first in ((7, 0), (7, 5), (600, 0), (600, 2)):
        sampler = Sampler(num_samples=5003, batch_size=batch_size, **options)
        together = list(sampler.batches(2, first))
        assert len(together) == len(sampler) - first
        for number, chosen in enumerate(together, start=first):
            alone = sampler.batch(2, number)
            np.testing.assert_array_equal(chosen.indices, alone.indices)
            np.testing.assert_array_equal(chosen.passes, alone.passes)
