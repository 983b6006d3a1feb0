"""A recipe's crops with OpenCV, written by hand: lookup tables for all that is pointwise, INTER_AREA where it shrinks."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hjepa.pipeline.recipe import Recipe, View

Pixels = npt.NDArray[np.uint8]
"""[H, W, 3]."""


def read(path: str) -> Pixels:
    import cv2

    return cv2.imread(path, cv2.IMREAD_COLOR_RGB)  # type: ignore[return-value]  # OpenCV's stub


def crop_of(pixels: Pixels, view: View, recipe: Recipe, chance: np.random.Generator) -> Tensor:
    import cv2

    top, left, height, width = _box(pixels.shape[0], pixels.shape[1], view, chance)
    filter_ = cv2.INTER_AREA if height > view.size and width > view.size else cv2.INTER_CUBIC
    crop: Any = cv2.resize(pixels[top : top + height, left : left + width], (view.size, view.size), interpolation=filter_)
    if chance.random() < view.flip:
        crop = cv2.flip(crop, 1)
    if view.jitter is not None and chance.random() < view.jitter.probability:
        crop = _jitter(crop, view, chance)
    if chance.random() < view.gray:
        crop = cv2.cvtColor(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    if chance.random() < view.blur:
        crop = cv2.GaussianBlur(crop, (view.blur_window, view.blur_window), chance.uniform(*view.sigma))
    if chance.random() < view.solarize:
        levels = np.arange(256)
        crop = cv2.LUT(crop, np.where(levels < view.solarize_threshold, levels, 255 - levels).astype(np.uint8))
    scaled = np.empty((3, view.size, view.size), dtype=np.float32)
    levels = np.arange(256, dtype=np.float32) / 255
    for channel, mean, std, out in zip(cv2.split(crop), recipe.mean, recipe.std, scaled, strict=True):
        cv2.LUT(channel, (levels - mean) / std, out)
    return torch.from_numpy(scaled)


def _jitter(crop: Any, view: View, chance: np.random.Generator) -> Any:
    import cv2

    jitter, levels = view.jitter, np.arange(256, dtype=np.float32)
    assert jitter is not None
    brightness, contrast, saturation = (
        chance.uniform(max(0, 1 - part), 1 + part) for part in (jitter.brightness, jitter.contrast, jitter.saturation)
    )
    turn = chance.uniform(-jitter.hue, jitter.hue)
    for part in chance.permutation(4):
        if part == 0:
            crop = cv2.LUT(crop, (levels * brightness).clip(0, 255).astype(np.uint8))
        elif part == 1:
            mean = cv2.mean(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY))[0]
            crop = cv2.LUT(crop, (mean + contrast * (levels - mean)).clip(0, 255).astype(np.uint8))
        elif part == 2:
            gray = cv2.cvtColor(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
            crop = cv2.addWeighted(crop, saturation, gray, 1 - saturation, 0)
        else:
            hsv = cv2.cvtColor(crop, cv2.COLOR_RGB2HSV_FULL)
            hsv[..., 0] += np.uint8(round(256 * turn) % 256)
            crop = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL)
    return crop


def _box(image_height: int, image_width: int, view: View, chance: np.random.Generator) -> tuple[int, int, int, int]:
    """torchvision's law: ten attempts, then the centre."""
    for _ in range(10):
        pixels = image_height * image_width * chance.uniform(*view.area)
        aspect = math.exp(chance.uniform(math.log(view.ratio[0]), math.log(view.ratio[1])))
        height, width = round(math.sqrt(pixels / aspect)), round(math.sqrt(pixels * aspect))
        if 0 < height <= image_height and 0 < width <= image_width:
            return int(chance.integers(image_height - height + 1)), int(chance.integers(image_width - width + 1)), height, width
    side = min(image_height, image_width)
    return (image_height - side) // 2, (image_width - side) // 2, side, side
