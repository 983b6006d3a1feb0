"""One door for all data: whatever the user has, as a Source."""

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from torch.utils.data import Subset

from hjepa.pipeline import source
from hjepa.pipeline.cifar import holds_cifar, open_cifar
from hjepa.pipeline.dataset import open_dataset
from hjepa.pipeline.folder import open_folder
from hjepa.pipeline.header import MAX_PIXELS
from hjepa.pipeline.lists import open_csv, open_list
from hjepa.pipeline.parquet import open_parquet
from hjepa.pipeline.scan import Progress, in_log
from hjepa.pipeline.source import Source
from hjepa.pipeline.stl10 import holds_stl10, open_stl10
from hjepa.pipeline.walk import ENDINGS, advice
from hjepa.pipeline.webdataset import open_webdataset

ACCEPTED = (
    "a folder (of images, tar shards, parquet files, CIFAR or STL-10), a .tar, .parquet, .csv or .txt file, "
    "CIFAR's cifar-*.tar.gz, a pattern such as shard-{0000..0009}.tar, "
    "a list of shards, paths, images or pairs with labels, a map-style data set, or a Source"
)

PACKED = {".tar": "webdataset", ".parquet": "parquet", ".csv": "csv", ".txt": "csv", ".lst": "csv"}
"""Ending of a file -> name of the data set that it holds."""
MEMBERS = ("name", "classes", "bad", "__len__", "fetch", "fingerprint")
"""What a Source has."""


def open_source(data: Any, *, max_pixels: int = MAX_PIXELS, num_workers: int = 8, progress: Progress | None = None) -> Source:
    """The source for what came; splits are the training ones.

    data: a folder (of images, tar shards, parquet files, CIFAR or STL-10); a .tar, .parquet, .csv or .txt file, or CIFAR's
    .tar.gz; a pattern such as shard-{0000..0009}.tar; a list of shards, of images (paths, encoded contents, PIL images, arrays)
    or of pairs of one and its label; a map-style data set; or a Source, which is given back as it is. Images of more than
    max_pixels are left out. num_workers: threads that read headers. progress: told (headers read, headers to read), in place of
    the log, which is where a scan takes long. Raises ValueError for anything else, and where the data cannot be used.
    """
    if is_source(data):
        return data
    is_path = isinstance(data, str | bytes | os.PathLike)
    progress = progress or in_log(os.fsdecode(data) if is_path else f"a {type(data).__name__}")
    if is_path:
        return _open_path(os.fsdecode(data), max_pixels, num_workers, progress)
    if isinstance(data, list | tuple):
        open_items = _opener(data)
        return open_items(data, max_pixels=max_pixels, num_workers=num_workers, progress=progress)
    chosen, whole = _choice(data)
    if is_source(whole):  # torch's random_split of a Source, which has no items by number
        return source.Subset(source=whole, chosen=np.array(chosen, dtype=np.int64))
    if _is_plain_folder(whole):
        items, classes = [whole.samples[number] for number in chosen], whole.classes
        return open_list(items, classes=classes, max_pixels=max_pixels, num_workers=num_workers, progress=progress)
    if hasattr(data, "__len__") and hasattr(data, "__getitem__"):
        return open_dataset(data, max_pixels=max_pixels)
    if isinstance(data, Iterable):
        raise ValueError(f"{type(data).__name__} gives its items in its own order alone, without numbers; give {ACCEPTED}")
    raise ValueError(f"{type(data).__name__} is no data that hjepa reads; give {ACCEPTED}")


def name_of(place: str | Path) -> str:
    """What lies at a place, by the names of data sets in settings; imagefolder where nothing else shows, or nothing is there.

    Raises ValueError for a folder that cannot be read, or that holds images in more than one way.
    """
    path = Path(os.path.expanduser(place))
    if path.is_dir():
        return _name_of_folder(path)
    name = path.name.lower()
    if name.endswith((".tar.gz", ".tgz")) and name.startswith("cifar-"):
        return "cifar100" if name.startswith("cifar-100") else "cifar10"
    return PACKED.get(path.suffix.lower(), "imagefolder")


def is_source(data: Any) -> TypeGuard[Source]:
    """Whether it has the six members of a Source. Raises ValueError where it was meant to be one and some are missing."""
    missing = [name for name in MEMBERS if not hasattr(data, name)]
    # With items by number it is a data set that happens to have a fetch of its own.
    if missing and hasattr(data, "fetch") and not hasattr(data, "__getitem__"):
        raise ValueError(f"{type(data).__name__} has fetch, but is no Source without {', '.join(missing)}; see hjepa.Source")
    return not missing


def _choice(data: Any) -> tuple[Sequence[int], Any]:
    """The numbers that torch's Subset, or a Subset of one, takes of a data set, and that data set."""
    if type(data) is not Subset:  # one of the user's own may change the items
        return range(len(data)) if hasattr(data, "__len__") else (), data
    chosen, whole = _choice(data.dataset)
    return [chosen[int(number)] for number in data.indices], whole


def _opener(items: Sequence[Any]) -> Callable[..., Source]:
    """What opens a list: of tar or parquet files as the first one says, and otherwise of images."""
    first = Path(os.fsdecode(items[0])).suffix.lower() if items and isinstance(items[0], str | os.PathLike) else ""
    openers: dict[str, Callable[..., Source]] = {".tar": open_webdataset, ".parquet": open_parquet}
    return openers.get(first, open_list)


def _is_plain_folder(data: Any) -> bool:
    """Whether it is torchvision's ImageFolder with nothing of the user's own: its files are better decoded by the backend."""
    kind = type(data)
    return (
        (kind.__module__, kind.__name__) == ("torchvision.datasets.folder", "ImageFolder")
        and data.transforms is None
        and getattr(data.loader, "__name__", "") == "default_loader"
    )


def _open_path(text: str, max_pixels: int, num_workers: int, progress: Progress | None) -> Source:
    if not text.strip():
        raise ValueError(f"the path of the data is empty; give {ACCEPTED}")
    path = Path(os.path.expanduser(text))
    name, place = name_of(path), path if path.is_dir() else text  # whoever takes patterns expands the text itself
    if name in ("cifar10", "cifar100"):
        return open_cifar(path, 10 if name == "cifar10" else 100)
    if name == "stl10":
        return open_stl10(path)
    if name == "webdataset":
        return open_webdataset(place, max_pixels=max_pixels, num_workers=num_workers, progress=progress)
    if name == "parquet":
        return open_parquet(place, max_pixels=max_pixels, num_workers=num_workers, progress=progress)
    if name == "csv":
        return open_csv(path, max_pixels=max_pixels, num_workers=num_workers, progress=progress)
    if not path.exists():
        raise ValueError(f"data folder {path.absolute()} does not exist; give {ACCEPTED}")
    if not path.is_dir():
        raise ValueError(f"{path.absolute()} is a file of a kind that hjepa does not read; give {ACCEPTED}")
    return open_folder(path, max_pixels=max_pixels, num_workers=num_workers, progress=progress)


def _name_of_folder(folder: Path) -> str:
    """What lies in the folder itself decides; images lie deeper as a rule, so a folder of anything else is one of images."""
    endings = set()
    try:
        for entry in folder.iterdir():
            ending = "" if entry.name.startswith(".") else entry.suffix.lower()
            if ending in ENDINGS:  # at once: there may be millions
                return "imagefolder"
            endings.add(ending)
    except OSError as error:
        raise ValueError(f"cannot read folder {folder}: {error.strerror}; {advice(error)}") from error
    if classes := holds_cifar(folder):
        return f"cifar{classes}"
    if holds_stl10(folder):
        return "stl10"
    packed = endings & {".tar", ".parquet"}
    _refuse_both(folder, packed)
    return PACKED[packed.pop()] if packed else "imagefolder"


def _refuse_both(folder: Path, packed: set[str]) -> None:
    """Raises ValueError where a folder holds images in more than one way: which of them is the data would be a guess."""
    found = [f"{ending} files" for ending in sorted(packed)]
    if packed and (image := _image_below(folder)):
        found.append(f"images in folders ({image})")
    if len(found) > 1:
        raise ValueError(
            f"{folder} holds both {' and '.join(found)}; use open_folder, open_webdataset or open_parquet "
            "(data.dataset=imagefolder, webdataset or parquet)"
        )


def _image_below(folder: Path) -> str | None:
    """The first image in the folders below, of those that can be read."""
    visited = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        real = os.path.realpath(place)
        if real in visited:  # a link back to a folder above
            folders.clear()
            continue
        visited.add(real)
        for name in files:
            if name.lower().endswith(ENDINGS) and not name.startswith("."):
                return os.path.relpath(os.path.join(place, name), folder)
    return None
