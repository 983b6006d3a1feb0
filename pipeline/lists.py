"""Image files by name: a Python list of paths, or a CSV or text file with a path and perhaps a label on each line.

Their headers are scanned once and cached, as a folder's are. Lists of anything but paths (encoded contents, PIL images,
arrays) are data sets like any other: see dataset.py.
"""

import csv
import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hjepa.pipeline import columns, index
from hjepa.pipeline.columns import Columns
from hjepa.pipeline.dataset import DatasetSource, open_dataset, unpack
from hjepa.pipeline.header import MAX_PIXELS, Header, read_file_header
from hjepa.pipeline.index import CHECKED_FILES, Index, Indexed
from hjepa.pipeline.labels import number_labels
from hjepa.pipeline.layout import find_layout
from hjepa.pipeline.scan import Progress, empty_scan, scan_headers
from hjepa.pipeline.source import Samples

# N images of the source, B images of a batch
READING = 3
"""Changes when lines are read otherwise, so that no index of another reading is used."""
LABELLED = re.compile(r"(?P<path>.*\S)(\t\s*(?P<name>[^\t]+)| +(?P<number>\d+))")
"""A line of a text file with a label: anything after a tab, or a number after a space, as in DALI's lists."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ListSource(Indexed):
    """N image files in the order in which they were named; a Source."""

    name: str
    root: bytes
    """Where relative paths start."""
    index: Index
    """Keys are paths as they were given."""

    def fetch(self, indices: npt.NDArray[np.int64]) -> Samples:
        """See Source.fetch; gives paths."""
        rows = self.index.rows[indices]
        paths = [os.path.join(self.root, key) for key in self.index.keys(rows)]
        return self.index.samples(rows, np.array(paths, dtype=np.bytes_))


@dataclass(frozen=True, kw_only=True, slots=True)
class Listing:
    """What a list names."""

    root: bytes
    keys: list[bytes]
    """Paths as given, absolute or relative to root."""
    labels: npt.NDArray[np.int64]
    classes: tuple[str, ...]


def open_list(
    items: Iterable[Any],
    *,
    classes: Sequence[str] = (),
    max_pixels: int = MAX_PIXELS,
    verify: bool = False,
    num_workers: int = 8,
    progress: Progress | None = None,
) -> ListSource | DatasetSource:
    """A list of paths, encoded contents (bytes), PIL images or arrays [H, W, 3], or of pairs of one and its label.

    Pairs may be dictionaries, {"image": ..., "label": ...}. A label is a number, a name, or None. classes: names of numbers;
    without them those are names themselves. Paths are relative to the current folder, and their headers are scanned once;
    verify: look at every file again even where there are more than 100 000. Raises ValueError for an empty list, or one
    without a usable image.
    """
    if isinstance(items, str | bytes | Mapping):
        raise ValueError(f"a {type(items).__name__} is no list of images; give [path, ...], or pairs [(path, label), ...]")
    images, labels = _unzip(list(items))
    if not images:
        raise ValueError("the list of images is empty; give paths, encoded contents, PIL images or arrays")
    numbers, found = number_labels(labels)
    if classes and not all(name.isdigit() for name in found):
        raise ValueError(f"the labels are names ({', '.join(found[:3])}, ...), and so are classes; give numbers as labels")
    if classes and len(found) > len(classes):
        raise ValueError(f"the labels go up to {len(found) - 1}, and there are only {len(classes)} classes; name all")
    names = tuple(classes) or found
    if all(isinstance(image, str | os.PathLike) for image in images):
        keys = [os.fsencode(os.path.expanduser(image)) for image in images]
        if (nul := next((number for number, key in enumerate(keys) if b"\0" in key), None)) is not None:
            raise ValueError(f"item {nul} of the list, {images[nul]!r}, holds a NUL, which no path does; give paths of files")
        listing = Listing(root=os.fsencode(os.getcwd()), keys=keys, labels=numbers, classes=names)
        made_from = _digest(listing)
        file = index.cache_file("list", made_from.encode())
        stored = index.load(file)
        if stored is None or verify or len(keys) <= CHECKED_FILES:
            stored = _update(listing, file, made_from, num_workers, progress)
        return _use(f"a list of {len(keys)} paths", listing.root, stored, max_pixels)
    return open_dataset(images, labels=numbers, classes=names, max_pixels=max_pixels)


def open_csv(
    file: str | Path,
    *,
    max_pixels: int = MAX_PIXELS,
    verify: bool = False,
    num_workers: int = 8,
    progress: Progress | None = None,
) -> ListSource:
    """A CSV file (path, label) or a text file with a path per line; relative paths start at the file's own folder.

    The first line may name the columns: see find_layout; without names the first column is the path and the second, if any,
    the label. In a text file a label follows a tab, or is a number after a space. Labels are numbers of
    classes or names. Raises ValueError with the number of the line that is wrong.
    """
    path = Path(os.path.expanduser(file)).absolute()
    if not path.is_file():
        raise ValueError(f"there is no file {path}; give a CSV or text file with a path, and perhaps a label, on each line")
    status, root = path.stat(), os.fsencode(path.parent)
    cache, own = index.cache_file("csv", os.fsencode(path)), [READING, status.st_size, status.st_mtime_ns]
    stored = index.load(cache)
    is_new = stored is None or stored.about["made_from"][: len(own)] != own
    if stored is None or is_new or verify or len(stored.arrays["length"]) <= CHECKED_FILES:
        keys, texts = _read_lines(path)
        labels, classes = number_labels(texts)
        listing = Listing(root=root, keys=keys, labels=labels, classes=classes)
        # The digest, because a file that another took the place of may have its length and its time
        stored = _update(listing, cache, [*own, _digest(listing)], num_workers, progress)
    return _use(str(path), root, stored, max_pixels)


def _unzip(items: list[Any]) -> tuple[list[Any], list[Any]]:
    """Images and labels; None for no label."""
    pairs = [unpack(item) for item in items]
    for number, (_, label) in enumerate(pairs):
        is_whole = isinstance(label, float | np.floating) and (label != label or float(label).is_integer())
        if not (label is None or is_whole or isinstance(label, int | str | np.integer)):
            raise ValueError(f"item {number} of the list has the label {label!r}; give a number, a name or None")
    return [image for image, _ in pairs], [int(label) if isinstance(label, np.integer) else label for _, label in pairs]


def _read_lines(path: Path) -> tuple[list[bytes], list[str | None]]:
    """Paths and labels as they are written; None for no label."""
    rows = list(_rows(path))
    if not rows:
        raise ValueError(_no_images(path))
    layout = find_layout(path, rows)
    keys: list[bytes] = []
    labels: list[str | None] = []
    for number, fields in rows[layout.is_named :]:
        if not (key := _field(fields, layout.path, path, number)):
            raise ValueError(f"{path}, line {number}: {fields} names no image; write path,label on each line")
        keys.append(os.fsencode(key))
        labels.append(None if layout.label is None else _field(fields, layout.label, path, number) or None)
    if not keys:
        raise ValueError(_no_images(path))
    return keys, labels


def _no_images(path: Path) -> str:
    return f"{path} names no images; write a path, and perhaps a label, on each line"


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Number and fields of each line that is not empty."""
    try:
        with open(path, newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            if path.suffix.lower() != ".csv":
                lines = ((number, line.strip()) for number, line in enumerate(file, start=1))
                yield from ((number, _split(line)) for number, line in lines if line)
                return
            reader = csv.reader(file, strict=True, skipinitialspace=True)
            try:
                yield from ((reader.line_num, fields) for fields in reader if any(field.strip() for field in fields))
            except csv.Error as error:
                raise ValueError(
                    f"{path}, line {reader.line_num}: {error}; put names with commas or quotes in double quotes"
                ) from error
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}; give a CSV file with a path and a label per line") from error


def _split(line: str) -> list[str]:
    """Path and label of a line of a text file."""
    match = LABELLED.fullmatch(line)
    return [match["path"], match["name"] or match["number"]] if match else [line, ""]


def _field(fields: list[str], place: int, path: Path, number: int) -> str:
    if place >= len(fields):
        raise ValueError(f"{path}, line {number}: {fields} has no column {place + 1}; write path,label on each line")
    if "\0" in fields[place]:
        raise ValueError(
            f"{path}, line {number}: {fields[place]!r} holds a NUL, which no path or label does; write text (UTF-8)"
        )
    return fields[place].strip()


def _digest(listing: Listing) -> str:
    digest = hashlib.sha256(b"\0".join([listing.root, *listing.keys]))
    digest.update(listing.labels.tobytes() + "\0".join(listing.classes).encode(errors="surrogateescape"))
    return digest.hexdigest()


def _update(listing: Listing, file: Path, made_from: Any, num_workers: int, progress: Progress | None) -> Columns:
    """The index of the listing, with the headers of new and changed files read again; cached."""
    paths = [os.path.join(listing.root, key) for key in listing.keys]
    length, changed_ns = _status(paths)

    def is_same(stored: Columns) -> bool:
        arrays = stored.arrays
        unchanged = np.array_equal(arrays["length"], length) and np.array_equal(arrays["changed_ns"], changed_ns)
        return unchanged and bool(stored.about["made_from"] == made_from)

    def read(row: int) -> Header:
        return read_file_header(paths[row])

    def build(stored: Columns | None) -> Columns:
        scan = empty_scan(len(paths))
        stale = np.arange(len(paths))
        if stored is not None:
            stale = index.reuse(scan, listing.keys, length, changed_ns, stored)

        def made() -> Columns:
            return index.build(
                keys=listing.keys,
                length=length,
                labels=listing.labels,
                classes=listing.classes,
                scan=scan,
                more={"changed_ns": changed_ns},
                made_from=made_from,
            )

        scan_headers(scan, stale, read, num_workers=num_workers, progress=progress, keep=lambda: columns.save(file, made()))
        return made()

    return index.cached(file, is_same, build)


def _use(name: str, root: bytes, stored: Columns, max_pixels: int) -> ListSource:
    return ListSource(name=name, root=root, index=index.in_use(stored, max_pixels, name))


def _status(paths: list[bytes]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Length and time of change of each file; -1 for one that is not there."""
    numbers = np.full((len(paths), 2), -1, dtype=np.int64)
    for row, path in enumerate(paths):
        try:
            status = os.stat(path)
        except OSError:  # the header scan names it
            continue
        numbers[row] = status.st_size, status.st_mtime_ns
    return numbers[:, 0], numbers[:, 1]
