"""Blocks of one size for the batch: sizes in range, every place used, context clear of targets, always a context."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

from hjepa.kernels import chance
from hjepa.kernels.shared_blocks import (
    block_areas,
    block_masks,
    block_size,
    context_length,
    most_frames,
    tube_length,
    tube_masks,
)

ASPECT = (0.75, 1.5)


def keys_of(seed: int, count: int) -> Tensor:
    return chance.key_tensor(chance.key(seed, np.arange(count)))


def is_block(mask: Tensor, grid: tuple[int, int], size: tuple[int, int]) -> bool:
    rows, columns = mask.view(grid).nonzero().unbind(1)
    sides = (int(rows.max() - rows.min()) + 1, int(columns.max() - columns.min()) + 1)
    return sides == size and int(mask.sum()) == size[0] * size[1]


def test_sizes_are_in_range_and_within_their_announced_areas() -> None:
    sizes = np.array([block_size(chance.key(1, number), (0.15, 0.2), ASPECT, (14, 14)) for number in range(4000)])
    least, most = block_areas((0.15, 0.2), ASPECT, (14, 14))
    areas, aspects = sizes.prod(1), sizes[:, 0] / sizes[:, 1]
    assert (areas.min(), areas.max()) == (least, most)
    assert 0.15 * 196 - 6 < least < most < 0.2 * 196 + 6  # rounded to whole patches
    assert areas.mean() == pytest.approx(0.175 * 196, rel=0.03)
    assert aspects.mean() == pytest.approx(1.125, abs=0.02)
    # Scale and aspect are drawn apart: their ranks would agree if one number made both.
    assert abs(np.corrcoef(areas, aspects)[0, 1]) < 0.2


def test_a_block_may_be_as_large_as_the_grid() -> None:
    assert block_size(chance.key(0, 0), (1.0, 1.0), (1.0, 1.0), (14, 14)) == (14, 14)
    assert block_size(chance.key(0, 0), (0.9, 0.9), (4.0, 4.0), (6, 6)) == (6, 3)
    assert block_areas((0.01, 0.01), ASPECT, (6, 6)) == (1, 1)
    assert block_areas((0.15, 0.25), (0.5, 2), (64, 64))[0] == 589


@pytest.mark.parametrize("grid", [(14, 14), (7, 20)], ids=str)
@pytest.mark.parametrize(("scale", "aspect"), [((0.1, 0.15), (0.1, 10)), ((0.5, 0.8), (0.75, 1.5)), ((0, 1), (1, 1))], ids=str)
def test_no_block_is_smaller_or_larger_than_is_said(
    scale: tuple[float, float], aspect: tuple[float, float], grid: tuple[int, int]
) -> None:
    least, most = block_areas(scale, aspect, grid)
    sizes = [block_size(chance.key(0, number), scale, aspect, grid) for number in range(5000)]
    assert all(least <= height * width <= most for height, width in sizes)


def test_targets_are_blocks_and_the_context_is_a_block_without_them() -> None:
    context, targets = block_masks(keys_of(2, 50), (12, 13), (6, 5), (14, 14), num_targets=4, min_outside=10)
    assert context.shape == (50, 196)
    assert targets.shape == (50, 4, 196)
    assert all(is_block(target, (14, 14), (6, 5)) for row in targets for target in row)
    assert not (context & targets.any(1)).any()
    alone, _ = block_masks(keys_of(2, 50), (12, 13), (1, 1), (14, 14), num_targets=1, min_outside=0)
    assert (alone.sum(-1) >= 12 * 13 - 1).all()


@pytest.mark.parametrize("grid", [(14, 14), (6, 9)])
def test_every_place_is_equally_likely(grid: tuple[int, int]) -> None:
    _, targets = block_masks(keys_of(3, 20_000), (2, 2), (3, 4), grid, num_targets=2, min_outside=0)
    places = targets.flatten(0, 1).to(torch.int8).argmax(-1)
    rows, columns = torch.bincount(places // grid[1]).double(), torch.bincount(places % grid[1]).double()
    for counts, number in ((rows, grid[0] - 2), (columns, grid[1] - 3)):
        assert len(counts) == number  # the last place too, which upstream never uses
        chi_square = ((counts - 40_000 / number) ** 2 / (40_000 / number)).sum()
        assert chi_square < 40  # p < 0.0002 at 11 degrees of freedom


def test_the_context_reaches_every_patch() -> None:
    context, _ = block_masks(keys_of(3, 2000), (13, 13), (3, 4), (14, 14), num_targets=4, min_outside=0)
    assert context.any(0).all()


def test_targets_leave_the_patches_asked_for() -> None:
    # On 7 x 7 patches four blocks of 4 x 3 often cover 34 and more; no set of forty leaves 30, so those lie at one place.
    _, targets = block_masks(keys_of(8, 500), (7, 7), (4, 3), (7, 7), num_targets=4, min_outside=16)
    assert ((~targets.any(1)).sum(-1) >= 16).all()
    assert (targets[:, 0] != targets[:, 1]).any(-1).float().mean() > 0.9
    _, crowded = block_masks(keys_of(8, 100), (7, 7), (4, 3), (7, 7), num_targets=40, min_outside=30)
    assert (crowded.any(1).sum(-1) == 12).all()


@pytest.mark.parametrize("block", [(7, 6), (1, 7), (0, 2)])
def test_blocks_beyond_the_grid_are_refused(block: tuple[int, int]) -> None:
    for context, target in ((block, (2, 2)), ((2, 2), block)):
        with pytest.raises(AssertionError):
            block_masks(keys_of(0, 3), context, target, (6, 6), num_targets=2, min_outside=1)
    with pytest.raises(AssertionError):
        tube_masks(keys_of(0, 3), (1, *block), (1, 6, 6), 2)


def test_samples_do_not_depend_on_their_batch() -> None:
    keys = keys_of(4, 30)
    draws = (
        partial(block_masks, context=(12, 12), target=(5, 6), grid=(14, 14), num_targets=4, min_outside=120),
        partial(tube_masks, block=(2, 6, 6), grid=(3, 9, 9), num_blocks=8),
    )
    for whole, part in ((draw(keys), draw(keys[[9, 2]])) for draw in draws):
        assert all(torch.equal(one[[9, 2]], two) for one, two in zip(whole, part, strict=True))


def test_tubes_are_the_union_of_blocks_and_the_context_its_complement() -> None:
    context, targets = tube_masks(keys_of(6, 200), (1, 6, 6), (1, 16, 16), 8)
    assert torch.equal(context, ~targets)
    assert targets.any(0).all()
    assert (targets.sum(-1) >= 36).all()
    _, single = tube_masks(keys_of(6, 200), (1, 6, 7), (1, 16, 16), 1)
    assert all(is_block(target, (16, 16), (6, 7)) for target in single)


def test_a_context_remains_however_large_the_blocks_are() -> None:
    # Two blocks of 16 x 15 cover 16 x 16 unless they coincide.
    context, _ = tube_masks(keys_of(7, 3000), (1, 16, 15), (1, 16, 16), 2)
    assert (context.sum(-1) == 16).all()
    crowded, _ = tube_masks(keys_of(7, 300), (1, 16, 15), (1, 16, 16), 40)  # no ten sets of 40 places leave anything
    assert (crowded.sum(-1) == 16).all()
    assert context.any(0).view(16, 16)[:, [0, 15]].all()
    assert not context.any(0).view(16, 16)[:, 1:15].any()


def test_a_limit_of_frames_moves_nothing_and_leaves_a_context_before_it() -> None:
    keys, block, grid = keys_of(6, 400), (3, 6, 5), (6, 8, 8)
    whole, _ = tube_masks(keys, block, grid, 2)
    limited, targets = tube_masks(keys, block, grid, 2, 2)
    assert torch.equal(limited, ~targets)
    assert torch.equal(limited[:, :128], whole[:, :128])  # here every first set of places leaves something
    assert targets[:, 128:].all()
    tall = (2, 8, 8)  # all of two frames: of the first three, one is left at least
    assert tube_masks(keys, tall, grid, 2, 3)[0].view(400, 6, 64).any(-1).any(-1).all()


def test_no_step_looks_at_a_value() -> None:
    keys = torch.empty(8, dtype=torch.int64, device="meta")
    assert block_masks(keys, (5, 5), (2, 2), (6, 6), num_targets=4, min_outside=1)[1].shape == (8, 4, 36)
    assert tube_masks(keys, (1, 3, 3), (2, 6, 6), 4, 1)[0].shape == (8, 72)


def test_frames_are_a_share_rounded_down_and_one_at_least() -> None:
    assert [most_frames((0.0, share), 100) for share in (0.001, 0.29, 0.299, 1.0)] == [1, 29, 29, 100]  # 0.29 * 100 < 29
    assert [context_length(share, 7) for share in (0.1, 0.5, 0.99, 1.0)] == [1, 3, 6, 7]
    assert {tube_length(chance.key(seed), (0.25, 0.75), 8) for seed in range(200)} == {2, 3, 4, 5}
