"""What the DALI graph is fed with, batch by batch: the encoded images, their sizes, and the draws as operators' arguments."""

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hjepa.pipeline.backend import Request
from hjepa.pipeline.draws import ViewDraws
from hjepa.pipeline.recipe import Recipe, View
from hjepa.pipeline.source import Encoded

# B images, V crops of one name
Contents: TypeAlias = npt.NDArray[np.uint8] | list[npt.NDArray[np.uint8]]
"""Paths, or the contents of files, as DALI takes them."""
Inputs: TypeAlias = list[npt.NDArray[Any] | list[npt.NDArray[np.uint8]]]
"""One batch: encoded images, sizes int32 [B, 2], then one array for each of `names_of` of each group of views."""


def inputs_of(request: Request, recipe: Recipe) -> Inputs:
    """The batch as the graph's inputs, contiguous: DALI refuses strides."""
    inputs: Inputs = [contents_of(request.encoded), request.sizes]
    for group in recipe.groups():
        values = _values(group[0], request.draws.views[group[0].name])
        inputs += [np.ascontiguousarray(values[name]) for name in names_of(group)]
    return inputs


def names_of(group: tuple[View, ...]) -> list[str]:
    """The inputs of a group of views, in the order in which `inputs_of` gives them: of the operators that any view may need."""
    names = [f"{edge}_{number}" for number in range(count(group)) for edge in ("start", "end")]
    has_jitter = any(view.jitter is not None for view in group)
    if has_jitter:
        names += ["brightness", "contrast"]
    if has_jitter or any(view.gray > 0 for view in group):
        names += ["saturation", "hue_degrees"]
    if any(view.blur > 0 for view in group):
        names += ["sigma", "blur_window"]
    if any(view.solarize > 0 for view in group):
        names += ["solarize_threshold"]
    return names


def _values(view: View, drawn: ViewDraws) -> dict[str, npt.NDArray[Any]]:
    top, left, height, width = np.moveaxis(drawn.box.astype(np.float32), -1, 0)
    right = left + width
    # A region of interest whose ends are swapped is mirrored by the resize itself: the flip is free.
    start = np.stack([top, np.where(drawn.flip, right, left)], axis=-1)
    end = np.stack([top + height, np.where(drawn.flip, left, right)], axis=-1)
    return {
        **{f"start_{number}": start[:, number] for number in range(start.shape[1])},
        **{f"end_{number}": end[:, number] for number in range(end.shape[1])},
        "brightness": drawn.jitter[..., 0],
        "contrast": drawn.jitter[..., 1],
        "saturation": np.where(drawn.gray, np.float32(0), drawn.jitter[..., 2]),
        "hue_degrees": drawn.jitter[..., 3] * np.float32(360),
        "sigma": np.maximum(drawn.sigma, np.float32(0.1)),
        "blur_window": np.where(drawn.sigma > 0, view.blur_window, 1).astype(np.int32),  # a window of 1 changes nothing
        "solarize_threshold": np.where(drawn.solarize, view.solarize_threshold, 256).astype(np.int32),
    }


def contents_of(encoded: Encoded) -> Contents:
    """Contents as they are; paths as [B, longest path] bytes padded with NUL, read by DALI without a list of B arrays."""
    if isinstance(encoded, list):
        return encoded
    return np.ascontiguousarray(encoded).view(np.uint8).reshape(len(encoded), -1)


def count(group: tuple[View, ...]) -> int:
    """Crops of the group."""
    return sum(view.count for view in group)
