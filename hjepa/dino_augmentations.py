"""The augmentations of the DINO course's two lessons (documents C and D), as thin doors to the recipes that they became.

Where the lessons contradict each other, or DINO, docs/requirements-status.md (section F) says what is taken: jitter with
probability 0.8 and saturation 0.2, solarization with 0.2 on the second global crop alone, blur with a probability.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Literal, SupportsIndex, TypeVar, overload

import torch
from torch import Tensor

from hjepa.document_config import data_section
from hjepa.pipeline.normalisation import STATISTICS, statistics_of
from hjepa.pipeline.presets.dino import asymmetric, cifar10, dino, jitter_of_strength, simple
from hjepa.pipeline.recipe import Range, Recipe
from hjepa.recipe_transform import Picture, RecipeTransform

# G global crops, V local crops, S and s pixels
DINO = dino()
Value = TypeVar("Value")


class CropList(list[Tensor]):
    """The crops of an image, globals first, as document D has them; document C's two keys give them stacked.

    By number a crop is [3, S, S], the key "global_crops" gives [G, 3, S, S], and "local_crops" gives [V, 3, s, s].
    """

    def __init__(self, crops: Iterable[Tensor], num_globals: int) -> None:
        super().__init__(crops)
        self.num_globals = num_globals

    @overload
    def __getitem__(self, key: SupportsIndex) -> Tensor: ...
    @overload
    def __getitem__(self, key: slice) -> list[Tensor]: ...
    @overload
    def __getitem__(self, key: Literal["global_crops", "local_crops"]) -> Tensor: ...
    def __getitem__(self, key: Any) -> Any:
        if not isinstance(key, str):
            return super().__getitem__(key)
        if key not in ("global_crops", "local_crops"):
            raise KeyError(f"{key!r}: the crops are called 'global_crops' and 'local_crops'")
        chosen = self[: self.num_globals] if key == "global_crops" else self[self.num_globals :]
        return torch.stack(chosen) if chosen else self[0].new_empty(0, *self[0].shape)


class _CropListTransform(RecipeTransform):
    """A RecipeTransform whose crops also go by document C's keys."""

    def __call__(self, image: Picture) -> CropList:
        """Renders the next sample."""
        return CropList(super().__call__(image), self.num_global_crops)


class MultiCropAugmentation(_CropListTransform):
    """Image -> CropList: DINO's two global crops and its local ones. Its chance: see KeyedCalls.

    Both documents have a class of this name; this takes the options of both, by keyword. global_crops_number,
    local_crops_number, global_crops_scale and local_crops_scale are document D's names of num_global_crops and so on. Of more
    than two global crops all but the first are drawn as the second. gaussian_blur_prob: of the first global crop, and twice
    that of a local one; the second has 0.1. normalize=False leaves levels in [0, 1]. Raises ValueError for one option under
    two names with two values.
    """

    def __init__(
        self,
        *,
        num_global_crops: int = 2,
        num_local_crops: int = 8,
        global_crop_size: int = 224,
        local_crop_size: int = 96,
        global_crop_scale: Range = (0.4, 1.0),
        local_crop_scale: Range = (0.05, 0.4),
        color_jitter_strength: float = 1.0,
        gaussian_blur_prob: float = 1.0,
        normalize: bool = True,
        global_crops_number: int | None = None,
        local_crops_number: int | None = None,
        global_crops_scale: Range | None = None,
        local_crops_scale: Range | None = None,
        seed: int = 0,
    ) -> None:
        first, second, local = DINO.views
        counts = (
            _one("num_global_crops", num_global_crops, 2, global_crops_number),
            _one("num_local_crops", num_local_crops, local.count, local_crops_number),
        )
        areas = (
            _one("global_crop_scale", global_crop_scale, first.area, global_crops_scale),
            _one("local_crop_scale", local_crop_scale, local.area, local_crops_scale),
        )
        jitter = jitter_of_strength(color_jitter_strength)
        views = (
            replace(first, jitter=jitter, blur=gaussian_blur_prob),
            replace(second, jitter=jitter),
            replace(local, jitter=jitter, blur=0.5 * gaussian_blur_prob),
        )
        recipe = _with_crops(replace(DINO, views=views), counts, areas, (global_crop_size, local_crop_size))
        super().__init__(recipe if normalize else replace(recipe, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)), seed=seed)


class MultiCropAugmentationCIFAR(_CropListTransform):
    """Image -> CropList for images of 32 pixels: weaker blur, larger areas, and the data set's own normalisation."""

    def __init__(
        self,
        global_crops_number: int = 2,
        local_crops_number: int = 6,
        global_crops_scale: Range = (0.7, 1.0),
        local_crops_scale: Range = (0.3, 0.7),
        global_crop_size: int = 32,
        local_crop_size: int = 16,
        *,
        dataset: str = "cifar10",
        seed: int = 0,
    ) -> None:
        if dataset not in STATISTICS:
            raise ValueError(f"dataset={dataset!r} is no CIFAR; use {' or '.join(STATISTICS)}, or MultiCropAugmentation")
        mean, std = statistics_of(dataset)
        counts, areas = (global_crops_number, local_crops_number), (global_crops_scale, local_crops_scale)
        recipe = _with_crops(cifar10(), counts, areas, (global_crop_size, local_crop_size))
        super().__init__(replace(recipe, mean=mean, std=std), seed=seed)


class SimpleMultiCrop(RecipeTransform):
    """Image -> list of crops: document C's first exercise, two global crops and a few local ones, flipped and no more."""

    def __init__(self, global_size: int = 224, local_size: int = 96, num_local: int = 4, *, seed: int = 0) -> None:
        plain = simple()
        areas = (plain.views[0].area, plain.views[2].area)
        super().__init__(_with_crops(plain, (2, num_local), areas, (global_size, local_size)), seed=seed)


def create_asymmetric_transforms(seed: int = 0) -> tuple[RecipeTransform, RecipeTransform, RecipeTransform]:
    """Document C's second exercise: image -> [one crop], with colours that are strong, medium and light."""
    whole = asymmetric()
    strong, medium, light = (RecipeTransform(replace(whole, views=(view,)), seed=seed) for view in whole.views)
    return strong, medium, light


def get_multicrop_augmentation(config: Any, seed: int = 0) -> MultiCropAugmentation | MultiCropAugmentationCIFAR:
    """Document D's choice: the CIFAR class for config.data.dataset "cifar10" and "cifar100", else ImageNet's.

    config: a mapping or an object with `data` in it, which has a dataset's name and, under any of the names that settings
    accept, numbers, areas and sizes of the crops; what it has not is as the class has it.
    """
    data = data_section(config)
    names = {
        "num_global_crops": "global_crops_number",
        "num_local_crops": "local_crops_number",
        "global_crop_scale": "global_crops_scale",
        "local_crop_scale": "local_crops_scale",
        "global_crop_size": "global_crop_size",
        "local_crop_size": "local_crop_size",
    }
    options: dict[str, Any] = {theirs: data[own] for own, theirs in names.items() if own in data}
    dataset = str(data.get("dataset", "imagenet")).lower()
    if dataset in STATISTICS:
        return MultiCropAugmentationCIFAR(**options, dataset=dataset, seed=seed)
    if "cifar" in dataset:  # not ImageNet's sizes and normalisation for a slip of the pen
        raise ValueError(f"config.data.dataset={dataset!r} is no name of a CIFAR; use {' or '.join(STATISTICS)}")
    return MultiCropAugmentation(**options, seed=seed)


def _with_crops(recipe: Recipe, counts: tuple[int, int], areas: tuple[Range, Range], sizes: tuple[int, int]) -> Recipe:
    """A recipe of DINO's kind with other numbers, areas and sizes of its global and local crops."""
    if counts[0] < 1:
        raise ValueError(f"there are {counts[0]} global crops, and DINO's teacher reads nothing else; use 1 or more")
    first, second, local = recipe.views
    views = (
        replace(first, count=1, area=areas[0], size=sizes[0]),
        replace(second, count=counts[0] - 1, area=areas[0], size=sizes[0]),
        replace(local, count=counts[1], area=areas[1], size=sizes[1]),
    )
    return replace(recipe, views=views)


def _one(name: str, value: Value, default: Value, other: Value | None) -> Value:
    """The value of an option that has two names."""
    if other is None:
        return value
    if value not in (default, other):
        raise ValueError(f"{name}={value} is given a second time as {other}, under document D's name; give one of them")
    return other
