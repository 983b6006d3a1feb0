"""Images that are decoded already and of one size, as arrays in memory or mapped from files."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from hjepa.pipeline.source import BadImage, Samples, as_ppm

# N images, B images of a batch, H, W pixels
PROBES = 1000
"""Images that the fingerprint looks at; all of a large set would cost seconds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ArraySource:
    """N images of H x W pixels; a Source."""

    name: str
    """Where they are, for messages."""
    parts: tuple[npt.NDArray[np.uint8], ...]
    """The images in order, [N of this part, H, W, 3] each, with any strides; may be mapped from files."""
    labels: npt.NDArray[np.int64]
    """[N]; -1 for none."""
    classes: tuple[str, ...]
    title: str
    """What the keys begin with: the third image's key is "title/2"."""
    known: list[str] = field(default_factory=list, init=False, repr=False, compare=False)
    """The fingerprint, once it was asked for."""

    @property
    def bad(self) -> Sequence[BadImage]:
        """None: there is nothing to decode."""
        return ()

    def __len__(self) -> int:
        return len(self.labels)

    def fetch(self, indices: npt.NDArray[np.int64]) -> Samples:
        """See Source.fetch; gives contents, as PPM."""
        height, width = self.parts[0].shape[1:3]
        return Samples(
            encoded=[as_ppm(pixels) for pixels in self._pixels(indices)],
            sizes=np.tile(np.array([[height, width]], dtype=np.int32), (len(indices), 1)),
            orientation=np.ones(len(indices), dtype=np.uint8),
            labels=self.labels[indices],
            keys=tuple(f"{self.title}/{index}" for index in indices.tolist()),
        )

    def fingerprint(self) -> str:
        """Identifies the images by their number, their size and the pixels of 1000 of them, evenly spaced. Made once."""
        if not self.known:
            self.known.append(self._digest())
        return self.known[0]

    def _digest(self) -> str:
        probes = np.unique(np.linspace(0, len(self) - 1, PROBES).round().astype(np.int64))
        digest = hashlib.sha256(f"{len(self)} {self.parts[0].shape[1:]}".encode())
        digest.update(self._pixels(probes).tobytes())
        return digest.hexdigest()[:16]

    def _pixels(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """uint8 [B, H, W, 3]"""
        pixels = np.empty((len(indices), *self.parts[0].shape[1:]), dtype=np.uint8)
        start = 0
        for part in self.parts:
            here = (indices >= start) & (indices < start + len(part))
            pixels[here] = part[indices[here] - start]
            start += len(part)
        return pixels
