"""The engines that benchmarks compare: each turns a number of workers into an endless iterator of batches."""

from collections.abc import Callable, Generator
from itertools import chain, count
from typing import Any

import nvidia.dali.fn as fn
import torch
from nvidia.dali.pipeline import Pipeline
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from hjepa.pipeline.backends.dali_decode import decode, read
from hjepa.pipeline.backends.dali_inputs import Contents, contents_of
from hjepa.pipeline.backends.torchvision import FILTERS
from hjepa.pipeline.folder import FolderSource
from hjepa.pipeline.loader import Loader
from hjepa.pipeline.recipe import Recipe, View
from hjepa.pipeline.sampler import Sampler

ENGINES = ["fused", "dali-ops", "torchvision", "decode"]
Batches = Callable[[int], Generator[Any, None, None]]
"""Number of workers -> an endless iterator of batches."""


def engine(name: str, source: FolderSource, recipe: Recipe, batch_size: int, device: torch.device) -> Batches:
    """The engine of that name."""
    if name == "torchvision":
        return lambda workers: torchvision_batches(source, recipe, batch_size, device, workers)
    if name == "decode":
        return lambda workers: decoded_batches(source, recipe, batch_size, workers)
    return lambda workers: loader_batches(source, recipe, batch_size, device, workers, name)


def loader_batches(
    source: FolderSource, recipe: Recipe, batch_size: int, device: torch.device, workers: int, backend: str
) -> Generator[Any, None, None]:
    """hjepa's loader, for ever."""
    options: dict[str, Any] = {"batch_size": batch_size, "backend": backend, "device": device, "num_workers": workers}
    with Loader(source, recipe, **options) as loader:
        while True:
            yield from loader


def decoded_batches(source: FolderSource, recipe: Recipe, batch_size: int, workers: int) -> Generator[Any, None, None]:
    """DALI on the CPU that reads and decodes the same files in the loader's order, and does no more."""
    sampler = Sampler(num_samples=len(source), batch_size=batch_size)
    batches = chain.from_iterable(sampler.batches(epoch, 0) for epoch in count())

    def feed() -> Contents:
        return contents_of(source.fetch(next(batches).indices).encoded)

    pipe = Pipeline(batch_size=batch_size, num_threads=workers, device_id=None, prefetch_queue_depth=2, exec_dynamic=True)
    with pipe:
        pipe.set_outputs(decode(read(fn.external_source(source=feed, batch=True), True), recipe, False))
    pipe.build()
    while True:
        yield pipe.run()


def torchvision_batches(
    source: FolderSource, recipe: Recipe, batch_size: int, device: torch.device, workers: int
) -> Generator[Any, None, None]:
    """What a torchvision user writes: ImageFolder, one Compose per view, a DataLoader; crops are moved to the device."""
    images = ImageFolder(str(source.root), Views(recipe))
    loader = DataLoader(
        images,
        batch_size=batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=True,
        pin_memory=device.type == "cuda",
    )
    while True:
        for crops, labels in loader:
            yield [crop.to(device, non_blocking=True) for crop in crops], labels


class Views:
    """Image -> list of its crops."""

    def __init__(self, recipe: Recipe) -> None:
        self._views = [transform(view, recipe) for view in recipe.views for _ in range(view.count)]

    def __call__(self, image: Any) -> list[torch.Tensor]:
        return [view(image) for view in self._views]


def transform(view: View, recipe: Recipe) -> Callable[[Any], torch.Tensor]:
    """torchvision's own random transforms with the recipe's numbers."""
    steps: list[Any] = [
        transforms.RandomResizedCrop(view.size, view.area, view.ratio, FILTERS[view.interpolation], antialias=True),
        transforms.RandomHorizontalFlip(view.flip),
    ]
    if view.jitter is not None:
        parts = (view.jitter.brightness, view.jitter.contrast, view.jitter.saturation, view.jitter.hue)
        steps.append(transforms.RandomApply([transforms.ColorJitter(*parts)], view.jitter.probability))
    if view.gray:
        steps.append(transforms.RandomGrayscale(view.gray))
    if view.blur:
        steps.append(transforms.RandomApply([transforms.GaussianBlur(view.blur_window, view.sigma)], view.blur))
    if view.solarize:
        steps.append(transforms.RandomSolarize(view.solarize_threshold, view.solarize))
    composed: Callable[[Any], torch.Tensor] = transforms.Compose(
        [*steps, transforms.ToTensor(), transforms.Normalize(recipe.mean, recipe.std)]
    )
    return composed
