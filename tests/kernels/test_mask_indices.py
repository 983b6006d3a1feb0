"""Index tensors hold what the masks hold, ascending and padded; what does not fit goes by chance, not by place."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hjepa.kernels import chance
from hjepa.kernels.mask_indices import block_indices, context_indices, mask_indices

ROWS = 40


def keys_of(seed: int, count: int = ROWS) -> Tensor:
    return chance.key_tensor(chance.key(seed, np.arange(count)))


def random_mask(seed: int, patches: int, share: float) -> Tensor:
    numbers = chance.uniform(chance.key(seed, np.arange(ROWS))[:, None], np.arange(patches))
    return torch.from_numpy(numbers < share)


def kept(index: Tensor, valid: Tensor, row: int) -> list[int]:
    numbers: list[int] = index[row][valid[row]].tolist()
    return numbers


sizes = st.tuples(st.integers(0, 2**32), st.sampled_from([1, 7, 33, 196]), st.floats(0, 1), st.integers(0, 220))


@settings(max_examples=80, deadline=None)
@given(sizes)
def test_indices_are_an_ascending_part_of_the_mask_as_large_as_fits(drawn: tuple[int, int, float, int]) -> None:
    seed, patches, share, length = drawn
    mask = random_mask(seed, patches, share)
    index, valid = mask_indices(mask, length, keys_of(seed + 1))
    assert index.shape == valid.shape == (ROWS, length)
    assert (index.dtype, valid.dtype) == (torch.int64, torch.bool)
    assert (index[~valid] == 0).all()
    for row in range(ROWS):
        patches_of_mask = mask[row].nonzero().flatten().tolist()
        numbers = kept(index, valid, row)
        assert numbers == sorted(set(numbers))
        assert set(numbers) <= set(patches_of_mask)
        assert len(numbers) == min(length, len(patches_of_mask))
        assert valid[row, : len(numbers)].all()


def test_what_is_kept_of_a_large_mask_is_uniform() -> None:
    mask = torch.ones(20_000, 14, dtype=torch.bool)
    index, valid = mask_indices(mask, 5, keys_of(3, 20_000))
    assert valid.all()
    counts = torch.bincount(index.flatten(), minlength=14).double()
    expected = 20_000 * 5 / 14
    # Without replacement the variance is that of a Bernoulli, and the counts' sum is fixed: 13 degrees of freedom.
    chi_square = ((counts - expected) ** 2 / (expected * (1 - 5 / 14))).sum() * 13 / 14
    assert chi_square < 37  # p = 0.0004
    pairs = (index == 0).any(1) & (index == 13).any(1)
    assert abs(float(pairs.double().mean()) - 5 * 4 / (14 * 13)) < 0.01


def test_a_row_depends_on_its_key_alone() -> None:
    mask = random_mask(1, 196, 0.6)
    index, _ = mask_indices(mask, 20, keys_of(2))
    again, _ = mask_indices(mask[5:9], 20, keys_of(2)[5:9])
    assert torch.equal(index[5:9], again)
    other, _ = mask_indices(mask, 20, keys_of(9))
    assert all(not torch.equal(one, two) for one, two in zip(index, other, strict=True))


def test_keys_broadcast_over_targets() -> None:
    mask = random_mask(4, 36, 0.5).view(10, 4, 36)
    keys = keys_of(5, 10)
    shared, valid = mask_indices(mask, 9, keys[:, None])
    apart, valid_apart = mask_indices(mask, 9, keys[:, None].expand(10, 4))
    assert shared.shape == (10, 4, 9)
    assert torch.equal(shared, apart)
    assert torch.equal(valid, valid_apart)


@settings(max_examples=80, deadline=None)
@given(sizes, st.floats(0, 1), st.floats(0, 1))
def test_context_has_its_least_size_and_takes_from_targets_last(
    drawn: tuple[int, int, float, int], union_share: float, part: float
) -> None:
    seed, patches, share, length = drawn
    union = random_mask(seed, patches, union_share)
    context = random_mask(seed + 1, patches, share) & ~union
    min_keep = int(part * min(length, patches))
    index, valid = context_indices(context, union, length, min_keep, keys_of(seed + 2))
    assert index.shape == valid.shape == (ROWS, length)
    assert (index[~valid] == 0).all()
    for row in range(ROWS):
        numbers = kept(index, valid, row)
        size = int(context[row].sum())
        free = int((~union[row]).sum())
        assert numbers == sorted(set(numbers))
        assert len(numbers) == min(length, max(size, min_keep))
        assert int(context[row, numbers].sum()) == min(size, len(numbers))
        assert int(union[row, numbers].sum()) == max(0, len(numbers) - free)


def test_context_of_sufficient_size_is_left_as_it_is() -> None:
    union = random_mask(1, 196, 0.3)
    context = random_mask(2, 196, 0.5) & ~union
    plain = mask_indices(context, 60, keys_of(3))
    topped = context_indices(context, union, 60, 10, keys_of(3))
    assert int(context.sum(-1).min()) >= 10
    for one, two in zip(plain, topped, strict=True):
        assert torch.equal(one, two)


def test_patches_that_fill_up_a_context_are_random() -> None:
    nothing = torch.zeros(ROWS, 196, dtype=torch.bool)
    index, valid = context_indices(nothing, nothing, 12, 10, keys_of(8))
    assert (valid.sum(-1) == 10).all()
    assert len({tuple(row) for row in index.tolist()}) == ROWS
    assert len(set(index.flatten().tolist())) > 150


def test_masks_are_boolean() -> None:
    mask, keys = torch.ones(2, 9, dtype=torch.bool), keys_of(0, 2)
    for of_bytes in (mask.to(torch.uint8), mask.to(torch.int64)):
        with pytest.raises(AssertionError):
            mask_indices(of_bytes, 4, keys)
        with pytest.raises(AssertionError):
            context_indices(mask, of_bytes, 4, 1, keys)
        with pytest.raises(AssertionError):
            block_indices(mask, of_bytes.unsqueeze(1), 4, 4, 1, keys)


def test_no_step_looks_at_a_value() -> None:
    mask = torch.empty(2, 3, 36, dtype=torch.bool, device="meta")
    keys = torch.empty(2, 3, dtype=torch.int64, device="meta")
    assert mask_indices(mask, 9, keys)[0].shape == (2, 3, 9)
    assert context_indices(mask, mask, 9, 4, keys)[1].shape == (2, 3, 9)


@pytest.mark.parametrize("min_keep", [-1, 10, 37])
def test_min_keep_must_fit(min_keep: int) -> None:
    mask = torch.zeros(ROWS, 36, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"min_keep=.* use 0 to 9"):
        context_indices(mask, mask, 9, min_keep, keys_of(0))
    with pytest.raises(ValueError, match=r"and 4 patches; use 0 to 4"):  # of a grid smaller than the length
        context_indices(mask[..., :4], mask[..., :4], 9, 5, keys_of(0))
