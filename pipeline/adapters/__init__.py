"""Adapters: a Batch as another trainer reads it, by name with that trainer's own settings, or made with others."""

from collections.abc import Callable
from typing import Any

from hjepa.pipeline.adapters.contract import Adapter
from hjepa.pipeline.adapters.dinov2 import DinoV2, DinoV3
from hjepa.pipeline.adapters.ibot import IBot
from hjepa.pipeline.adapters.jepa import IJepa, TubeMasks, VJepa2
from hjepa.pipeline.adapters.libraries import Lightly, LightlyTrain, SoloLearn, StablePretraining, StablePretrainingJepa
from hjepa.pipeline.adapters.lists import Dino, DinoLoader, Ffcv, HJepa, ImagesLabels, StackedCrops, Swav
from hjepa.pipeline.batch import Batch
from hjepa.pipeline.masks import HierarchicalMaskGenerator
from hjepa.pipeline.multicrop_masks import MultiCropMaskGenerator
from hjepa.pipeline.recipe import Recipe, require_recipe
from hjepa.pipeline.spelling import suggest

ADAPTERS: dict[str, Adapter] = {
    "dino": Dino(),
    "dino-loader": DinoLoader(),
    "dinov2": DinoV2(),
    "dinov3": DinoV3(),
    "document-c": StackedCrops(),
    "ffcv": Ffcv(),
    "hjepa": HJepa(generator=MultiCropMaskGenerator()),
    "hjepa-single": HJepa(generator=HierarchicalMaskGenerator()),
    "ibot": IBot(),
    "ijepa": IJepa(),
    "lightly": Lightly(),
    "lightly-train": LightlyTrain(),
    "plain": ImagesLabels(),
    "solo-learn": SoloLearn(),
    "stable-pretraining": StablePretraining(),
    "stable-pretraining-jepa": StablePretrainingJepa(),
    "swav": Swav(),
    "timm": ImagesLabels(),
    "vjepa2": VJepa2(),
}
"""By name, with the settings of the trainer's own configuration."""

__all__ = [
    "ADAPTERS",
    "Adapter",
    "Dino",
    "DinoLoader",
    "DinoV2",
    "DinoV3",
    "Ffcv",
    "HJepa",
    "IBot",
    "IJepa",
    "ImagesLabels",
    "Lightly",
    "LightlyTrain",
    "SoloLearn",
    "StablePretraining",
    "StablePretrainingJepa",
    "StackedCrops",
    "Swav",
    "TubeMasks",
    "VJepa2",
    "open_adapter",
]


def open_adapter(adapter: str | Adapter | Callable[[Batch], Any], recipe: Recipe) -> Callable[[Batch], Any]:
    """The adapter, or the one of that name, checked against a recipe; a plain function takes any recipe.

    Raises ValueError for another name, for what is no adapter, or for an unfit recipe.
    """
    if isinstance(adapter, str):
        if adapter not in ADAPTERS:
            raise ValueError(f"adapter={adapter!r} is unknown; {suggest(adapter, ADAPTERS)}")
        adapter = ADAPTERS[adapter]
    if not callable(adapter):
        raise ValueError(
            f"adapter={adapter!r} is none; use a name, an adapter of hjepa.pipeline.adapters, or a function of a Batch"
        )
    if isinstance(adapter, Adapter):
        require_recipe(recipe)
        if isinstance(adapter, type):
            raise ValueError(f"adapter={adapter.__name__} is a class; use {adapter.__name__}()")
        adapter.check(recipe)
    return adapter
