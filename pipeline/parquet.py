"""Parquet files with a column of encoded images, such as Hugging Face publishes (needs pyarrow).

A parquet file is read by groups of rows, and no less: the groups last used are kept, and an order that stays within groups
for a while (shuffle="blocks") reads each of them once, if those of its window fit into what is kept. Files are not mapped:
where one becomes shorter, or its disk fails, reading what is mapped kills the process (SIGBUS) without a word.
"""

import glob
import importlib
import io
import json
import logging
import os
from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from hjepa.pipeline import index
from hjepa.pipeline.columns import Columns
from hjepa.pipeline.dataset import IMAGE_NAMES
from hjepa.pipeline.forks import OwnLock
from hjepa.pipeline.handles import KEPT, FirstSeen, short_names
from hjepa.pipeline.header import MAX_PIXELS, Header, explain, read_header
from hjepa.pipeline.index import Index, Indexed
from hjepa.pipeline.labels import LABEL_NAMES, number_labels
from hjepa.pipeline.order import WINDOW
from hjepa.pipeline.scan import Progress, empty_scan, scan_headers
from hjepa.pipeline.source import Samples
from hjepa.pipeline.splits import advise_files

# N images of the source, B images of a batch
KEPT_BYTES = 1 << 29
"""Size of the groups of rows that are kept."""
LARGE_GROUP = 256
"""Rows per group; with more an order without blocks is slow enough to say so."""
log = logging.getLogger("hjepa")


class ParquetSource(Indexed):
    """N images in parquet files, in the order of files and rows; a Source. close() drops what is kept of them."""

    def __init__(self, name: str, files: tuple[Path, ...], used: Index) -> None:
        self.name = name
        self.files = files
        self.index = used
        self._first_seen = FirstSeen(files)
        self._opened: OrderedDict[int, Any] = OrderedDict()
        self._groups: OrderedDict[int, Any] = OrderedDict()
        self._kept_bytes = 0
        self._lock = OwnLock()

    def fetch(self, indices: npt.NDArray[np.int64]) -> Samples:
        """See Source.fetch; gives contents, which share the memory of their group of rows."""
        rows = self.index.rows[indices]
        groups, places = self.index.column("group")[rows], self.index.column("place")[rows]
        contents = [np.empty(0, dtype=np.uint8)] * len(rows)
        failures: dict[int, str] = {}
        for group in np.unique(groups).tolist():
            members = np.nonzero(groups == group)[0].tolist()
            try:
                with self._lock():
                    images = self._group(group)
                for member in members:
                    contents[member] = np.frombuffer(images[int(places[member])].as_buffer(), dtype=np.uint8)
            except (OSError, ValueError, IndexError) as error:  # pyarrow's errors are of these kinds
                failures.update(dict.fromkeys(members, explain(error)))
        return self.index.samples(rows, contents, failures)

    def close(self) -> None:
        """Drops the open files and the groups of rows; a later fetch reads them again."""
        with self._lock():
            self._opened.clear()
            self._groups.clear()
            self._kept_bytes = 0

    def __enter__(self) -> "ParquetSource":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return ParquetSource, (self.name, self.files, self.index)  # open files do not travel

    def _group(self, group: int) -> Any:
        """The images of a group of rows, as an arrow array of bytes."""
        if group in self._groups:
            self._groups.move_to_end(group)
            return self._groups[group]
        about = self.index.stored.about
        file, own = about["groups"][group]
        if file not in self._opened:
            self._first_seen.check(file)
            self._opened[file] = _import_parquet().ParquetFile(self.files[file])
        self._opened.move_to_end(file)
        while len(self._opened) > KEPT:
            self._opened.popitem(last=False)[1].close()
        images = self._groups[group] = _read_bytes(self._opened[file], own, about["image"])
        self._kept_bytes += images.nbytes
        while len(self._groups) > 1 and self._kept_bytes > KEPT_BYTES:
            self._kept_bytes -= self._groups.popitem(last=False)[1].nbytes
        return images


def open_parquet(
    files: str | Path | Sequence[str | Path],
    *,
    image: str | Literal["auto"] = "auto",
    label: str | Literal["auto"] = "auto",
    max_pixels: int = MAX_PIXELS,
    num_workers: int = 8,
    progress: Progress | None = None,
) -> ParquetSource:
    """Finds and indexes the images of parquet files: one, a folder of them, a pattern such as train-*.parquet, or a list.

    image, label: names of the columns; "auto" takes those with the usual names. The images are bytes, or Hugging Face's pair
    of bytes and path. Raises ValueError where pyarrow or a column is missing, or no image can be used.
    """
    names = [files] if isinstance(files, str | Path) else list(files)
    paths = tuple(path for name in names for path in find_parquet(name))
    if not paths:
        raise ValueError("the list of parquet files is empty; give their paths")
    parquet = _import_parquet()
    made_from = [[str(path), path.stat().st_size, path.stat().st_mtime_ns] for path in paths] + [[image, label]]
    cache = index.cache_file("parquet", repr([made_from[-1], *map(str, paths)]).encode(errors="surrogateescape"))
    stored = index.cached(
        cache,
        lambda stored: stored.about["made_from"] == made_from,
        lambda _: _build(parquet, paths, image, label, made_from, num_workers, progress),
    )
    name = str(paths[0]) if len(paths) == 1 else f"{paths[0].parent} ({len(paths)} parquet files)"
    used = index.in_use(stored, max_pixels, name)
    advise_files(name, paths)
    _advise(name, stored)
    return ParquetSource(name, paths, used)


def _advise(name: str, stored: Columns) -> None:
    """Says once what makes large groups of rows slow, and what helps."""
    lengths = stored.arrays["length"]
    rows = len(lengths) // len(stored.about["groups"])
    if rows <= LARGE_GROUP:
        return
    fits = WINDOW * rows * int(lengths.mean()) <= KEPT_BYTES
    advice = (
        "use a Loader's shuffle='blocks'" if fits else "write them with groups of 100 rows, and use a Loader's shuffle='blocks'"
    )
    log.warning("%s: a group of %d rows is read whole for any row of it; %s (see docs/data.md)", name, rows, advice)


def find_parquet(name: str | Path) -> list[Path]:
    """The parquet files that a path or pattern names: of a folder all below it but hidden ones. Raises ValueError for none."""
    text = os.path.expanduser(os.fspath(name))
    if not text:
        raise ValueError("the path of the parquet files is empty; give files, or . for the current folder")
    path = Path(text).absolute()
    if path.is_file():
        return [path]
    if path.is_dir():
        files = sorted(path.rglob("*.parquet"))
        found = [file for file in files if not any(part.startswith(".") for part in file.relative_to(path).parts)]
    else:
        found = sorted(Path(match).absolute() for match in glob.glob(text))
    if not found:
        raise ValueError(f"there are no parquet files at {text}; give files, a folder of them, or a pattern")
    return found


def _import_parquet() -> Any:
    try:
        return importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise ValueError(f"parquet files need pyarrow, which does not import here ({error}); pip install pyarrow") from error


def _build(
    parquet: Any,
    paths: tuple[Path, ...],
    image: str,
    label: str,
    made_from: Any,
    num_workers: int,
    progress: Progress | None,
) -> Columns:
    with _open(parquet, paths[0]) as first:
        image_name = _column(first, image, IMAGE_NAMES, paths[0])
        label_name = "" if label == "auto" and not _has(first, LABEL_NAMES) else _column(first, label, LABEL_NAMES, paths[0])
        names = _names(first, label_name)
    groups, counts = _groups(parquet, paths, [name for name in (image_name, label_name) if name])
    scan, length = empty_scan(sum(counts)), np.zeros(sum(counts), dtype=np.int64)
    keys: list[bytes] = []
    labels: list[int | str | None] = []
    for path, short in zip(paths, short_names(paths), strict=True):
        with _open(parquet, path) as file:  # one after the other: all at once may be more than can be open
            for own in range(file.num_row_groups):
                images, start = _read_group(file, own, image_name, path), len(keys)
                if label_name:
                    labels += file.read_row_group(own, columns=[label_name]).column(0).to_pylist()
                rows = np.arange(start, start + len(images))
                length[rows] = [len(one.as_buffer() or b"") for one in images]
                scan_headers(scan, rows, partial(_read_header, images, start), num_workers=num_workers, progress=None)
                keys += [os.fsencode(f"{short}/{own}/{row}") for row in range(len(images))]
                if progress:
                    progress(len(keys), len(length))
    numbers, classes = number_labels(labels or [None] * len(keys))
    stored = index.build(
        keys=keys,
        length=length,
        labels=numbers,
        classes=names or classes,
        scan=scan,
        more={
            "group": np.repeat(np.arange(len(groups), dtype=np.int32), counts),
            "place": np.concatenate([np.arange(count, dtype=np.int32) for count in counts] or [np.empty(0, dtype=np.int32)]),
        },
        made_from=made_from,
    )
    return Columns(arrays=stored.arrays, about={**stored.about, "groups": groups, "image": image_name})


def _groups(parquet: Any, paths: tuple[Path, ...], names: Sequence[str]) -> tuple[list[tuple[int, int]], list[int]]:
    """Of each group of rows its file and its place there, and its rows. Raises ValueError where a file lacks a column."""
    groups: list[tuple[int, int]] = []
    counts: list[int] = []
    for number, path in enumerate(paths):
        with _open(parquet, path) as file:
            for name in names:
                if not _has(file, (name,)):
                    raise ValueError(f"{path} has no column {name}, which {paths[0]} has; give files of one kind")
            groups += [(number, own) for own in range(file.num_row_groups)]
            counts += [file.metadata.row_group(own).num_rows for own in range(file.num_row_groups)]
    return groups, counts


def _read_header(images: Any, start: int, row: int) -> Header:
    """The header at a row of the index, of a group whose images begin at the row `start`."""
    content = images[row - start].as_buffer()
    return Header(reason="the row has no image's content") if content is None else read_header(io.BytesIO(content))


def _open(parquet: Any, path: Path) -> Any:
    try:
        return parquet.ParquetFile(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is no whole parquet file ({error}); download it again") from error


def _has(file: Any, names: Sequence[str]) -> bool:
    return any(name in file.schema_arrow.names for name in names)


def _column(file: Any, asked: str, names: Sequence[str], path: Path) -> str:
    """The column asked for, or the first of the usual names that is there."""
    held = file.schema_arrow.names
    found = next((name for name in (names if asked == "auto" else (asked,)) if name in held), None)
    if found is None:
        raise ValueError(
            f"{path} has the columns {', '.join(held)}, none of them {' or '.join(names) if asked == 'auto' else asked}; "
            "name the column of images with image=, that of labels with label="
        )
    return found


def _read_bytes(file: Any, group: int, name: str) -> Any:
    """The arrow array of bytes [rows of the group] in a column of bytes, or of Hugging Face's pairs of bytes and path."""
    kind = str(file.schema_arrow.field(name).type)
    is_pair = kind.startswith("struct")
    if not is_pair and kind not in ("binary", "large_binary"):
        raise ValueError(f"the column {name} holds {kind}, not encoded images (bytes); name another with image=")
    column = file.read_row_group(group, columns=[f"{name}.bytes" if is_pair else name]).column(0).combine_chunks()
    return column.field("bytes") if is_pair else column


def _read_group(file: Any, group: int, name: str, path: Path) -> Any:
    try:
        return _read_bytes(file, group, name)
    except OSError as error:  # of pyarrow: a page that does not unpack
        raise ValueError(f"{path} is damaged in its group of rows {group} ({error}); download it again") from error


def _names(file: Any, label: str) -> tuple[str, ...]:
    """Names of the classes that Hugging Face writes into the file; empty without."""
    described = json.loads((file.schema_arrow.metadata or {}).get(b"huggingface", b"{}"))
    return tuple(described.get("info", {}).get("features", {}).get(label, {}).get("names", ()))
