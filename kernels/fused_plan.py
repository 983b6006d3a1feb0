"""What the kernels of fused_crops_triton.py read of a batch: one row of numbers per crop, and where its pieces of work end.

A piece of work finds its crop, whatever the crop's size, name and filter, so that all crops of a batch share four launches;
and everything goes to the GPU in one copy.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hjepa.kernels.fused_crops import MAX_SIDE, Colours, CropGroup, Decoded

# B images, V crops of one name, C crops of all names (those of an image follow each other), R the widest blur's radius
Columns: TypeAlias = dict[str, npt.NDArray[Any]]
"""By name, one value or row for each crop [C, ...]."""

PLACES = ("pixels", "row_bytes", "out", "picture", "weights_down", "weights_across", "weights_of_blur", "firsts")
"""int64: address of the box's first pixel, bytes from one row to the next, and address of what is written; then where the
crop's levels, its weights along either axis and those of its blur, and the first taps along both axes begin in the memory
that the kernels share."""
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
MAX_WIDTH = 1 << 27
"""Of an image: the bytes of some of its rows are counted in 32 bits."""
ALIGNMENT = 16
"""Of a colour's levels."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """C crops, as the kernels read them."""

    places: npt.NDArray[np.int64]
    """[C, 8]: PLACES."""
    numbers: npt.NDArray[np.int32]
    """[C, 11 + NUM_PARTS]: NUMBERS and the parts."""
    factors: npt.NDArray[np.float32]
    """[C, NUM_PARTS]: of the parts; of the hue, by how many of 256 steps it turns."""
    bells: npt.NDArray[np.int32]
    """[C, R + 1]: weights of the blur, from the central one on, in units of 2**-GRID_BITS."""
    colours: npt.NDArray[np.float32]
    """[2, 3]: by colour, what a level is multiplied by, and what is added then."""
    num_weights: int
    """Of all crops, both axes and the blurs."""
    num_firsts: int
    num_levels: int
    """Of the crops whose levels wait for a mean or for a blur."""

    def column(self, name: str) -> npt.NDArray[np.int64]:
        """One of NUMBERS [C]."""
        return self.numbers[:, NUMBERS.index(name)].astype(np.int64)


def make_plan(decoded: Decoded, groups: Sequence[CropGroup], mean: Colours, std: Colours) -> Plan:
    """The crops of all groups, image by image, because an image is in the cache then. Raises ValueError for wrong values."""
    drawn = {name: _beside(groups, name) for name in ("box", "flip", "jitter", "order", "gray", "sigma", "solarize")}
    _check_values(decoded, drawn)
    columns = _geometry(decoded, groups, drawn["box"]) | _parts(drawn) | _blur(groups, drawn["sigma"])
    columns["flip"] = drawn["flip"]
    columns["threshold"] = np.where(drawn["solarize"], _of_crops(groups, [group.solarize_threshold for group in groups]), 256)
    places, num_weights, num_firsts, num_levels = _shared_memory(columns)
    columns |= places
    deviations = np.asarray(std, dtype=np.float64)
    return Plan(
        places=np.stack([columns[name] for name in PLACES], axis=1),
        numbers=np.column_stack([*(columns[name] for name in NUMBERS), columns["parts"]]).astype(np.int32),
        factors=columns["factors"],
        bells=columns["bells"],
        colours=np.stack([1 / (255 * deviations), -np.asarray(mean, dtype=np.float64) / deviations]).astype(np.float32),
        num_weights=num_weights,
        num_firsts=num_firsts,
        num_levels=num_levels,
    )


def _beside(groups: Sequence[CropGroup], name: str) -> npt.NDArray[Any]:
    """What was drawn for all groups' crops [C, ...]: those of an image follow each other."""
    arrays = [getattr(group, name) for group in groups]
    joined = arrays[0] if len(arrays) == 1 else np.concatenate(arrays, axis=1)
    return joined.reshape(-1, *joined.shape[2:])


def _of_crops(groups: Sequence[CropGroup], values: Sequence[int]) -> npt.NDArray[np.int64]:
    """A value of each group, for each of its crops [C]."""
    of_image = np.repeat(np.array(values, dtype=np.int64), [group.out.shape[0] for group in groups])
    return np.tile(of_image, groups[0].out.shape[1])


def ends_of_pieces(crops: npt.NDArray[np.bool_], counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
    """int32 [C]: how many pieces of work there are up to the last of each crop; counts [C]: of those that are chosen [C]."""
    return np.cumsum(np.where(crops, counts, 0)).astype(np.int32)


def rows_of_tile(plan: Plan, tile_rows: int) -> npt.NDArray[np.int64]:
    """Rows of each crop's box that so many rows of its output are made of, at most [C]."""
    height, size = plan.column("height"), plan.column("size")
    between = np.ceil((np.minimum(tile_rows, size) - 1) * (height / size)).astype(np.int64) + 1
    rows: npt.NDArray[np.int64] = np.minimum(height, between + plan.column("taps_down"))
    return rows


def groups_of_tile(plan: Plan, tile_rows: int) -> int:
    """Groups of four rows that are read for a tile, at most: of the box, and of what follows it, which weighs nothing."""
    return int((by_fours(rows_of_tile(plan, tile_rows)) + by_fours(plan.column("taps_down"))).max()) // 4 + 1


def columns_of_band(plan: Plan, columns: int) -> int:
    """Columns of a blurred band that are written, so many at a time, or read, at most: a multiple of that."""
    written = -(-plan.column("size") // columns) * columns
    beyond = np.where(plan.column("radius") > 0, plan.column("radius") + 7, -written)
    return int((-(-(written + beyond) // columns) * columns).max())


def _check_values(decoded: Decoded, drawn: Columns) -> None:
    """As csrc/checks.cpp, and MAX_WIDTH."""
    box = drawn["box"].reshape(len(decoded.sizes), -1, 4)
    first, sides = box[..., :2], box[..., 2:]
    if ((first < 0) | (sides < 1) | (sides > MAX_SIDE) | (first > decoded.sizes[:, None] - sides)).any():
        raise ValueError(f"a box is not within its image, or longer than {MAX_SIDE} pixels")
    if (decoded.sizes[:, 1] > MAX_WIDTH).any():
        raise ValueError(f"an image is wider than {MAX_WIDTH} pixels")
    if (np.sort(drawn["order"], axis=-1) != np.arange(4)).any():
        raise ValueError("order must hold 0, 1, 2 and 3 for every crop")
    factors, turns = drawn["jitter"][:, :HUE], drawn["jitter"][:, HUE]
    if not ((factors >= 0) & (factors <= 1e6)).all():
        raise ValueError("jitter's factors must be between 0 and 1e6")
    if not (np.abs(turns) <= 0.5).all():
        raise ValueError("jitter's hue must be between -0.5 and 0.5 turns")
    if not (np.isfinite(drawn["sigma"]) & (drawn["sigma"] >= 0)).all():
        raise ValueError("sigma must be finite, and 0 or more")


def _geometry(decoded: Decoded, groups: Sequence[CropGroup], box: npt.NDArray[np.int32]) -> Columns:
    """Where each crop's pixels come from and go to, and how wide the filter is."""
    top, left, height, width = np.ascontiguousarray(box.T, dtype=np.int64)
    images, crops = np.arange(len(decoded.sizes)), sum(group.out.shape[0] for group in groups)
    row_bytes = np.repeat(3 * decoded.sizes[:, 1].astype(np.int64), crops)
    size = _of_crops(groups, [group.out.shape[-1] for group in groups])
    support = _of_crops(groups, [2 if group.interpolation == "bicubic" else 1 for group in groups])
    out = [
        group.out.data_ptr() + group.out[0, 0].nbytes * (np.arange(len(group.out)) * len(images) + images[:, None])
        for group in groups
    ]
    return {
        "pixels": np.repeat(decoded.pointers, crops) + top * row_bytes + 3 * left,
        "row_bytes": row_bytes,
        "out": np.concatenate(out, axis=1).reshape(-1),
        "height": height,
        "width": width,
        "size": size,
        "taps_down": _taps(size, height, support),
        "taps_across": _taps(size, width, support),
        "support": support,
    }


def _taps(size: npt.NDArray[np.int64], length: npt.NDArray[np.int64], support: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """As many pixels as a filter covers: fewer than PIL makes room for, and the weights of the others are 0."""
    widest = np.ceil(2 * support * np.maximum(length / size, 1)).astype(np.int64)
    taps: npt.NDArray[np.int64] = np.minimum(widest, length)
    return taps


def _parts(drawn: Columns) -> Columns:
    """The parts of the jitter that change something, in their order, and gray after them."""
    order, jitter, rows = drawn["order"], drawn["jitter"], np.arange(len(drawn["order"]))[:, None]
    steps = (jitter[:, HUE] * np.float32(255)).astype(np.int32) & 255
    factors = np.column_stack([jitter[:, :HUE], steps, np.zeros_like(steps)]).astype(np.float32)
    parts = np.full((len(order), NUM_PARTS), GRAY, dtype=np.int64)
    parts[:, :GRAY] = order
    active = np.column_stack([(jitter != NEUTRAL)[rows, order], drawn["gray"]])
    parts = parts[rows, np.argsort(~active, axis=1, kind="stable")]
    num_parts = active.sum(axis=1)
    around_mean = (parts == CONTRAST) & (np.arange(NUM_PARTS) < num_parts[:, None])
    return {
        "parts": parts,
        "factors": factors[rows, parts],
        "num_parts": num_parts,
        "contrast": np.where(around_mean.any(axis=1), around_mean.argmax(axis=1), num_parts),
    }


def _blur(groups: Sequence[CropGroup], sigma: npt.NDArray[np.float32]) -> Columns:
    """`fused_reference.blur_weights`, and the distance beyond which there are none: 0 where nothing is blurred."""
    reach = [group.blur_window // 2 for group in groups]
    bells = np.zeros((len(sigma), max(reach) + 1), dtype=np.int32)
    bells[:, 0] = 1 << GRID_BITS
    for radius in set(reach):
        blurred = np.flatnonzero((sigma > 0) & (_of_crops(groups, reach) == radius))
        bell = np.exp(-0.5 * (np.arange(radius, 0, -1) / sigma[blurred, None].astype(np.float64)) ** 2)
        running = np.cumsum(bell, axis=1) / (1 + 2 * bell.sum(axis=1, keepdims=True)) * (1 << GRID_BITS)
        outer = np.diff(np.floor(running + 0.5), prepend=0, axis=1)[:, ::-1]
        bells[blurred, 0] -= 2 * outer.sum(axis=1).astype(np.int32)
        bells[blurred, 1 : radius + 1] = outer
    return {"bells": bells, "radius": ((bells != 0) * np.arange(max(reach) + 1)).max(axis=1)}


def _shared_memory(columns: Columns) -> tuple[Columns, int, int, int]:
    """Where each crop's weights, first taps and levels begin, and how many there are of each."""
    size, radius = columns["size"], columns["radius"]
    down, across = (by_fours(columns[taps]) * size for taps in ("taps_down", "taps_across"))
    blur = np.where(radius > 0, np.minimum(by_fours(2 * radius + 4), by_fours(size)) * size, 0)
    waits = (columns["contrast"] < columns["num_parts"]) | (radius > 0)
    levels = np.where(waits, 3 * plane_bytes(size), 0)
    ends_of_weights, ends_of_levels = np.cumsum(down + across + blur), np.cumsum(levels)
    places = {
        "weights_down": ends_of_weights - down - across - blur,
        "weights_across": ends_of_weights - across - blur,
        "weights_of_blur": ends_of_weights - blur,
        "firsts": 2 * (np.cumsum(size) - size),
        "picture": ends_of_levels - levels,
    }
    return places, int(ends_of_weights[-1]), int(2 * size.sum()), int(ends_of_levels[-1])


def by_fours(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Up to whole groups of four, which are read together."""
    return (counts + 3) // 4 * 4


def plane_bytes(size: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Of one colour's levels."""
    return by_fours(size) ** 2
