"""Data that looks like splits for training and for testing, all of which would be trained on: it is said, and used as asked."""

import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path

SPLITS = {"train", "training", "val", "valid", "validation", "test", "testing"}
"""Names of folders that are no classes, as a rule, and words in the names of files with many images."""
log = logging.getLogger("hjepa")


def advise_folders(root: Path, classes: tuple[str, ...]) -> None:
    """Says what a folder of splits is taken for: one of classes, all of whose images are used."""
    if len(classes) > 1 and {name.lower() for name in classes} <= SPLITS:
        log.warning(
            "%s: its folders %s look like splits, and are taken for classes, with all their images; "
            "give one of them, such as %s, or data.dataset=imagenet",
            root,
            ", ".join(classes),
            root / classes[0],
        )


def advise_files(name: str, files: Sequence[Path]) -> None:
    """Says that the images of files of several splits are used together."""
    root = os.path.commonpath([file.parent for file in files])
    words = [frozenset(re.split(r"[^a-z]+", os.path.relpath(file, root).lower())) & SPLITS for file in files]
    found = sorted({" and ".join(sorted(split)) for split in words if split})
    if len(found) > 1:
        log.warning("%s: its files look like splits (%s), and all are used; give those of one", name, ", ".join(found))
