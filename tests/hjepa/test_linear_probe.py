"""The linear probe: right on data whose answer is known, measured on images it was not trained on, and repeatable."""

import math

import pytest
import torch
from torch import Tensor

from hjepa import linear_probe
from hjepa.configs.run_sections import LinearProbeSettings
from hjepa.linear_probe import linear_probe_accuracy, split

SHORT = LinearProbeSettings(enabled=True, batch_size=32, epochs=20)


def _clusters(count: int, deviation: float) -> tuple[Tensor, Tensor]:
    """Features [N, 3] around one corner per class, and labels."""
    labels = torch.arange(count) % 3
    return torch.eye(3)[labels] + deviation * torch.randn(count, 3, generator=torch.Generator().manual_seed(0)), labels


@pytest.mark.parametrize("count", [2, 7, 100, 1001])
def test_every_image_is_either_trained_on_or_held_out(count: int) -> None:
    trained, held_out = split(count, 0)
    assert sorted([*trained.tolist(), *held_out.tolist()]) == list(range(count))
    assert len(held_out) == max(1, round(count / 5))


def test_the_split_follows_from_the_seed_and_has_no_order() -> None:
    held_out = split(1000, 0)[1]
    assert torch.equal(split(1000, 0)[1], held_out)
    assert len(set(held_out.tolist()) & set(split(1000, 1)[1].tolist())) < 70  # 40 by chance
    assert held_out.float().mean().item() == pytest.approx(499.5, abs=100)
    assert not torch.equal(held_out, held_out.sort().values)


def test_clusters_are_told_apart_and_noise_is_not() -> None:
    assert linear_probe_accuracy(*_clusters(600, 0.1), SHORT, 0) > 0.99
    noise, labels = torch.randn(600, 8, generator=torch.Generator().manual_seed(1)), torch.arange(600) % 3
    assert linear_probe_accuracy(noise, labels, SHORT, 0) == pytest.approx(1 / 3, abs=0.12)


def test_images_that_the_layer_was_trained_on_do_not_count() -> None:
    # More channels than images: whatever the labels, the layer fits those it is trained on.
    features = torch.randn(400, 512, generator=torch.Generator().manual_seed(0))
    labels = torch.randint(0, 2, (400,), generator=torch.Generator().manual_seed(1))
    assert linear_probe_accuracy(features, labels, SHORT, 0) == pytest.approx(0.5, abs=0.15)


def test_the_layer_is_trained_by_sgd_with_momentum_along_a_cosine(monkeypatch: pytest.MonkeyPatch) -> None:
    """In float64, from the formulas; one batch holds all images, so that their order does not matter."""
    features, labels = _clusters(50, 0.5)
    trained = split(50, 0)[0]
    layers = []
    fit = linear_probe._fit
    monkeypatch.setattr(linear_probe, "_fit", lambda *given: layers.append(fit(*given)) or layers[0])
    linear_probe_accuracy(features, labels, LinearProbeSettings(enabled=True, batch_size=64, epochs=6, lr=0.5), 0)
    known, wanted = features[trained].double(), torch.eye(3, dtype=torch.float64)[labels[trained]]
    known = (known - known.mean(0)) / known.std(0, correction=0)  # of the images trained on alone
    known = torch.cat([known, torch.ones(40, 1)], dim=1)
    layer, speed = torch.zeros(3, 4, dtype=torch.float64), torch.zeros(3, 4, dtype=torch.float64)
    for step in range(6):
        speed = 0.9 * speed + ((known @ layer.T).softmax(1) - wanted).T @ known / 40
        layer = layer - 0.5 * (1 + math.cos(math.pi * step / 6)) / 2 * speed
    torch.testing.assert_close(torch.cat([layers[0][0], layers[0][1][:, None]], dim=1).double(), layer, rtol=1e-4, atol=1e-5)


def test_every_epoch_has_as_many_steps_as_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes, loss = [], torch.nn.functional.cross_entropy
    monkeypatch.setattr(linear_probe.F, "cross_entropy", lambda said, labels: sizes.append(len(labels)) or loss(said, labels))
    linear_probe_accuracy(*_clusters(50, 0.5), LinearProbeSettings(enabled=True, batch_size=15, epochs=2), 0)
    assert sizes == [15, 15, 10] * 2


def test_the_layer_is_linear() -> None:
    features = torch.rand(800, 2, generator=torch.Generator().manual_seed(0)) - 0.5
    labels = (features.prod(1) > 0).long()  # opposite quadrants, which no line separates
    assert linear_probe_accuracy(features, labels, SHORT, 0) < 0.65
    assert linear_probe_accuracy(features.prod(1, keepdim=True), labels, SHORT, 0) > 0.95


def test_scale_and_offset_of_a_channel_do_not_matter_nor_do_constant_channels() -> None:
    features, labels = _clusters(300, 0.6)
    expected = linear_probe_accuracy(features, labels, SHORT, 0)
    assert 0.4 < expected < 0.98
    moved = features * torch.tensor([1e-3, 1.0, 1e4]) + torch.tensor([0.0, 5.0, -3e4])
    constant = torch.full((300, 2), 7.0)
    assert linear_probe_accuracy(torch.cat([moved, constant], dim=1), labels, SHORT, 0) == pytest.approx(expected, abs=0.02)


def test_a_probe_repeats_and_leaves_torchs_generator_alone() -> None:
    features, labels = _clusters(300, 0.8)
    before = torch.get_rng_state()
    accuracies = {linear_probe_accuracy(features, labels, SHORT, 0) for _ in range(2)}
    assert len(accuracies) == 1
    assert torch.equal(torch.get_rng_state(), before)
    assert accuracies != {linear_probe_accuracy(features, labels, SHORT, 1)}
