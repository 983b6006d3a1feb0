"""A folder of images, nested as the user likes, with labels from its folders or none.

Each image's path, label and size are known from the index, so nothing is read but what is trained on.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hjepa.pipeline.index import Files, Headers, read_index
from hjepa.pipeline.source import BadImage, Samples

# N images of the source, B images of a batch
ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True, kw_only=True, slots=True)
class FolderSource:
    """N readable images below a folder, sorted by path; a Source."""

    root: Path
    paths: npt.NDArray[np.bytes_]
    """[N] paths relative to root, as the file system's bytes."""
    labels: npt.NDArray[np.int64]
    """[N] number of the image's class; -1 for an image that lies directly in root."""
    classes: tuple[str, ...]
    """Names of the folders directly below root that hold images, sorted."""
    headers: Headers
    bad: tuple[BadImage, ...]
    """Files that looked like images but were left out."""

    @property
    def name(self) -> str:
        """The folder."""
        return str(self.root)

    def __len__(self) -> int:
        return len(self.paths)

    def fetch(self, indices: npt.NDArray[np.int64]) -> Samples:
        """See Source.fetch; gives paths."""
        paths, headers = self.paths[indices], self.headers
        return Samples(
            encoded=np.char.add(os.fsencode(self.root) + b"/", paths),
            sizes=np.stack([headers.height[indices], headers.width[indices]], axis=-1),
            orientation=headers.orientation[indices],
            labels=self.labels[indices],
            keys=tuple(os.fsdecode(path) for path in paths.tolist()),
        )

    def fingerprint(self) -> str:
        """Identifies the sequence of files (path and length of each), wherever the folder lies."""
        digest = hashlib.sha256(self.paths.tobytes())
        digest.update(self.headers.length.tobytes())
        return digest.hexdigest()[:16]


def open_folder(
    folder: str | Path, *, num_workers: int = 8, progress: Callable[[int, int], None] | None = None
) -> FolderSource:
    """Finds and indexes the images of a folder. `progress` is told (headers read, headers to read).

    Raises ValueError where the folder is missing, unreadable or without a readable image.
    """
    root = Path(folder).expanduser().absolute()
    if not root.is_dir():
        what = "is a file" if root.exists() else "does not exist"
        raise ValueError(f"data folder {root} {what}; give a folder of images")
    files, others = _find(root)
    if not len(files.paths):
        found = ", ".join(f"{count} {ending or 'without an ending'}" for ending, count in others.most_common(3))
        raise ValueError(f"no images in {root} (found: {found or 'nothing'}); give a folder with any of {' '.join(ENDINGS)}")
    headers, bad = read_index(root, files, num_workers=num_workers, progress=progress)
    good = headers.height > 0
    if not good.any():
        raise ValueError(f"none of the {len(good)} images in {root} can be read; the first: {bad[0].path}: {bad[0].reason}")
    paths = files.paths[good]
    labels, classes = _label(paths)
    return FolderSource(root=root, paths=paths, labels=labels, classes=classes, headers=headers.take(good), bad=bad)


def _find(root: Path) -> tuple[Files, Counter[str]]:
    """All image files below root, sorted by path, and how many other files there are by ending. Links are followed."""
    found: list[tuple[bytes, int, int]] = []
    others: Counter[str] = Counter()
    visited: set[tuple[int, int]] = set()
    folders = [root]
    while folders:
        folder = folders.pop()
        try:
            status = folder.stat()
            if (status.st_dev, status.st_ino) in visited:  # a link back to a folder above
                continue
            visited.add((status.st_dev, status.st_ino))
            entries = list(os.scandir(folder))
        except OSError as error:
            raise ValueError(f"cannot read folder {folder}: {error.strerror}; check its permissions") from error
        for entry in entries:
            if entry.name.startswith("."):  # .ipynb_checkpoints, and the ._ files of macOS
                continue
            if _is_folder(entry):
                folders.append(Path(entry.path))
            elif entry.name.lower().endswith(ENDINGS):
                found.append(_status(root, entry))
            else:
                others[os.path.splitext(entry.name)[1]] += 1
    found.sort()
    paths = np.array([path for path, _, _ in found], dtype=np.bytes_)
    numbers = np.array([(length, changed) for _, length, changed in found], dtype=np.int64).reshape(-1, 2)
    return Files(paths=paths, length=numbers[:, 0], changed_ns=numbers[:, 1]), others


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself: no folder; with an image's ending, the header scan names it
        return False


def _status(root: Path, entry: "os.DirEntry[str]") -> tuple[bytes, int, int]:
    relative = os.fsencode(os.path.relpath(entry.path, root))
    try:
        status = entry.stat()
    except OSError:  # a dangling link: the header scan names it as unreadable
        return relative, -1, -1
    return relative, status.st_size, status.st_mtime_ns


def _label(paths: npt.NDArray[np.bytes_]) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    heads = [path.split(b"/", 1)[0] if b"/" in path else b"" for path in paths.tolist()]
    names = sorted(set(heads) - {b""})
    numbers: dict[Any, int] = {name: number for number, name in enumerate(names)} | {b"": -1}
    return np.array([numbers[head] for head in heads], dtype=np.int64), tuple(os.fsdecode(name) for name in names)
