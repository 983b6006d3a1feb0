"""What a source of images is: numbers from 0 on, each with an encoded image, its size, a label and a key.

A source decodes nothing. It gives paths, which a backend reads on its own threads, or contents of files, where there is no
file to read (members of archives, rows of tables, images in memory); images that are decoded already travel as PPM, which is
a line of text and the pixels. Sizes come along, because boxes are drawn before anything is decoded.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from hjepa.pipeline.header import explain, open_content, upright
from hjepa.pipeline.pixels import to_rgb

# N images of the source, B images of a batch
Encoded: TypeAlias = npt.NDArray[np.bytes_] | list[npt.NDArray[np.uint8]]
"""[B] absolute paths, as the file system's bytes; or the contents of B files, uint8 [length] each."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BadImage:
    """An image that cannot be used."""

    path: str
    """Its key: for a folder, the path relative to its root."""
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Samples:
    """What a source gives for B of its numbers."""

    encoded: Encoded
    sizes: npt.NDArray[np.int32]
    """[B, 2]: height and width in pixels, as stored."""
    orientation: npt.NDArray[np.uint8]
    """[B]: EXIF orientation, 1 to 8; 1 where there is none."""
    labels: npt.NDArray[np.int64]
    """[B]: number of the class; -1 without one."""
    keys: tuple[str, ...]
    """B names, such as a path relative to a root, or archive and member."""
    failures: Mapping[int, str] = field(default_factory=dict)
    """Place in the batch -> why there is no image; what the other fields say at that place means nothing."""

    def __post_init__(self) -> None:
        """Whole numbers of any width are taken. Raises ValueError for other types or shapes, which a Source may give."""
        contents = isinstance(self.encoded, list) and all(getattr(one, "dtype", None) == np.uint8 for one in self.encoded)
        if not contents and getattr(self.encoded, "dtype", np.dtype(object)).kind != "S":
            came = getattr(self.encoded, "dtype", None) or f"a {type(self.encoded).__name__}"
            raise ValueError(
                f"encoded is {came}; give paths as an array of bytes (dtype S), or contents as a list of uint8 arrays"
            )
        count = len(self.encoded)
        for name, dtype, shape in (
            ("sizes", np.int32, (count, 2)),
            ("orientation", np.uint8, (count,)),
            ("labels", np.int64, (count,)),
        ):
            values = np.asarray(getattr(self, name))
            if values.dtype.kind not in "iub" or values.shape != shape:
                came = f"{values.dtype} {list(values.shape)}"
                raise ValueError(f"{name} is {came}; it must be {np.dtype(dtype)} {list(shape)} for {count} images")
            object.__setattr__(self, name, np.ascontiguousarray(values, dtype=dtype))
        if len(self.keys) != count:
            raise ValueError(f"there are {len(self.keys)} keys for {count} images; give one for each")


class Source(Protocol):
    """N images; implement these six and a Loader reads your own kind of data."""

    @property
    def name(self) -> str:
        """Where the images are, for messages."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; empty without labels."""
        ...

    @property
    def bad(self) -> Sequence[BadImage]:
        """What looked like an image but was left out when the source was opened; not among the N."""
        ...

    def __len__(self) -> int:
        """N."""
        ...

    def fetch(self, indices: npt.NDArray[np.int64]) -> Samples:
        """The images with these numbers, each from 0 to N - 1.

        Called on a background thread, one batch at a time; of each Loader, where several read the source.
        """
        ...

    def fingerprint(self) -> str:
        """Identifies the sequence of images, wherever they lie: a run that is resumed must find the same one."""
        ...


@dataclass(frozen=True, kw_only=True)
class Subset:
    """Some of the images of a source, numbered anew."""

    source: Source
    chosen: npt.NDArray[np.int64]
    """[N] numbers in `source`."""

    @property
    def name(self) -> str:
        """The whole source's."""
        return self.source.name

    @property
    def classes(self) -> tuple[str, ...]:
        """The whole source's."""
        return self.source.classes

    @property
    def bad(self) -> Sequence[BadImage]:
        """The whole source's."""
        return self.source.bad

    def __len__(self) -> int:
        return len(self.chosen)

    def fetch(self, indices: npt.NDArray[np.int64]) -> Samples:
        """See Source.fetch."""
        return self.source.fetch(self.chosen[indices])

    def fingerprint(self) -> str:
        """The whole source's, and the choice."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        """It is in every state of a loader, of which there may be one per batch."""
        return hashlib.sha256(self.source.fingerprint().encode() + self.chosen.tobytes()).hexdigest()[:16]


def spread(source: Source, count: int) -> Source:
    """At most `count` of the images, evenly spaced over their order."""
    if count >= len(source):
        return source
    return Subset(source=source, chosen=np.linspace(0, len(source) - 1, count).round().astype(np.int64))


def upright_sizes(samples: Samples, orientation: Literal["ignore", "exif"]) -> npt.NDArray[np.int32]:
    """int32 [B, 2] height and width in pixels, as stored ("ignore"), or turned upright by the EXIF tag ("exif")."""
    if orientation == "ignore":
        return samples.sizes
    turned = samples.orientation >= 5  # EXIF 5 to 8: rows and columns change places
    return np.where(turned[:, None], samples.sizes[:, ::-1], samples.sizes)


def read_files(samples: Samples) -> Samples:
    """The same samples with the contents of their files in place of the paths; a file that cannot be read is a failure."""
    if isinstance(samples.encoded, list):
        return samples
    contents: list[npt.NDArray[np.uint8]] = []
    failures = dict(samples.failures)
    for place, path in enumerate(samples.encoded.tolist()):
        try:
            contents.append(np.fromfile(path, dtype=np.uint8))
        except OSError as error:
            contents.append(np.empty(0, dtype=np.uint8))
            failures.setdefault(place, explain(error))
    return replace(samples, encoded=contents, failures=failures)


def open_image(encoded: Encoded, place: int) -> Image.Image:
    """The image at one place of a batch, opened with PIL and not decoded yet. Raises what PIL raises."""
    return open_content(content_of(encoded, place))


def decoded(samples: Samples, place: int, orientation: Literal["ignore", "exif"] = "ignore") -> Image.Image:
    """The image at one place of a batch in RGB, as stored or upright. Raises ValueError, which names it, for a bad one."""
    reason = samples.failures.get(place)
    if reason is None:
        try:
            with open_image(samples.encoded, place) as image:
                return to_rgb(upright(image) if orientation == "exif" else image)
        except Exception as error:  # PIL's decoders raise OSError, SyntaxError, ValueError and more for bad data
            reason = explain(error)
    raise ValueError(f"cannot decode {samples.keys[place]}: {reason}; repair or delete it")


def content_of(encoded: Encoded, place: int) -> bytes | memoryview:
    """The content of the image at one place of a batch. Raises OSError where a file cannot be read."""
    content = encoded[place]
    return Path(os.fsdecode(content)).read_bytes() if isinstance(content, bytes) else content.data


def why_not(encoded: Encoded, place: int) -> str | None:
    """What PIL says is wrong with the image at one place of a batch; None where it decodes."""
    try:
        with open_image(encoded, place) as image:
            image.load()
    except Exception as error:  # PIL's decoders raise OSError, SyntaxError, ValueError and more for bad data: all are reasons
        return explain(error)
    return None


def as_ppm(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Decoded pixels [H, W, 3] as the content of a PPM file, uint8 [length], which every backend decodes."""
    height, width, _ = pixels.shape
    head = np.frombuffer(f"P6 {width} {height} 255\n".encode(), dtype=np.uint8)
    return np.concatenate([head, pixels.reshape(-1)])
