"""What chance decided: every random number of a batch, drawn at once before any pixel is touched.

A backend draws nothing. Each number is a pure function of (seed, epoch, sample number, view name, view number), so pixels do
not depend on batch size, ranks, threads or backend, and a resumed run needs no saved generator.
"""

import zlib
from dataclasses import dataclass, fields
from itertools import permutations
from typing import Any

import numpy as np
import numpy.typing as npt

from hjepa.kernels import chance
from hjepa.pipeline.recipe import Recipe, View

# B images, V crops of one name. Counters of a view's key: one per decision, so that adding a decision shifts no other.
FLIP, JITTERED, BRIGHTNESS, CONTRAST, SATURATION, HUE, ORDER, GRAY, BLURRED, SIGMA, SOLARIZED, TOP, LEFT = range(13)
ATTEMPTS = range(16, 36, 2)
"""Counters of the area of each of the ten attempts at a box; the aspect ratio's is one higher."""

ORDERS = np.array(list(permutations(range(4))), dtype=np.uint8)
"""All orders of brightness (0), contrast (1), saturation (2) and hue (3)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ViewDraws:
    """The decisions for the V crops of one name, for B images; arrays are contiguous."""

    box: npt.NDArray[np.int32]
    """[B, V, 4]: top, left, height, width in pixels of the source image (as the recipe's orientation says)."""
    flip: npt.NDArray[np.bool_]
    """[B, V]: mirrored left to right."""
    jitter: npt.NDArray[np.float32]
    """[B, V, 4]: factors of brightness, contrast, saturation, and hue in turns; identity (1, 1, 1, 0) where not applied."""
    order: npt.NDArray[np.uint8]
    """[B, V, 4]: the order in which the four parts of the jitter are applied."""
    gray: npt.NDArray[np.bool_]
    """[B, V]: turned gray."""
    sigma: npt.NDArray[np.float32]
    """[B, V]: standard deviation of the blur, in pixels of the output; 0 for none."""
    solarize: npt.NDArray[np.bool_]
    """[B, V]: solarized."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Draws:
    """All decisions for a batch of B images."""

    indices: npt.NDArray[np.int64]
    """[B]: sample numbers."""
    keys: chance.Keys
    """[B]: uint64 keys of (seed, epoch, sample), from which masks go on."""
    views: dict[str, ViewDraws]
    """One entry per name of view."""


def draw(
    recipe: Recipe,
    seed: int,
    epoch: int | npt.NDArray[np.int64],
    indices: npt.NDArray[np.int64],
    sizes: npt.NDArray[np.integer[Any]],
) -> Draws:
    """Draws everything for the samples `indices` [B], whose images have `sizes` [B, 2] (height, width); one epoch, or [B]."""
    keys = chance.key(seed, epoch, indices)
    views: dict[str, ViewDraws] = {}
    for group in recipe.groups():
        count = sum(view.count for view in group)
        name = zlib.crc32(group[0].name.encode())
        view_keys = chance.key(0, keys[:, None], np.uint64(name), np.arange(count))
        parts, start = [], 0
        for view in group:
            parts.append(_draw_view(view, view_keys[:, start : start + view.count], sizes))
            start += view.count
        views[group[0].name] = parts[0] if len(parts) == 1 else _join(parts)
    return Draws(indices=indices, keys=keys, views=views)


def _draw_view(view: View, keys: chance.Keys, sizes: npt.NDArray[np.integer[Any]]) -> ViewDraws:
    numbers = chance.uniform(keys[..., None], np.arange(LEFT + 1))  # [B, V, 13]
    blurred = numbers[..., BLURRED] < view.blur
    sigma = view.sigma[0] + (view.sigma[1] - view.sigma[0]) * numbers[..., SIGMA]
    return ViewDraws(
        box=_central_box(view, sizes) if view.crop == "center" else _random_box(view, keys, numbers, sizes),
        flip=numbers[..., FLIP] < view.flip,
        jitter=_jitter(view, numbers),
        order=ORDERS[(numbers[..., ORDER] * len(ORDERS)).astype(np.int64)],
        gray=numbers[..., GRAY] < view.gray,
        sigma=np.where(blurred, sigma, 0).astype(np.float32),
        solarize=numbers[..., SOLARIZED] < view.solarize,
    )


def _jitter(view: View, numbers: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    identity = np.array([1, 1, 1, 0], dtype=np.float32)
    if view.jitter is None:
        return np.full((*numbers.shape[:2], 4), identity)
    reach = np.array([view.jitter.brightness, view.jitter.contrast, view.jitter.saturation, view.jitter.hue])
    low, high = np.maximum(identity - reach, [0, 0, 0, -1]), identity + reach
    factors = low + (high - low) * numbers[..., BRIGHTNESS : HUE + 1]
    applied = numbers[..., JITTERED, None] < view.jitter.probability
    jitter: npt.NDArray[np.float32] = np.where(applied, factors, identity).astype(np.float32)
    return jitter


def _random_box(
    view: View, keys: chance.Keys, numbers: npt.NDArray[np.float64], sizes: npt.NDArray[np.integer[Any]]
) -> npt.NDArray[np.int32]:
    """torchvision's RandomResizedCrop.get_params: area uniform, aspect log-uniform, ten attempts, then a central crop."""
    image_height, image_width = (np.broadcast_to(sizes[:, axis, None], keys.shape) for axis in (0, 1))
    height, width = _propose(view, chance.uniform(keys[..., None], np.arange(2) + ATTEMPTS[0]), image_height, image_width)
    failed = np.nonzero(~_fits(height, width, image_height, image_width))
    for counter in ATTEMPTS[1:]:  # few boxes ever get here, so only those are drawn again
        if not failed[0].size:
            break
        limits = image_height[failed], image_width[failed]
        again = _propose(view, chance.uniform(keys[failed][:, None], np.arange(2) + counter), *limits)
        height[failed], width[failed] = again
        still = ~_fits(*again, *limits)
        failed = (failed[0][still], failed[1][still])
    fallback = _central_fit(view, image_height[failed], image_width[failed])
    height[failed], width[failed] = fallback
    top = np.floor(numbers[..., TOP] * (image_height - height + 1))
    left = np.floor(numbers[..., LEFT] * (image_width - width + 1))
    top[failed] = (image_height[failed] - fallback[0]) // 2
    left[failed] = (image_width[failed] - fallback[1]) // 2
    return np.stack([top, left, height, width], axis=-1).astype(np.int32)


def _propose(
    view: View, numbers: npt.NDArray[np.float64], image_height: npt.NDArray[Any], image_width: npt.NDArray[Any]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    area = image_height * image_width * (view.area[0] + (view.area[1] - view.area[0]) * numbers[..., 0])
    low, high = np.log(view.ratio)
    aspect = np.exp(low + (high - low) * numbers[..., 1])
    return np.rint(np.sqrt(area / aspect)), np.rint(np.sqrt(area * aspect))


def _fits(
    height: npt.NDArray[Any], width: npt.NDArray[Any], image_height: npt.NDArray[Any], image_width: npt.NDArray[Any]
) -> npt.NDArray[np.bool_]:
    fits: npt.NDArray[np.bool_] = (height > 0) & (width > 0) & (height <= image_height) & (width <= image_width)
    return fits


def _central_fit(
    view: View, image_height: npt.NDArray[Any], image_width: npt.NDArray[Any]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The largest box whose aspect ratio is within the view's range."""
    ratio = image_width / image_height
    height = np.where(ratio < view.ratio[0], np.rint(image_width / view.ratio[0]), image_height)
    width = np.where(ratio > view.ratio[1], np.rint(image_height * view.ratio[1]), image_width)
    # Rounding may give 0 on an image of one row or column, where torchvision would fail.
    return np.clip(height, 1, image_height), np.clip(width, 1, image_width)


def _central_box(view: View, sizes: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.int32]:
    side = np.maximum(1, np.rint(sizes.min(axis=1) * np.sqrt(view.area[0])))
    box = np.stack([(sizes[:, 0] - side) // 2, (sizes[:, 1] - side) // 2, side, side], axis=-1).astype(np.int32)
    return np.repeat(box[:, None], view.count, axis=1)


def _join(parts: list[ViewDraws]) -> ViewDraws:
    names = [field.name for field in fields(ViewDraws)]
    return ViewDraws(**{name: np.concatenate([getattr(part, name) for part in parts], axis=1) for name in names})
