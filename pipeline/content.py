"""What a map-style data set holds, as a digest: two runs must find the same images behind the same numbers.

All labels and choices that lie open are taken in, and of the images themselves some, evenly spaced: all would have to be read.
"""

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from hjepa.pipeline.source import Samples

# N images
IN_MEMORY, ELSEWHERE = 1000, 8
"""Items that are looked at in a list, where they are at hand, and in any other data set, where each may be a download."""
ATTRIBUTES = ("targets", "labels", "indices", "samples")
"""Where torchvision's data sets and torch's Subset keep labels, choices, and files with labels."""
ADDRESS = re.compile(r" at 0x[0-9A-Fa-f]+")
"""In the text of an object, such as an image of PIL, that lies elsewhere in the next process."""


def digest(dataset: Any, labels: npt.NDArray[np.int64] | None, fetch: Callable[[int], Samples]) -> str:
    """Of the labels (where they are known), of what lies open in the data set and in those it wraps, and of some items.

    No item is read where Hugging Face's own fingerprint says it all, or where a transform may make another image of it at every
    reading; an item that differs when it is read again counts without its content, and so does one that cannot be read.
    """
    parts = hashlib.sha256(b"" if labels is None else labels.tobytes())
    for one in _chain(dataset):
        for name in ATTRIBUTES:
            parts.update(_plain(getattr(one, name, None)))
        parts.update(str(getattr(one, "_fingerprint", "")).encode())
    if not any(hasattr(one, "_fingerprint") or _is_transformed(one) for one in _chain(dataset)):
        is_listed = isinstance(dataset, list | tuple)
        count = IN_MEMORY if is_listed else ELSEWHERE
        for index in np.unique(np.linspace(0, len(dataset) - 1, count).round().astype(np.int64)):
            item = _item(fetch(index))
            parts.update(item if is_listed or item == _item(fetch(index)) else b"changing")
    return parts.hexdigest()


def _chain(dataset: Any) -> Iterator[Any]:
    """The data set, and those that it wraps, as torch's Subset does."""
    seen: list[Any] = []
    while dataset is not None and not any(dataset is one for one in seen):
        seen.append(dataset)
        dataset = getattr(dataset, "dataset", None)
    yield from seen


def _is_transformed(dataset: Any) -> bool:
    return getattr(dataset, "transform", None) is not None or getattr(dataset, "transforms", None) is not None


def _item(samples: Samples) -> bytes:
    """Digest of one image and its label."""
    image = b"" if samples.failures else bytes(samples.encoded[0])
    return hashlib.sha256(image).digest() + samples.labels.tobytes()


def _plain(values: Any) -> bytes:
    """Numbers, or pairs of a file and its label, as bytes; of files the last part of the name, for folders are moved."""
    if hasattr(values, "tolist"):  # of numpy and torch
        values = values.tolist()
    if not isinstance(values, list | tuple | range):
        return b""
    rows = [[_moved(one) for one in row] if isinstance(row, list | tuple) else _moved(row) for row in values]
    return ADDRESS.sub("", repr(rows)).encode(errors="surrogateescape")


def _moved(value: Any) -> Any:
    return os.path.basename(value) if isinstance(value, str | os.PathLike) else value
