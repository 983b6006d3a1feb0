"""What every crop is made of: a recipe is numbers only, and the draws, the backends, the docs and the tests all read it."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

Range: TypeAlias = tuple[float, float]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True, slots=True)
class Jitter:
    """Colour jitter with torchvision's law: factors uniform in [max(0, 1 - x), 1 + x], hue in [-x, x] turns."""

    brightness: float
    contrast: float
    saturation: float
    hue: float
    probability: float = 0.8

    def __post_init__(self) -> None:
        for name in ("brightness", "contrast", "saturation"):
            _require(getattr(self, name) >= 0, f"Jitter.{name}={getattr(self, name)} is negative; use 0 to switch it off")
        _require(0 <= self.hue <= 0.5, f"Jitter.hue={self.hue} is outside [0, 0.5] turns")
        _require_probability("Jitter.probability", self.probability)


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """One kind of crop. Views of the same name are stacked into one tensor [count, B, 3, size, size] of the batch."""

    name: str
    """Name of the batch's tensor, such as "global" or "local"."""
    count: int
    """Number of crops of this kind per image."""
    size: int
    """Side of the square output, in pixels."""
    area: Range
    """Range of the crop's area, as a share of the image; of its largest central square where crop is "center"."""
    ratio: Range = (3 / 4, 4 / 3)
    """Range of width / height of the crop, log-uniform."""
    crop: Literal["random", "center"] = "random"
    """Random-resized crop, or the central square."""
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    """Filter of the resize; always antialiased."""
    flip: float = 0.5
    """Probability of a horizontal flip."""
    jitter: Jitter | None = None
    """Colour jitter; None for none."""
    gray: float = 0.2
    """Probability of grayscale."""
    blur: float = 0.5
    """Probability of a Gaussian blur."""
    sigma: Range = (0.1, 2.0)
    """Range of the blur's standard deviation, in pixels of the output."""
    blur_window: int = 9
    """Side of the blur's window, in pixels, odd."""
    solarize: float = 0.0
    """Probability of solarization."""
    solarize_threshold: int = 128
    """Levels from this one upwards are inverted by solarization."""

    def __post_init__(self) -> None:
        _require(bool(self.name), "a view needs a name, such as 'global'")
        _require(self.count >= 0, f"{self.name}: count={self.count} is negative")
        _require(self.size >= 1, f"{self.name}: size={self.size} is not a number of pixels")
        _require(0 < self.area[0] <= self.area[1] <= 1, f"{self.name}: area={self.area} is not a range in (0, 1]")
        _require(0 < self.ratio[0] <= self.ratio[1], f"{self.name}: ratio={self.ratio} is not a positive range")
        _require(0 < self.sigma[0] <= self.sigma[1], f"{self.name}: sigma={self.sigma} is not a positive range")
        _require(self.blur_window % 2 == 1, f"{self.name}: blur_window={self.blur_window} is even; use {self.blur_window + 1}")
        _require(0 <= self.solarize_threshold <= 256, f"{self.name}: solarize_threshold={self.solarize_threshold} is no level")
        for option in ("flip", "gray", "blur", "solarize"):
            _require_probability(f"{self.name}: {option}", getattr(self, option))


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """All views of an image, and how pixels are normalised."""

    name: str
    source: str
    """Where the numbers come from."""
    views: tuple[View, ...]
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    orientation: Literal["ignore", "exif"] = "ignore"
    """Leave images as they are stored (as torchvision does), or turn them upright by their EXIF tag first."""

    def __post_init__(self) -> None:
        _require(self.num_views > 0, f"recipe {self.name}: no view has a count above 0")
        _require(min(self.std) > 0, f"recipe {self.name}: std={self.std} must be positive")
        for group in self.groups():
            first = group[0]
            shared = ("size", "interpolation", "blur_window", "solarize_threshold")
            for view in group:
                differing = [key for key in shared if getattr(view, key) != getattr(first, key)]
                _require(not differing, f"recipe {self.name}: views named {view.name!r} differ in {differing}; rename one")

    @property
    def num_views(self) -> int:
        """Number of crops per image."""
        return sum(view.count for view in self.views)

    def groups(self) -> tuple[tuple[View, ...], ...]:
        """The views (of count above 0) that share a name and hence a tensor of the batch, in order of appearance."""
        names = dict.fromkeys(view.name for view in self.views if view.count)
        return tuple(tuple(view for view in self.views if view.name == name and view.count) for name in names)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, lists and strings, for JSON and YAML."""
        return dataclasses.asdict(self)


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
        parts = Jitter(brightness=0.4 * strength, contrast=0.4 * strength, saturation=0.2 * strength, hue=0.1 * strength)
        jitter = parts if strength > 0 else None
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
    side = size / int(1.14 * size)  # of the image's short side
    plain = View(
        name="global", count=1, size=size, area=(side**2, side**2), ratio=(1.0, 1.0), crop="center", flip=0, gray=0, blur=0
    )
    return Recipe(name="eval", source="jonwiggins/H-JEPA, MultiCropEvalTransform", views=(plain,), orientation=orientation)


def dino(num_local_crops: int = 8) -> Recipe:
    """DINO's recipe: Caron et al., arXiv 2104.14294, and its code main_dino.py; the blur's window as in DINOv2."""
    jitter = Jitter(brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1)
    wide, narrow = (0.4, 1.0), (0.05, 0.4)
    return Recipe(
        name="dino",
        source="facebookresearch/dino, main_dino.py (arXiv 2104.14294)",
        views=(
            View(name="global", count=1, size=224, area=wide, jitter=jitter, blur=1.0),
            View(name="global", count=1, size=224, area=wide, jitter=jitter, blur=0.1, solarize=0.2),
            View(name="local", count=num_local_crops, size=96, area=narrow, jitter=jitter, blur=0.5),
        ),
    )


def preset(name: str) -> Recipe:
    """The recipe of that name: "hjepa", "dino" or "eval". Raises ValueError for another name."""
    presets: dict[str, Callable[[], Recipe]] = {"hjepa": multicrop, "dino": dino, "eval": evaluation}
    _require(name in presets, f"recipe={name!r} is unknown; use one of {', '.join(presets)}, or pass a Recipe")
    return presets[name]()


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ValueError(message)


def _require_probability(name: str, value: float) -> None:
    _require(0 <= value <= 1, f"{name}={value} is not a probability in [0, 1]")
