"""What a data set is like: formats, sizes, bad files, images that are there twice, and how its classes are filled."""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from hjepa.pipeline.source import Samples, Source, open_image, spread
from hjepa.unread_files import unread_files

FILES, CONTENTS, OPENED = 20_000, 1_000, 500
"""Images that are looked at: where the source gives paths, where it has to read them, and of how many the header is opened."""
PART = 256
"""Images that are fetched at once."""
SHOWN = 5
PROGRESSIVE = "progressive JPEG"
DECODED = "PPM"
"""How a source gives images that are decoded already."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DataSet:
    """What was found in a sample of the images, evenly spaced over their order."""

    name: str
    images: int
    looked_at: int
    formats: dict[str, int]
    """Format -> how many of the headers that were opened."""
    short_side: tuple[int, int, int]
    """5 %, 50 % and 95 % of the images have at most so many pixels on their shorter side."""
    long_side: tuple[int, int, int]
    mean_kib: float
    """Size of an encoded image."""
    bad: int
    """Files that were left out when the source was opened."""
    bad_examples: tuple[str, ...]
    duplicates: int
    """Images that are the same file as an earlier one, by name or by link."""
    duplicate_examples: tuple[str, ...]
    classes: dict[str, int]
    """Class -> its images among those looked at."""
    unread: dict[str, int] = field(default_factory=dict)
    """Ending -> files that hold images in a form that is not read."""


def look_at_data(source: Source) -> DataSet:
    """Looks at up to FILES images, or CONTENTS where they have to be read."""
    has_paths = not isinstance(source.fetch(np.array([0])).encoded, list)
    sample = spread(source, FILES if has_paths else CONTENTS)
    sizes, lengths, labels, formats = [], list[int](), Counter[int](), Counter[str]()
    keys, identities = list[str](), list[object]()
    opened = set(np.linspace(0, len(sample) - 1, min(OPENED, len(sample))).round().astype(int).tolist())
    for first, samples in _parts(sample):
        sizes.append(samples.sizes)
        labels.update(samples.labels.tolist())
        for place in range(len(samples.keys)):
            if place in samples.failures:
                continue
            length, identity = _identity(samples, place)
            lengths.append(length)
            keys.append(samples.keys[place])
            identities.append(identity)
            if first + place in opened:
                formats[_format(samples, place)] += 1
    twice = _repeated(keys, identities)
    pixels = np.sort(np.concatenate(sizes), axis=1)
    return DataSet(
        name=source.name,
        images=len(source),
        looked_at=len(sample),
        formats=dict(formats.most_common()),
        short_side=_quantiles(pixels[:, 0]),
        long_side=_quantiles(pixels[:, 1]),
        mean_kib=float(np.mean(lengths)) / 1024 if lengths else 0.0,
        bad=len(source.bad),
        bad_examples=tuple(f"{image.path}: {image.reason}" for image in source.bad[:SHOWN]),
        duplicates=len(twice),
        duplicate_examples=tuple(twice[:SHOWN]),
        classes={source.classes[label]: count for label, count in sorted(labels.items()) if 0 <= label < len(source.classes)},
        unread=unread_files(source),
    )


def _parts(source: Source) -> Iterator[tuple[int, Samples]]:
    for first in range(0, len(source), PART):
        yield first, source.fetch(np.arange(first, min(first + PART, len(source))))


def _identity(samples: Samples, place: int) -> tuple[int, object]:
    """Length in bytes, and what two names of one file have in common; of contents, their own place in memory or archive."""
    content = samples.encoded[place]
    if not isinstance(content, bytes):
        return len(content), samples.keys[place]
    try:
        status = os.stat(content)
    except OSError:
        return 0, samples.keys[place]
    return status.st_size, (status.st_dev, status.st_ino)


def _format(samples: Samples, place: int) -> str:
    try:
        with open_image(samples.encoded, place) as image:
            progressive = image.format == "JPEG" and image.info.get("progressive")
            return PROGRESSIVE if progressive else str(image.format)
    except Exception as error:  # PIL raises OSError, SyntaxError, ValueError and more: here all of them are an answer
        return f"unreadable ({type(error).__name__})"


def _repeated(keys: list[str], identities: list[object]) -> list[str]:
    """The keys of images whose file occurred before."""
    seen: dict[object, str] = {}
    repeated = []
    for key, identity in zip(keys, identities, strict=True):
        if identity in seen:
            repeated.append(f"{key} is {seen[identity]}")
        seen.setdefault(identity, key)
    return repeated


def _quantiles(sides: "np.ndarray[tuple[int], np.dtype[np.int32]]") -> tuple[int, int, int]:
    low, middle, high = np.quantile(sides, [0.05, 0.5, 0.95]).round().astype(int).tolist()
    return low, middle, high
