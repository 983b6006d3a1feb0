"""How far DALI's operators are from torchvision's on PIL images, for the same draws on real photographs.

Measured mean and 99th percentile of the absolute difference, in levels of 255 (CPU, DALI 2.4, torchvision 0.29, Pillow 13,
64 crops of each size from scikit-image's astronaut, coffee, cat, rocket and hubble); run this file with -s to see them again.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hjepa.pipeline.loader import Loader
from hjepa.pipeline.recipe import IMAGENET_STD, Jitter, Recipe, View

pytestmark = pytest.mark.dali
PLAIN = View(name="global", count=2, size=224, area=(0.05, 1.0), flip=0.5, gray=0, blur=0)
NONE = Jitter(brightness=0, contrast=0, saturation=0, hue=0, probability=1)
FULL = Jitter(brightness=0.4, contrast=0.4, saturation=0.2, hue=0, probability=1)

# The operator alone after crop and flip -> bound on the mean difference, in levels.
OPERATORS = {
    "crop and flip, bicubic": (PLAIN, 0.4),
    "crop and flip, bilinear": (replace(PLAIN, interpolation="bilinear"), 0.4),
    "crop and flip to 96": (replace(PLAIN, size=96), 0.4),
    "brightness": (replace(PLAIN, jitter=replace(NONE, brightness=0.4)), 0.8),
    "contrast": (replace(PLAIN, jitter=replace(NONE, contrast=0.4)), 0.8),
    "saturation": (replace(PLAIN, jitter=replace(NONE, saturation=0.4)), 0.8),
    "brightness, contrast, saturation": (replace(PLAIN, jitter=FULL), 2.0),
    "grayscale": (replace(PLAIN, gray=1.0), 0.4),
    "blur": (replace(PLAIN, blur=1.0), 0.4),
    "solarize": (replace(PLAIN, solarize=1.0), 0.5),
    "everything but hue": (replace(PLAIN, jitter=FULL, gray=0.2, blur=0.5, solarize=0.2), 2.0),
}


def differences(folder: Path, view: View) -> np.ndarray:
    recipe = Recipe(name="parity", source="this test", views=(view,))
    crops = []
    for backend in ("torchvision", "dali"):
        options = {"num_workers": 0} if backend == "torchvision" else {"num_workers": 2}
        with Loader(folder, recipe, batch_size=16, backend=backend, device="cpu", epochs=1, **options) as loader:
            crops.append(torch.cat([batch.globals for batch in loader], dim=1))
    levels = (crops[0] - crops[1]).abs() * torch.tensor(IMAGENET_STD).reshape(3, 1, 1) * 255
    return levels.numpy()


@pytest.mark.parametrize("name", OPERATORS)
def test_operator_agrees_with_torchvision(name: str, photographs: Path) -> None:
    view, bound = OPERATORS[name]
    levels = differences(photographs, view)
    print(f"\n{name}: mean {levels.mean():.3f}, p99 {np.quantile(levels, 0.99):.1f}, max {levels.max():.0f} levels")
    assert levels.mean() < bound


def test_hue_is_documented_as_different_but_close_for_small_turns(photographs: Path) -> None:
    levels = differences(photographs, replace(PLAIN, jitter=replace(NONE, hue=0.04)))
    print(f"\nhue, 0.04 turns: mean {levels.mean():.3f}, p99 {np.quantile(levels, 0.99):.1f} levels")
    assert 0.5 < levels.mean() < 12  # YIQ against HSV: if this becomes small, the documentation is wrong
