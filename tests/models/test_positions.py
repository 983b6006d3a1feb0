"""Positions: one for each place, those of the published formula, and blind to autocast."""

import math

import pytest
import torch

from hjepa.models.positions import grid_positions, sincos_positions


def test_positions_are_sines_and_cosines_of_row_and_column() -> None:
    position = sincos_positions(torch.tensor([3.0, 5.0]), 8)
    row = [math.sin(3), math.sin(3 / 100), math.cos(3), math.cos(3 / 100)]
    column = [math.sin(5), math.sin(5 / 100), math.cos(5), math.cos(5 / 100)]
    torch.testing.assert_close(position, torch.tensor(row + column))


def test_the_grid_is_in_raster_order_and_every_patch_differs() -> None:
    positions = grid_positions((7, 3), 16, torch.device("cpu"))
    assert positions.shape == (21, 16)
    torch.testing.assert_close(positions[4 * 3 + 2], sincos_positions(torch.tensor([4.0, 2.0]), 16))
    assert torch.pdist(positions).min() > 0.1


def test_autocast_does_not_round_positions() -> None:
    plain = grid_positions((33, 33), 16, torch.device("cpu"))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(plain, grid_positions((33, 33), 16, torch.device("cpu")))


def test_a_width_that_two_axes_cannot_share_is_refused() -> None:
    with pytest.raises(ValueError, match="use 8"):
        sincos_positions(torch.zeros(2), 10)
