"""kNN accuracy: right on data whose answer is known."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hjepa import evaluate
from hjepa.configs.load import load_settings
from hjepa.evaluate import Evaluation, knn_accuracy, measure
from hjepa.model_assembly import build_model
from hjepa.pipeline.lists import open_list
from hjepa.pipeline.source import Subset


def test_separate_clusters_are_told_apart_and_noise_is_not() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(300) % 3
    clusters = torch.eye(3)[labels] + 0.1 * torch.randn(300, 3, generator=generator)
    assert knn_accuracy(clusters, labels, k=20, temperature=0.07) > 0.99
    assert knn_accuracy(torch.randn(300, 8, generator=generator), labels, k=20, temperature=0.07) < 0.45


@pytest.mark.parametrize("k", [1, 2, 3, 10, 99])
def test_votes_are_those_of_the_definition(k: int) -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(40) % 3
    features = torch.eye(3)[labels] + 0.7 * torch.randn(40, 3, generator=generator)
    correct = 0
    for image, label in enumerate(labels.tolist()):
        likeness = torch.cosine_similarity(features[image : image + 1].double(), features.double())
        others = sorted((other for other in range(40) if other != image), key=lambda other: -likeness[other])
        votes = torch.zeros(3, dtype=torch.float64)
        for other in others[:k]:
            votes[labels[other]] += (likeness[other] / 0.5).exp()
        correct += int(votes.argmax()) == label
    assert knn_accuracy(features, labels, k=k, temperature=0.5) == correct / 40


def test_a_low_temperature_leaves_the_vote_to_the_nearest() -> None:
    generator = torch.Generator().manual_seed(3)
    labels = torch.arange(90) % 3
    noise = 0.5 * torch.randn(90, 8, generator=generator)
    features = 3 * torch.randn(1, 8, generator=generator) + torch.eye(3, 8)[labels] + noise
    nearest = knn_accuracy(features, labels, k=1, temperature=0.07)
    assert knn_accuracy(features, labels, k=20, temperature=1e-4) == nearest  # exp(1 / 1e-4) is beyond float32


def test_an_image_does_not_vote_for_itself() -> None:
    features = torch.tensor([[1.0, 0.0], [1.0, 0.01], [1.0, -0.01]])
    assert knn_accuracy(features, torch.tensor([0, 1, 1]), k=1, temperature=0.07) == pytest.approx(1 / 3, abs=0.34)
    assert knn_accuracy(features[:2], torch.tensor([0, 1]), k=20, temperature=0.07) == 0.0


def test_chunks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(100) % 5
    features = torch.eye(5)[labels] + 0.5 * torch.randn(100, 5, generator=generator)
    whole = knn_accuracy(features, labels, k=7, temperature=0.07)
    monkeypatch.setattr(evaluate, "CHUNK", 17)
    assert knn_accuracy(features, labels, k=7, temperature=0.07) == whole


def test_nearest_is_by_angle_and_not_by_distance() -> None:
    generator = torch.Generator().manual_seed(2)
    labels = torch.arange(60) % 3
    features = torch.eye(3)[labels] + 0.3 * torch.randn(60, 3, generator=generator)
    lengths = 10 ** (4 * torch.rand(60, 1, generator=generator))  # votes of 1 - distance would be of the long ones alone
    assert knn_accuracy(features * lengths, labels, k=5, temperature=0.07) == knn_accuracy(
        features, labels, k=5, temperature=0.07
    )


def test_images_without_a_label_count_for_no_accuracy() -> None:
    reference = ["data.pipeline=torchvision", "data.num_workers=0", "device=cpu", "evaluation.linear_probe.enabled=true"]
    settings = load_settings(Path("small"), [*reference, "evaluation.knn.k=3"])
    model = build_model(settings, torch.device("cpu"))
    grays = [(Image.new("RGB", (48, 48), (8 * level, 8 * level, 8 * level)), level // 10) for level in range(20)]
    others = [(Image.new("RGB", (48, 48), (200, 8 * level, 30)), None) for level in range(20)]
    mixed = [pair for pairs in zip(grays, others, strict=True) for pair in pairs]
    found, alone = (measure(model, open_list(pairs), settings, lambda *_: None) for pairs in (mixed, grays))
    assert (found.knn_accuracy, found.linear_probe_accuracy) == (alone.knn_accuracy, alone.linear_probe_accuracy)


def test_neighbours_vote_as_the_settings_say(monkeypatch: pytest.MonkeyPatch) -> None:
    reference = ["data.pipeline=torchvision", "data.num_workers=0", "device=cpu"]
    settings = load_settings(Path("small"), [*reference, "evaluation.knn.k=3", "evaluation.knn.temperature=0.5"])
    images = [(Image.new("RGB", (48, 48), (8 * level, 0, 0)), level % 2) for level in range(4)]
    monkeypatch.setattr(evaluate, "knn_accuracy", lambda _features, _labels, k, temperature: k + temperature)
    model = build_model(settings, torch.device("cpu"))
    assert measure(model, open_list(images), settings, lambda *_: None).knn_accuracy == 3.5


def test_images_of_which_none_read_has_a_label_have_no_accuracy() -> None:
    """Though their source has classes: of many images some are read."""
    reference = ["data.pipeline=torchvision", "data.num_workers=0", "device=cpu", "evaluation.linear_probe.enabled=true"]
    settings = load_settings(Path("small"), reference)
    source = open_list([(Image.new("RGB", (48, 48), (level, 0, 0)), level if level < 2 else None) for level in range(12)])
    unlabelled = Subset(source=source, chosen=np.arange(2, 12))
    found = measure(build_model(settings, torch.device("cpu")), unlabelled, settings, lambda *_: None)
    assert (found.knn_accuracy, found.linear_probe_accuracy) == (None, None)


def test_image_that_stands_in_for_a_bad_one_is_measured_once(tmp_path: Path) -> None:
    changes = ["data.pipeline=torchvision", "data.num_workers=0", "device=cpu", "data.max_bad=0.5", f"output_dir={tmp_path}"]
    settings = load_settings(Path("small"), changes)
    for number in range(6):
        Image.new("RGB", (64, 64), (40 * number, 0, 0)).save(tmp_path / f"{number}.jpg", quality=95)
    cut = tmp_path / "3.jpg"
    cut.write_bytes(cut.read_bytes()[:-20])
    source = open_list([(tmp_path / f"{number}.jpg", number // 3) for number in range(6)])
    found = measure(build_model(settings, torch.device("cpu")), source, settings, lambda *_: None)
    assert (found.num_images, found.num_available) == (5, 6)


def test_images_of_the_first_class_count_as_those_of_any_other() -> None:
    settings = load_settings(Path("small"), ["data.pipeline=torchvision", "data.num_workers=0", "device=cpu"])
    source = open_list([(Image.new("RGB", (48, 48), (40 * number, 0, 0)), number // 4) for number in range(6)])
    first = Subset(source=source, chosen=np.arange(4))
    found = measure(build_model(settings, torch.device("cpu")), first, settings, lambda *_: None)
    assert found.knn_accuracy == 1
    assert found.num_dimensions == 3  # of four images, however many channels there are


@pytest.mark.parametrize(("dead", "rank", "is_collapse"), [(0.5, 10, False), (0.51, 10, True), (0.5, 9.9, True)])
def test_collapse_is_more_than_half_of_the_dimensions_dead_or_a_rank_below_a_tenth(
    dead: float, rank: float, is_collapse: bool
) -> None:
    numbers = {"knn_accuracy": None, "linear_probe_accuracy": None, "feature_std": 1.0, "num_images": 200, "num_available": 200}
    found = Evaluation(rankme=rank, dead_channels=dead, num_dimensions=100, **numbers)
    assert (found.collapse is not None) == is_collapse


def test_encoder_whose_training_diverged_is_not_measured() -> None:
    settings = load_settings(Path("small"), ["data.pipeline=torchvision", "data.num_workers=0", "device=cpu"])
    model = build_model(settings, torch.device("cpu"))
    with torch.no_grad():
        next(model.teacher.parameters()).fill_(torch.nan)
    images = open_list([(Image.new("RGB", (48, 48), (level, 0, 0)), level % 2) for level in range(4)])
    with pytest.raises(RuntimeError, match="features are not finite, for its training diverged"):
        measure(model, images, settings, lambda *_: None)
