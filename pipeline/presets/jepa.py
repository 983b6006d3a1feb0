"""Recipes of the joint-embedding predictive architectures, which predict hidden parts: crops, and next to no colours."""

from typing import Literal

from hjepa.pipeline.presets.dino import jitter_of_strength
from hjepa.pipeline.recipe import Range, Recipe, View, whole


def multicrop(
    *,
    num_global_crops: int = 2,
    num_local_crops: int = 6,
    global_crop_size: int = 224,
    local_crop_size: int = 96,
    global_crop_scale: Range = (0.4, 1.0),
    local_crop_scale: Range = (0.05, 0.4),
    global_color_jitter: float = 0.4,
    local_color_jitter: float = 0.4,
    horizontal_flip_prob: float = 0.5,
    orientation: Literal["ignore", "exif"] = "ignore",
) -> Recipe:
    """H-JEPA's recipe (jonwiggins/H-JEPA, multi-crop): crops, flips and mild jitter, strength x DINO's (.4, .4, .2, .1).

    DINO applies jitter with probability 0.8, H-JEPA's code always; this recipe takes DINO's 0.8.
    """

    def view(name: str, count: int, size: int, area: Range, strength: float) -> View:
        jitter = jitter_of_strength(strength)
        return View(name=name, count=count, size=size, area=area, flip=horizontal_flip_prob, jitter=jitter, gray=0.0, blur=0.0)

    return Recipe(
        name="hjepa",
        source="jonwiggins/H-JEPA, src/data/multicrop_transforms.py, with DINO's jitter probability",
        views=(
            view("global", num_global_crops, global_crop_size, global_crop_scale, global_color_jitter),
            view("local", num_local_crops, local_crop_size, local_crop_scale, local_color_jitter),
        ),
        orientation=orientation,
    )


def evaluation(size: int = 224, orientation: Literal["ignore", "exif"] = "ignore") -> Recipe:
    """The central crop of H-JEPA's MultiCropEvalTransform: short side to int(1.14 size), then the central square."""
    side = whole("crop_size", size, 1) / int(1.14 * size)  # of the image's short side
    plain = View(
        name="global", count=1, size=size, area=(side**2, side**2), ratio=(1.0, 1.0), crop="center", flip=0, gray=0, blur=0
    )
    return Recipe(name="eval", source="jonwiggins/H-JEPA, MultiCropEvalTransform", views=(plain,), orientation=orientation)


def ijepa() -> Recipe:
    """I-JEPA's one crop, which is not even flipped (lightly's port differs: area from 0.2, bicubic, flipped)."""
    view = View(name="global", count=1, size=224, area=(0.3, 1.0), interpolation="bilinear", flip=0, gray=0, blur=0)
    return Recipe(
        name="ijepa",
        source="facebookresearch/ijepa, src/transforms.py and all of its configs but 448 px (arXiv 2301.08243)",
        views=(view,),
    )


def vjepa_image() -> Recipe:
    """V-JEPA 2's crop for one image. Its code resizes without antialiasing; here it is always antialiased."""
    view = View(
        name="global",
        count=1,
        size=256,
        area=(0.3, 1.0),
        ratio=(0.75, 1.35),
        interpolation="bilinear",
        gray=0,
        blur=0,
    )
    return Recipe(
        name="vjepa-image",
        source="facebookresearch/vjepa2, app/vjepa/transforms.py, configs/train; antialiased, which its code is not",
        views=(view,),
    )
