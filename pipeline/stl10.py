"""STL-10 (https://cs.stanford.edu/~acoates/stl10/), in its binary format: mapped from its files, not read."""

import os
from pathlib import Path
from typing import Literal

import numpy as np

from hjepa.pipeline.arrays import ArraySource

# N images
SIDE = 96
FOLDER = "stl10_binary"
MARKER = "train_X.bin"


def open_stl10(folder: str | Path, split: Literal["train", "test", "unlabeled"] = "train") -> ArraySource:
    """STL-10 from the folder stl10_binary, or the one around it. The unlabeled split is the large one, made for this.

    Raises ValueError where the files are missing or damaged.
    """
    if split not in ("train", "test", "unlabeled"):
        raise ValueError(f"split={split!r} is unknown; use 'train', 'test' or 'unlabeled'")
    root = Path(os.path.expanduser(folder)).absolute()
    root = root / FOLDER if (root / FOLDER).is_dir() else root
    images = _map(root / f"{split}_X.bin")
    if len(images) % (3 * SIDE * SIDE):
        raise ValueError(f"{root / f'{split}_X.bin'} of {len(images)} bytes is cut off; extract the archive of STL-10 again")
    # A file holds the red plane, the green one, the blue one, and each plane column by column.
    pixels = images.reshape(-1, 3, SIDE, SIDE).transpose(0, 3, 2, 1)
    if split == "unlabeled":
        labels = np.full(len(pixels), -1, dtype=np.int64)
    else:
        labels = _map(root / f"{split}_y.bin").astype(np.int64) - 1  # in the file they are 1 to 10
    names = root / "class_names.txt"
    classes = tuple(names.read_text().split()) if names.is_file() else tuple(str(number) for number in range(10))
    if len(labels) != len(pixels) or labels.max() >= len(classes):
        raise ValueError(
            f"the {len(labels)} labels of {split} in {root} do not fit its {len(pixels)} images; extract the archive again"
        )
    return ArraySource(
        name=str(root),
        parts=(pixels,),
        labels=labels,
        classes=() if split == "unlabeled" else classes,
        title=f"stl10/{split}",
    )


def holds_stl10(folder: Path) -> bool:
    """Whether the folder holds STL-10, or is it."""
    return any((place / MARKER).is_file() for place in (folder, folder / FOLDER))


def _map(file: Path) -> "np.ndarray[tuple[int], np.dtype[np.uint8]]":
    try:
        return np.asarray(np.memmap(file, dtype=np.uint8, mode="r"))
    except (OSError, ValueError) as error:  # ValueError: an empty file
        raise ValueError(
            f"cannot read {file} ({error}); extract stl10_binary.tar.gz and give the folder {FOLDER}, or the one around it"
        ) from error
