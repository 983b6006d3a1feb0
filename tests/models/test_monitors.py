"""Collapse monitors: they see a collapse, and know the rank of what they are shown."""

from typing import get_args

import pytest
import torch
from torch import Tensor

from hjepa.models.losses import LossKind, baseline_loss, prediction_loss
from hjepa.models.monitors import baseline_ratio, dead_channels, feature_std, rankme


def test_features_that_do_not_depend_on_the_image_have_no_deviation() -> None:
    assert feature_std(torch.randn(1, 8).expand(16, 8)) == 0
    assert feature_std(torch.randn(4000, 8)) == pytest.approx(1, abs=0.05)


def test_one_image_has_no_deviation_and_no_warning() -> None:
    assert (feature_std(torch.randn(1, 8)), dead_channels(torch.randn(1, 8))) == (0, 1)


@pytest.mark.parametrize("rank", [1, 3, 8])
def test_rankme_of_equal_directions_is_their_number(rank: int) -> None:
    directions = torch.linalg.qr(torch.randn(64, rank + 1) + torch.eye(64, rank + 1)).Q
    centred = directions - directions.mean(0)
    basis = torch.linalg.svd(centred, full_matrices=False).U[:, :rank]  # orthonormal columns of mean 0
    features = basis @ torch.linalg.qr(torch.randn(32, rank)).Q.T + torch.randn(32)
    assert rankme(features) == pytest.approx(rank, abs=0.05)


def test_rankme_of_a_collapse_is_finite() -> None:
    assert rankme(torch.ones(16, 8)).isfinite()


def _ratio(predicted: Tensor, target: Tensor, valid: Tensor, kind: LossKind) -> float:
    loss, baseline = prediction_loss(predicted, target, valid, kind), baseline_loss(target, valid, kind)
    return baseline_ratio(loss.view(1), baseline.view(1)).item()


@pytest.mark.parametrize("kind", get_args(LossKind))
def test_the_mean_of_the_targets_has_ratio_one_a_perfect_prediction_zero_and_a_worse_one_more(kind: LossKind) -> None:
    target, valid = 3 * torch.randn(2, 5, 4, 16) + 1, torch.rand(2, 5, 4) < 0.6
    mean = target[valid].mean(0).expand_as(target)
    assert _ratio(mean, target, valid, kind) == pytest.approx(1, abs=1e-5)
    assert _ratio(target, target, valid, kind) == pytest.approx(0, abs=1e-6)
    assert _ratio((mean + target) / 2, target, valid, kind) < 0.7
    assert _ratio(mean + 5, target, valid, kind) > 1.3


def test_baseline_of_the_squared_error_is_the_variance_of_the_valid_targets_alone() -> None:
    target, valid = torch.randn(6, 4, 8), torch.ones(6, 4, dtype=torch.bool)
    valid[:, 3] = False
    expected = target[:, :3].flatten(0, 1).var(0, correction=0).mean()
    target[:, 3] = torch.nan  # what stands in a padded slot is never read
    torch.testing.assert_close(baseline_loss(target, valid, "mse"), expected)


def test_where_there_is_nothing_to_predict_the_ratio_is_one() -> None:
    alike = torch.ones(3, 4, 8)
    assert _ratio(alike, alike, torch.ones(3, 4, dtype=torch.bool), "mse") == 1
    assert _ratio(alike, torch.randn(3, 4, 8), torch.zeros(3, 4, dtype=torch.bool), "mse") == 1


def test_channels_that_hardly_vary_are_dead() -> None:
    features = torch.randn(200, 8, generator=torch.Generator().manual_seed(0))
    assert dead_channels(features) == 0
    features[:, :2] = 1 + 1e-3 * features[:, :2]
    assert dead_channels(features) == 0.25
    assert dead_channels(torch.ones(5, 8)) == 1
