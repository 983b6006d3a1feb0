"""Shared image folders, made once per session; tests that need what is not here are skipped with the reason."""

import gc
import importlib.util
import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: on small tensors threads cost more than they do

import numpy as np
import pytest
import torch
from PIL import Image


def pytest_collection_finish() -> None:
    """What is imported by now stays: the collections of garbage in the tests need not go through it each time."""
    gc.freeze()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """The markers of pyproject.toml."""
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA GPU")
    with_dali = item.get_closest_marker("dali") or item.get_closest_marker("fused")
    if with_dali and importlib.util.find_spec("nvidia.dali") is None:
        pytest.skip("needs NVIDIA DALI")
    if item.get_closest_marker("fused") and importlib.util.find_spec("hjepa.kernels._fused_crops") is None:
        pytest.skip("needs hjepa's native kernel, which was not built: there was no C++ compiler when hjepa was installed")


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


@pytest.fixture(scope="session")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 small JPEGs in two classes."""
    folder = tmp_path_factory.mktemp("labelled")
    chance = np.random.default_rng(0)
    for number in range(40):
        name = ("dark", "light")[number % 2]
        (folder / name).mkdir(exist_ok=True)
        pixels = chance.integers(0, 120, (50 + number, 60, 3), dtype=np.uint8) + 120 * (number % 2)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{number:02d}.jpg")
    return folder
