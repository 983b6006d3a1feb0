"""The loss: torch's functions, averaged over what is valid and over nothing else."""

from collections.abc import Callable, Mapping
from typing import get_args

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hjepa.models.losses import LossKind, distance, nearest_loss, prediction_loss, spread_loss

FUNCTIONS: Mapping[LossKind, Callable[..., Tensor]] = {"smooth_l1": F.smooth_l1_loss, "mse": F.mse_loss, "huber": F.huber_loss}


@pytest.mark.parametrize("kind", get_args(LossKind))
def test_where_all_is_valid_the_loss_is_the_plain_mean(kind: LossKind) -> None:
    predicted, target = 3 * torch.randn(2, 5, 7, 33), torch.randn(2, 5, 7, 33)
    ours = prediction_loss(predicted, target, torch.ones(2, 5, 7, dtype=torch.bool), kind)
    torch.testing.assert_close(ours, FUNCTIONS[kind](predicted, target))


def test_every_term_with_a_valid_patch_counts_alike() -> None:
    predicted, target = torch.randn(3, 4, 8), torch.randn(3, 4, 8)
    valid = torch.tensor([[True, True, False, False], [False] * 4, [False, True, False, False]])
    terms = [F.smooth_l1_loss(predicted[0, :2], target[0, :2]), F.smooth_l1_loss(predicted[2, 1], target[2, 1])]
    torch.testing.assert_close(prediction_loss(predicted, target, valid), (terms[0] + terms[1]) / 2)


@pytest.mark.parametrize("kind", get_args(LossKind))
def test_padding_has_a_gradient_of_exactly_zero(kind: LossKind) -> None:
    predicted = torch.randn(3, 4, 8, requires_grad=True)
    valid = torch.tensor([[True, True, False, False], [False] * 4, [False, True, True, True]])
    prediction_loss(predicted, torch.randn(3, 4, 8), valid, kind).backward()
    assert predicted.grad is not None
    assert torch.equal(predicted.grad.any(-1), valid)


def test_a_batch_without_a_valid_patch_has_loss_zero_and_no_nan() -> None:
    predicted = torch.randn(3, 4, 8, requires_grad=True)
    loss = prediction_loss(predicted, torch.randn(3, 4, 8), torch.zeros(3, 4, dtype=torch.bool))
    loss.backward()
    assert loss == 0
    assert predicted.grad is not None
    assert not predicted.grad.any()


def test_half_precision_is_compared_in_float32() -> None:
    predicted, target = torch.randn(5, 8).bfloat16(), torch.randn(5, 8)
    torch.testing.assert_close(distance(predicted, target, "mse"), (predicted.float() - target).square().mean(-1))


def test_normalised_embeddings_are_compared_by_direction_alone() -> None:
    predicted = torch.randn(5, 8)
    assert distance(predicted, 7 * predicted, "mse", normalize_embeddings=True).max() < 1e-12


def test_an_unknown_distance_is_refused() -> None:
    # A TypeError with the same names where jaxtyping checks the annotations.
    with pytest.raises((ValueError, TypeError), match=r"smooth_l1\W+mse\W+(or )?huber"):
        distance(torch.zeros(1), torch.zeros(1), "l1")  # type: ignore[arg-type]  # the mistake under test


def test_spread_is_zero_for_independent_channels_and_one_for_a_collapsed_batch() -> None:
    generator = torch.Generator().manual_seed(0)
    independent = 2 * torch.randn(2, 4000, 8, generator=generator)
    assert spread_loss(independent) < 0.01
    collapsed = torch.ones(2, 16, 8)
    assert spread_loss(collapsed).item() == pytest.approx(0.99, abs=1e-6)  # 1 minus the floor of the deviation
    copies = independent[..., :1].expand(-1, -1, 8)
    assert spread_loss(copies).item() == pytest.approx(7 * 16 / 25, rel=0.1)  # 7 neighbours with a covariance of 4 each


def test_spread_of_few_images_is_that_of_their_unbiased_covariances() -> None:
    features = 0.5 * torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))
    expected = torch.zeros(())
    for view in features:
        covariance = torch.cov(view.T)
        others = covariance - covariance.diagonal().diag()
        expected += F.relu(1 - (covariance.diagonal() + 1e-4).sqrt()).mean() / 2 + others.square().sum() / 3 / 25 / 2
    torch.testing.assert_close(spread_loss(features), expected)


def test_spread_of_a_collapsed_batch_has_a_finite_gradient() -> None:
    features = torch.ones(1, 4, 3, requires_grad=True)
    spread_loss(features).backward()
    assert features.grad is not None
    assert torch.isfinite(features.grad).all()


def test_koleo_is_the_distance_to_the_nearest_other_image_within_a_view() -> None:
    angles = torch.tensor([[0.0, 0.1, 1.0, 3.0], [0.0, 2.0, 2.2, 2.5]])
    lengths = torch.tensor([1.0, 5.0, 0.2, 3.0]).unsqueeze(-1)
    features = lengths * torch.stack([angles.cos(), angles.sin()], dim=-1)
    nearest = torch.tensor([[0.1, 0.1, 0.9, 2.0], [2.0, 0.2, 0.2, 0.3]])  # the angle 3.0 is 2.0 from 1.0
    expected = -(2 * (nearest / 2).sin()).log().mean(1).sum()
    torch.testing.assert_close(nearest_loss(features), expected, rtol=1e-4, atol=1e-4)


def test_koleo_parts_images_that_are_equal_with_a_finite_gradient() -> None:
    generator = torch.Generator().manual_seed(0)
    features = (torch.ones(1, 8, 4) + 0.01 * torch.randn(1, 8, 4, generator=generator)).requires_grad_()
    before = nearest_loss(features)
    (gradient,) = torch.autograd.grad(before, features)
    assert nearest_loss((features - 1e-4 * gradient).detach()) < before
    same = torch.ones(1, 8, 4, requires_grad=True)
    nearest_loss(same).backward()
    assert torch.isfinite(same.grad).all()


@pytest.mark.parametrize("loss", [spread_loss, nearest_loss])
def test_autocast_changes_no_bit_of_a_loss_that_compares_images(loss: Callable[[Tensor], Tensor]) -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(1, 1, 128, generator=generator) + 0.05 * torch.randn(4, 32, 128, generator=generator)
    expected, ours = features.clone().requires_grad_(), features.clone().requires_grad_()
    value = loss(expected)
    value.backward()
    with torch.autocast("cpu", torch.bfloat16):
        automatic = loss(ours)
    automatic.backward()
    assert torch.equal(automatic, value)
    assert ours.grad is not None
    assert torch.equal(ours.grad, expected.grad)
