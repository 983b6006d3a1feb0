"""Shared image folders, made once per session."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Indices and sample data of the tests stay out of the user's cache, also in worker processes."""
    os.environ["HJEPA_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """32 JPEGs of mixed sizes, cut from the photographs that scikit-image carries."""
    data = pytest.importorskip("skimage.data")
    folder = tmp_path_factory.mktemp("photographs")
    images = [getattr(data, name)() for name in ("astronaut", "coffee", "chelsea", "rocket")]
    chance = np.random.default_rng(0)
    for number in range(32):
        image = images[number % len(images)]
        height, width = (int(side * chance.uniform(0.6, 1)) for side in image.shape[:2])
        top, left = (int(chance.integers(0, side - part + 1)) for side, part in zip(image.shape, (height, width), strict=False))
        Image.fromarray(image[top : top + height, left : left + width]).save(folder / f"{number:02d}.jpg", quality=95)
    return folder
