"""WebDataset shards (https://github.com/webdataset/webdataset): tar files whose members belong together by their names.

Members are read at their places, in any order, through an index that is built once; so shards are shuffled like any other
images. A sample is what shares a name up to the first dot: 0001.jpg and 0001.cls. Its image is the member that ends in one
of the known endings, its label what .cls, .json or .txt says, in this order; other members are not read.
"""

import glob
import io
import os
import re
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hjepa.pipeline import index
from hjepa.pipeline.columns import Columns
from hjepa.pipeline.handles import Handles, short_names
from hjepa.pipeline.header import MAX_PIXELS, Header, explain, read_header, refused
from hjepa.pipeline.index import Index, Indexed
from hjepa.pipeline.labels import number_labels
from hjepa.pipeline.scan import Progress, Scan, empty_scan, joined, scan_headers
from hjepa.pipeline.source import BadImage, Samples
from hjepa.pipeline.splits import advise_files
from hjepa.pipeline.tars import Member, Sample, group, label_of, number_texts, read_members

# N images, B images of a batch
HEAD = 1 << 16
"""Bytes of a member that almost always hold its header."""
SHARED_NAME = (
    "what shares a name up to the first dot is one sample, and its first image counts; put other characters in place of the "
    "dots"
)
SAME_NAME = "another of that name comes before; number the samples on where shards are joined"


class WebDatasetSource(Indexed):
    """N images in tar files, in the order of the files and of their members; a Source. close() closes the files."""

    def __init__(self, name: str, files: tuple[Path, ...], used: Index) -> None:
        self.name = name
        self.files = files
        self.index = used
        self._handles = Handles(files)
        weakref.finalize(self, self._handles.close)  # before the interpreter ends: __del__ would come when os is gone

    def fetch(self, indices: npt.NDArray[np.int64]) -> Samples:
        """See Source.fetch; gives contents."""
        rows = self.index.rows[indices]
        places = zip(*(self.index.column(name)[rows].tolist() for name in ("shard", "offset", "length")), strict=True)
        contents, failures = [], {}
        for place, (shard, offset, length) in enumerate(places):
            try:
                content = self._handles.read(shard, length, offset)
            except OSError as error:
                content, failures[place] = b"", f"{self.files[shard]}: {explain(error)}"
            if len(content) < length:
                failures.setdefault(place, f"{self.files[shard]} ends in it")
            contents.append(np.frombuffer(content, dtype=np.uint8))
        return self.index.samples(rows, contents, failures)

    def close(self) -> None:
        """Closes the shards; a later fetch opens them again."""
        self._handles.close()

    def __enter__(self) -> "WebDatasetSource":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return WebDatasetSource, (self.name, self.files, self.index)  # file handles do not travel


def open_webdataset(
    shards: str | Path | Sequence[str | Path],
    *,
    max_pixels: int = MAX_PIXELS,
    num_workers: int = 8,
    progress: Progress | None = None,
) -> WebDatasetSource:
    """Finds and indexes the images of local shards.

    shards: a tar file, a folder of tar files, a pattern such as shard-{0000..0009}.tar or shard-*.tar, or a list of these.
    Larger images than max_pixels are left out. progress: told (headers read, headers to read). Raises ValueError where a shard
    is missing or compressed, or there is no readable image in any.
    """
    names = [shards] if isinstance(shards, str | Path) else list(shards)
    files = tuple(file for name in names for file in find_shards(name))
    if not files:
        raise ValueError("the list of shards is empty; give the paths of tar files")
    made_from = [[str(file), file.stat().st_size, file.stat().st_mtime_ns] for file in files]
    cache = index.cache_file("webdataset", "\0".join(str(file) for file in files).encode(errors="surrogateescape"))
    stored = index.cached(
        cache, lambda stored: stored.about["made_from"] == made_from, lambda _: _build(files, made_from, num_workers, progress)
    )
    name = str(files[0]) if len(files) == 1 else f"{files[0].parent} ({len(files)} shards)"
    used = index.in_use(stored, max_pixels, name)
    advise_files(name, files)
    return WebDatasetSource(name, files, used)


def find_shards(name: str | Path) -> list[Path]:
    """The tar files that a path or pattern names. Raises ValueError where there is none."""
    text = os.path.expanduser(os.fspath(name))
    if not text:
        raise ValueError("the path of the shards is empty; give tar files, or . for the current folder")
    found = []
    for each in [text] if os.path.exists(text) else _expand(text):
        path = Path(each).absolute()
        if path.is_dir():
            found += sorted(file for file in path.glob("*.tar") if not file.name.startswith("."))
        elif path.is_file():
            found.append(path)
        else:
            matched = sorted(Path(match).absolute() for match in glob.glob(each))
            if not matched:
                raise ValueError(f"there is no shard {each}; give local tar files (hjepa does not download)")
            found += matched
    if not found:
        raise ValueError(f"no .tar files in {text}; give tar files, or a folder of them")
    return found


def _expand(pattern: str) -> Iterator[str]:
    """{0000..0009} -> 0000, 0001, ...; {a,b} -> a, b."""
    match = re.search(r"\{(\d+)\.\.(\d+)\}|\{([^{}]*,[^{}]*)\}", pattern)
    if match is None:
        yield pattern
        return
    if match[3] is not None:
        middles = match[3].split(",")
    else:
        first, last = int(match[1]), int(match[2])
        middles = [str(number).zfill(len(match[1])) for number in range(first, last + 1)]
    for middle in middles:
        yield from _expand(pattern[: match.start()] + middle + pattern[match.end() :])


def _build(files: tuple[Path, ...], made_from: Any, num_workers: int, progress: Progress | None) -> Columns:
    members: list[Member] = []
    counts: list[int] = []
    keys: list[bytes] = []
    texts: list[int | str | None] = []
    bad: list[BadImage] = []
    scans: list[Scan] = []
    has_names, sizes = False, np.cumsum([size for _, size, _ in made_from], dtype=np.float64)
    for shard, (file, short) in enumerate(zip(files, short_names(files), strict=True)):
        samples = list(_read_shard(file, short, bad))
        own = [image for _, image, _ in samples]
        has_names |= any("cls" in sample.members for sample, _, _ in samples)
        keys += [os.fsencode(f"{short}/{image.name}") for image in own]
        texts += [label for _, _, label in samples]
        scans.append(_scan_shard(file, own, num_workers))  # while what was read of it is at hand
        members += own
        counts.append(len(own))
        if progress and members:  # how many there are is known at the end; until then their share of the bytes says it
            progress(len(members), round(len(members) * sizes[-1] / max(1, sizes[shard])))
    labels, classes = number_labels(texts) if has_names else number_texts(texts)  # a .cls is never a caption
    return index.build(
        keys=keys,
        length=np.array([member.length for member in members], dtype=np.int64),
        labels=labels,
        classes=classes,
        scan=joined(scans),
        more={
            "shard": np.repeat(np.arange(len(files), dtype=np.int32), counts),
            "offset": np.array([member.offset for member in members], dtype=np.int64),
        },
        made_from=made_from,
        bad=bad,
    )


def _read_shard(file: Path, short: str, bad: list[BadImage]) -> Iterator[tuple[Sample, Member, int | str | None]]:
    """The samples of a shard that have an image, their images and labels; what is wrong with others is added to `bad`."""
    members, damage = read_members(file)
    bad += [BadImage(path=short, reason=reason) for reason in damage]
    unread: list[Member] = []
    repeated: list[Member] = []
    with open(file, "rb", buffering=0) as opened:
        for sample in group(members):
            found = sample.images
            repeated += sample.repeated
            if not found:
                bad.append(BadImage(path=f"{short}/{sample.key}", reason="the sample has no image"))
                continue
            unread += found[1:]
            yield sample, found[0], label_of(sample, opened.fileno())
    bad += _left_out(short, unread, "images", SHARED_NAME) + _left_out(short, repeated, "members", SAME_NAME)


def _left_out(short: str, members: list[Member], what: str, why: str) -> list[BadImage]:
    """What is said of a shard's members that are not read; nothing where there are none."""
    if not members:
        return []
    return [BadImage(path=short, reason=f"{len(members)} {what} of it are not read, such as {members[0].name}: {why}")]


def _scan_shard(file: Path, images: list[Member], num_workers: int) -> Scan:
    scan = empty_scan(len(images))
    with open(file, "rb", buffering=0) as opened:
        handle = opened.fileno()
        rows = np.arange(len(images))
        scan_headers(scan, rows, lambda row: _read_header(handle, images[row]), num_workers=num_workers, progress=None)
    return scan


def _read_header(handle: int, member: Member) -> Header:
    try:
        header = read_header(io.BytesIO(os.pread(handle, min(member.length, HEAD), member.offset)))
        if header.reason and member.length > HEAD:  # a TIFF may describe itself at its end
            header = read_header(io.BytesIO(os.pread(handle, member.length, member.offset)))
    except OSError as error:
        return refused(error)
    return header
