"""Random masks have their size and no favourites; given rectangles are painted as given or refused."""

import numpy as np
import pytest
import torch

from hjepa.kernels import chance
from hjepa.kernels.simple_masks import paint_rectangles, random_masks, rectangle_masks


@pytest.mark.parametrize(("patches", "count"), [(1, 0), (1, 1), (36, 7), (196, 147), (196, 196)])
def test_random_masks_have_exactly_their_size(patches: int, count: int) -> None:
    masks = random_masks(chance.key_tensor(chance.key(0, np.arange(50))), patches, count)
    assert masks.shape == (50, patches)
    assert (masks.sum(-1) == count).all()


def test_random_masks_hit_every_patch_alike() -> None:
    hits = random_masks(chance.key_tensor(chance.key(1, np.arange(8000))), 36, 9).float().mean(0)
    assert ((hits - 0.25).abs() < 4.5 * (0.25 * 0.75 / 8000) ** 0.5).all()


def test_rectangles_are_painted_as_given() -> None:
    masks = rectangle_masks([(0, 0, 1, 1), (1, 2, 2, 3)], (3, 5)).view(2, 3, 5)
    expected = torch.zeros(2, 3, 5, dtype=torch.bool)
    expected[0, 0, 0] = expected[1, 1:3, 2:5] = True
    assert torch.equal(masks, expected)
    assert rectangle_masks([], (3, 5)).shape == (0, 15)


def test_of_rectangles_in_a_tensor_what_lies_in_the_grid_is_painted() -> None:
    numbers = np.random.default_rng(0).integers(-6, 12, (2, 300, 4))
    masks = paint_rectangles(torch.from_numpy(numbers), (5, 7)).view(2, 300, 5, 7)
    patches = np.stack(np.mgrid[:5, :7], -1)
    for (top, left, height, width), mask in zip(numbers.reshape(-1, 4), masks.flatten(0, 1).numpy(), strict=True):
        inside = (patches >= [top, left]) & (patches < [top + height, left + width])
        assert (mask == inside.all(-1)).all()
    assert masks.any((2, 3)).any()
    assert not masks.any((2, 3)).all()


def test_a_sample_keeps_its_patches_in_another_batch_and_more_of_them_where_more_are_asked_for() -> None:
    keys = chance.key_tensor(chance.key(2, np.arange(40)))
    masks = random_masks(keys.view(4, 10), 196, 50)
    assert torch.equal(masks[1, 3], random_masks(keys[13], 196, 50))
    assert not (masks.flatten(0, 1) & ~random_masks(keys, 196, 60)).any()


def test_no_step_looks_at_a_value() -> None:
    keys = torch.empty(8, dtype=torch.int64, device="meta")
    assert random_masks(keys, 196, 147).shape == (8, 196)
    assert paint_rectangles(torch.empty(8, 3, 4, dtype=torch.int64, device="meta"), (14, 14)).shape == (8, 3, 196)


def test_what_does_not_lie_in_the_grid_is_refused() -> None:
    for rectangle in ((-1, 0, 1, 1), (0, 0, 0, 1), (2, 0, 2, 1), (0, 4, 1, 2)):
        with pytest.raises(ValueError, match="does not lie in 3x5 patches"):
            rectangle_masks([rectangle], (3, 5))
    with pytest.raises(ValueError, match="count=7 of 6 patches"):
        random_masks(torch.zeros(1, dtype=torch.int64), 6, 7)
