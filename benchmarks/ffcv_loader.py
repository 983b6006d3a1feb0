"""FFCV as its users write it: the images in a file of its own format, and one compiled pipeline for each crop.

It has no hue, grayscale, blur or solarization: its crops are cropped, flipped and normalised, and no more. Its file holds the
very bytes of the JPEGs. Images of one size are decoded once for all crops. Of images of mixed sizes its decoders give out
nothing but crops, so each crop decodes again. It resizes with OpenCV's area filter, and its crops lie with their channels last,
its default. Its compiler takes about a minute, once and before anything is timed: its "first batch" is without that.
"""

import os
from collections.abc import Generator
from functools import cache
from pathlib import Path
from typing import Any

# What numba reads when ffcv imports it. The search goes to twice the cores; and TBB, which numba takes first where it is
# installed, kept one of two cores idle.
os.environ.setdefault("NUMBA_NUM_THREADS", str(2 * len(os.sched_getaffinity(0))))
os.environ.setdefault("NUMBA_THREADING_LAYER", "omp")

import numpy as np
import torch
from ffcv.fields import RGBImageField
from ffcv.fields.decoders import RandomResizedCropRGBImageDecoder, SimpleRGBImageDecoder
from ffcv.fields.rgb_image import IMAGE_MODES
from ffcv.loader import Loader, OrderOption
from ffcv.loader.epoch_iterator import EpochIterator
from ffcv.pipeline import PipelineSpec
from ffcv.transforms import NormalizeImage, RandomHorizontalFlip, RandomResizedCrop, ToTensor, ToTorchImage
from ffcv.writer import MIN_PAGE_SIZE, DatasetWriter
from PIL import Image

from hjepa.pipeline.folder import FolderSource
from hjepa.pipeline.index import cache_folder
from hjepa.pipeline.recipe import Recipe, View

FIELD = "image"
EPOCH = 1 << 20
"""Images of an epoch, each many times: FFCV takes new memory for every epoch, which would be every few batches here."""


class FfcvLoader:
    """FFCV's loader of a folder's images, whose file is written at first. Raises ValueError for what it cannot decode."""

    def __init__(self, source: FolderSource, recipe: Recipe, batch_size: int) -> None:
        self._paths = [Path(os.fsdecode(path)) for path in source.fetch(np.arange(len(source))).encoded]
        self._file = cache_folder() / "ffcv" / f"{source.root.name}-{source.fingerprint()}.beton"
        if not self._file.exists():
            _write(self._paths, self._file)
        sizes = (source.index.column(side)[source.index.rows] for side in ("height", "width"))
        self._arguments = (self._file, len(source), recipe, batch_size, all(len(set(sides.tolist())) == 1 for sides in sizes))

    def batches(self, device: torch.device, workers: int) -> Generator[list[torch.Tensor], None, None]:
        """For ever, with so many threads; crops are moved to the device."""
        loader = _compiled(*self._arguments)
        loader.num_workers = workers
        while True:
            iterator = iter(loader)
            try:
                for views in iterator:
                    yield [view.to(device, non_blocking=True) for view in views]
            finally:
                iterator.close()
                iterator.join()

    def crops(self, paths: list[Path]) -> list[torch.Tensor]:
        """Of some of the images: [N, 3, S, S] for each view."""
        chosen = np.array([self._paths.index(path) for path in paths])
        parts = [[view.clone() for view in views] for views in EpochIterator(_compiled(*self._arguments), chosen)]
        return [torch.cat(view) for view in zip(*parts, strict=True)]


class StoredJpeg(RGBImageField):
    """FFCV's field of images, written from the bytes of a JPEG and its width and height; FFCV itself encodes pixels anew."""

    def encode(self, destination: Any, image: tuple[Path, int, int], malloc: Any) -> None:
        """Called by FFCV's writer."""
        path, destination["width"], destination["height"] = image
        content = np.fromfile(path, np.uint8)
        destination["mode"] = IMAGE_MODES["jpg"]
        destination["data_ptr"], place = malloc(content.nbytes)
        place[:] = content


def _write(paths: list[Path], file: Path) -> None:
    images = []
    for path in paths:
        with Image.open(path) as image:
            if image.format != "JPEG" or image.mode not in ("RGB", "L"):
                raise ValueError(
                    f"FFCV reads JPEGs in RGB or gray, and {path} is {image.format} in {image.mode}; leave ffcv out"
                )
            images.append(((path, *image.size),))
    largest = max(path.stat().st_size for path in paths)  # what does not fit into a page makes the writer wait for ever
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(f".{os.getpid()}")
    writer = DatasetWriter(str(partial), {FIELD: StoredJpeg()}, page_size=max(MIN_PAGE_SIZE, 1 << largest.bit_length()))
    writer.from_indexed_dataset(images)
    partial.replace(file)


@cache
def _compiled(file: Path, count: int, recipe: Recipe, batch_size: int, one_size: bool) -> Loader:
    """Its code serves any number of threads, so it is compiled once, for several."""
    decoder, views = SimpleRGBImageDecoder(), [view for view in recipe.views for _ in range(view.count)]
    pipelines: dict[str, PipelineSpec | None] = {FIELD: None}
    for number, view in enumerate(views):
        if not one_size:
            crop = RandomResizedCropRGBImageDecoder((view.size, view.size), view.area, view.ratio)
            spec = PipelineSpec(FIELD, crop, _after_crop(view, recipe))
        else:
            steps = [RandomResizedCrop(view.area, view.ratio, view.size), *_after_crop(view, recipe)]
            spec = PipelineSpec(decoder, None, steps) if number else PipelineSpec(FIELD, decoder, steps)
        pipelines[f"view {number}"] = spec
    return Loader(
        str(file),
        batch_size=batch_size,
        num_workers=int(os.environ["NUMBA_NUM_THREADS"]),
        order=OrderOption.RANDOM,
        indices=np.arange(EPOCH) % count,
        pipelines=pipelines,
        custom_fields={FIELD: RGBImageField},
    )


def _after_crop(view: View, recipe: Recipe) -> list[Any]:
    mean, std = (255 * np.array(channels) for channels in (recipe.mean, recipe.std))
    return [RandomHorizontalFlip(view.flip), NormalizeImage(mean, std, np.float32), ToTensor(), ToTorchImage()]
