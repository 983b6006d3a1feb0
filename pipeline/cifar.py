"""CIFAR-10 and CIFAR-100 (https://www.cs.toronto.edu/~kriz/cifar.html), as python pickles or in the binary format.

A pickle can run any code when it is read. These are read by an unpickler that admits nothing but what the files of the data
set hold: dictionaries, lists, texts and arrays of bytes.
"""

import io
import os
import pickle
import tarfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from hjepa.pipeline.arrays import ArraySource

# N images
SIDE = 32
PIXELS = 3 * SIDE * SIDE
"""Bytes of an image: the red plane, the green one, the blue one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Edition:
    """One way in which one of the data sets is published."""

    folder: str
    """Name of the folder that the published archive holds."""
    files: dict[str, tuple[str, ...]]
    """Split -> files, in order."""
    names: str
    """File with the names of the classes."""
    binary: bool
    label: str
    """Key of the labels in the pickles."""
    label_names: str
    """Key of the classes' names in the pickle of names."""
    label_bytes: int
    """Bytes before the pixels in a binary record; the last is the label."""


TENS = tuple(f"data_batch_{number}" for number in range(1, 6))
EDITIONS: dict[int, tuple[Edition, Edition]] = {
    10: (
        Edition(
            folder="cifar-10-batches-py",
            files={"train": TENS, "test": ("test_batch",)},
            names="batches.meta",
            binary=False,
            label="labels",
            label_names="label_names",
            label_bytes=0,
        ),
        Edition(
            folder="cifar-10-batches-bin",
            files={"train": tuple(f"{name}.bin" for name in TENS), "test": ("test_batch.bin",)},
            names="batches.meta.txt",
            binary=True,
            label="",
            label_names="",
            label_bytes=1,
        ),
    ),
    100: (
        Edition(
            folder="cifar-100-python",
            files={"train": ("train",), "test": ("test",)},
            names="meta",
            binary=False,
            label="fine_labels",
            label_names="fine_label_names",
            label_bytes=0,
        ),
        Edition(
            folder="cifar-100-binary",
            files={"train": ("train.bin",), "test": ("test.bin",)},
            names="fine_label_names.txt",
            binary=True,
            label="",
            label_names="",
            label_bytes=2,
        ),
    ),
}


def open_cifar(place: str | Path, classes: Literal[10, 100] = 10, split: Literal["train", "test"] = "train") -> ArraySource:
    """CIFAR-10 or CIFAR-100 from the folder that its archive holds, the folder around that, or the archive itself (.tar.gz).

    The binary format is mapped from its files; pickles and archives are held in memory. Raises ValueError where the files are
    missing, damaged, or hold what CIFAR's pickles do not.
    """
    if classes not in EDITIONS:
        raise ValueError(f"classes={classes!r} is no edition of CIFAR; use 10 or 100")
    if split not in ("train", "test"):
        raise ValueError(f"split={split!r} is unknown; use 'train' or 'test'")
    path = Path(os.path.expanduser(place)).absolute()
    edition, read = _find(path, EDITIONS[classes], classes)
    parts, labels = [], []
    for name in edition.files[split]:
        records = read(name)
        images, own = _read_binary(name, records, edition) if edition.binary else _read_pickle(name, records, edition)
        parts.append(images.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1))
        labels.append(own)
    numbers = np.concatenate(labels)
    if len(numbers) == 0 or numbers.min() < 0 or numbers.max() >= classes:
        raise ValueError(f"the labels in {path} are not 0 to {classes - 1}; download CIFAR-{classes} again")
    return ArraySource(
        name=str(path),
        parts=tuple(parts),
        labels=numbers,
        classes=_read_names(edition, read(edition.names)),
        title=f"cifar{classes}/{split}",
    )


def holds_cifar(folder: Path) -> Literal[0, 10, 100]:
    """Which CIFAR the folder holds, or is; 0 for none."""
    for classes, editions in EDITIONS.items():
        if any((place / editions_file).is_file() for edition in editions for place, editions_file in _places(folder, edition)):
            return 10 if classes == 10 else 100
    return 0


def _places(folder: Path, edition: Edition) -> Iterable[tuple[Path, str]]:
    marker = edition.files["test"][0]
    if folder.name == edition.folder or (folder / edition.names).is_file():
        yield folder, marker
    yield folder / edition.folder, marker


def _find(
    path: Path, editions: tuple[Edition, Edition], classes: int
) -> tuple[Edition, Callable[[str], npt.NDArray[np.uint8]]]:
    """The edition that lies there, and what gives the bytes of one of its files."""
    if path.is_file():
        return _read_archive(path, editions, classes)
    for edition in editions:
        for folder, marker in _places(path, edition):
            if (folder / marker).is_file():
                return edition, partial(_map, folder)
    wanted = " or ".join(edition.folder for edition in editions)
    raise ValueError(f"no CIFAR-{classes} in {path}; give the folder {wanted}, the folder it lies in, or its .tar.gz")


def _map(folder: Path, name: str) -> npt.NDArray[np.uint8]:
    file = folder / name
    try:
        return np.asarray(np.memmap(file, dtype=np.uint8, mode="r"))
    except (OSError, ValueError) as error:  # ValueError: an empty file
        raise ValueError(f"cannot read {file} ({error}); extract the archive of CIFAR again") from error


def _read_archive(
    path: Path, editions: tuple[Edition, Edition], classes: int
) -> tuple[Edition, Callable[[str], npt.NDArray[np.uint8]]]:
    files: dict[tuple[str, str], npt.NDArray[np.uint8]] = {}
    folders = {edition.folder for edition in editions}
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                parent, name = Path(member.name).parent.name, Path(member.name).name
                if parent in folders and (content := archive.extractfile(member)) is not None:
                    files[parent, name] = np.frombuffer(content.read(), dtype=np.uint8)
    except (OSError, EOFError, tarfile.TarError) as error:
        raise ValueError(f"cannot read the archive {path} ({error}); download it again") from error
    for edition in editions:
        if (edition.folder, edition.files["test"][0]) in files:
            return edition, partial(_member, files, path, edition.folder)
    raise ValueError(f"no CIFAR-{classes} in {path}; give the archive as it is published, with the folder {editions[0].folder}")


def _member(files: dict[tuple[str, str], npt.NDArray[np.uint8]], path: Path, folder: str, name: str) -> npt.NDArray[np.uint8]:
    if (folder, name) not in files:
        raise ValueError(f"{path} lacks {folder}/{name}; download it again")
    return files[folder, name]


def _read_binary(
    name: str, records: npt.NDArray[np.uint8], edition: Edition
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    length = edition.label_bytes + PIXELS
    if len(records) % length:
        raise ValueError(f"{name} of {len(records)} bytes is cut off: a record has {length}; download it again")
    table = records.reshape(-1, length)
    return table[:, edition.label_bytes :], table[:, edition.label_bytes - 1].astype(np.int64)


def _read_pickle(
    name: str, content: npt.NDArray[np.uint8], edition: Edition
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    held = _unpickle(name, content)
    images, labels = held.get("data"), held.get(edition.label)
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.shape[1:] != (PIXELS,):
        raise ValueError(f"{name} holds no uint8 images of {PIXELS} bytes each; download CIFAR again")
    if not isinstance(labels, list) or len(labels) != len(images) or not all(isinstance(label, int) for label in labels):
        raise ValueError(f"{name} holds no {edition.label} for its {len(images)} images; download CIFAR again")
    return images, np.array(labels, dtype=np.int64)


def _read_names(edition: Edition, content: npt.NDArray[np.uint8]) -> tuple[str, ...]:
    if edition.binary:
        return tuple(content.tobytes().decode().split())
    names = _unpickle(edition.names, content).get(edition.label_names)
    if not isinstance(names, list):
        raise ValueError(f"{edition.names} holds no {edition.label_names}; download CIFAR again")
    return tuple(_text(name) for name in names)


def _unpickle(name: str, content: npt.NDArray[np.uint8]) -> dict[str, Any]:
    try:
        held = _Unpickler(io.BytesIO(content.data), encoding="bytes").load()
    except Exception as error:  # a damaged pickle raises anything
        raise ValueError(f"{name} is no file of CIFAR ({error}); download it again") from error
    if not isinstance(held, dict):
        raise ValueError(f"{name} is no file of CIFAR (a {type(held).__name__}, not a dictionary); download it again")
    return {_text(key): value for key, value in held.items()}


class _Unpickler(pickle.Unpickler):
    """Reads the pickles of CIFAR, also as newer versions of Python and numpy write them, and refuses all else."""

    def find_class(self, module: str, name: str) -> Any:
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct":
            return _empty_array
        if (module, name) == ("numpy", "ndarray"):
            return np.ndarray
        if (module, name) == ("numpy", "dtype"):
            return _dtype_of_bytes
        if (module, name) == ("_codecs", "encode"):  # how Python 3 writes bytes for Python 2
            return _latin1
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def _empty_array(kind: type, shape: tuple[int, ...], _: bytes) -> npt.NDArray[Any]:
    """What numpy makes before it fills an array; no other class, and no size but the empty one."""
    if kind is not np.ndarray or shape != (0,):
        raise pickle.UnpicklingError("it asks for an array of another kind")
    return np.empty(0, dtype=np.uint8)


def _dtype_of_bytes(kind: bytes | str, *_: object) -> np.dtype[np.uint8]:
    if _text(kind) != "u1":
        raise pickle.UnpicklingError(f"it asks for an array of {_text(kind)}")
    return np.dtype(np.uint8)


def _latin1(text: str, encoding: bytes | str) -> bytes:
    if _text(encoding) != "latin1":
        raise pickle.UnpicklingError(f"it asks for the encoding {_text(encoding)}")
    return text.encode("latin1")


def _text(value: object) -> str:
    return value.decode("latin1") if isinstance(value, bytes) else str(value)
