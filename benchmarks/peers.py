"""The same recipe as users of other libraries write it: each turns the path of an image into the list of its crops.

They are run by torch's DataLoader, one image at a time in worker processes; SPDL's by its own threads. What a library cannot do
alike is said at its class; throughput.py holds the levels that come out against torchvision's before it prints a speed.
"""

import importlib.util
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import opencv_crops
import torch
from PIL import Image, ImageFilter
from torch import Tensor
from torchvision import transforms
from torchvision.io import ImageReadMode, decode_image
from torchvision.transforms import InterpolationMode, v2

from hjepa.pipeline.backends.torchvision import FILTERS
from hjepa.pipeline.recipe import Recipe, View

Crops = list[Tensor]
"""Of one image: float32 [3, S, S] each, in the order of the recipe's views."""


class Torchvision:
    """torchvision's transforms of PIL images: as ImageFolder's users write it, and as DINOv2's own class does."""

    blur: Callable[..., Any] = transforms.GaussianBlur
    """Made of a window's side and a range of deviations."""

    def __init__(self, recipe: Recipe) -> None:
        to_floats = transforms.ToTensor()
        self._views = [_torchvision(view, recipe, transforms, to_floats, self.blur) for view in _each(recipe)]

    def __call__(self, path: str) -> Crops:
        with Image.open(path) as image:
            pixels = image.convert("RGB")
        return [view(pixels) for view in self._views]


class PilBlur:
    """The blur of the first DINO (facebookresearch/dino, utils.py): PIL's, which is three passes of a box, and sooner done."""

    def __init__(self, window: int, sigma: tuple[float, float]) -> None:
        self._sigma = sigma  # PIL chooses its window by itself

    def __call__(self, image: Image.Image) -> Image.Image:
        return image.filter(ImageFilter.GaussianBlur(random.uniform(*self._sigma)))


class TorchvisionPilBlur(Torchvision):
    """The same with PIL's blur, as the first DINO has it."""

    blur = PilBlur


class TorchvisionV2:
    """torchvision's transforms, version 2, of uint8 tensors that its own decoder read."""

    def __init__(self, recipe: Recipe) -> None:
        to_floats = v2.ToDtype(torch.float32, scale=True)
        self._views = [_torchvision(view, recipe, v2, to_floats, v2.GaussianBlur) for view in _each(recipe)]

    def __call__(self, path: str) -> Crops:
        pixels = decode_image(path, ImageReadMode.RGB)
        return [view(pixels) for view in self._views]


class Spdl(TorchvisionV2):
    """torchvision's transforms, version 2, of what SPDL's decoder (FFmpeg) read: SPDL leaves augmentation to others."""

    def __call__(self, path: str) -> Crops:
        import spdl.io

        pixels = spdl.io.to_torch(spdl.io.load_image(path)).permute(2, 0, 1)
        return [view(pixels) for view in self._views]


class Lightly:
    """lightly's DINOTransform: PIL images, bicubic; it knows two global views and one kind of local ones."""

    def __init__(self, recipe: Recipe) -> None:
        from lightly.transforms import DINOTransform

        views = _each(recipe)
        alike = {(view.jitter, view.gray, view.flip, view.sigma, view.ratio) for view in views}
        jitter = views[0].jitter
        if len(views) < 3 or len(alike) > 1 or views[0].size != views[1].size or jitter is None or jitter.saturation == 0:
            raise ValueError("lightly's DINOTransform makes two global crops and local ones, all of them with the same jitter")
        first, second, *local = views
        self._views = DINOTransform(
            global_crop_size=first.size,
            global_crop_scale=first.area,
            local_crop_size=local[0].size,
            local_crop_scale=local[0].area,
            n_local_views=len(local),
            hf_prob=first.flip,
            cj_prob=jitter.probability,
            cj_bright=jitter.brightness,
            cj_contrast=jitter.contrast,
            cj_sat=jitter.saturation,
            cj_hue=jitter.hue,
            cj_strength=1.0,
            random_gray_scale=first.gray,
            gaussian_blur=(first.blur, second.blur, local[0].blur),
            sigmas=first.sigma,
            solarization_prob=second.solarize,
            normalize={"mean": recipe.mean, "std": recipe.std},
        )

    def __call__(self, path: str) -> Crops:
        with Image.open(path) as image:
            crops: Crops = self._views(image.convert("RGB"))
        return crops


class Albumentations:
    """albumentations on arrays that OpenCV read; its bicubic resize has no antialiasing."""

    def __init__(self, recipe: Recipe) -> None:
        import cv2

        cv2.setNumThreads(0)  # the DataLoader's processes are the threads
        self._views = [_albumentations(view, recipe) for view in _each(recipe)]

    def __call__(self, path: str) -> Crops:
        pixels = opencv_crops.read(path)
        return [view(image=pixels)["image"] for view in self._views]


class OpenCV:
    """A pipeline written by hand with OpenCV: lookup tables for all that is pointwise, INTER_AREA where it shrinks."""

    def __init__(self, recipe: Recipe) -> None:
        import cv2

        cv2.setNumThreads(0)
        self._recipe, self._chance = recipe, np.random.default_rng()

    def __call__(self, path: str) -> Crops:
        pixels = opencv_crops.read(path)
        return [opencv_crops.crop_of(pixels, view, self._recipe, self._chance) for view in _each(self._recipe)]


class Kornia:
    """kornia's augmentations of float tensors on the CPU, an image at a time, as a data set's transform."""

    def __init__(self, recipe: Recipe) -> None:
        self._views = [_kornia(view, recipe) for view in _each(recipe)]

    def __call__(self, path: str) -> Crops:
        pixels = decode_image(path, ImageReadMode.RGB)[None].float() / 255
        return [view(pixels)[0] for view in self._views]


PEERS: dict[str, tuple[str, Callable[[Recipe], Callable[[str], Crops]]]] = {
    "torchvision": ("torchvision", Torchvision),
    "torchvision-pil-blur": ("torchvision", TorchvisionPilBlur),
    "torchvision-v2": ("torchvision", TorchvisionV2),
    "lightly": ("lightly", Lightly),
    "albumentations": ("albumentations", Albumentations),
    "opencv": ("cv2", OpenCV),
    "kornia": ("kornia", Kornia),
    "spdl": ("spdl", Spdl),
}
"""Name -> module that it needs, and what makes its crops."""
FFCV, DALI_PLAIN = "ffcv", "dali-plain"
"""Loaders of batches, not of images: ffcv_loader.py and dali_plain.py."""
OTHERS = (*PEERS, DALI_PLAIN, FFCV)
INSTALL = {"opencv": "opencv-python-headless"}
"""Where the name to install is another than the peer's."""


def installed(name: str) -> bool:
    """Whether one of the others can run here."""
    modules = {name: module for name, (module, _) in PEERS.items()} | {FFCV: "ffcv", DALI_PLAIN: "nvidia.dali"}
    return importlib.util.find_spec(modules[name]) is not None


def _each(recipe: Recipe) -> list[View]:
    return [view for view in recipe.views for _ in range(view.count)]


def _torchvision(view: View, recipe: Recipe, library: Any, to_floats: Any, blur: Callable[..., Any]) -> Callable[[Any], Tensor]:
    """Of either version, whose operators have the same names."""
    steps = [
        library.RandomResizedCrop(view.size, view.area, view.ratio, FILTERS[view.interpolation], antialias=True),
        library.RandomHorizontalFlip(view.flip),
    ]
    if view.jitter is not None:
        parts = (view.jitter.brightness, view.jitter.contrast, view.jitter.saturation, view.jitter.hue)
        steps.append(library.RandomApply([library.ColorJitter(*parts)], view.jitter.probability))
    if view.gray:
        steps.append(library.RandomGrayscale(view.gray))
    if view.blur:
        steps.append(library.RandomApply([blur(view.blur_window, view.sigma)], view.blur))
    if view.solarize:
        steps.append(library.RandomSolarize(view.solarize_threshold, view.solarize))
    composed: Callable[[Any], Tensor] = library.Compose([*steps, to_floats, library.Normalize(recipe.mean, recipe.std)])
    return composed


def _albumentations(view: View, recipe: Recipe) -> Callable[..., dict[str, Tensor]]:
    import albumentations
    import cv2
    from albumentations.pytorch import ToTensorV2

    filters = {"bicubic": cv2.INTER_CUBIC, "bilinear": cv2.INTER_LINEAR}
    window, threshold = (view.blur_window, view.blur_window), (view.solarize_threshold / 255,) * 2
    steps = [
        albumentations.RandomResizedCrop((view.size, view.size), view.area, view.ratio, filters[view.interpolation]),
        albumentations.HorizontalFlip(p=view.flip),
    ]
    if view.jitter is not None:
        parts = (view.jitter.brightness, view.jitter.contrast, view.jitter.saturation, view.jitter.hue)
        steps.append(albumentations.ColorJitter(*parts, p=view.jitter.probability))
    steps += [
        albumentations.ToGray(p=view.gray),
        albumentations.GaussianBlur(blur_limit=window, sigma_limit=view.sigma, p=view.blur),
        albumentations.Solarize(threshold_range=threshold, p=view.solarize),
        albumentations.Normalize(recipe.mean, recipe.std),
        ToTensorV2(),
    ]
    composed: Callable[..., dict[str, Tensor]] = albumentations.Compose(steps)
    return composed


def _kornia(view: View, recipe: Recipe) -> torch.nn.Sequential:
    import kornia.augmentation as kornia

    size = (view.size, view.size)
    steps: list[torch.nn.Module] = [
        kornia.RandomResizedCrop(size, view.area, view.ratio, InterpolationMode(view.interpolation).name),
        kornia.RandomHorizontalFlip(p=view.flip),
    ]
    if view.jitter is not None:
        parts = (view.jitter.brightness, view.jitter.contrast, view.jitter.saturation, view.jitter.hue)
        steps.append(kornia.ColorJitter(*parts, p=view.jitter.probability))
    window = (view.blur_window, view.blur_window)
    steps += [
        kornia.RandomGrayscale(p=view.gray),
        kornia.RandomGaussianBlur(window, view.sigma, p=view.blur),
        kornia.RandomSolarize((view.solarize_threshold / 255,) * 2, (0.0, 0.0), p=view.solarize),
        kornia.Normalize(torch.tensor(recipe.mean), torch.tensor(recipe.std)),
    ]
    return torch.nn.Sequential(*steps)
