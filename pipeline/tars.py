"""What stands in a tar file: its members with their places, and the samples that they make."""

import json
import os
import tarfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from hjepa.pipeline.labels import LABEL_NAMES, number_labels, plain_label
from hjepa.pipeline.walk import ENDINGS, advice

PIECE = 1 << 16
"""Bytes that are looked at in one go."""
LONGEST_NAME = 100
"""Letters of a class's name in a .txt member; a longer text is a caption."""
MANY_NAMES = 100
"""More names than this, and more than half as many as samples, are captions, not classes."""

NO_HEADER = (tarfile.TarError, OverflowError, MemoryError)
"""What tarfile raises where none stands; the last two for one of more bytes than there are."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """One file in a tar file."""

    name: str
    offset: int
    """Where its content begins, in bytes."""
    length: int
    """Bytes of its content."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """Members that share a name up to the first dot."""

    key: str
    members: dict[str, Member] = field(default_factory=dict)
    """By what follows the first dot, in lower case."""
    repeated: list[Member] = field(default_factory=list)
    """Whose names came before."""

    @property
    def images(self) -> list[Member]:
        """The member that is the image: .jpg rather than .seg.png. Without such a one, all that might be; the first counts."""
        images = [name for name in self.members if f".{name.rsplit('.', 1)[-1]}" in ENDINGS]
        whole = [name for name in images if f".{name}" in ENDINGS]
        return [self.members[name] for name in whole[:1] or images]


def read_members(file: Path) -> tuple[list[Member], list[str]]:
    """All whole members of a tar file, and what is wrong with it. Raises ValueError where it is no tar file."""
    size = file.stat().st_size
    members: list[Member] = []
    damage: list[str] = []
    links: list[str] = []
    places: dict[str, Member] = {}
    try:
        with tarfile.open(file, "r:") as archive:
            try:
                while (member := archive.next()) is not None:
                    archive.members.clear()  # type: ignore[attr-defined]  # kept by tarfile, a gigabyte for a large shard
                    if archive.offset >= size + tarfile.BLOCKSIZE:  # perhaps where no file can be read
                        damage.append(f"cut off in {member.name}; what stands before it is used")
                        break
                    if _is_hidden(member.name):
                        continue
                    if member.islnk() and member.linkname in places:  # to what tar wrote under another name
                        members.append(replace(places[member.linkname], name=member.name))
                        continue
                    if member.islnk() or member.issym():
                        links.append(f"{member.name} is a link; pack the shard with --dereference")
                        continue
                    if not member.isreg():
                        continue
                    if member.issparse():
                        damage.append(f"{member.name} is stored sparse; pack the shard without --sparse")
                    elif member.offset_data + member.size > size:
                        damage.append(f"cut off in {member.name}; what stands before it is used")
                    else:
                        members.append(Member(name=member.name, offset=member.offset_data, length=member.size))
                        places[member.name] = members[-1]
            except NO_HEADER as error:
                if not damage:
                    damage.append(f"damaged: {_in_words(error)}; what stands before it is used")
            if not damage and not _ends_well(file, archive.offset, size):
                damage.append(
                    f"damaged at byte {archive.offset}, or more follows its end there, as where tar files were put together; "
                    "what stands before it is used"
                )
    except NO_HEADER as error:
        raise ValueError(f"{file} is no tar file ({_in_words(error)}); shards are plain .tar, not compressed") from error
    except OSError as error:
        raise ValueError(f"cannot read {file}: {error.strerror}; {advice(error)}") from error
    return members, damage + links


def group(members: Iterable[Member]) -> list[Sample]:
    """Samples in the order of their first members. Of two members with one name the first counts, as does case: not at all."""
    samples: dict[str, Sample] = {}
    for member in members:
        path = PurePosixPath(member.name)
        stem, _, ending = path.name.partition(".")
        key = str(path.with_name(stem)) if stem else str(path)
        sample = samples.setdefault(key, Sample(key=key))
        if ending.lower() in sample.members:
            sample.repeated.append(member)
        else:
            sample.members[ending.lower()] = member
    return list(samples.values())


def label_of(sample: Sample, handle: int) -> int | str | None:
    """The label of a sample, read from the open tar file; None where there is none."""
    if "cls" in sample.members:
        return _text(sample.members["cls"], handle)
    if "json" in sample.members:
        try:
            described = json.loads(_read(sample.members["json"], handle))
        except (ValueError, RecursionError):  # no JSON, or no text
            return None
        values = [described[name] for name in LABEL_NAMES if name in described] if isinstance(described, dict) else []
        return plain_label(values[0]) if values and isinstance(values[0], int | float | str) else None
    return _text(sample.members["txt"], handle) if "txt" in sample.members else None


def number_texts(values: Sequence[int | str | None]) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    """See number_labels; texts that hardly repeat are captions, which are no labels."""
    labels, classes = number_labels(values)
    names = len(set(labels.tolist()))
    if names > MANY_NAMES and names > len(values) / 2 and not all(name.isdigit() for name in classes):
        return np.full(len(values), -1, dtype=np.int64), ()
    return labels, classes


def _in_words(error: Exception) -> str:
    return str(error) if isinstance(error, tarfile.TarError) else "a header of more bytes than there are"


def _text(member: Member, handle: int) -> str | None:
    text = _read(member, handle).decode(errors="replace").strip()
    return text if 0 < len(text) <= LONGEST_NAME and "\n" not in text else None


def _read(member: Member, handle: int) -> bytes:
    return os.pread(handle, member.length, member.offset)


def _is_hidden(name: str) -> bool:
    """The ._ files of macOS, and what WebDataset calls __meta__ names."""
    base = PurePosixPath(name).name
    return base.startswith(".") or (base.startswith("__") and base.endswith("__"))


def _ends_well(file: Path, place: int, size: int) -> bool:
    """Whether the tar file ends there: with the file, or in zeros up to its end."""
    with open(file, "rb") as opened:
        opened.seek(min(place, size))
        while piece := opened.read(PIECE):
            if piece.strip(b"\0"):
                return False
    return True
