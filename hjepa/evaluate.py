"""How good the teacher's features are: nearest neighbours, a linear probe, and whether they collapse; features are read once.

Nearest neighbours need no training: Wu et al., arXiv 1805.01978; as in DINO.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hjepa.assembly import build_loader
from hjepa.configs.schema import Settings
from hjepa.linear_probe import linear_probe_accuracy
from hjepa.model_assembly import Model
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
UNMEASURED = "not measured: these images are not of two classes or more; give labelled ones with --data-path"


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
    num_images: int
    """Images that were read, at most EVALUATED, evenly spaced; those that stand in for bad ones once."""
    num_available: int
    """Images that there are."""
    split: str | None = None
    """train or val, where one of the two was chosen; None in training, and of data without splits."""

    @property
    def rows(self) -> dict[str, str]:
        """What a table shows, by the name of the row."""
        accuracies = {"kNN accuracy": self.knn_accuracy, "linear probe": self.linear_probe_accuracy}
        spacing = ", evenly spaced" if self.num_available > EVALUATED else ""
        left_out = f" of {self.num_available}{spacing}" if self.num_images < self.num_available else ""
        return {
            "images": f"{self.num_images}{left_out}{f', split {self.split}' if self.split else ''}",
            **{name: UNMEASURED if accuracy is None else f"{accuracy:.1%}" for name, accuracy in accuracies.items()},
            "RankMe": f"{self.rankme:.1f} of {self.num_dimensions}",
            "standard deviation": f"{self.feature_std:.4f}, mean of the dimensions; {self.dead_channels:.0%} hardly vary",
        }

    @property
    def in_words(self) -> str:
        """What a line of a run's output says."""
        knn = [] if self.knn_accuracy is None else [f"kNN accuracy {self.knn_accuracy:.1%}"]
        probe = [] if self.linear_probe_accuracy is None else [f"linear probe {self.linear_probe_accuracy:.1%}"]
        return ", ".join([*knn, *probe, f"RankMe {self.rankme:.1f}"])

    @property
    def collapse(self) -> str | None:
        """What is wrong, in a sentence; None for features that have not collapsed, or of one image, which cannot show it."""
        if self.num_dimensions < 1:
            return None
        if self.dead_channels > MOST_DEAD:
            return f"The features have collapsed: {self.dead_channels:.0%} of their dimensions hardly differ between images."
        if self.rankme < LEAST_RANK * self.num_dimensions:
            return (
                f"The features have collapsed: they vary in {self.rankme:.1f} of {self.num_dimensions} possible dimensions "
                f"(RankMe; below {LEAST_RANK:.0%} there is little left to tell images apart)."
            )
        return None


def check_labels(settings: Settings, source: Source, probe_source: Source | None = None) -> None:
    """Raises ValueError where the linear probe is asked for and there is nothing to tell apart in the images that it reads."""
    classes = (source if probe_source is None else probe_source).classes
    if settings.evaluation.linear_probe.enabled and len(classes) < 2:
        raise ValueError(
            f"evaluation.linear_probe.enabled=true needs images of two classes or more, and these have {len(classes)}; sort "
            "them into one folder per class, set evaluation.linear_probe.data_path to others, or "
            "evaluation.linear_probe.enabled=false"
        )


def measure(
    model: Model,
    source: Source,
    settings: Settings,
    progress: Callable[[int, int], None],
    probe_source: Source | None = None,
) -> Evaluation:
    """Accuracies as far as the settings ask for them and the images have labels, and how far the features have collapsed.

    On at most EVALUATED images; `progress` is told (images read, images to read). probe_source: what the linear probe reads in
    place of the source.
    """
    knn, probe = settings.evaluation.knn, settings.evaluation.linear_probe
    features, labels = _read(model, source, settings, progress)
    own = _labelled(features, labels, source)
    if probe_source is None or not probe.enabled:
        probed = own
    else:
        probed = _labelled(*_read(model, probe_source, settings, progress), probe_source)
    return Evaluation(
        knn_accuracy=knn_accuracy(*own, knn.k, knn.temperature) if knn.enabled and own else None,
        linear_probe_accuracy=linear_probe_accuracy(*probed, probe, settings.seed) if probe.enabled and probed else None,
        feature_std=float(feature_std(features)),
        rankme=float(rankme(features)),
        dead_channels=float(dead_channels(features)),
        num_dimensions=min(len(features) - 1, features.shape[1]),
        num_images=len(features),
        num_available=len(source),
    )


def _read(model: Model, source: Source, settings: Settings, progress: Callable[[int, int], None]) -> tuple[Tensor, Tensor]:
    """Features and labels of at most EVALUATED images."""
    images = spread(source, EVALUATED)
    with build_loader(settings, images, "evaluate") as loader:
        features, labels = extract(model, loader, lambda done: progress(done, len(images)))
    if not features.isfinite().all():
        raise RuntimeError("the encoder's features are not finite, for its training diverged; take an earlier checkpoint")
    return features, labels


def _labelled(features: Tensor, labels: Tensor, source: Source) -> tuple[Tensor, Tensor] | None:
    """Those of the images that have a label; None where there is nothing to tell apart."""
    known = labels >= 0
    return (features[known], labels[known]) if len(source.classes) > 1 and known.sum() > 1 else None


@torch.no_grad()
def extract(model: Model, loader: Loader, progress: Callable[[int], None]) -> tuple[Tensor, Tensor]:
    """Features float32 [N, D] of the teacher and labels int64 [N]; `progress` is told how many images are done."""
    features, labels, numbers = [], [], []
    done = 0
    for batch in loader:
        features.append(model.features(batch.globals[0]).float())
        labels.append(batch.labels)
        numbers.append(batch.indices.numpy())
        done += len(batch.labels)
        progress(done)
    # one that stands in for a bad image comes twice, and would be its own nearest neighbour
    once = torch.from_numpy(np.unique(np.concatenate(numbers), return_index=True)[1])
    return torch.cat(features)[once], torch.cat(labels)[once]


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
        # Less the largest of each image: the exponential of 1 / 0.01 is beyond float32.
        votes.scatter_add_(1, labels[number], ((nearest - nearest[:, :1]) / temperature).exp())
        correct += int((votes.argmax(1) == labels[start : start + CHUNK]).sum())
    return correct / len(unit)
