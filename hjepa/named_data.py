"""Data sets by the names that settings and the multi-crop report use, each with its splits, as sources."""

from pathlib import Path
from typing import Literal, TypeAlias

from hjepa.pipeline.cifar import open_cifar
from hjepa.pipeline.folder import open_folder
from hjepa.pipeline.header import MAX_PIXELS
from hjepa.pipeline.lists import open_csv
from hjepa.pipeline.parquet import open_parquet
from hjepa.pipeline.scan import Progress
from hjepa.pipeline.source import Source
from hjepa.pipeline.stl10 import open_stl10
from hjepa.pipeline.webdataset import open_webdataset

Split: TypeAlias = Literal["train", "val"]
NAMES = ("imagefolder", "imagenet", "imagenet100", "cifar10", "cifar100", "stl10", "webdataset", "parquet", "csv")
WITH_SPLITS = ("imagenet", "imagenet100", "cifar10", "cifar100", "stl10")
"""Of all others everything is read, whatever split is asked for."""


def open_named(
    name: str,
    place: str | Path,
    split: Split = "train",
    *,
    max_pixels: int = MAX_PIXELS,
    verify: bool = False,
    progress: Progress | None = None,
) -> Source:
    """The data set of that name at that place: a folder, or what else such data lies in.

    imagenet and imagenet100 are the folders train and val below it, with a folder per class; "val" of cifar10, cifar100 and
    stl10 is their test split, and of data without splits all of it. verify: see open_folder. Raises ValueError for another
    name or split, or where the data is not there.
    """
    if split not in ("train", "val"):
        raise ValueError(f"split={split!r} is unknown; use 'train' or 'val'")
    if not str(place).strip():
        raise ValueError(f"the path of the data set {name!r} is empty; give its place, or . for the current folder")
    own: Literal["train", "test"] = "train" if split == "train" else "test"
    if name == "imagefolder":
        return open_folder(place, max_pixels=max_pixels, verify=verify, progress=progress)
    if name in ("imagenet", "imagenet100"):
        return open_folder(Path(place) / split, max_pixels=max_pixels, verify=verify, progress=progress)
    if name in ("cifar10", "cifar100"):
        return open_cifar(place, 10 if name == "cifar10" else 100, own)
    if name == "stl10":
        return open_stl10(place, own)
    if name == "webdataset":
        return open_webdataset(place, max_pixels=max_pixels, progress=progress)
    if name == "parquet":
        return open_parquet(place, max_pixels=max_pixels, progress=progress)
    if name == "csv":
        return open_csv(place, max_pixels=max_pixels, verify=verify, progress=progress)
    raise ValueError(f"the data set {name!r} is unknown; use one of {', '.join(NAMES)}")
