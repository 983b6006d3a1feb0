"""Copies of a folder's images in other sizes, kept in hjepa's cache: what a benchmark over sizes runs on."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from rich.progress import track

from hjepa.pipeline.folder import FolderSource, open_folder
from hjepa.pipeline.index import cache_folder

COUNT = 256
"""Copies that are made of each size."""
QUALITY = 95


@dataclass(frozen=True)
class Size:
    """Width and height in pixels, from a text such as 500x375."""

    text: str

    def __post_init__(self) -> None:
        self.sides  # noqa: B018 - raises ValueError for what is no size, which argparse turns into a message

    @property
    def sides(self) -> tuple[int, int]:
        """Width and height."""
        width, height = map(int, self.text.split("x"))
        if min(width, height) < 1:
            raise ValueError(f"{self.text} is no size of an image")
        return width, height


def spread_paths(source: FolderSource, count: int) -> list[Path]:
    """The paths of about so many images, evenly spaced."""
    chosen = np.arange(0, len(source), max(1, len(source) // count))
    return [Path(os.fsdecode(path)) for path in source.fetch(chosen).encoded]


def resized(folder: Path, size: Size, quality: int = QUALITY, *, progressive: bool = False) -> Path:
    """A folder like the given one whose images fill this size: scaled, cut at the sides, JPEG 4:2:0."""
    source = open_folder(folder)
    name = hashlib.sha256(f"{source.root.resolve()} {source.fingerprint()} {size.text}".encode()).hexdigest()[:12]
    kind = ("" if quality == QUALITY else f"-{quality}") + ("-progressive" if progressive else "")
    target = cache_folder() / "resized" / f"{size.text}-{name}{kind}"
    for path in track(spread_paths(source, COUNT), f"images of {size.text}", transient=True):
        copy = target / path.parent.name / f"{path.stem}.jpg"
        if not copy.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            try:
                with Image.open(path) as image:
                    fitted = ImageOps.fit(image.convert("RGB"), size.sides, Image.Resampling.BICUBIC)
            except OSError as error:
                raise ValueError(f"{path} cannot be read ({error}); take it out of {folder}") from error
            partial = copy.with_suffix(".partial")  # half of a JPEG would be taken for the copy by every later run
            fitted.save(partial, "JPEG", quality=quality, subsampling="4:2:0", progressive=progressive)
            partial.replace(copy)
    return target
