"""DALI as its users write it: its own reader, its own random crops, one graph, and its iterator for PyTorch.

What it does otherwise than torchvision: the parts of the jitter come in one order, contrast turns around the middle gray, and
hue is turned in YIQ. `dali-ops`, hjepa's graph of the same operators, does what the draws say for each sample.
"""

import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import nvidia.dali.fn as fn
import nvidia.dali.types as types
import torch
from nvidia.dali.pipeline import Pipeline, pipeline_def
from nvidia.dali.plugin.pytorch import DALIGenericIterator, LastBatchPolicy

from hjepa.pipeline.folder import FolderSource
from hjepa.pipeline.recipe import Jitter, Recipe, View

READER = "images"
FILTERS = {"bicubic": types.INTERP_CUBIC, "bilinear": types.INTERP_LINEAR}
NO_JITTER = Jitter(brightness=0, contrast=0, saturation=0, hue=0, probability=0)


class DaliPlain:
    """DALI's loader of a folder's images."""

    def __init__(self, source: FolderSource, recipe: Recipe, batch_size: int) -> None:
        self._paths = [os.fsdecode(path) for path in source.fetch(np.arange(len(source))).encoded]
        self._views = [view for view in recipe.views for _ in range(view.count)]
        self._recipe, self._batch_size = recipe, batch_size

    def batches(self, device: torch.device, workers: int) -> Generator[list[torch.Tensor], None, None]:
        """For ever, with so many threads."""
        names = [f"view {number}" for number in range(len(self._views))]
        number = (device.index or 0) if device.type == "cuda" else None
        pipe = self._graph(self._paths, batch_size=self._batch_size, num_threads=workers, device_id=number)
        iterator = DALIGenericIterator(
            [pipe], names, reader_name=READER, last_batch_policy=LastBatchPolicy.DROP, auto_reset=True
        )
        while True:
            for (batch,) in iterator:
                yield [batch[name] for name in names]

    def crops(self, paths: list[Path]) -> list[torch.Tensor]:
        """Of some of the images: [N, 3, S, S] for each view."""
        pipe = self._graph([str(path) for path in paths], batch_size=len(paths), num_threads=2, device_id=None)
        pipe.build()
        return [torch.from_dlpack(view.as_tensor()).clone() for view in pipe.run()]

    def _graph(self, paths: list[str], **options: Any) -> Pipeline:
        views, recipe, on_gpu = self._views, self._recipe, options["device_id"] is not None

        @pipeline_def(enable_conditionals=True)
        def crops() -> tuple[Any, ...]:
            contents, _ = fn.readers.file(files=paths, random_shuffle=True, name=READER)
            images = fn.decoders.image(contents, device="mixed" if on_gpu else "cpu", output_type=types.RGB)
            made = []
            for view in views:
                made.append(_crop(images, view, recipe))
            return tuple(made)

        return crops(**options)


def _crop(images: Any, view: View, recipe: Recipe) -> Any:
    crop = fn.random_resized_crop(
        images,
        size=view.size,
        random_area=view.area,
        random_aspect_ratio=view.ratio,
        interp_type=FILTERS[view.interpolation],
        antialias=True,
    )
    jitter = view.jitter or NO_JITTER
    if _happens(jitter.probability):
        crop = fn.color_twist(
            crop,
            brightness=_around_one(jitter.brightness),
            contrast=_around_one(jitter.contrast),
            saturation=_around_one(jitter.saturation),
            hue=fn.random.uniform(range=(-360 * jitter.hue, 360 * jitter.hue)),
        )
    if _happens(view.gray):
        crop = fn.color_twist(crop, saturation=0.0)
    if _happens(view.blur):
        crop = fn.gaussian_blur(crop, window_size=view.blur_window, sigma=fn.random.uniform(range=view.sigma))
    if _happens(view.solarize):
        inverted = crop >= view.solarize_threshold
        crop = fn.cast(inverted * (255 - crop) + (inverted ^ True) * crop, dtype=types.UINT8)
    return fn.crop_mirror_normalize(
        crop,
        dtype=types.FLOAT,
        output_layout="CHW",
        mean=[255 * mean for mean in recipe.mean],
        std=[255 * std for std in recipe.std],
        mirror=fn.random.coin_flip(probability=view.flip),
    )


def _happens(probability: float) -> Any:
    return fn.random.coin_flip(probability=probability, dtype=types.BOOL) if probability > 0 else False


def _around_one(strength: float) -> Any:
    return fn.random.uniform(range=(max(0.0, 1 - strength), 1 + strength))
