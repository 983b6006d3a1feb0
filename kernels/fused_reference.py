"""The definition of fused_crops: the same formulas in NumPy, one crop at a time, for reading and for tests.

Sums are float64. Blends are float32, because PIL's are: whether a level falls just below a whole number decides what it is
cut off to. Sources: Pillow's Resample.c, Blend.c and Convert.c; torchvision's adjust_hue and gaussian_blur.
"""

from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

# H x W pixels of the box, S of the output; R G B last
Levels: TypeAlias = npt.NDArray[np.float32]
"""[S, S, 3] whole numbers from 0 to 255."""
Weights: TypeAlias = npt.NDArray[np.float64]

GRID = 2.0**-14
"""Weights of the resize are multiples of this, so that the kernel's sums are exact in integers."""


def render(
    image: npt.NDArray[np.uint8],
    box: tuple[int, int, int, int],
    size: int,
    interpolation: Literal["bicubic", "bilinear"] = "bicubic",
    flip: bool = False,
    jitter: tuple[float, float, float, float] = (1, 1, 1, 0),
    order: tuple[int, int, int, int] = (0, 1, 2, 3),
    gray: bool = False,
    sigma: float = 0,
    blur_window: int = 9,
    solarize_threshold: int = 256,
) -> Levels:
    """One crop of an image uint8 [H, W, 3], before it is normalised. A solarize_threshold of 256 is none."""
    top, left, height, width = box
    levels = resize(image[top : top + height, left : left + width], size, interpolation)
    if flip:
        levels = levels[:, ::-1]
    neutral = (1, 1, 1, 0)
    parts = (brightness, contrast, saturation, hue)
    for part in order:
        if jitter[part] != neutral[part]:
            levels = parts[part](levels, np.float32(jitter[part]))
    if gray:
        levels = np.repeat(gray_levels(levels), 3, axis=-1)
    if sigma > 0:
        levels = blur(levels, sigma, blur_window)
    solarized: Levels = np.where(levels >= solarize_threshold, 255 - levels, levels)
    return solarized


def resize(pixels: npt.NDArray[np.uint8], size: int, interpolation: Literal["bicubic", "bilinear"]) -> Levels:
    """Antialiased, along the rows and then along the columns; rounded to levels after each."""
    height, width, _ = pixels.shape
    rows = _round(np.einsum("xw,hwc->hxc", resize_weights(size, width, interpolation), pixels.astype(np.float64)))
    return _round(np.einsum("yh,hxc->yxc", resize_weights(size, height, interpolation), rows)).astype(np.float32)


def resize_weights(size: int, length: int, interpolation: Literal["bicubic", "bilinear"]) -> Weights:
    """[size, length]: each output pixel's weights, which sum to 1. Keys' cubic with a = -1/2, or a triangle, as wide as the
    reduction; cut off at the ends of the box. The running sum is rounded to the grid, not each weight."""
    scale = length / size
    stretch = max(scale, 1.0)
    support = (2 if interpolation == "bicubic" else 1) * stretch
    weights = np.zeros((size, length))
    for number in range(size):
        center = (number + 0.5) * scale
        first, last = int(max(center - support + 0.5, 0)), int(min(center + support + 0.5, length))
        distance = np.abs((np.arange(first, last) - center + 0.5) * (1 / stretch))
        raw = _bicubic(distance) if interpolation == "bicubic" else np.maximum(1 - distance, 0)
        running = np.cumsum(raw * ((1 / GRID) / np.cumsum(raw)[-1]))
        weights[number, first:last] = np.diff(np.floor(running + 0.5), prepend=0) * GRID
    return weights


def _bicubic(distance: Weights) -> Weights:
    near = (1.5 * distance - 2.5) * distance * distance + 1
    far = (((distance - 5) * distance + 8) * distance - 4) * -0.5
    return np.where(distance < 1, near, np.where(distance < 2, far, 0))


def brightness(levels: Levels, factor: np.float32) -> Levels:
    """factor x level."""
    return _cut(factor * levels)


def contrast(levels: Levels, factor: np.float32) -> Levels:
    """Away from the mean gray of the picture as it is now, or towards it."""
    mean = np.float32(int(gray_levels(levels).mean(dtype=np.float64) + 0.5))
    return _cut(mean + factor * (levels - mean))


def saturation(levels: Levels, factor: np.float32) -> Levels:
    """Away from each pixel's own gray, or towards it."""
    gray = gray_levels(levels)
    return _cut(gray + factor * (levels - gray))


def hue(levels: Levels, turns: np.float32) -> Levels:
    """To HSV of 8 bits, where hue is turned by 255 steps a turn, and back."""
    value = levels.max(axis=-1).astype(np.int64)
    chroma = value - levels.min(axis=-1).astype(np.int64)
    red, green, blue = np.moveaxis(levels.astype(np.int64), -1, 0)
    sixths = np.where(
        red == value, green - blue, np.where(green == value, 2 * chroma + blue - red, 4 * chroma + red - green)
    ) % np.maximum(6 * chroma, 1)  # of a turn, times chroma
    angle = (255 * sixths // np.maximum(6 * chroma, 1) + int(turns * np.float32(255))) % 256
    saturated = 255 * chroma // np.maximum(value, 1)
    sector, rest = angle * 6 // 255, (angle * 6 % 255) / 255
    low, falling, rising = (
        np.floor(value * (1 - saturated / 255 * share) + 0.5) for share in (np.ones_like(rest), rest, 1 - rest)
    )
    by_sector = [
        (value, rising, low),
        (falling, value, low),
        (low, value, rising),
        (low, falling, value),
        (rising, low, value),
        (value, low, falling),
    ]
    turned = np.select([(sector % 6 == number)[..., None] for number in range(6)], [np.stack(c, axis=-1) for c in by_sector])
    levels_again: Levels = turned.astype(np.float32)
    return levels_again


def gray_levels(levels: Levels) -> Levels:
    """[S, S, 1]: ITU-R 601 in 16 bits, rounded."""
    weighted = levels.astype(np.int64) @ np.array([19595, 38470, 7471])
    gray: Levels = ((weighted + 2**15) >> 16).astype(np.float32)[..., None]
    return gray


def blur(levels: Levels, sigma: float, window: int) -> Levels:
    """A window of Gaussian weights that sum to 1, mirrored at the borders, along the columns and then along the rows; rounded
    to a 128th of a level after the first, and to levels after the second, halves upwards."""
    weights = blur_weights(sigma, window)
    blurred = levels.astype(np.float64)
    for axis, units in ((0, 128), (1, 1)):
        places = np.pad(np.arange(len(levels)), window // 2, mode="reflect" if len(levels) > 1 else "edge")
        spread = np.take(blurred, places, axis=axis)
        parts = [np.take(spread, np.arange(len(levels)) + k, axis=axis) for k in range(window)]
        blurred = np.floor(np.tensordot(weights, np.stack(parts), axes=1) * units + 0.5) / units
    return blurred.astype(np.float32)


def blur_weights(sigma: float, window: int) -> Weights:
    """[window]. The running sum, from the outside on, is rounded to the grid; what is left of 1 is the centre's."""
    bell = np.exp(-0.5 * (np.arange(window // 2, -window // 2, -1) / float(sigma)) ** 2)
    running = np.cumsum(bell[: window // 2]) / (bell.sum() * GRID)
    outer = np.diff(np.floor(running + 0.5), prepend=0) * GRID
    return np.concatenate([outer, [1 - 2 * outer.sum()], outer[::-1]])


def _round(sums: Weights) -> Weights:
    return np.floor(np.clip(sums, 0, 255) + 0.5)


def _cut(levels: Levels) -> Levels:
    return np.trunc(np.clip(levels, 0, 255))
