"""Documents C's and D's GaussianBlur and Solarization: PIL image -> PIL image, for pipelines of one's own.

In hjepa they are numbers of a View, so that every backend applies them alike; these are views with nothing else in them,
rendered by the reference backend.
"""

from dataclasses import replace

import torch
from PIL import Image

from hjepa.pipeline.recipe import Recipe, View
from hjepa.recipe_transform import KeyedCalls, Picture, to_picture

WHOLE = View(name="image", count=1, size=1, area=(1.0, 1.0), flip=0.0, gray=0.0, blur=0.0)
"""The whole image as it is; its size is not read, for nothing is cropped."""


class _Operator(KeyedCalls):
    """What one view does to the colours of images of any size."""

    def __init__(self, view: View, seed: int) -> None:
        super().__init__(seed)
        self.view = view
        self._recipe = Recipe(name=view.name, source="documents C and D", views=(view,))

    def __call__(self, image: Picture) -> Image.Image:
        """The image in RGB, with the operator's probability changed."""
        from hjepa.pipeline.backends.torchvision import recolour  # here, as in recipe_transform.py: it takes its time

        picture = to_picture(image)
        draws = self.next_draws(self._recipe, picture)
        with torch.device("cpu"):  # whatever torch's default is
            return recolour(picture, self.view, draws.views[self.view.name], (0, 0))


class GaussianBlur(_Operator):
    """Blurs with probability p; the deviation is uniform between the radii, in pixels. Document C's signature.

    Of document D's, sigma_range is (radius_min, radius_max), p is 1, and kernel_size_range, which its code draws and does not
    use, is blur_window: one odd side, DINOv2's by default. Its chance: see KeyedCalls; two in one pipeline need two seeds.
    """

    def __init__(
        self, p: float = 0.5, radius_min: float = 0.1, radius_max: float = 2.0, *, blur_window: int = 9, seed: int = 0
    ) -> None:
        super().__init__(
            replace(WHOLE, name="GaussianBlur", blur=p, sigma=(radius_min, radius_max), blur_window=blur_window), seed
        )


class Solarization(_Operator):
    """Inverts the levels from the threshold upwards, with probability p, which in document D is 1. Document C's signature."""

    def __init__(self, p: float = 0.2, threshold: int = 128, *, seed: int = 0) -> None:
        super().__init__(replace(WHOLE, name="Solarization", solarize=p, solarize_threshold=threshold), seed)
