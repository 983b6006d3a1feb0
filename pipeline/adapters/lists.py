"""Batches that are lists and dictionaries of crops and labels: the documents' own, and those of most libraries.

Every crop is a view of the batch's own memory, [B, 3, S, S]; only document C's stacks may need a copy.
"""

# B images, V crops, G global crops, L local crops, S and s pixels

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TypedDict

import torch
from torch import Tensor

from hjepa.pipeline.adapters.contract import crop_major, require_globals_first, require_views
from hjepa.pipeline.batch import Batch
from hjepa.pipeline.masks import HierarchicalMaskGenerator, LevelMasks
from hjepa.pipeline.multicrop_masks import MultiCropMaskGenerator, MultiCropMasks
from hjepa.pipeline.recipe import Recipe


class CropDict(TypedDict):
    """Document C's batch."""

    global_crops: Tensor
    """[G * B, 3, S, S], crop-major"""
    local_crops: Tensor
    """[L * B, 3, s, s], crop-major"""
    batch_size: int
    """B"""


@dataclass(frozen=True, kw_only=True, slots=True)
class CropLists:
    """dino_loader's batch; iterating it gives the two lists of crops."""

    global_crops: list[Tensor]
    """G x [B, 3, S, S]"""
    local_crops: list[Tensor]
    """L x [B, 3, s, s]"""
    metadata: list[dict[str, str]]
    """B x {"key": path}"""
    masks: None = None
    """No iBOT masks: the adapter "dinov2" has them, for both global crops."""

    def __iter__(self) -> Iterator[list[Tensor]]:
        return iter((self.global_crops, self.local_crops))

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "CropLists":
        """The batch with its crops on another device, no copy where they are there. Lightning moves batches so."""
        global_crops, local_crops = ([crop.to(device, non_blocking=non_blocking) for crop in crops] for crops in self)
        return replace(self, global_crops=global_crops, local_crops=local_crops)


@dataclass(frozen=True, kw_only=True, slots=True)
class Dino:
    """Batch -> (crops, labels): documents A, B and D, and DINO v1. The crops are a list, globals first."""

    def check(self, recipe: Recipe) -> None:
        """Views named "global" come first."""
        require_globals_first("the list of crops", recipe)

    def __call__(self, batch: Batch) -> tuple[list[Tensor], Tensor]:
        """(V x [B, 3, S, S], labels int64 [B])."""
        return batch.views(), batch.labels


@dataclass(frozen=True, kw_only=True, slots=True)
class Swav:
    """Batch -> crops, as a list, large ones first, without labels: SwAV."""

    def check(self, recipe: Recipe) -> None:
        """Views named "global" come first."""
        require_globals_first("SwAV", recipe)

    def __call__(self, batch: Batch) -> list[Tensor]:
        """V x [B, 3, S, S]."""
        return batch.views()


@dataclass(frozen=True, kw_only=True, slots=True)
class StackedCrops:
    """Batch -> document C's dict, but crop-major: document C's order pairs crops of different images in its own loss."""

    def check(self, recipe: Recipe) -> None:
        """Views named "global", and perhaps "local"."""
        _require_globals_and_perhaps_locals("document C's dict", recipe)

    def __call__(self, batch: Batch) -> CropDict:
        """The dict; `chunk(G)` and `chunk(L)` give the crops back. Without local crops they are none, of the global size."""
        crops = {name: crop_major(stacked, stacked.dtype) for name, stacked in batch.crops.items()}
        local_crops = crops.get("local", crops["global"][:0])
        return {"global_crops": crops["global"], "local_crops": local_crops, "batch_size": len(batch.indices)}


@dataclass(frozen=True, kw_only=True, slots=True)
class HJepa:
    """Batch -> (crops, labels, masks) of jonwiggins/H-JEPA, whose masks here belong to the samples.

    A MultiCropMaskGenerator gives the list of crops and the masks of every crop and level; a HierarchicalMaskGenerator gives
    the images of the one global crop, and masks of every level.
    """

    generator: MultiCropMaskGenerator | HierarchicalMaskGenerator
    """Its own seed has no effect here."""

    def check(self, recipe: Recipe) -> None:
        """Names, numbers and sizes of the crops are the generator's."""
        counts: dict[str, int | None] = {"global": 1}
        sizes = {"global": self.generator.input_size if isinstance(self.generator, HierarchicalMaskGenerator) else 0}
        if isinstance(self.generator, MultiCropMaskGenerator):
            counts = {"global": self.generator.num_global_crops, "local": self.generator.num_local_crops}
            sizes = {"global": self.generator.global_crop_size, "local": self.generator.local_crop_size}
        require_views("this mask generator", recipe, {name: count for name, count in counts.items() if count})
        for group in recipe.groups():
            name, size = group[0].name, group[0].size
            if sizes[name] not in (size, (size, size)):
                raise ValueError(f"the mask generator is for {name!r} crops of {sizes[name]} px, not {size}; give it that size")

    def __call__(self, batch: Batch) -> tuple[list[Tensor] | Tensor, Tensor, MultiCropMasks | dict[str, LevelMasks]]:
        """(crops or images, labels int64 [B], masks)."""
        crops = batch.views() if isinstance(self.generator, MultiCropMaskGenerator) else batch.globals[0]
        return crops, batch.labels, self.generator.named(batch.mask_keys)


@dataclass(frozen=True, kw_only=True, slots=True)
class ImagesLabels:
    """Batch -> (images, labels): timm, and plain PyTorch loops."""

    def check(self, recipe: Recipe) -> None:
        """One crop, of any name."""
        if recipe.num_views != 1:
            raise ValueError(
                f"(images, labels) holds one crop per image, recipe {recipe.name!r} makes {recipe.num_views}; "
                "use a recipe with one view, or adapter='dino' for a list of crops"
            )

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """(images [B, 3, S, S], labels int64 [B])."""
        return batch.views()[0], batch.labels


@dataclass(frozen=True, kw_only=True, slots=True)
class Ffcv:
    """Batch -> FFCV's tuple in the order of its fields: image, label, and further views as further fields (FFCV-SSL)."""

    def check(self, recipe: Recipe) -> None:
        """Any recipe."""

    def __call__(self, batch: Batch) -> tuple[Tensor, ...]:
        """(view 0 [B, 3, S, S], labels int64 [B], view 1, view 2, ...)."""
        first, *others = batch.views()
        return first, batch.labels, *others


@dataclass(frozen=True, kw_only=True, slots=True)
class DinoLoader:
    """Batch -> dino_loader's Batch, without FP8 and without masks."""

    def check(self, recipe: Recipe) -> None:
        """Views named "global", and perhaps "local"."""
        _require_globals_and_perhaps_locals("dino_loader", recipe)

    def __call__(self, batch: Batch) -> CropLists:
        """The two lists and the paths."""
        global_crops, local_crops = batch.split_crops()
        return CropLists(global_crops=global_crops, local_crops=local_crops, metadata=[{"key": key} for key in batch.keys])


def _require_globals_and_perhaps_locals(trainer: str, recipe: Recipe) -> None:
    require_views(trainer, recipe, {"global": None} | ({"local": None} if "local" in recipe.names else {}))
