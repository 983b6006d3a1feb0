"""Images that hjepa did not draw: square tiles of photographs that scikit-image and scikit-learn carry, class = photograph.

Tiles of one photograph share no pixel, so to be near to each other they must be alike in kind. At most 60 are taken of
each, evenly spread over it. They are gray and of one mean and contrast: colour and light alone tell most photographs apart.
"""

import shutil
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from skimage import data
from sklearn.datasets import load_sample_image

SIDE = 64
"""Of a tile, in pixels."""
MOST = 60
"""Tiles of one photograph."""
NAMES = (
    "astronaut",
    "brick",
    "camera",
    "chelsea",
    "coffee",
    "coins",
    "grass",
    "gravel",
    "hubble_deep_field",
    "immunohistochemistry",
    "moon",
    "retina",
    "rocket",
)
"""Photographs that scikit-image carries in its package; the others are the left one of its stereo pair, and scikit-learn's."""


def make_tiles(folder: Path) -> Path:
    """Fills the folder with <photograph>/<number>.png, unless it is there; returns it."""
    if folder.exists():
        return folder
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    for name, pixels in _photographs().items():
        (partial / name).mkdir(parents=True)
        for number, tile in enumerate(tiles(pixels)):
            Image.fromarray(in_gray(tile)).save(partial / name / f"{number:03d}.png")
    partial.rename(folder)
    return folder


def tiles(pixels: npt.NDArray[np.uint8]) -> list[npt.NDArray[np.uint8]]:
    """Tiles of a photograph uint8 [H, W] or [H, W, 3], of which no two share a pixel."""
    height, width = (side - side % SIDE for side in pixels.shape[:2])
    every = [pixels[top : top + SIDE, left : left + SIDE] for top in range(0, height, SIDE) for left in range(0, width, SIDE)]
    chosen = np.linspace(0, len(every) - 1, min(MOST, len(every))).astype(int)
    return [every[number] for number in chosen]


def in_gray(tile: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The tile as uint8 [64, 64] of mean 128 and deviation 50, before what is too bright or too dark is cut off."""
    levels = np.asarray(Image.fromarray(tile).convert("L"), dtype=np.float32)
    # noise of the sensor in an empty sky is not made a texture
    return ((levels - levels.mean()) / max(levels.std(), 4.0) * 50 + 128).clip(0, 255).astype(np.uint8)


def _photographs() -> dict[str, npt.NDArray[np.uint8]]:
    found = {name: getattr(data, name)() for name in NAMES}
    found["motorcycle"] = data.stereo_motorcycle()[0]
    return found | {name: load_sample_image(f"{name}.jpg") for name in ("china", "flower")}
