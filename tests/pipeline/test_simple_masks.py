"""Random masks have their size and no favourites; given rectangles are painted as given or refused."""

import numpy as np
import pytest
import torch

from hjepa.kernels import chance
from hjepa.pipeline.simple_masks import random_masks, rectangle_masks


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


def test_what_does_not_lie_in_the_grid_is_refused() -> None:
    for rectangle in ((-1, 0, 1, 1), (0, 0, 0, 1), (2, 0, 2, 1), (0, 4, 1, 2)):
        with pytest.raises(ValueError, match="does not lie in 3x5 patches"):
            rectangle_masks([rectangle], (3, 5))
    with pytest.raises(ValueError, match="count=7 of 6 patches"):
        random_masks(torch.zeros(1, dtype=torch.int64), 6, 7)
