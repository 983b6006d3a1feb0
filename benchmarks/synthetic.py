"""A source of any number of images, of which only a few are files: for what must not depend on the size of a data set."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hjepa.pipeline.header import read_file_header
from hjepa.pipeline.source import BadImage, Samples


class SyntheticSource:
    """N images; image i is file i modulo the number of files."""

    classes: tuple[str, ...] = ()
    bad: tuple[BadImage, ...] = ()

    def __init__(self, num_images: int, files: Sequence[Path]) -> None:
        self.name = f"{num_images} images of {len(files)} files"
        self._num_images = num_images
        headers = [read_file_header(os.fsencode(path)) for path in files]
        self._paths = np.array([os.fsencode(path) for path in files])
        self._sizes = np.array([(header.height, header.width) for header in headers], dtype=np.int32)

    def __len__(self) -> int:
        return self._num_images

    def fetch(self, indices: npt.NDArray[np.int64]) -> Samples:
        """See Source.fetch; gives paths."""
        files = indices % len(self._paths)
        return Samples(
            encoded=self._paths[files],
            sizes=self._sizes[files],
            orientation=np.ones(len(indices), dtype=np.uint8),
            labels=files,
            keys=tuple(map(str, indices.tolist())),
        )

    def fingerprint(self) -> str:
        """The number of images: the files are not what is measured."""
        return f"synthetic-{self._num_images}"
