"""How good the teacher's features are: nearest neighbours, a linear probe, and whether they collapse; features are read once.

Nearest neighbours need no training: Wu et al., arXiv 1805.01978; as in DINO.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from hjepa.assembly import Model, build_loader
from hjepa.configs.schema import Settings
from hjepa.linear_probe import linear_probe_accuracy
from hjepa.models.monitors import dead_channels, feature_std, rankme
from hjepa.pipeline.loader import Loader
from hjepa.pipeline.source import Source, spread

# N images, D channels, C classes
EVALUATED = 10_000
"""Images that are read at most, evenly spaced: their similarities must fit, and training must not wait long."""
CHUNK = 1024
"""Images compared with all others at once, which bounds the memory of their similarities."""
LEAST_RANK, MOST_DEAD = 0.1, 0.5
"""Shares of the dimensions: an effective rank below the one, or so many that hardly vary, is a collapse."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """What the features of one model are worth; an accuracy that was not asked for is None."""

    knn_accuracy: float | None
    linear_probe_accuracy: float | None
    feature_std: float
    rankme: float
    dead_channels: float
    """Share of the dimensions that hardly vary."""
    num_dimensions: int
    """Of a feature, or as many as so few images can span."""

    @property
    def collapse(self) -> str | None:
        """What is wrong, in a sentence; None for features that have not collapsed."""
        if self.dead_channels > MOST_DEAD:
            return f"The features have collapsed: {self.dead_channels:.0%} of their dimensions hardly differ between images."
        if self.rankme < LEAST_RANK * self.num_dimensions:
            return (
                f"The features have collapsed: they vary in {self.rankme:.1f} of {self.num_dimensions} possible dimensions "
                f"(RankMe; below {LEAST_RANK:.0%} there is little left to tell images apart)."
            )
        return None


def check_labels(settings: Settings, source: Source) -> None:
    """Raises ValueError where the linear probe is asked for and there is nothing to tell apart."""
    if settings.evaluation.linear_probe.enabled and len(source.classes) < 2:
        raise ValueError(
            f"evaluation.linear_probe.enabled=true needs images of two classes or more, and these have {len(source.classes)}; "
            "sort them into one folder per class, or set evaluation.linear_probe.enabled=false"
        )


def evaluate_features(
    model: Model, source: Source, settings: Settings, progress: Callable[[int, int], None]
) -> Evaluation | None:
    """Measures what the settings ask for on at most EVALUATED images; None where that is nothing, or without two classes.

    `progress` is told (images read, images to read).
    """
    asked = settings.evaluation.knn.enabled or settings.evaluation.linear_probe.enabled
    return measure(model, source, settings, progress) if asked and len(source.classes) > 1 else None


def measure(model: Model, source: Source, settings: Settings, progress: Callable[[int, int], None]) -> Evaluation:
    """What evaluate_features measures, also on images without labels, whose accuracies are None."""
    knn, probe = settings.evaluation.knn, settings.evaluation.linear_probe
    images = spread(source, EVALUATED)
    with build_loader(settings, images, "evaluate") as loader:
        features, labels = extract(model, loader, lambda done: progress(done, len(images)))
    labelled, classes = features[labels >= 0], labels[labels >= 0]
    told_apart = len(source.classes) > 1
    return Evaluation(
        knn_accuracy=knn_accuracy(labelled, classes, knn.k, knn.temperature) if knn.enabled and told_apart else None,
        linear_probe_accuracy=linear_probe_accuracy(labelled, classes, probe, settings.seed)
        if probe.enabled and told_apart
        else None,
        feature_std=float(feature_std(features)),
        rankme=float(rankme(features)),
        dead_channels=float(dead_channels(features)),
        num_dimensions=min(len(features) - 1, features.shape[1]),
    )


@torch.no_grad()
def extract(model: Model, loader: Loader, progress: Callable[[int], None]) -> tuple[Tensor, Tensor]:
    """Features float32 [N, D] of the teacher and labels int64 [N]; `progress` is told how many images are done."""
    features, labels = [], []
    done = 0
    for batch in loader:
        features.append(model.features(batch.globals[0]).float())
        labels.append(batch.labels)
        done += len(batch.labels)
        progress(done)
    return torch.cat(features), torch.cat(labels)


def knn_accuracy(features: Tensor, labels: Tensor, k: int, temperature: float) -> float:
    """Share of images whose class the k nearest others vote for, each image left out in turn.

    features [N, D], labels int64 [N]. Nearest by cosine; a neighbour's vote weighs exp(cosine / temperature).
    """
    unit = F.normalize(features, dim=1)
    num_classes = int(labels.max()) + 1
    correct = 0
    for start in range(0, len(unit), CHUNK):
        similarity = unit[start : start + CHUNK] @ unit.T
        similarity.diagonal(start).fill_(-torch.inf)  # an image is no neighbour of itself
        nearest, number = similarity.topk(min(k, len(unit) - 1), dim=1)
        votes = torch.zeros(len(nearest), num_classes, device=unit.device)
        votes.scatter_add_(1, labels[number], (nearest / temperature).exp())
        correct += int((votes.argmax(1) == labels[start : start + CHUNK]).sum())
    return correct / len(unit)
