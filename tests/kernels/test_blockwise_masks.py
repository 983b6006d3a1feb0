"""Blockwise masks have exactly the size asked for, the law of the published algorithm, and depend on nothing but their key."""

import math
import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hjepa.kernels import chance
from hjepa.kernels.blockwise_masks import blockwise_masks, stratified_counts


def keys_of(seed: int, count: int) -> Tensor:
    return chance.key_tensor(chance.key(seed, np.arange(count)))


def scalar_mask(size: int, grid: int, rng: random.Random) -> np.ndarray:
    """The law of BEiT's algorithm 1 as DINOv2 and DINOv3 have it, one mask at a time."""
    mask = np.zeros((grid, grid), dtype=bool)
    while mask.sum() < size:
        missing = min(size - mask.sum(), grid * grid // 2)
        for _ in range(10):
            area, aspect = rng.uniform(4, missing), math.exp(rng.uniform(math.log(0.3), -math.log(0.3)))
            height, width = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if height < grid and width < grid:
                top, left = rng.randint(0, grid - height), rng.randint(0, grid - width)
                block = mask[top : top + height, left : left + width]
                if 0 < (~block).sum() <= missing:
                    block[:] = True
                    break
        else:
            free = [int(patch) for patch in np.flatnonzero(~mask.ravel())]
            mask.ravel()[rng.sample(free, int(size - mask.sum()))] = True
    return mask


def perimeter(masks: np.ndarray) -> np.ndarray:
    """Sides between a masked and a free patch, of each mask [R, H, W]."""
    numbers = masks.astype(np.int8)
    return np.abs(np.diff(numbers, axis=1)).sum((1, 2)) + np.abs(np.diff(numbers, axis=2)).sum((1, 2))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([(1, 1), (1, 7), (6, 6), (14, 14), (5, 9)]), st.floats(0, 1))
def test_every_mask_has_exactly_its_size(seed: int, grid: tuple[int, int], most: float) -> None:
    patches = grid[0] * grid[1]
    counts = (torch.rand(33, generator=torch.Generator().manual_seed(seed)) * (int(most * patches) + 1)).to(torch.int64)
    masks = blockwise_masks(keys_of(seed, 33), counts, grid)
    assert masks.shape == (33, patches)
    assert masks.dtype == torch.bool
    assert torch.equal(masks.sum(-1), counts)


@pytest.mark.parametrize(("grid", "size"), [(14, 20), (14, 98), (16, 77)])
def test_law_is_that_of_the_published_loop(grid: int, size: int) -> None:
    rng = random.Random(grid * size)
    theirs = np.stack([scalar_mask(size, grid, rng) for _ in range(600)])
    ours = blockwise_masks(keys_of(size, 2000), torch.full((2000,), size), (grid, grid)).view(-1, grid, grid).numpy()
    ring = np.zeros((grid, grid), dtype=bool)
    ring[[0, -1]] = ring[:, [0, -1]] = True
    centre = np.zeros((grid, grid), dtype=bool)
    centre[grid // 2 - 2 : grid // 2 + 2, grid // 2 - 2 : grid // 2 + 2] = True
    for statistic in (perimeter, lambda masks: masks[:, ring].sum(1), lambda masks: masks[:, centre].sum(1)):
        one, two = statistic(theirs).astype(float), statistic(ours).astype(float)
        error = math.sqrt(one.var() / len(one) + two.var() / len(two))
        assert abs(one.mean() - two.mean()) < 4.5 * error
        assert one.std() == pytest.approx(two.std(), rel=0.15)


def test_every_patch_including_the_last_row_and_column_is_masked() -> None:
    assert blockwise_masks(keys_of(1, 500), torch.full((500,), 40), (14, 14)).any(0).all()


def test_a_row_depends_on_its_key_and_size_alone() -> None:
    counts = torch.arange(40) * 2
    whole = blockwise_masks(keys_of(5, 40), counts, (14, 14))
    part = blockwise_masks(keys_of(5, 40)[[31, 7]], counts[[31, 7]], (14, 14))
    assert torch.equal(whole[[31, 7]], part)
    # One rectangle may fill a mask, so two of 200 may be equal.
    masks = blockwise_masks(keys_of(5, 200), torch.full((200,), 60), (14, 14))
    assert len({row.numpy().tobytes() for row in masks}) > 190


@pytest.mark.parametrize("count", [-1, 50])
def test_more_patches_than_there_are_and_fewer_than_none_are_refused(count: int) -> None:
    with pytest.raises(ValueError, match=rf"counts from {min(3, count)} to {max(3, count)} .* 7x7 patches; use 0 to 49"):
        blockwise_masks(keys_of(0, 2), torch.tensor([3, count]), (7, 7))


def test_no_step_looks_at_a_value() -> None:
    # Tensors on the meta device have shapes and no values: reading one, which on a GPU is a wait, raises.
    keys, counts = (torch.empty(8, dtype=torch.int64, device="meta") for _ in range(2))
    assert blockwise_masks(keys, counts, (9, 5)).shape == (8, 45)


@pytest.mark.parametrize("rows", [2, 64])
@pytest.mark.parametrize("at_most", [True, False])
def test_sizes_are_stratified_over_the_masked_rows(rows: int, at_most: bool) -> None:
    keys = chance.key(3, np.arange(rows))
    counts, most = stratified_counts(keys, 256, probability=0.5, ratio=(0.1, 0.5), at_most=at_most)
    strata = torch.linspace(0.1, 0.5, rows // 2 + 1)
    sizes = np.sort(counts[counts > 0])
    assert len(sizes) == rows // 2
    for size, low, high in zip(sizes, strata[:-1], strata[1:], strict=True):
        assert int(256 * low) <= size <= int(256 * high)
        assert at_most or size == int(256 * high)
    assert most == sum(int(256 * high) for high in strata[1:])
    assert (counts.sum() == most) == (not at_most)


def test_the_number_of_masked_rows_is_rounded_down_as_upstream() -> None:
    counts, _ = stratified_counts(chance.key(0, np.arange(7)), 256, probability=0.25, ratio=(0.1, 0.5), at_most=False)
    assert sorted(counts.tolist()) == [0] * 6 + [128]  # of 1.75 rows


def test_upper_bound_of_the_published_batch_is_theirs() -> None:
    _, most = stratified_counts(chance.key(0, np.arange(64)), 256, probability=0.5, ratio=(0.1, 0.5), at_most=True)
    assert most == 2496  # run upstream at B = 32, 224 px, patch 14


def test_sizes_do_not_follow_the_default_type_of_torch() -> None:
    keys, rest = chance.key(0, np.arange(40)), {"probability": 0.5, "ratio": (0.1, 0.5), "at_most": True}
    counts, most = stratified_counts(keys, 196, **rest)
    try:
        torch.set_default_dtype(torch.bfloat16)
        found = stratified_counts(keys, 196, **rest)
    finally:
        torch.set_default_dtype(torch.float32)
    assert (found[0].tolist(), found[1]) == (counts.tolist(), most)


def test_masked_rows_are_chosen_by_their_keys() -> None:
    keys = chance.key(9, np.arange(20_000).reshape(1000, 20))
    masked = np.stack([stratified_counts(row, 196, probability=0.5, ratio=(0.1, 0.5), at_most=True)[0] > 0 for row in keys])
    assert (masked.sum(1) == 10).all()
    assert masked.mean(0) == pytest.approx(0.5, abs=4.5 * 0.5 / math.sqrt(1000))
    shuffled = np.random.default_rng(0).permutation(20)
    counts, _ = stratified_counts(keys[0], 196, probability=0.5, ratio=(0.1, 0.5), at_most=True)
    again, _ = stratified_counts(keys[0][shuffled], 196, probability=0.5, ratio=(0.1, 0.5), at_most=True)
    assert (counts[shuffled] == again).all()


def test_a_size_lies_anywhere_in_its_stratum() -> None:
    # Of two rows one is masked, so that there is one stratum, from 100 to 500 of 1000 patches.
    options = {"probability": 0.5, "ratio": (0.1, 0.5), "at_most": True}
    sizes = [stratified_counts(chance.key(seed, np.arange(2)), 1000, **options)[0].max() for seed in range(2000)]
    quarters = np.histogram(sizes, bins=[100, 200, 300, 400, 501])[0]
    assert quarters.sum() == 2000
    assert abs(quarters - 500).max() < 100  # five standard deviations
