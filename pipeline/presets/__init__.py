"""Presets: the published recipes, each with its source, as they ran.

Where released code does not do what its paper says, a preset follows the code, slips included, because the published weights
come from it; what a paper says instead has a preset of its own (dinov2-paper). docs/recipes.md has the table and the traps.
"""

from collections.abc import Callable
from functools import partial
from types import MappingProxyType

from hjepa.pipeline.presets import contrastive, dino, jepa
from hjepa.pipeline.recipe import Recipe
from hjepa.pipeline.spelling import suggest

PRESETS: MappingProxyType[str, Callable[[], Recipe]] = MappingProxyType(
    {
        "hjepa": jepa.multicrop,
        "eval": jepa.evaluation,
        "ijepa": jepa.ijepa,
        "vjepa-image": jepa.vjepa_image,
        "dino": dino.dino,
        "dinov2": dino.dinov2,
        "dinov2-paper": dino.dinov2_paper,
        "dinov3": dino.dinov3,
        "dinov3-256": dino.dinov3_256,
        "dinov3-gram": dino.dinov3_gram,
        **{
            f"dinov3-highres-{'-'.join(map(str, sizes))}": partial(dino.dinov3_highres, *sizes)
            for sizes in dino.HIGH_RESOLUTIONS
        },
        "ibot": dino.ibot,
        "cifar10": dino.cifar10,
        "asymmetric": dino.asymmetric,
        "simple": dino.simple,
        "crop-only": dino.crop_only,
        "simclr": contrastive.simclr,
        "byol": contrastive.byol,
        "swav": contrastive.swav,
    }
)
"""Name -> a function that makes the recipe of that name."""


def preset(name: str) -> Recipe:
    """The recipe of that name, one of PRESETS. Raises ValueError for another name."""
    if not isinstance(name, str) or name not in PRESETS:
        raise ValueError(f"recipe={name!r} is unknown; {suggest(name, PRESETS)} (`hjepa recipes` lists them; or pass a Recipe)")
    return PRESETS[name]()
