"""Transforms for whoever has PIL images in hand: a recipe as a callable, its chance keyed by the number of the call.

They are thin doors to the recipe, the draws and the reference backend; whoever has files is served faster by the Loader.
"""

import warnings
from typing import Any, TypeAlias

import numpy as np
from PIL import Image
from torch import Tensor
from torch.utils.data import get_worker_info

from hjepa.pipeline.draws import Draws, draw
from hjepa.pipeline.pixels import array_to_rgb, to_rgb
from hjepa.pipeline.recipe import Recipe, area_gap, integer, require_recipe

# S pixels
Picture: TypeAlias = Image.Image | np.ndarray[Any, Any]
"""A PIL image, or uint8 [H, W, 3]."""
Crops: TypeAlias = list[Tensor]
"""Globals first, then locals: float32 [3, S, S] each, normalised; or [B, 3, S, S] in a batch."""


class KeyedCalls:
    """What draws anew at each call: call number n draws as sample n of an epoch, so that two of one seed are alike.

    In a worker process of a DataLoader the worker's own seed, which torch draws anew for every worker and epoch, is added.
    Raises ValueError for a seed or an epoch that is no whole number.
    """

    def __init__(self, seed: int) -> None:
        self.seed = integer("seed", seed)
        self.epoch = 0
        self.times_set = 0
        """How often the epoch was set, for a loader that follows."""
        self.calls = 0
        """Samples of this epoch so far: the number that the next one draws as."""

    def set_epoch(self, epoch: int) -> None:
        """Other draws for every sample. Workers that a DataLoader has started do not hear of it."""
        self.epoch, self.calls = integer("epoch", epoch), 0
        self.times_set += 1

    def next_draws(self, recipe: Recipe, image: Image.Image) -> Draws:
        """The draws of the next sample, which is this image; counts it."""
        worker = get_worker_info()
        seed = self.seed if worker is None else self.seed + worker.seed
        draws = draw(recipe, seed, self.epoch, np.array([self.calls]), sizes_of(image))
        self.calls += 1
        return draws


class RecipeTransform(KeyedCalls):
    """Image -> list of crops, float32 [3, S, S] on the CPU, in the recipe's order. Its chance: see KeyedCalls.

    Warns of global and local crops whose ranges of area do not meet. Raises ValueError for what is no Recipe or no image.
    """

    def __init__(self, recipe: Recipe, *, seed: int = 0) -> None:
        super().__init__(seed)
        require_recipe(recipe)
        self.recipe = recipe
        if gap := area_gap(recipe):
            warnings.warn(gap, stacklevel=3)

    def __call__(self, image: Picture) -> Crops:
        """Renders the next sample."""
        picture = to_picture(image)
        return render(picture, self.recipe, self.next_draws(self.recipe, picture))

    @property
    def num_global_crops(self) -> int:
        """Global crops per image."""
        return self.recipe.count("global")

    @property
    def num_local_crops(self) -> int:
        """Local crops per image."""
        return self.recipe.count("local")


def to_picture(image: Picture) -> Image.Image:
    """The image as PIL's, in RGB. Raises ValueError for what is no image."""
    if isinstance(image, Image.Image):
        return to_rgb(image)
    if not isinstance(image, np.ndarray):
        raise ValueError(f"a {type(image).__name__} is no image; give a PIL image, or an array uint8 [height, width, 3]")
    return Image.fromarray(array_to_rgb(image))


def sizes_of(image: Image.Image) -> "np.ndarray[Any, np.dtype[np.int32]]":
    """int32 [1, 2]: height and width, as draws want them."""
    return np.array([[image.height, image.width]], dtype=np.int32)


def render(picture: Image.Image, recipe: Recipe, draws: Draws) -> Crops:
    """The crops of one image, whose draws are those of a batch of it alone."""
    # here: it loads torchvision and so the compiler of torch, which together take as long as torch itself
    from hjepa.pipeline.backends.torchvision import render_image

    return [view for stacked in render_image(picture, recipe, draws, 0).values() for view in stacked]
