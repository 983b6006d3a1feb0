"""A source of one's own: six members, and a Loader reads it on any backend. Here: the images inside a zip file.

python examples/custom_source.py
"""

import hashlib
import io
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

import hjepa
from hjepa import sample_data


class ZipSource:
    """The images of a zip file, in the order of its directory; their first folder is their class."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._archive = zipfile.ZipFile(path)
        self._members = [member for member in self._archive.infolist() if member.filename.endswith(".jpg")]
        names = [member.filename.split("/")[0] for member in self._members]
        self._classes = tuple(sorted(set(names)))
        self._labels = np.array([self._classes.index(name) for name in names], dtype=np.int64)
        self._sizes = np.array([self._size(number) for number in range(len(self))], dtype=np.int32)

    @property
    def name(self) -> str:
        """Where the images are."""
        return str(self.path)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return self._classes

    @property
    def bad(self) -> Sequence[hjepa.BadImage]:
        """Nothing was left out."""
        return ()

    def __len__(self) -> int:
        return len(self._members)

    def fetch(self, indices: npt.NDArray[np.int64]) -> hjepa.Samples:
        """Contents, sizes and labels of these images; nothing is decoded. Called on a background thread of each Loader."""
        members = [self._members[index] for index in indices.tolist()]
        return hjepa.Samples(
            encoded=[np.frombuffer(self._archive.read(member), dtype=np.uint8) for member in members],
            sizes=self._sizes[indices],
            orientation=np.ones(len(indices), dtype=np.uint8),
            labels=self._labels[indices],
            keys=tuple(member.filename for member in members),
        )

    def fingerprint(self) -> str:
        """Names and the archive's own checksums: a run that is resumed must find the same images, with the same labels.

        Not Python's `hash`, which gives a text another number in every process.
        """
        members = [(member.filename, member.CRC) for member in self._members]
        return hashlib.sha256(repr(members).encode()).hexdigest()[:16]

    def _size(self, number: int) -> tuple[int, int]:
        with Image.open(io.BytesIO(self._archive.read(self._members[number]))) as image:  # reads the header alone
            return image.height, image.width


def main() -> None:
    """Zips sample images and loads them."""
    images = sample_data.make(sample_data.default_folder(64), 64)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "images.zip")
        with zipfile.ZipFile(path, "w") as archive:
            for image in sorted(images.rglob("*.jpg")):
                archive.write(image, image.relative_to(images))
        source = ZipSource(path)
        print(f"{len(source)} images of {len(source.classes)} classes in {path.name}")
        with hjepa.Loader(source, "simple", batch_size=16) as loader:
            batch = next(iter(loader))
        print(f"globals {tuple(batch.globals.shape)}, labels {batch.labels.tolist()[:4]}, first key {batch.keys[0]}")


if __name__ == "__main__":
    main()
