"""What crops a loader makes: their sizes, their numbers, and the share of the image that each really covers, from its box.

The size of a crop's tensor says nothing of its scale: all crops of a view have one size. The boxes do.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from torch import Tensor

from hjepa.multicrop_dataset import CropBatches
from hjepa.pipeline.batch import Batch
from hjepa.pipeline.loader import Loader
from hjepa.pipeline.recipe import Range, Recipe, require_recipe, whole

# B images, V crops of one name


@dataclass(frozen=True, kw_only=True, slots=True)
class ViewStatistics:
    """The crops of one name."""

    size: int
    """Side of the crops, in pixels."""
    per_image: int
    """Crops of each image."""
    count: int
    """Crops in all."""
    scales: npt.NDArray[np.float64]
    """[count] Share of the image's area that each covers."""
    ratios: npt.NDArray[np.float64]
    """[count] Width over height of each box."""
    flipped: float
    """Share of the crops that are mirrored."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CropStatistics:
    """The crops of some batches."""

    images: int
    """Images in them."""
    views: dict[str, ViewStatistics]
    """By the name of the view, in the recipe's order."""
    configured: dict[str, Range]
    """Name of the view -> range of scales that the recipe asks for."""

    @property
    def crops_per_image(self) -> int:
        """Crops of all names."""
        return sum(view.per_image for view in self.views.values())

    @property
    def local_to_global(self) -> float:
        """Local crops for each global one; 0 without any of either."""
        counts = [self.views[name].count if name in self.views else 0 for name in ("local", "global")]
        return counts[0] / counts[1] if counts[1] else 0.0


def analyze_crop_statistics(dataloader: Loader | CropBatches, n_batches: int = 10) -> CropStatistics:
    """Counts and measures the crops of the next `n_batches` batches, or as many as an epoch has. Document D's function.

    Raises ValueError for a loader whose batches do not carry their boxes.
    """
    loader = loader_of(dataloader)
    batches: list[Batch] = []
    for batch in islice(cast(Iterable[Any], loader), whole("n_batches", n_batches, 1)):
        batches.append(_checked(batch))
        recipe = loader.recipe  # here: after the last batch it is the next epoch's
    if not batches:
        raise ValueError("the loader yields no batch; give one with more images than its batch_size")
    names = list(batches[0].crops)
    return CropStatistics(
        images=sum(len(batch.labels) for batch in batches),
        views={name: _view(batches, name) for name in names},
        configured=_configured(recipe),
    )


def check_crop_sizes(crops: Batch | Sequence[Tensor], recipe: Recipe) -> None:
    """Raises ValueError, which names each, for crops [..., 3, S, S] that are not the recipe's in number and size.

    The crops are in the recipe's order, globals first, of one image or of a batch; or a Batch. Document D's check.
    """
    require_recipe(recipe)
    if isinstance(crops, Batch):
        crops = crops.views()
    wanted = [(view.name, view.size) for group in recipe.groups() for view in group for _ in range(view.count)]
    if len(crops) != len(wanted):
        raise ValueError(
            f"there are {len(crops)} crops, and recipe {recipe.name!r} makes {len(wanted)}; use crops of that recipe"
        )
    wrong = [
        f"crop {number} is {list(crop.shape)}, and {name!r} crops are [..., 3, {size}, {size}]"
        for number, (crop, (name, size)) in enumerate(zip(crops, wanted, strict=True))
        if tuple(crop.shape[-3:]) != (3, size, size)
    ]
    if wrong:
        raise ValueError(f"{'; '.join(wrong)}; use crops of recipe {recipe.name!r}")


def loader_of(dataloader: Any) -> Loader:
    """The Loader that knows its boxes. Raises ValueError where there is none."""
    loader = dataloader.loader if isinstance(dataloader, CropBatches) else dataloader
    if not isinstance(loader, Loader):
        raise ValueError(
            f"a {type(dataloader).__name__} does not say which boxes it cut; give a hjepa.Loader over the same images"
        )
    return loader


def _checked(batch: Any) -> Batch:
    if not isinstance(batch, Batch):
        raise ValueError(f"the loader's adapter gives a {type(batch).__name__}, without boxes; give a Loader without adapter")
    return batch


def _view(batches: list[Batch], name: str) -> ViewStatistics:
    boxes = [batch.draws.views[name].box.astype(np.float64) for batch in batches]  # [B, V, 4]
    areas = [batch.draws.sizes.astype(np.float64).prod(axis=1)[:, None] for batch in batches]
    scales = np.concatenate([(own[..., 2] * own[..., 3] / area).ravel() for own, area in zip(boxes, areas, strict=True)])
    flips = np.concatenate([batch.draws.views[name].flip.ravel() for batch in batches])
    crops = batches[0].crops[name]
    return ViewStatistics(
        size=crops.shape[-1],
        per_image=crops.shape[0],
        count=len(scales),
        scales=scales,
        ratios=np.concatenate([(own[..., 3] / own[..., 2]).ravel() for own in boxes]),
        flipped=float(flips.mean()),
    )


def _configured(recipe: Recipe) -> dict[str, Range]:
    return {name: (min(low for low, _ in areas), max(high for _, high in areas)) for name, areas in _areas(recipe)}


def _areas(recipe: Recipe) -> Iterator[tuple[str, list[Range]]]:
    for group in recipe.groups():
        yield group[0].name, [view.area for view in group]
