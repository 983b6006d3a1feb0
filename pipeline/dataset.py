"""Any map-style data set (of torch, torchvision, Hugging Face, or a plain sequence) that yields PIL images, bytes or arrays.

Its items are read when they are needed. What is encoded stays so and is decoded by the backend: a Hugging Face data set is
therefore asked for its files, not for images. What comes decoded is turned into RGB as pixels.py says.
"""

import hashlib
import io
import logging
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from torch.utils.data import Subset

from hjepa.pipeline import content
from hjepa.pipeline.forks import OwnLock
from hjepa.pipeline.header import MAX_PIXELS, explain, read_header, too_large
from hjepa.pipeline.labels import LABEL_NAMES, number_labels
from hjepa.pipeline.pixels import array_to_rgb, to_rgb
from hjepa.pipeline.source import BadImage, Samples, as_ppm

# N images of the source, B images of a batch
IMAGE_NAMES = ("image", "img", "jpg", "png", "webp", "pixel_values")
"""Where the image stands in an item that is a dictionary; the first that is there counts."""
_ONE_AT_A_TIME = OwnLock()
"""Held for each item of any data set: several Loaders may read one, and parts of one that torch's random_split made."""
log = logging.getLogger("hjepa")


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetSource:
    """N items of a data set; a Source. An item that raises, or holds no usable image, is a failure of that sample alone."""

    dataset: Any
    labels: npt.NDArray[np.int64] | None
    """[N] where they are known before an item is read; None: as the items say."""
    classes: tuple[str, ...]
    max_pixels: int
    known: list[str] = field(default_factory=list, init=False, repr=False, compare=False)
    """The fingerprint, once it was asked for."""

    @property
    def name(self) -> str:
        """The data set's class."""
        return f"{type(self.dataset).__module__}.{type(self.dataset).__qualname__}".removeprefix("builtins.")

    @property
    def bad(self) -> Sequence[BadImage]:
        """None: items are looked at when they are needed."""
        return ()

    def __len__(self) -> int:
        return len(self.dataset)

    def fetch(self, indices: npt.NDArray[np.int64]) -> Samples:
        """See Source.fetch; gives contents. Items are read one after the other: a data set need not be thread-safe."""
        contents = [np.empty(0, dtype=np.uint8)] * len(indices)
        sizes, orientation = np.ones((len(indices), 2), dtype=np.int32), np.ones(len(indices), dtype=np.uint8)
        labels, failures = np.full(len(indices), -1, dtype=np.int64), {}
        for place, index in enumerate(indices.tolist()):
            try:
                with _ONE_AT_A_TIME():
                    image, label = unpack(self.dataset[index])
                    contents[place], *size, orientation[place] = encode(image, self.max_pixels)
                sizes[place] = size
                labels[place] = number_of(label, self.classes) if self.labels is None else self.labels[index]
            except Exception as error:  # the data set's own code, which may raise anything: the sample is replaced
                failures[place] = explain(error)
        return Samples(
            encoded=contents,
            sizes=sizes,
            orientation=orientation,
            labels=labels,
            keys=tuple(str(index) for index in indices.tolist()),
            failures=failures,
        )

    def fingerprint(self) -> str:
        """Identifies the data set by its class, its length, its labels and the contents of some items: see content.digest.

        What lies between those items is not seen. Made once.
        """
        if not self.known:
            digest = content.digest(self.dataset, self.labels, lambda index: self.fetch(np.array([index])))
            self.known.append(hashlib.sha256(f"{self.name} {len(self)} {digest}".encode()).hexdigest()[:16])
        return self.known[0]


def open_dataset(
    dataset: Any,
    *,
    labels: npt.ArrayLike | None = None,
    classes: Sequence[str] | None = None,
    max_pixels: int = MAX_PIXELS,
) -> DatasetSource:
    """A data set with a length whose items are an image, (image, label) or {"image": ..., "label": ...}.

    An image is a PIL image, encoded bytes, {"bytes": ...}, or an array [H, W], [H, W, 3] or [H, W, 4] of 8 or 16 bits. Its
    transforms must not make tensors of them: cropping and colours are the recipe's. labels: whole numbers [N], -1 for none, in
    place of the items' own. classes: names of the classes. Raises ValueError for an empty data set, or one whose first item is
    of another kind.
    """
    if isinstance(dataset, Mapping):
        names = ", ".join(map(str, dataset)) or "nothing"
        raise ValueError(f"{type(dataset).__name__} is a dictionary (of {names}), not one data set; give one of its values")
    if isinstance(dataset, str) or not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
        raise ValueError(
            f"{type(dataset).__name__} is not a map-style data set; it needs a length and items by number; see open_source"
        )
    if not len(dataset):
        raise ValueError(f"the data set {type(dataset).__name__} is empty")
    if labels is not None:
        labels = _whole_numbers(labels, len(dataset))
    if labels is None and classes is None and (texts := _texts(dataset)) is not None:
        labels, classes = number_labels(texts)
    if classes is None:
        classes = _classes(dataset)
    source = DatasetSource(dataset=_undecoded(dataset), labels=labels, classes=tuple(map(str, classes)), max_pixels=max_pixels)
    _check_kind(source)
    return source


def _whole_numbers(labels: npt.ArrayLike, count: int) -> npt.NDArray[np.int64]:
    """[count] of whatever whole numbers came; an array stays what it is: saved states hold the digest of its bytes.

    Raises ValueError for others, such as names and fractions.
    """
    numbers = np.asarray(labels)
    if numbers.shape != (count,):
        what = str(numbers.size) if numbers.ndim == 1 else f"an array {list(numbers.shape)} of"
        raise ValueError(f"there are {what} labels for {count} images; give one for each")
    try:
        with np.errstate(invalid="ignore"):  # no number (NaN) is no whole one
            found = numbers.astype(np.int64, copy=False) if numbers.dtype.kind in "biufO" else None
    except (TypeError, ValueError, OverflowError):  # of objects
        found = None
    if found is None or not np.array_equal(found, numbers):
        raise ValueError(f"labels are {numbers.dtype}; give whole numbers, and their names as classes")
    return numbers if isinstance(labels, np.ndarray) and numbers.dtype != object else found


def unpack(item: Any) -> tuple[Any, Any]:
    """The image and the label of an item; None for no label."""
    if isinstance(item, dict) and "bytes" not in item:
        image = next((item[name] for name in IMAGE_NAMES if name in item), None)
        if image is None:
            raise ValueError(f"an item with {', '.join(map(str, item))} has no image; call it {' or '.join(IMAGE_NAMES[:2])}")
        return image, next((item[name] for name in LABEL_NAMES if name in item), None)
    if isinstance(item, tuple | list) and len(item) > 0:
        return item[0], item[1] if len(item) > 1 else None
    return item, None


def encode(image: Any, max_pixels: int) -> tuple[npt.NDArray[np.uint8], int, int, int]:
    """Content (uint8 [length]), height, width and orientation of an image of any kind. Raises ValueError for a bad one."""
    if isinstance(image, dict):  # Hugging Face: the file's content, or its path where the content is elsewhere
        image = image.get("bytes") if image.get("bytes") is not None else image.get("path")
    if isinstance(image, str | os.PathLike):
        with open(image, "rb") as file:
            image = file.read()
    if isinstance(image, bytes | bytearray | memoryview):
        header = read_header(io.BytesIO(image))
        if reason := header.reason or too_large(header.height, header.width, max_pixels):
            raise ValueError(reason)
        return np.frombuffer(image, dtype=np.uint8), header.height, header.width, header.orientation
    if isinstance(image, Image.Image):
        if reason := too_large(image.height, image.width, max_pixels):
            raise ValueError(reason)
        pixels = np.asarray(to_rgb(image))
    elif isinstance(image, np.ndarray):
        pixels = array_to_rgb(image)
    else:
        raise ValueError(f"a {type(image).__name__} is no image; give a PIL image, encoded bytes or an array of bytes")
    height, width, _ = pixels.shape
    if reason := too_large(height, width, max_pixels):
        raise ValueError(reason)
    return as_ppm(pixels), height, width, 1


def number_of(label: Any, classes: tuple[str, ...]) -> int:
    """The number of a label: itself, or its place among the classes; -1 for none, and for what is more than one, such as boxes.

    A fraction, and a text that is no class's, are no label either: they may be anything, and the image is none the worse.
    """
    if isinstance(label, bytes):
        label = label.decode(errors="replace")
    if isinstance(label, str):
        return classes.index(label) if label in classes else -1
    if label is None or isinstance(label, Mapping | list | tuple | set) or math.prod(np.shape(label)) != 1:
        return -1
    number = label.item() if hasattr(label, "item") else label
    return int(number) if isinstance(number, int | float) and float(number).is_integer() else -1  # NaN and infinity are not


def _check_kind(source: DatasetSource) -> None:
    """Raises ValueError where the first item is of a kind that no item can be; one that cannot be read is not judged."""
    dataset = source.dataset
    try:
        with _ONE_AT_A_TIME():
            image, label = unpack(dataset[0])
    except ValueError:
        raise
    except NotImplementedError as error:  # torch's iterable data sets
        raise ValueError(f"{type(dataset).__name__} has no items by number; give a map-style data set") from error
    except Exception:  # of the data set's own code; fetch reports it as a failure of that sample
        return
    if not isinstance(image, Image.Image | bytes | bytearray | memoryview | str | os.PathLike | np.ndarray | dict):
        raise ValueError(
            f"the data set {type(dataset).__name__} yields a {type(image).__name__}; hjepa crops and colours the images "
            "itself: let it yield PIL images, encoded bytes or uint8 arrays [height, width, 3] (transform=None)"
        )
    if isinstance(image, np.ndarray):
        array_to_rgb(image)
    is_odd = isinstance(label, str | bytes | float) and label == label  # NaN is not itself
    if source.labels is None and is_odd and number_of(label, source.classes) < 0:
        log.warning(
            "the first label of %s is %r, which is no number and none of its `classes`: such images have no label",
            type(dataset).__name__,
            label,
        )


def _texts(dataset: Any) -> Sequence[Any] | None:
    """The labels of a Hugging Face data set whose column of them holds texts; None of any other."""
    features = getattr(dataset, "features", None)
    if not isinstance(features, dict) or not _is_plain(dataset):
        return None
    name = next((name for name in LABEL_NAMES if name in features), None)
    if name is None or getattr(features[name], "dtype", "") not in ("string", "large_string"):
        return None
    labels: Sequence[Any] = dataset[name][:]
    return labels


def _undecoded(dataset: Any) -> Any:
    """A Hugging Face data set that yields the files of its images; any other as it is."""
    features = getattr(dataset, "features", None)
    cast: Callable[[str, Any], Any] | None = getattr(dataset, "cast_column", None)
    if not isinstance(features, dict) or cast is None:
        return dataset
    for name in IMAGE_NAMES:
        kind: Any = features.get(name)
        is_plain = getattr(kind, "mode", None) in (None, "RGB") and _is_plain(dataset)
        if type(kind).__name__ == "Image" and getattr(kind, "decode", False) and is_plain:
            return cast(name, kind.__class__(decode=False))
    return dataset


def _is_plain(dataset: Any) -> bool:
    """Whether no function of the user's own changes the items of a Hugging Face data set."""
    return getattr(dataset, "format", {}).get("type") is None


def _classes(dataset: Any) -> Sequence[str]:
    """Names of the classes, as torchvision's data sets or Hugging Face's features carry them, also through torch's Subset."""
    while type(dataset) is Subset:  # one of the user's own may change the labels
        dataset = dataset.dataset
    if isinstance(getattr(dataset, "classes", None), list | tuple):
        return list(dataset.classes)
    features = getattr(dataset, "features", None)
    if isinstance(features, dict):
        for name in LABEL_NAMES:
            if hasattr(features.get(name), "names"):
                return list(features[name].names)
    return ()
