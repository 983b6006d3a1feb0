"""Collapse monitors: they see a collapse, and know the rank of what they are shown."""

import pytest
import torch

from hjepa.models.monitors import feature_std, rankme


def test_features_that_do_not_depend_on_the_image_have_no_deviation() -> None:
    assert feature_std(torch.randn(1, 8).expand(16, 8)) == 0
    assert feature_std(torch.randn(4000, 8)) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("rank", [1, 3, 8])
def test_rankme_of_equal_directions_is_their_number(rank: int) -> None:
    directions = torch.linalg.qr(torch.randn(64, rank + 1) + torch.eye(64, rank + 1)).Q
    centred = directions - directions.mean(0)
    basis = torch.linalg.svd(centred, full_matrices=False).U[:, :rank]  # orthonormal columns of mean 0
    features = basis @ torch.linalg.qr(torch.randn(32, rank)).Q.T + torch.randn(32)
    assert rankme(features) == pytest.approx(rank, abs=0.05)


def test_rankme_of_a_collapse_is_finite() -> None:
    assert rankme(torch.ones(16, 8)).isfinite()
