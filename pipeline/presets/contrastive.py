"""Recipes of the methods that compare whole views: strong colours, because geometry alone is too easy a clue."""

from dataclasses import replace

from hjepa.pipeline.recipe import Jitter, Recipe, View

STRONG = Jitter(brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2)
"""SimCLR's colours at strength 1."""
WINDOW = 23
"""A tenth of 224 pixels: the blur's window in SimCLR's paper and in SwAV's code. PIL's blur, in the ports, has no window."""


def simclr() -> Recipe:
    """Two crops of equal strength (solo-learn's port differs: bicubic)."""
    view = View(
        name="global",
        count=2,
        size=224,
        area=(0.08, 1.0),
        interpolation="bilinear",
        jitter=STRONG,
        blur=0.5,
        blur_window=WINDOW,
    )
    return Recipe(name="simclr", source="lightly, SimCLRTransform (arXiv 2002.05709)", views=(view,))


def byol() -> Recipe:
    """Two crops of unequal strength (solo-learn's port differs: bicubic)."""
    first = View(
        name="global",
        count=1,
        size=224,
        area=(0.08, 1.0),
        interpolation="bilinear",
        jitter=Jitter(brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1),
        blur=1.0,
        blur_window=WINDOW,
    )
    return Recipe(
        name="byol",
        source="lightly, BYOLTransform; solo-learn, asymmetric.yaml (arXiv 2006.07733)",
        views=(first, replace(first, blur=0.1, solarize=0.2)),
    )


def swav() -> Recipe:
    """SwAV's crops; its code normalises red with 0.228, where everybody else has 0.229."""
    large = View(
        name="global",
        count=2,
        size=224,
        area=(0.14, 1.0),
        interpolation="bilinear",
        jitter=STRONG,
        blur=0.5,
        blur_window=WINDOW,
    )
    return Recipe(
        name="swav",
        source="facebookresearch/swav, src/multicropdataset.py and the README's command (arXiv 2006.09882)",
        views=(large, replace(large, name="local", count=6, size=96, area=(0.05, 0.14))),
        std=(0.228, 0.224, 0.225),
    )
