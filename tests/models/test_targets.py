"""Level targets: normalised means over windows that stop at the border."""

import pytest
import torch
import torch.nn.functional as F

from hjepa.models.targets import box_mean, level_targets


@pytest.mark.parametrize("grid", [(1, 1), (4, 7), (14, 14)], ids=str)
@pytest.mark.parametrize("window", [1, 3, 7])
def test_a_box_mean_is_the_mean_of_the_patches_in_the_window(grid: tuple[int, int], window: int) -> None:
    tokens = torch.randn(2, grid[0] * grid[1], 5, dtype=torch.float64)
    maps, half = tokens.view(2, *grid, 5), window // 2
    expected = torch.stack(
        [
            maps[:, max(0, row - half) : row + half + 1, max(0, column - half) : column + half + 1].mean((1, 2))
            for row in range(grid[0])
            for column in range(grid[1])
        ],
        dim=1,
    )
    torch.testing.assert_close(box_mean(tokens, grid, window), expected)


def test_a_constant_map_stays_constant_up_to_the_border() -> None:
    constant = torch.randn(2, 1, 5).expand(2, 36, 5).contiguous()
    torch.testing.assert_close(box_mean(constant, (6, 6), 7), constant)


def test_the_finest_level_is_the_normalised_token() -> None:
    tokens = torch.randn(2, 16, 8)
    finest, coarse = level_targets(tokens, (4, 4), (1, 3))
    assert torch.equal(finest, F.layer_norm(tokens, (8,)))
    assert not torch.allclose(finest, coarse, atol=0.1)
    torch.testing.assert_close(coarse.mean(-1), torch.zeros(2, 16), atol=1e-5, rtol=0)


def test_targets_are_float32_whatever_the_teacher_computed_in() -> None:
    tokens = torch.randn(2, 16, 8).bfloat16()
    for target in level_targets(tokens, (4, 4), (1, 3)):
        assert target.dtype == torch.float32
