"""A folder of images, nested as the user likes, with labels from its folders or none.

Each image's path, label and size are known from the index, so nothing is read but what is trained on.
"""

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hjepa.pipeline import columns, index
from hjepa.pipeline.columns import Columns, Texts, texts
from hjepa.pipeline.header import MAX_PIXELS, Header, read_file_header
from hjepa.pipeline.index import CHECKED_FILES, Index, Indexed
from hjepa.pipeline.scan import Progress, empty_scan, scan_headers
from hjepa.pipeline.source import Samples
from hjepa.pipeline.splits import advise_folders
from hjepa.pipeline.walk import ENDINGS, Tree, walk

# N images of the source, B images of a batch, R files of the index, F folders
FOLDER_COLUMNS = ("folder_letters", "folder_ends", "folder_changed_ns")


@dataclass(frozen=True, kw_only=True, slots=True)
class FolderSource(Indexed):
    """N readable images below a folder, sorted by path; a Source."""

    root: Path
    index: Index
    """Keys are paths relative to root, classes the folders directly below it; labels are -1 for images directly in it."""
    others: Mapping[str, int] = field(default_factory=dict, compare=False)
    """Ending -> how many files that are no images lie in the folders that were listed when it was opened."""

    @property
    def name(self) -> str:
        """The folder."""
        return str(self.root)

    def fetch(self, indices: npt.NDArray[np.int64]) -> Samples:
        """See Source.fetch; gives paths."""
        rows = self.index.rows[indices]
        head = os.fsencode(self.root) + b"/"
        return self.index.samples(rows, np.array([head + path for path in self.index.keys(rows)], dtype=np.bytes_))


def open_folder(
    folder: str | Path,
    *,
    max_pixels: int = MAX_PIXELS,
    verify: bool = False,
    num_workers: int = 8,
    progress: Progress | None = None,
) -> FolderSource:
    """Finds and indexes the images of a folder.

    Larger images than max_pixels are left out. verify: look at every file even where there are more than 100 000; otherwise
    such folders are searched for new and deleted files, but an image overwritten in place is found only when it is decoded.
    num_workers: threads that read headers. progress: told (headers read, headers to read). Raises ValueError where the folder
    is missing, unreadable or without a readable image.
    """
    if not os.fspath(folder):
        raise ValueError("the path of the data folder is empty; give its place, or . for the current folder")
    root = Path(os.path.expanduser(folder)).absolute()
    if not root.is_dir():
        what = "is a file" if root.exists() else "does not exist"
        raise ValueError(f"data folder {root} {what}; give a folder of images")
    file = index.cache_file("folder", os.fsencode(root))
    stored = columns.load(file)
    trusts_folders = stored is not None and not verify and len(stored.arrays["length"]) > CHECKED_FILES
    tree = walk(root, _folders(stored) if stored is not None and trusts_folders else None)
    found = index.cached(
        file, partial(_is_same, tree), lambda latest: _build(root, file, tree, latest or stored, num_workers, progress)
    )
    used = index.in_use(found, max_pixels, str(root))
    advise_folders(root, used.classes)
    return FolderSource(root=root, index=used, others=dict(tree.others))


def _folders(stored: Columns) -> dict[bytes, int]:
    """Relative folder -> its time of change."""
    names = Texts(letters=stored.arrays["folder_letters"], ends=stored.arrays["folder_ends"])
    return dict(zip(names.all(), stored.arrays["folder_changed_ns"].tolist(), strict=True))


def _is_same(tree: Tree, stored: Columns) -> bool:
    """Whether the index is that of the tree: folders with their times, and the files of those that were listed."""
    found, arrays = _table(tree, None), stored.arrays
    if not all(np.array_equal(found[name], arrays[name]) for name in FOLDER_COLUMNS):
        return False
    is_listed = np.array([folder not in tree.reused for folder in sorted(tree.changed_ns)])
    rows = np.nonzero(is_listed[arrays["folder"]])[0]
    keys = Texts(letters=found["key_letters"], ends=found["key_ends"]).all()
    if keys != Texts(letters=arrays["key_letters"], ends=arrays["key_ends"]).take(rows):
        return False
    return all(np.array_equal(found[name], arrays[name][rows]) for name in ("length", "changed_ns", "folder"))


def _build(root: Path, file: Path, tree: Tree, stored: Columns | None, num_workers: int, progress: Progress | None) -> Columns:
    """The index of the files found; headers of files that are as they were are taken from the stored one.

    In a long scan the headers read so far are kept in the cache file: who breaks it off goes on from there.
    """
    table = _table(tree, stored)
    keys = Texts(letters=table["key_letters"], ends=table["key_ends"]).all()
    if not keys:
        raise ValueError(_nothing(root, tree.others))
    scan = empty_scan(len(keys))
    stale = np.arange(len(keys))
    if stored is not None:
        stale = index.reuse(scan, keys, table["length"], table["changed_ns"], stored)

    def read(row: int) -> Header:
        return read_file_header(os.path.join(os.fsencode(root), keys[row]))

    labels, classes = _label(keys)

    def build() -> Columns:
        return index.build(
            keys=keys, length=table["length"], labels=labels, classes=classes, scan=scan, more=table, made_from=str(root)
        )

    scan_headers(scan, stale, read, num_workers=num_workers, progress=progress, keep=lambda: columns.save(file, build()))
    return build()


def _nothing(root: Path, others: Counter[str]) -> str:
    found = ", ".join(f"{count} {ending or 'without an ending'}" for ending, count in others.most_common(3))
    packed = [ending for ending in (".tar", ".parquet") if others[ending]]
    deeper = f", or the files in its folders by a pattern, such as {root / '*' / ('*' + packed[0])}" if packed else ""
    return f"no images in {root} (found: {found or 'nothing'}); give a folder with any of {' '.join(ENDINGS)}{deeper}"


def _table(tree: Tree, stored: Columns | None) -> dict[str, npt.NDArray[Any]]:
    """Files sorted by path, and folders sorted by theirs; files of folders that were not listed come from the stored index."""
    folders = sorted(tree.changed_ns)
    number = {folder: position for position, folder in enumerate(folders)}
    found = [
        (file.path, file.length, file.changed_ns, number[folder]) for folder, files in tree.files.items() for file in files
    ]
    if stored is not None and tree.reused:
        found += _stored_files(tree, stored, number)
    found.sort()
    numbers = np.array([entry[1:] for entry in found], dtype=np.int64).reshape(-1, 3)
    key, folder = texts([entry[0] for entry in found]), texts(folders)
    return {
        "key_letters": key.letters,
        "key_ends": key.ends,
        "length": numbers[:, 0],
        "changed_ns": numbers[:, 1],
        "folder": numbers[:, 2].astype(np.int32),
        "folder_letters": folder.letters,
        "folder_ends": folder.ends,
        "folder_changed_ns": np.array([tree.changed_ns[name] for name in folders], dtype=np.int64),
    }


def _stored_files(tree: Tree, stored: Columns, number: dict[bytes, int]) -> list[tuple[bytes, int, int, int]]:
    arrays = stored.arrays
    names = Texts(letters=arrays["folder_letters"], ends=arrays["folder_ends"]).all()
    renumbered = np.array([number[name] if name in tree.reused else -1 for name in names], dtype=np.int64)[arrays["folder"]]
    rows = np.nonzero(renumbered >= 0)[0]
    paths = Texts(letters=arrays["key_letters"], ends=arrays["key_ends"]).take(rows)
    columns_of_rows = (arrays["length"][rows].tolist(), arrays["changed_ns"][rows].tolist(), renumbered[rows].tolist())
    return list(zip(paths, *columns_of_rows, strict=True))


def _label(keys: list[bytes]) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    """Numbers of the folders below the root. One whose images are all bad counts, too: else the others would be renumbered."""
    heads = [key.split(b"/", 1)[0] if b"/" in key else b"" for key in keys]
    names = sorted(set(heads) - {b""})
    numbers = {name: number for number, name in enumerate(names)}
    return np.array([numbers.get(head, -1) for head in heads], dtype=np.int64), tuple(os.fsdecode(name) for name in names)
