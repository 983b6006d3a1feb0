"""How good the features are: k nearest neighbours, without training anything (Wu et al., arXiv 1805.01978; as in DINO)."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from hjepa.models.hjepa import HierarchicalJepa
from hjepa.pipeline.loader import Loader

# N images, D channels, C classes
CHUNK = 1024
"""Images compared with all others at once, which bounds the memory of their similarities."""


@torch.no_grad()
def extract(model: HierarchicalJepa, loader: Loader, progress: Callable[[int], None]) -> tuple[Tensor, Tensor]:
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
