"""What chance decided: every random number of a batch, drawn at once before any pixel is touched.

A backend draws nothing. Each number is a pure function of (seed, epoch, sample number, view name, view number), so pixels do
not depend on batch size, ranks, threads or backend, and a resumed run needs no saved generator.
"""

import zlib
from dataclasses import dataclass, fields
from functools import lru_cache
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
COUNTERS = np.array([*range(LEFT + 1), ATTEMPTS[0], ATTEMPTS[0] + 1])
"""What every crop needs: the thirteen decisions, and the first attempt."""

ORDERS = np.array(list(permutations(range(4))), dtype=np.uint8)
"""All orders of brightness (0), contrast (1), saturation (2) and hue (3)."""

REDUCTIONS = (4, 2)
"""What the sides of an image may be divided by as it is decoded."""
LEAST_KEPT = 1.4
"""Pixels of the reduced image, along a side of any crop, for each pixel of the crop: few of their levels change then."""

IDENTITY = np.array([1, 1, 1, 0], dtype=np.float64)
"""Factors of brightness, contrast and saturation, and hue in turns, that change nothing."""


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
    sizes: npt.NDArray[np.integer[Any]]
    """[B, 2]: height and width of the source image in pixels, as the boxes count them."""
    reduction: npt.NDArray[np.int32]
    """[B]: what both sides of the image may be divided by as it is decoded, 1, 2 or 4, of which its boxes are multiples."""
    views: dict[str, ViewDraws]
    """One entry per name of view."""


def draw(
    recipe: Recipe,
    seed: int,
    epoch: int | npt.NDArray[np.int64],
    indices: npt.NDArray[np.int64],
    sizes: npt.NDArray[np.integer[Any]],
) -> Draws:
    """Draws everything for the samples `indices` [B], whose images have `sizes` [B, 2] (height, width); one epoch, or [B].

    Crops of all names are drawn in one pass, because at the size of a batch numpy's time goes by the number of its calls.
    """
    laws = _laws(recipe)
    keys = chance.key(seed, epoch, indices)
    crop_keys = chance.key(0, keys[:, None], laws.name, laws.number)
    numbers = chance.uniform(crop_keys[..., None], COUNTERS)  # [B, C, 15]
    blurred = numbers[..., BLURRED] < laws.blur
    sigma = laws.sigma[0] + laws.sigma[1] * numbers[..., SIGMA]
    box, reduction = _boxes(laws, crop_keys, numbers, sizes)[:, laws.leader], np.ones(len(indices), dtype=np.int32)
    if recipe.decoding == "reduced":
        box, reduction = _reduce(box, laws.size, sizes)
    drawn = ViewDraws(
        box=box,
        flip=(numbers[..., FLIP] < laws.flip)[:, laws.leader],
        jitter=_jitter(laws, numbers),
        order=ORDERS[(numbers[..., ORDER] * len(ORDERS)).astype(np.int64)],
        gray=numbers[..., GRAY] < laws.gray,
        sigma=np.where(blurred, sigma, 0).astype(np.float32),
        solarize=numbers[..., SOLARIZED] < laws.solarize,
    )
    views = {name: _part(drawn, crops) for name, crops in laws.crops.items()}
    return Draws(indices=indices, keys=keys, sizes=sizes, reduction=reduction, views=views)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Laws:
    """A recipe's numbers as one row per crop, C of them, in the order of its groups. Ranges [2, C] are start and length."""

    crops: dict[str, slice]
    """Name of the view -> its rows."""
    name: npt.NDArray[np.uint64]
    """Hash of the view's name: crops of a name are drawn alike whatever other names a recipe has."""
    number: npt.NDArray[np.int64]
    """Of the crop among those of its name."""
    leader: npt.NDArray[np.int64]
    """The row whose box and flip the crop has: its own, or with `same_box_as` another's."""
    size: npt.NDArray[np.int64]
    """Side of the output."""
    central: npt.NDArray[np.bool_]
    area: npt.NDArray[np.float64]
    log_ratio: npt.NDArray[np.float64]
    flip: npt.NDArray[np.float64]
    jitter: npt.NDArray[np.float64]
    """[2, C, 4]: brightness, contrast, saturation, hue."""
    jittered: npt.NDArray[np.float64]
    gray: npt.NDArray[np.float64]
    blur: npt.NDArray[np.float64]
    sigma: npt.NDArray[np.float64]
    solarize: npt.NDArray[np.float64]


@lru_cache(maxsize=64)
def _laws(recipe: Recipe) -> _Laws:
    views = [view for group in recipe.groups() for view in group for _ in range(view.count)]
    names = [view.name for view in views]
    first = {name: names.index(name) for name in names}
    reach = np.array([_reach(view) for view in views])
    low = np.maximum(IDENTITY - reach, [0, 0, 0, -1])
    return _Laws(
        crops={name: slice(start, start + names.count(name)) for name, start in first.items()},
        name=np.array([zlib.crc32(name.encode()) for name in names], dtype=np.uint64),
        number=np.array([row - first[name] for row, name in enumerate(names)]),
        leader=np.array([row - first[view.name] + first[view.same_box_as or view.name] for row, view in enumerate(views)]),
        size=np.array([view.size for view in views]),
        central=np.array([view.crop == "center" for view in views]),
        area=_start_and_length([view.area for view in views]),
        log_ratio=_start_and_length(np.log([view.ratio for view in views])),
        flip=np.array([view.flip for view in views]),
        jitter=np.stack([low, IDENTITY + reach - low]),
        jittered=np.array([view.jitter.probability if view.jitter else 0 for view in views]),
        gray=np.array([view.gray for view in views]),
        blur=np.array([view.blur for view in views]),
        sigma=_start_and_length([view.sigma for view in views]),
        solarize=np.array([view.solarize for view in views]),
    )


def _reach(view: View) -> tuple[float, float, float, float]:
    jitter = view.jitter
    return (0, 0, 0, 0) if jitter is None else (jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue)


def _start_and_length(ranges: npt.ArrayLike) -> npt.NDArray[np.float64]:
    low, high = np.asarray(ranges, dtype=np.float64).T
    return np.stack([low, high - low])


def _jitter(laws: _Laws, numbers: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    factors = laws.jitter[0] + laws.jitter[1] * numbers[..., BRIGHTNESS : HUE + 1]
    applied = numbers[..., JITTERED, None] < laws.jittered[:, None]
    jitter: npt.NDArray[np.float32] = np.where(applied, factors, IDENTITY).astype(np.float32)
    return jitter


def _boxes(
    laws: _Laws, keys: chance.Keys, numbers: npt.NDArray[np.float64], sizes: npt.NDArray[np.integer[Any]]
) -> npt.NDArray[np.int32]:
    """torchvision's RandomResizedCrop.get_params: area uniform, aspect log-uniform, ten attempts, then a central crop."""
    pixels = sizes.astype(np.int64)  # as int32 the area of more than 2^31 would overflow
    image_height, image_width = (np.broadcast_to(pixels[:, axis, None], keys.shape) for axis in (0, 1))
    height, width = _propose(laws.area, laws.log_ratio, numbers[..., LEFT + 1 :], image_height, image_width)
    central = np.zeros(keys.shape, dtype=np.bool_)
    failed = np.nonzero(~_fits(height, width, image_height, image_width))
    if failed[0].size:
        again = _box_again(laws, keys[failed], failed[1], image_height[failed], image_width[failed])
        height[failed], width[failed], central[failed] = again
    free_rows, free_columns = image_height - height, image_width - width
    top = np.where(central, free_rows // 2, np.floor(numbers[..., TOP] * (free_rows + 1)))
    left = np.where(central, free_columns // 2, np.floor(numbers[..., LEFT] * (free_columns + 1)))
    boxes = np.stack([top, left, height, width], axis=-1).astype(np.int32)
    if laws.central.any():
        boxes[:, laws.central] = _central_boxes(np.sqrt(laws.area[0, laws.central]), sizes)
    return boxes


def _box_again(
    laws: _Laws,
    keys: chance.Keys,
    crops: npt.NDArray[np.int64],
    image_height: npt.NDArray[Any],
    image_width: npt.NDArray[Any],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """For F boxes whose first attempt failed: height and width [F] of the first of nine others that fits, or of the central
    crop, where the last says so. crops [F]: which crop each is."""
    counters = np.array(ATTEMPTS[1:])[:, None] + np.arange(2)
    limits = image_height[:, None], image_width[:, None]
    area, log_ratio = laws.area[:, crops, None], laws.log_ratio[:, crops, None]
    height, width = _propose(area, log_ratio, chance.uniform(keys[:, None, None], counters), *limits)  # [F, 9]
    fits = _fits(height, width, *limits)
    first = fits.argmax(axis=1)
    central = np.logical_not(fits.any(axis=1))
    height, width = (np.take_along_axis(side, first[:, None], axis=1)[:, 0] for side in (height, width))
    height[central], width[central] = _central_fit(
        np.exp(log_ratio[:, central, 0]), image_height[central], image_width[central]
    )
    return height, width, central


def _propose(
    area: npt.NDArray[np.float64],
    log_ratio: npt.NDArray[np.float64],
    numbers: npt.NDArray[np.float64],
    image_height: npt.NDArray[Any],
    image_width: npt.NDArray[Any],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    pixels = image_height * image_width * (area[0] + area[1] * numbers[..., 0])
    aspect = np.exp(log_ratio[0] + log_ratio[1] * numbers[..., 1])
    return np.rint(np.sqrt(pixels / aspect)), np.rint(np.sqrt(pixels * aspect))


def _fits(
    height: npt.NDArray[Any], width: npt.NDArray[Any], image_height: npt.NDArray[Any], image_width: npt.NDArray[Any]
) -> npt.NDArray[np.bool_]:
    fits: npt.NDArray[np.bool_] = (height > 0) & (width > 0) & (height <= image_height) & (width <= image_width)
    return fits


def _central_fit(
    ratios: npt.NDArray[np.float64], image_height: npt.NDArray[Any], image_width: npt.NDArray[Any]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The largest box whose aspect ratio is within the range: ratios [2, F], least and (times) greatest."""
    least, greatest = ratios[0], ratios[0] * ratios[1]
    ratio = image_width / image_height
    height = np.where(ratio < least, np.rint(image_width / least), image_height)
    width = np.where(ratio > greatest, np.rint(image_height * greatest), image_width)
    # Rounding may give 0 on an image of one row or column, where torchvision would fail.
    return np.maximum(height, 1), np.maximum(width, 1)


def _central_boxes(shares: npt.NDArray[np.float64], sizes: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.int32]:
    """[B, len(shares), 4]: central squares whose sides are these shares of the image's short side."""
    side = np.maximum(1, np.rint(sizes.min(axis=1)[:, None] * shares))
    return np.stack([(sizes[:, :1] - side) // 2, (sizes[:, 1:] - side) // 2, side, side], axis=-1).astype(np.int32)


def _reduce(
    boxes: npt.NDArray[np.int32], outputs: npt.NDArray[np.int64], sizes: npt.NDArray[np.integer[Any]]
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """What each image may be reduced by, [B], and its boxes [B, C, 4], whose edges go to the nearest pixels of the reduced one.

    outputs [C]: sides of the crops. Whether an image is one that can be reduced, a backend sees; its boxes are these anyway.
    """
    kept = (boxes[..., 2:].min(axis=-1) / outputs).min(axis=1)
    reduction = np.select([kept >= LEAST_KEPT * by for by in REDUCTIONS], REDUCTIONS, 1).astype(np.int32)
    by, edges = reduction[:, None, None], boxes.astype(np.int64)  # twice an edge may be beyond int32
    end = np.minimum((2 * (edges[..., :2] + edges[..., 2:]) + by) // (2 * by), sizes[:, None] // by)
    start = (2 * edges[..., :2] + by) // (2 * by)  # before the end, because of LEAST_KEPT
    return (np.concatenate([start, end - start], axis=-1) * by).astype(np.int32), reduction


def _part(drawn: ViewDraws, crops: slice) -> ViewDraws:
    """The draws of some of the crops, each array contiguous."""
    names = [field.name for field in fields(ViewDraws)]
    return ViewDraws(**{name: np.ascontiguousarray(getattr(drawn, name)[:, crops]) for name in names})
