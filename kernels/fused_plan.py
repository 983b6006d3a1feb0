"""What the kernels of fused_crops_triton.py read of a batch: one row of numbers per crop, and lists of the pieces of work.

A piece of work names its crop, whatever the crop's size, name and filter, so that all crops of a batch share four launches;
and everything goes to the GPU in one copy.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hjepa.kernels.fused_crops import Colours, CropGroup, Decoded

# B images, V crops of one name, C crops of all names (those of an image follow each other), R the widest blur's radius
Columns: TypeAlias = dict[str, npt.NDArray[Any]]
"""By name, one value or row for each crop [C, ...]."""

PLACES = ("pixels", "row_bytes", "out", "picture", "weights_down", "weights_across", "firsts")
"""int64: address of the box's first pixel, bytes from one row to the next, and address of what is written; then where the
crop's levels, its weights along either axis, and the first taps along both begin in the memory that the kernels share."""
NUMBERS: tuple[str, ...] = ("height", "width", "size", "taps_down", "taps_across", "support", "flip")
NUMBERS += ("contrast", "num_parts", "radius", "threshold")
"""int32: sides of the box and of the output; taps of an output pixel along either axis, at most; half the filter's width; 1
for mirrored; place of the contrast among the parts (their number, if there is none), and their number; the blur's radius (0
for none); the level from which on levels are inverted (256 for none). The parts follow, in their order."""
BRIGHTNESS, CONTRAST, SATURATION, HUE, GRAY = range(5)
NUM_PARTS = 5
NEUTRAL = np.array([1, 1, 1, 0], dtype=np.float32)
GRID_BITS = 14
"""Weights of the blur are multiples of 2**-GRID_BITS, as those of the resize."""
ALIGNMENT = 16
"""Of a colour's levels."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """C crops, as the kernels read them."""

    places: npt.NDArray[np.int64]
    """[C, 7]: PLACES."""
    numbers: npt.NDArray[np.int32]
    """[C, 11 + NUM_PARTS]: NUMBERS and the parts."""
    factors: npt.NDArray[np.float32]
    """[C, NUM_PARTS]: of the parts; of the hue, by how many of 256 steps it turns."""
    bells: npt.NDArray[np.int32]
    """[C, R + 1]: weights of the blur, from the central one on, in units of 2**-GRID_BITS."""
    colours: npt.NDArray[np.float32]
    """[2, 3]: by colour, what a level is multiplied by, and what is added then."""
    num_weights: int
    """Of all crops and both axes."""
    num_firsts: int
    num_levels: int
    """Of the crops whose levels wait for a mean or for a blur."""

    def column(self, name: str) -> npt.NDArray[np.int64]:
        """One of NUMBERS [C]."""
        return self.numbers[:, NUMBERS.index(name)].astype(np.int64)


def make_plan(decoded: Decoded, groups: Sequence[CropGroup], mean: Colours, std: Colours) -> Plan:
    """The crops of all groups, image by image, because an image is in the cache then."""
    radius = max(group.blur_window // 2 for group in groups)
    described = [_geometry(decoded, group) | _parts(group) | _blur(group, radius) for group in groups]
    image = np.concatenate([np.repeat(np.arange(len(decoded.sizes)), group.out.shape[0]) for group in groups])
    order = np.argsort(image, kind="stable")
    columns = {name: np.concatenate([columns[name] for columns in described])[order] for name in described[0]}
    places, num_weights, num_firsts, num_levels = _shared_memory(columns)
    columns |= places
    deviations = np.asarray(std, dtype=np.float64)
    return Plan(
        places=np.stack([columns[name] for name in PLACES], axis=1).astype(np.int64),
        numbers=np.column_stack([*(columns[name] for name in NUMBERS), columns["parts"]]).astype(np.int32),
        factors=columns["factors"],
        bells=columns["bells"],
        colours=np.stack([1 / (255 * deviations), -np.asarray(mean, dtype=np.float64) / deviations]).astype(np.float32),
        num_weights=num_weights,
        num_firsts=num_firsts,
        num_levels=num_levels,
    )


def pieces(crops: npt.NDArray[np.bool_], counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
    """int32 [I, 2]: crop and number of every piece of work of the crops that are chosen [C]; counts [C]: pieces of each."""
    counts = np.where(crops, counts, 0)
    crop = np.repeat(np.arange(len(counts)), counts)
    return np.stack([crop, np.arange(len(crop)) - (np.cumsum(counts) - counts)[crop]], axis=1).astype(np.int32)


def rows_of_tile(plan: Plan, tile_rows: int) -> int:
    """Rows of a box that so many rows of its output are made of, at most."""
    height, size = plan.column("height"), plan.column("size")
    between = np.ceil((np.minimum(tile_rows, size) - 1) * (height / size)).astype(np.int64) + 1
    return int(np.minimum(height, between + plan.column("taps_down")).max())


def _geometry(decoded: Decoded, group: CropGroup) -> Columns:
    """Where each crop's pixels come from and go to, and how wide the filter is. Rows are by image, then by view."""
    num_views, num_images, _, size, _ = group.out.shape
    top, left, height, width = group.box.reshape(-1, 4).astype(np.int64).T
    image, view = np.divmod(np.arange(num_images * num_views), num_views)
    row_bytes = 3 * decoded.sizes[image, 1].astype(np.int64)
    support = 2 if group.interpolation == "bicubic" else 1
    bytes_of_crop = 3 * size * size * group.out.element_size()
    return {
        "pixels": decoded.pointers[image] + top * row_bytes + 3 * left,
        "row_bytes": row_bytes,
        "out": group.out.data_ptr() + (view * num_images + image) * bytes_of_crop,
        "height": height,
        "width": width,
        "size": np.full_like(height, size),
        "taps_down": _taps(size, height, support),
        "taps_across": _taps(size, width, support),
        "support": np.full_like(height, support),
        "flip": group.flip.reshape(-1),
        "threshold": np.where(group.solarize.reshape(-1), group.solarize_threshold, 256),
    }


def _taps(size: int, length: npt.NDArray[np.int64], support: int) -> npt.NDArray[np.int64]:
    """As many as PIL makes room for."""
    widest = np.ceil(support * np.maximum(length / size, 1)).astype(np.int64) * 2 + 1
    taps: npt.NDArray[np.int64] = np.minimum(widest, length)
    return taps


def _parts(group: CropGroup) -> Columns:
    """The parts of the jitter that change something, in their order, and gray after them."""
    order, jitter = group.order.reshape(-1, 4).astype(np.int64), group.jitter.reshape(-1, 4)
    gray = group.gray.reshape(-1, 1)
    parts = np.concatenate([order, np.full_like(order[:, :1], GRAY)], axis=1)
    active = np.concatenate([np.take_along_axis(jitter != NEUTRAL, order, 1), gray], axis=1)
    steps = (jitter[:, HUE:] * np.float32(255)).astype(np.int32) & 255
    factors = np.concatenate([jitter[:, :HUE], steps, np.zeros_like(gray)], axis=1)
    kept = np.argsort(~active, axis=1, kind="stable")
    parts = np.take_along_axis(parts, kept, 1)
    num_parts = active.sum(axis=1)
    around_mean = (parts == CONTRAST) & (np.arange(NUM_PARTS) < num_parts[:, None])
    return {
        "parts": parts,
        "factors": np.take_along_axis(factors, parts, 1).astype(np.float32),
        "num_parts": num_parts,
        "contrast": np.where(around_mean.any(axis=1), around_mean.argmax(axis=1), num_parts),
    }


def _blur(group: CropGroup, widest: int) -> Columns:
    """`fused_reference.blur_weights`, and the distance beyond which there are none: 0 where nothing is blurred."""
    radius, sigma = group.blur_window // 2, group.sigma.reshape(-1, 1).astype(np.float64)
    blurs = sigma > 0
    bell = np.exp(-0.5 * (np.arange(radius, 0, -1) / np.where(blurs, sigma, 1)) ** 2) * blurs
    running = np.cumsum(bell, axis=1) / (1 + 2 * bell.sum(axis=1, keepdims=True)) * (1 << GRID_BITS)
    outer = np.diff(np.floor(running + 0.5), prepend=0, axis=1)[:, ::-1]
    bells = np.zeros((len(sigma), widest + 1), dtype=np.int32)
    bells[:, 0] = (1 << GRID_BITS) - 2 * outer.sum(axis=1)
    bells[:, 1 : radius + 1] = outer
    return {"bells": bells, "radius": ((bells != 0) * np.arange(widest + 1)).max(axis=1)}


def _shared_memory(columns: Columns) -> tuple[Columns, int, int, int]:
    """Where each crop's weights, first taps and levels begin, and how many there are of each."""
    size = columns["size"]
    down, across = ((columns[taps] + 3) // 4 * 4 * size for taps in ("taps_down", "taps_across"))  # read by fours
    waits = (columns["contrast"] < columns["num_parts"]) | (columns["radius"] > 0)
    levels = np.where(waits, 3 * plane_bytes(size), 0)
    ends_of_weights, ends_of_levels = np.cumsum(down + across), np.cumsum(levels)
    places = {
        "weights_down": ends_of_weights - down - across,
        "weights_across": ends_of_weights - across,
        "firsts": 2 * (np.cumsum(size) - size),
        "picture": ends_of_levels - levels,
    }
    return places, int(ends_of_weights[-1]), int(2 * size.sum()), int(ends_of_levels[-1])


def plane_bytes(size: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Of one colour's levels."""
    return (size * size + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT
