"""The transforms of the multi-crop H-JEPA report (jonwiggins/H-JEPA), as thin doors to the recipe, the draws and the reference.

They serve whoever has PIL images in hand; whoever has files is served faster by the Loader.
"""

from dataclasses import replace
from enum import Enum
from typing import Any, cast

import numpy as np
from torch import Tensor

from hjepa.pipeline.curriculum import Curriculum, Ramp
from hjepa.pipeline.draws import draw
from hjepa.pipeline.presets.jepa import evaluation, multicrop
from hjepa.pipeline.recipe import IMAGENET_MEAN, IMAGENET_STD, Channels, Interpolation, Range, whole
from hjepa.recipe_transform import Picture, RecipeTransform, render, sizes_of, to_picture

# S pixels


class MultiCropTransform(RecipeTransform):
    """Image -> list of crops, globals first. Its chance: see KeyedCalls.

    interpolation: "bicubic" or "bilinear", or torchvision's InterpolationMode of it. A colour jitter of 0 or None is none.
    """

    def __init__(
        self,
        global_crop_size: int = 224,
        local_crop_size: int = 96,
        num_global_crops: int = 2,
        num_local_crops: int = 6,
        global_crop_scale: Range = (0.4, 1.0),
        local_crop_scale: Range = (0.05, 0.4),
        interpolation: Interpolation | Enum = "bicubic",
        mean: Channels = IMAGENET_MEAN,
        std: Channels = IMAGENET_STD,
        global_color_jitter: float | None = 0.4,
        local_color_jitter: float | None = 0.4,
        horizontal_flip_prob: float = 0.5,
        *,
        seed: int = 0,
    ) -> None:
        plain = multicrop(
            num_global_crops=num_global_crops,
            num_local_crops=num_local_crops,
            global_crop_size=global_crop_size,
            local_crop_size=local_crop_size,
            global_crop_scale=global_crop_scale,
            local_crop_scale=local_crop_scale,
            global_color_jitter=global_color_jitter or 0.0,
            local_color_jitter=local_color_jitter or 0.0,
            horizontal_flip_prob=horizontal_flip_prob,
        )
        views = tuple(replace(view, interpolation=_filter_of(interpolation)) for view in plain.views)
        super().__init__(replace(plain, views=views, mean=mean, std=std), seed=seed)


class AdaptiveMultiCropTransform(MultiCropTransform):
    """A MultiCropTransform whose number of local crops rises linearly from min to max over the first epochs.

    `set_epoch` is to be called once per epoch. warmup_epochs=0 uses max_local_crops at once. Other options: MultiCropTransform.
    """

    def __init__(
        self, min_local_crops: int = 2, max_local_crops: int = 10, warmup_epochs: int = 0, *, seed: int = 0, **options: Any
    ) -> None:
        if whole("min_local_crops", min_local_crops, 0) > whole("max_local_crops", max_local_crops, 0):
            raise ValueError(f"min_local_crops={min_local_crops} and max_local_crops={max_local_crops} are no range; swap them")
        if "num_local_crops" in options:
            raise ValueError("num_local_crops is the epoch's, from min_local_crops to max_local_crops; leave it out")
        whole("warmup_epochs", warmup_epochs, 0)
        super().__init__(num_local_crops=max_local_crops, seed=seed, **options)
        self.min_local_crops = min_local_crops
        self.max_local_crops = max_local_crops
        self.warmup_epochs = warmup_epochs
        count = Ramp(start=min_local_crops, end=max_local_crops, epochs=warmup_epochs)
        self.curriculum = Curriculum(recipe=self.recipe, ramps={"local.count": count})
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Other draws for every sample, and this epoch's number of local crops."""
        super().set_epoch(epoch)
        self.recipe = self.curriculum.at(epoch)


class MultiCropEvalTransform:
    """Image -> the central crop float32 [3, S, S] on the CPU: short side to int(1.14 S), then the central square."""

    def __init__(
        self,
        crop_size: int = 224,
        interpolation: Interpolation | Enum = "bicubic",
        mean: Channels = IMAGENET_MEAN,
        std: Channels = IMAGENET_STD,
    ) -> None:
        plain = evaluation(crop_size)
        views = tuple(replace(view, interpolation=_filter_of(interpolation)) for view in plain.views)
        self.recipe = replace(plain, views=views, mean=mean, std=std)

    def __call__(self, image: Picture) -> Tensor:
        """Renders the central crop."""
        picture = to_picture(image)
        return render(picture, self.recipe, draw(self.recipe, 0, 0, np.array([0]), sizes_of(picture)))[0]


def build_multicrop_transform(
    num_global_crops: int = 2,
    num_local_crops: int = 6,
    global_crop_size: int = 224,
    local_crop_size: int = 96,
    global_crop_scale: Range = (0.4, 1.0),
    local_crop_scale: Range = (0.05, 0.4),
    global_color_jitter: float | None = 0.4,
    local_color_jitter: float | None = 0.4,
    adaptive: bool = False,
    min_local_crops: int = 2,
    max_local_crops: int = 10,
    warmup_epochs: int = 0,
    mean: Channels = IMAGENET_MEAN,
    std: Channels = IMAGENET_STD,
) -> MultiCropTransform:
    """The transform with these crops; with adaptive=True an AdaptiveMultiCropTransform, which ignores num_local_crops."""
    options: dict[str, Any] = {
        "global_crop_size": global_crop_size,
        "local_crop_size": local_crop_size,
        "num_global_crops": num_global_crops,
        "global_crop_scale": global_crop_scale,
        "local_crop_scale": local_crop_scale,
        "global_color_jitter": global_color_jitter,
        "local_color_jitter": local_color_jitter,
        "mean": mean,
        "std": std,
    }
    if adaptive:
        return AdaptiveMultiCropTransform(min_local_crops, max_local_crops, warmup_epochs, **options)
    return MultiCropTransform(num_local_crops=num_local_crops, **options)


def _filter_of(interpolation: Interpolation | Enum) -> Interpolation:
    """The name of a filter, which View checks, or of torchvision's InterpolationMode."""
    return cast(Interpolation, interpolation.value if isinstance(interpolation, Enum) else interpolation)
