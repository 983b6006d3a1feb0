"""The transforms of the multi-crop H-JEPA report (jonwiggins/H-JEPA), as thin doors to the recipe, the draws and the reference.

They serve whoever has PIL images in hand; whoever has files is served faster by the Loader.
"""

from dataclasses import replace
from typing import Any, Literal, TypeAlias

import numpy as np
from PIL import Image
from torch import Tensor
from torch.utils.data import get_worker_info

from hjepa.pipeline.curriculum import Curriculum, Ramp
from hjepa.pipeline.draws import draw
from hjepa.pipeline.pixels import to_rgb
from hjepa.pipeline.presets.jepa import evaluation, multicrop
from hjepa.pipeline.recipe import IMAGENET_MEAN, IMAGENET_STD, Range, Recipe

# S pixels
Picture: TypeAlias = Image.Image | np.ndarray[Any, Any]
"""A PIL image, or uint8 [H, W, 3]."""
Crops: TypeAlias = list[Tensor]
"""Globals first, then locals: float32 [3, S, S] each, normalised; or [B, 3, S, S] in a batch."""


class MultiCropTransform:
    """Image -> list of crops, globals first.

    Call number n of a transform draws as sample n of an epoch, so that transforms of one seed are alike. In a worker process of
    a DataLoader the worker's own seed, which torch draws anew for every worker and epoch, is added.
    """

    def __init__(
        self,
        global_crop_size: int = 224,
        local_crop_size: int = 96,
        num_global_crops: int = 2,
        num_local_crops: int = 6,
        global_crop_scale: Range = (0.4, 1.0),
        local_crop_scale: Range = (0.05, 0.4),
        interpolation: Literal["bicubic", "bilinear"] = "bicubic",
        mean: tuple[float, float, float] = IMAGENET_MEAN,
        std: tuple[float, float, float] = IMAGENET_STD,
        global_color_jitter: float = 0.4,
        local_color_jitter: float = 0.4,
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
            global_color_jitter=global_color_jitter,
            local_color_jitter=local_color_jitter,
            horizontal_flip_prob=horizontal_flip_prob,
        )
        views = tuple(replace(view, interpolation=interpolation) for view in plain.views)
        self.recipe = replace(plain, views=views, mean=mean, std=std)
        self.seed = seed
        self.epoch = 0
        self.calls = 0
        """Samples of this epoch so far: the number that the next one draws as."""

    def __call__(self, image: Picture) -> Crops:
        """Renders the next sample."""
        worker = get_worker_info()
        seed = self.seed if worker is None else self.seed + worker.seed
        crops = _render(image, self.recipe, seed, self.epoch, self.calls)
        self.calls += 1
        return crops

    def set_epoch(self, epoch: int) -> None:
        """Other draws for every sample."""
        self.epoch, self.calls = epoch, 0

    @property
    def num_global_crops(self) -> int:
        """Global crops per image."""
        return self.recipe.views[0].count

    @property
    def num_local_crops(self) -> int:
        """Local crops per image."""
        return self.recipe.views[1].count


class AdaptiveMultiCropTransform(MultiCropTransform):
    """A MultiCropTransform whose number of local crops rises linearly from min to max over the first epochs.

    `set_epoch` is to be called once per epoch. warmup_epochs=0 uses max_local_crops at once. Other options: MultiCropTransform.
    """

    def __init__(
        self, min_local_crops: int = 2, max_local_crops: int = 10, warmup_epochs: int = 0, *, seed: int = 0, **options: Any
    ) -> None:
        if not 0 <= min_local_crops <= max_local_crops:
            raise ValueError(f"min_local_crops={min_local_crops} and max_local_crops={max_local_crops} are no range; swap them")
        if warmup_epochs < 0:
            raise ValueError(f"warmup_epochs={warmup_epochs} is negative; use 0 for max_local_crops at once")
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
    """Image -> the central crop [3, S, S]: short side to int(1.14 S), then the central square."""

    def __init__(self, crop_size: int = 224) -> None:
        self.recipe = evaluation(crop_size)

    def __call__(self, image: Picture) -> Tensor:
        """Renders the central crop."""
        return _render(image, self.recipe, 0, 0, 0)[0]


def build_multicrop_transform(
    num_global_crops: int = 2,
    num_local_crops: int = 6,
    global_crop_size: int = 224,
    local_crop_size: int = 96,
    global_crop_scale: Range = (0.4, 1.0),
    local_crop_scale: Range = (0.05, 0.4),
    global_color_jitter: float = 0.4,
    local_color_jitter: float = 0.4,
    adaptive: bool = False,
    min_local_crops: int = 2,
    max_local_crops: int = 10,
    warmup_epochs: int = 0,
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
    }
    if adaptive:
        return AdaptiveMultiCropTransform(min_local_crops, max_local_crops, warmup_epochs, **options)
    return MultiCropTransform(num_local_crops=num_local_crops, **options)


def _render(image: Picture, recipe: Recipe, seed: int, epoch: int, sample: int) -> Crops:
    # here: it loads torchvision and so the compiler of torch, which together take as long as torch itself
    from hjepa.pipeline.backends.torchvision import render_image

    picture = to_rgb(image if isinstance(image, Image.Image) else Image.fromarray(image))
    sizes = np.array([[picture.height, picture.width]], dtype=np.int32)
    draws = draw(recipe, seed, epoch, np.array([sample]), sizes)
    return [view for stacked in render_image(picture, recipe, draws, 0).values() for view in stacked]
