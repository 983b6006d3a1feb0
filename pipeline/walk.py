"""The walk of a folder: every image file below it, with its length and time of change, and every folder on the way.

A folder whose own time of change is the known one has the same files in it, so its listing need not be read again; that
leaves an image overwritten in place, which only a look at the file itself shows.
"""

import errno
import os
import stat
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

# N files, F folders
ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
LONGEST_NAME = 400
"""Letters of a folder's name in a message."""
SETTLED_NS = 2_000_000_000
"""A time of change is trusted once it lies this far back: clocks of file systems tick up to this slowly."""


@dataclass(frozen=True, kw_only=True, slots=True)
class File:
    """One image file."""

    path: bytes
    """Relative to the root."""
    length: int
    """Bytes; -1 for a link to nothing."""
    changed_ns: int
    """Time of last change, in nanoseconds."""


@dataclass(kw_only=True, slots=True)
class Tree:
    """What a walk found."""

    files: dict[bytes, list[File]] = field(default_factory=dict)
    """Relative folder -> image files directly in it."""
    changed_ns: dict[bytes, int] = field(default_factory=dict)
    """Relative folder -> its time of change; -1 where that is too young to be trusted."""
    reused: set[bytes] = field(default_factory=set)
    """Folders that were not listed, because they are as they are known."""
    others: Counter[str] = field(default_factory=Counter)
    """How many other files there are, by ending."""


def walk(root: Path, known: Mapping[bytes, int] | None = None) -> Tree:
    """Finds the images below root; links are followed, but no folder is visited twice.

    known: relative folder -> its time of change in an earlier walk; folders whose time is still that one are not listed again.
    """
    tree, known = Tree(), known or {}
    children: dict[bytes, list[bytes]] = {}
    for folder in known:
        if folder:
            children.setdefault(os.path.dirname(folder), []).append(folder)
    now, visited, waiting = time.time_ns(), set[tuple[int, int] | bytes](), [b""]
    while waiting:
        folder = waiting.pop()
        try:
            status = os.stat(_join(os.fsencode(root), folder))
            # Some file systems of networks number nothing
            identity = (status.st_dev, status.st_ino) if status.st_ino else os.path.realpath(_join(os.fsencode(root), folder))
            if identity in visited:  # a link back to a folder above
                continue
            visited.add(identity)
            tree.changed_ns[folder] = status.st_mtime_ns if status.st_mtime_ns < now - SETTLED_NS else -1
            if known.get(folder) == status.st_mtime_ns:
                tree.reused.add(folder)
                below = children.get(folder, [])
            else:
                below = _list(root, folder, tree)
        except OSError as error:
            name = str(root / os.fsdecode(folder))
            shown = f"{name[:LONGEST_NAME]}..." if len(name) > LONGEST_NAME else name
            raise ValueError(f"cannot read folder {shown}: {error.strerror}; {advice(error)}") from error
        waiting += sorted(below, reverse=True)  # in order: which of two links to one folder counts must not be chance
    return tree


def advice(error: OSError) -> str:
    """What to do about what cannot be read."""
    if error.errno == errno.ENAMETOOLONG:
        return "shorten the names of the folders above it, or open one further down"
    return "check its permissions" if isinstance(error, PermissionError) else "see whether the disk is there, and is sound"


def _list(root: Path, folder: bytes, tree: Tree) -> list[bytes]:
    """Enters the files of a folder into the tree and gives its folders."""
    files, below = [], []
    with os.scandir(_join(os.fsencode(root), folder)) as entries:
        for entry in entries:
            name = os.fsdecode(entry.name)
            if name.startswith("."):  # .ipynb_checkpoints, and the ._ files of macOS
                continue
            if _is_folder(entry):
                below.append(_join(folder, entry.name))
            elif name.lower().endswith(ENDINGS) and (file := _file(folder, entry)) is not None:
                files.append(file)
            else:
                tree.others[os.path.splitext(name)[1]] += 1
    tree.files[folder] = files
    return below


def _file(folder: bytes, entry: "os.DirEntry[bytes]") -> File | None:
    """None for what is no file, such as a pipe, which would be waited for."""
    try:
        status = entry.stat()
    except OSError:  # a dangling link: the header scan names it as unreadable
        return File(path=_join(folder, entry.name), length=-1, changed_ns=-1)
    if not stat.S_ISREG(status.st_mode):
        return None
    return File(path=_join(folder, entry.name), length=status.st_size, changed_ns=status.st_mtime_ns)


def _is_folder(entry: "os.DirEntry[bytes]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself: no folder; with an image's ending, the header scan names it
        return False


def _join(folder: bytes, name: bytes) -> bytes:
    return folder + b"/" + name if folder and name else folder or name
