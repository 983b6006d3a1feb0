"""Data sets by the names that settings and the multi-crop report use, each with its splits, as sources."""

import os
from pathlib import Path
from typing import Literal, TypeAlias

from hjepa.configs.load import load_settings
from hjepa.configs.yaml_file import SettingsError
from hjepa.pipeline.cifar import holds_cifar, open_cifar
from hjepa.pipeline.folder import open_folder
from hjepa.pipeline.header import MAX_PIXELS
from hjepa.pipeline.index import Progress
from hjepa.pipeline.lists import open_csv
from hjepa.pipeline.parquet import open_parquet
from hjepa.pipeline.source import Source
from hjepa.pipeline.stl10 import holds_stl10, open_stl10
from hjepa.pipeline.walk import ENDINGS
from hjepa.pipeline.webdataset import open_webdataset

Split: TypeAlias = Literal["train", "val"]
NAMES = ("imagefolder", "imagenet", "imagenet100", "cifar10", "cifar100", "stl10", "webdataset", "parquet", "csv")

PACKED = {
    ".tar": "webdataset",
    ".parquet": "parquet",
    ".csv": "csv",
    ".txt": "csv",
    ".lst": "csv",
}
"""Ending of a file -> name of what it holds."""


def name_of(place: str | Path) -> str:
    """The name, of NAMES, of what lies at a place, for whoever names the place alone; imagefolder where nothing else shows."""
    path = Path(place).expanduser()
    if path.is_dir():
        if classes := holds_cifar(path):
            return f"cifar{classes}"
        return "stl10" if holds_stl10(path) else _name_of_folder(path)
    if path.name.lower().endswith((".tar.gz", ".tgz")) and path.name.startswith("cifar-"):
        return "cifar100" if path.name.startswith("cifar-100") else "cifar10"
    return PACKED.get(path.suffix.lower(), "imagefolder")


def _name_of_folder(folder: Path) -> str:
    """What a folder holds that is full of tar or parquet files and of nothing else; folders or images in it are the data."""
    endings = set()
    with os.scandir(folder) as entries:
        for entry in entries:
            endings.add(Path(entry.name).suffix.lower())
            if (entry.is_dir() and not entry.name.startswith(".")) or endings & set(ENDINGS):
                return "imagefolder"
    packed = endings & {".tar", ".parquet"}
    return PACKED[packed.pop()] if len(packed) == 1 else "imagefolder"


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


def asks_for_sample(config: Path) -> bool:
    """Whether a YAML file of settings names the sample images."""
    try:
        return load_settings(config).data.dataset == "sample"
    except SettingsError:  # is said where the file is loaded, with all that completes it
        return False
