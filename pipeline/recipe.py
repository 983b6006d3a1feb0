"""What every crop is made of: a recipe is numbers only, and the draws, the backends, the docs and the tests all read it."""

import dataclasses
import operator
from dataclasses import dataclass
from math import inf, isfinite
from numbers import Integral, Real
from typing import Any, Literal, TypeAlias, get_args

from hjepa.pipeline.spelling import suggest

Range: TypeAlias = tuple[float, float]
Channels: TypeAlias = tuple[float, float, float]
"""A number for red, green and blue each."""

Crop: TypeAlias = Literal["random", "center"]
Interpolation: TypeAlias = Literal["bicubic", "bilinear"]
Orientation: TypeAlias = Literal["ignore", "exif"]
Decoding: TypeAlias = Literal["full", "reduced"]

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
            value = getattr(self, name)
            is_strength = is_number(value) and 0 <= value < inf
            require(is_strength, f"Jitter.{name}={value!r} is not a strength from 0, which switches it off")
        require(is_number(self.hue) and 0 <= self.hue <= 0.5, f"Jitter.hue={self.hue!r} is outside [0, 0.5] turns")
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
    crop: Crop = "random"
    """Random-resized crop, or the central square."""
    interpolation: Interpolation = "bicubic"
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
    same_box_as: str | None = None
    """Name of the views whose boxes and flips these share: crop i takes those of their crop i. None for its own."""

    def __post_init__(self) -> None:
        require(isinstance(self.name, str) and bool(self.name), f"a view needs a name, such as 'global', not {self.name!r}")
        for option in ("area", "ratio", "sigma"):
            object.__setattr__(self, option, as_numbers(f"{self.name}: {option}", getattr(self, option), 2))
        for option, least in (("count", 0), ("size", 1), ("blur_window", 1), ("solarize_threshold", 0)):
            object.__setattr__(self, option, whole(f"{self.name}: {option}", getattr(self, option), least))
        _require_one_of(f"{self.name}: crop", self.crop, Crop)
        _require_one_of(f"{self.name}: interpolation", self.interpolation, Interpolation)
        is_jitter = self.jitter is None or isinstance(self.jitter, Jitter)
        require(is_jitter, f"{self.name}: jitter={self.jitter!r} is no jitter; use Jitter(brightness=...), or None for none")
        require(0 < self.area[0] <= self.area[1] <= 1, f"{self.name}: area={self.area} is not a range in (0, 1]")
        require(0 < self.ratio[0] <= self.ratio[1] < inf, f"{self.name}: ratio={self.ratio} is not a positive range")
        require(0 < self.sigma[0] <= self.sigma[1] < inf, f"{self.name}: sigma={self.sigma} is not a positive range")
        require(self.blur_window % 2 == 1, f"{self.name}: blur_window={self.blur_window} is even; use {self.blur_window + 1}")
        require(self.solarize_threshold <= 256, f"{self.name}: solarize_threshold={self.solarize_threshold} is no level")
        for option in ("flip", "gray", "blur", "solarize"):
            _require_probability(f"{self.name}: {option}", getattr(self, option))


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """All views of an image, and how pixels are normalised."""

    name: str
    source: str
    """Where the numbers come from."""
    views: tuple[View, ...]
    mean: Channels = IMAGENET_MEAN
    std: Channels = IMAGENET_STD
    orientation: Orientation = "ignore"
    """Leave images as they are stored (as torchvision does), or turn them upright by their EXIF tag first."""
    decoding: Decoding = "full"
    """Decode every pixel, or JPEGs to a half or a quarter of their sides where all crops are small enough: on a CPU."""

    def __post_init__(self) -> None:
        are_views = isinstance(self.views, list | tuple) and all(isinstance(view, View) for view in self.views)
        require(are_views, f"recipe {self.name}: views={self.views!r} are not views; use (View(...), ...)")
        object.__setattr__(self, "views", tuple(self.views))
        for option in ("mean", "std"):
            object.__setattr__(self, option, as_numbers(f"recipe {self.name}: {option}", getattr(self, option), 3))
        _require_one_of(f"recipe {self.name}: orientation", self.orientation, Orientation)
        _require_one_of(f"recipe {self.name}: decoding", self.decoding, Decoding)
        require(self.num_views > 0, f"recipe {self.name}: no view has a count above 0")
        require(all(map(isfinite, self.mean)), f"recipe {self.name}: mean={self.mean} must be finite")
        require(all(0 < std < inf for std in self.std), f"recipe {self.name}: std={self.std} must be positive and finite")
        for group in self.groups():
            first = group[0]
            shared = ("size", "interpolation", "blur_window", "solarize_threshold", "same_box_as")
            for view in group:
                differing = [key for key in shared if getattr(view, key) != getattr(first, key)]
                require(not differing, f"recipe {self.name}: views named {view.name!r} differ in {differing}; rename one")
            self._require_a_leader(group)

    def _require_a_leader(self, group: tuple[View, ...]) -> None:
        """Whoever shares boxes names views that are there and have boxes of their own, and says of the boxes what is true."""
        place, leader = f"recipe {self.name}: {group[0].name}", group[0].same_box_as
        if leader is None:
            return
        leaders = [view for view in self.views if view.name == leader for _ in range(view.count)]
        followers = [view for view in group for _ in range(view.count)]
        require(bool(leaders), f"{place}: same_box_as={leader!r} names no view that is rendered; {suggest(leader, self.names)}")
        require(leaders[0].same_box_as is None, f"{place}: same_box_as={leader!r}, which shares a box itself; name its leader")
        require(len(followers) <= len(leaders), f"{place}: count={len(followers)}, but there are {len(leaders)} of {leader!r}")
        for own, its in zip(followers, leaders, strict=False):
            for key in ("area", "ratio", "crop", "flip"):
                message = (
                    f"{place}: {key}={getattr(own, key)}, but boxes and flips are those of {leader!r}; use {getattr(its, key)}"
                )
                require(getattr(own, key) == getattr(its, key), message)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the views that are rendered, in order of appearance: the keys of a batch's crops."""
        return tuple(dict.fromkeys(view.name for view in self.views if view.count))

    @property
    def num_views(self) -> int:
        """Number of crops per image."""
        return sum(view.count for view in self.views)

    def count(self, name: str) -> int:
        """Number of crops of that name per image."""
        return sum(view.count for view in self.views if view.name == name)

    def groups(self) -> tuple[tuple[View, ...], ...]:
        """The views (of count above 0) that share a name and hence a tensor of the batch, in order of appearance."""
        return tuple(tuple(view for view in self.views if view.name == name and view.count) for name in self.names)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, lists and strings, for JSON and YAML; without what loaders' states of earlier versions do not know."""
        plain = dataclasses.asdict(self)
        if self.decoding == "full":
            del plain["decoding"]
        return plain


def area_gap(recipe: Recipe) -> str | None:
    """A warning where the areas of "global" crops do not begin where those of "local" ones end; None where they do.

    They meet in DINO, DINOv2 and SwAV: a local crop is never larger than a global one, and no scale is left out.
    """
    areas = {name: [view.area for view in recipe.views if view.name == name and view.count] for name in ("global", "local")}
    if not all(areas.values()):
        return None
    least, most = min(low for low, _ in areas["global"]), max(high for _, high in areas["local"])
    if least == most:
        return None
    return (
        f"global crops cover {least:g} of the image or more, local ones {most:g} or less; DINO and DINOv2 let the two ranges "
        f"meet: use {least:g} or {most:g} for both, unless the {'overlap' if least < most else 'gap'} is meant"
    )


def as_numbers(name: str, values: Any, count: int) -> tuple[float, ...]:
    """That many numbers as a tuple: a list, as YAML gives, has no hash, which caches of recipes need."""
    is_row = isinstance(values, list | tuple) and len(values) == count and all(isinstance(one, Real) for one in values)
    require(is_row, f"{name}={values!r} is not {count} numbers; use ({', '.join(['number'] * count)})")
    return tuple(values)


def require_recipe(recipe: object) -> None:
    """Raises ValueError for what is no Recipe, such as the name of a preset, which a Loader takes."""
    require(
        isinstance(recipe, Recipe),
        f"recipe={recipe!r} is of type {type(recipe).__name__}; give a Recipe, such as hjepa.preset('dino')",
    )


def integer(name: str, value: object) -> int:
    """What Python takes for an index, numpy's, torch's and negative ones too, as its own. Raises ValueError for others."""
    try:
        return operator.index(value)  # type: ignore[arg-type]  # whether it is one is the question
    except TypeError as error:
        raise ValueError(f"{name}={value!r} is no whole number; give one") from error


def whole(name: str, value: object, least: int) -> int:
    """The value as the whole number that it is. Raises ValueError where it is none, or less than `least`."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name}={value!r} is no whole number from {least} on; give one")
    return int(value)


def require(holds: bool, message: str) -> None:
    """Raises ValueError with the message where the claim does not hold."""
    if not holds:
        raise ValueError(message)


def is_number(value: object) -> bool:
    """Whether it is a number, Python's or numpy's. As a function: mypy holds that no float is a Real."""
    return isinstance(value, Real)


def _require_one_of(name: str, value: object, words: Any) -> None:
    require(value in get_args(words), f"{name}={value!r} is unknown; {suggest(value, get_args(words))}")


def _require_probability(name: str, value: float) -> None:
    require(is_number(value) and 0 <= value <= 1, f"{name}={value!r} is not a probability in [0, 1]")
