"""Recipes of DINO and those who followed it: two large crops of unequal strength and many small ones."""

from dataclasses import replace

from hjepa.pipeline.normalisation import STATISTICS
from hjepa.pipeline.recipe import Jitter, Range, Recipe, View

JITTER = Jitter(brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1)
"""DINO's colours, which everybody here keeps."""
HIGH_RESOLUTIONS = ((512, 112, 768), (768, 112, 1152), (768, 168, 1152), (768, 224, 1152), (768, 336, 1152))
"""Sizes of DINOv3's global, local and gram crops when it is adapted to high resolution."""


def jitter_of_strength(strength: float) -> Jitter | None:
    """DINO's colours, each times a strength; None at 0. Rounded, so that 0.4 x 0.4 is 0.16 where it is read."""
    parts = (JITTER.brightness, JITTER.contrast, JITTER.saturation, JITTER.hue)
    brightness, contrast, saturation, hue = (round(part * strength, 9) for part in parts)
    return Jitter(brightness=brightness, contrast=contrast, saturation=saturation, hue=hue) if strength else None


def dino(num_local_crops: int = 8) -> Recipe:
    """DINO's recipe. PIL's blur, which it uses, has no window; this is DINOv2's."""
    return Recipe(
        name="dino",
        source="facebookresearch/dino, main_dino.py (arXiv 2104.14294); the blur's window is DINOv2's",
        views=_views(count=num_local_crops, wide=(0.4, 1.0), narrow=(0.05, 0.4), blurs=(1.0, 0.1, 0.5)),
    )


def dinov2() -> Recipe:
    """DINOv2 as its released code runs: RandomApply is given 1 - p, so the first global crop is never blurred."""
    return Recipe(
        name="dinov2",
        source="facebookresearch/dinov2, data/augmentations.py and ssl_default_config.yaml, as run: blur 0/.9/.5, written "
        "1/.1/.5 (patch 16; its configs of patch 14 have local crops of 98)",
        views=_views(count=8, wide=(0.32, 1.0), narrow=(0.05, 0.32), blurs=(0.0, 0.9, 0.5)),
    )


def dinov2_paper() -> Recipe:
    """DINOv2 as it is written: DINO's probabilities of a blur."""
    return Recipe(
        name="dinov2-paper",
        source="facebookresearch/dinov2, as written: the probabilities of a blur are DINO's (arXiv 2304.07193)",
        views=_views(count=8, wide=(0.32, 1.0), narrow=(0.05, 0.32), blurs=(1.0, 0.1, 0.5)),
    )


def dinov3() -> Recipe:
    """DINOv3 on ImageNet-1k, ViT-L: the recipe of DINOv2 as run."""
    return replace(
        dinov2(),
        name="dinov3",
        source="facebookresearch/dinov3, default and vitl_im1k_lin834.yaml, as run: blur 0/.9/.5, written 1/.1/.5",
    )


def dinov3_256() -> Recipe:
    """DINOv3's pretraining of 7 billion weights: larger crops, never flipped."""
    return Recipe(
        name="dinov3-256",
        source="facebookresearch/dinov3, pretraining of the 7B model, as run (horizontal_flips: false)",
        views=_dinov3_views(256, 112),
    )


def dinov3_gram() -> Recipe:
    """DINOv3's second phase: the gram teacher sees the boxes of the global crops at 512 pixels, in their own colours."""
    return Recipe(
        name="dinov3-gram",
        source="facebookresearch/dinov3, gram anchoring of the 7B model, as run (gram_teacher_no_distortions: true)",
        views=(*_dinov3_views(256, 112), _gram_view(512)),
    )


def dinov3_highres(size: int, local_size: int, gram_size: int) -> Recipe:
    """One of the five triples that DINOv3 mixes when it is adapted to high resolution."""
    return Recipe(
        name=f"dinov3-highres-{size}-{local_size}-{gram_size}",
        source="facebookresearch/dinov3, high-resolution adaptation, as run; it mixes its five triples .3/.3/.3/.05/.05",
        views=(*_dinov3_views(size, local_size), _gram_view(gram_size)),
    )


def ibot() -> Recipe:
    """iBOT, by the command of its README for ViT-S and ViT-B."""
    return Recipe(
        name="ibot",
        source="bytedance/ibot, its README's command; lightly, IBOTTransform (arXiv 2111.07832); the blur's window is DINOv2's",
        views=_views(count=10, wide=(0.25, 1.0), narrow=(0.05, 0.25), blurs=(1.0, 0.1, 0.5)),
    )


def crop_only() -> Recipe:
    """DINOv2 with nothing but crops and a resize, which is enough where there are images enough."""
    views = _views(count=8, wide=(0.32, 1.0), narrow=(0.05, 0.32), blurs=(0.0, 0.0, 0.0))
    return Recipe(
        name="crop-only",
        source="Moutakanni et al., arXiv 2406.09294: DINOv2's crops without flips and photometry",
        views=tuple(replace(_plain(view), flip=0.0) for view in views),
    )


def simple() -> Recipe:
    """Crops and flips alone, with few local crops: what to start from."""
    views = _views(count=4, wide=(0.4, 1.0), narrow=(0.05, 0.4), blurs=(0.0, 0.0, 0.0))
    return Recipe(
        name="simple",
        source="the DINO course, exercise SimpleMultiCrop (224, 96, 4 local crops)",
        views=tuple(_plain(view) for view in views),
    )


def cifar10() -> Recipe:
    """The DINO course's crops for images of 32 pixels: less blur, weaker local colours.

    Its code always jitters, blurs and solarizes, with saturation as strong as brightness; the probabilities and the
    proportions here are DINO's.
    """
    strong, weak = JITTER, Jitter(brightness=0.3, contrast=0.3, saturation=0.15, hue=0.1)
    large = View(name="global", count=1, size=32, area=(0.7, 1.0), jitter=strong, sigma=(0.1, 1.0), blur_window=7)
    return Recipe(
        name="cifar10",
        source="the DINO course, MultiCropAugmentationCIFAR, with DINO's probabilities and proportions",
        views=(
            replace(large, blur=1.0),
            replace(large, blur=0.1, solarize=0.2),
            replace(large, name="local", count=6, size=16, area=(0.3, 0.7), jitter=weak, blur_window=5),
        ),
        mean=STATISTICS["cifar10"][0],
        std=STATISTICS["cifar10"][1],
    )


def asymmetric() -> Recipe:
    """Three kinds of views with colours of three strengths; the batch has one tensor for each kind."""
    strong = View(name="strong", count=1, size=224, area=(0.4, 1.0), jitter=JITTER, gray=0.2, blur=1.0, solarize=0.2)
    half = Jitter(brightness=0.2, contrast=0.2, saturation=0.1, hue=0.05)
    return Recipe(
        name="asymmetric",
        source="the DINO course, exercise create_asymmetric_transforms: strong is DINO's, medium half of it, light a flip",
        views=(
            strong,
            replace(strong, name="medium", jitter=half, gray=0.1, blur=0.5, solarize=0.0),
            replace(_plain(strong), name="light"),
        ),
    )


def _views(*, count: int, wide: Range, narrow: Range, blurs: tuple[float, float, float]) -> tuple[View, ...]:
    """Two global crops, of which the second may be solarized, and the local ones; a probability of a blur for each."""
    large = View(name="global", count=1, size=224, area=wide, jitter=JITTER, blur=blurs[0])
    return (
        large,
        replace(large, blur=blurs[1], solarize=0.2),
        replace(large, name="local", count=count, size=96, area=narrow, blur=blurs[2]),
    )


def _plain(view: View) -> View:
    """The view without photometry."""
    return replace(view, jitter=None, gray=0.0, blur=0.0, solarize=0.0)


def _dinov3_views(size: int, local_size: int) -> tuple[View, ...]:
    *large, small = (replace(view, flip=0.0) for view in dinov3().views)
    return (*(replace(view, size=size) for view in large), replace(small, size=local_size))


def _gram_view(size: int) -> View:
    return View(name="gram", count=2, size=size, area=(0.32, 1.0), flip=0.0, same_box_as="global", gray=0.0, blur=0.0)
