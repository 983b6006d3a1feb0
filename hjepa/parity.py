"""How far each backend is from the torchvision reference, for the same draws on real photographs, in levels of 255.

Every operator is measured alone, after crop and flip, and a recipe end to end. What a backend may differ by is in BOUNDS, with
the reason; a backend of exact colours brings bounds of its own.
"""

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from hjepa.pipeline.backend import engine_of
from hjepa.pipeline.device import Decoder, resolve_device
from hjepa.pipeline.index import cache_folder
from hjepa.pipeline.loader import Loader
from hjepa.pipeline.recipe import Jitter, Recipe, View

BackendName: TypeAlias = Literal["dali-ops", "fused"]
Pixels: TypeAlias = Callable[[], npt.NDArray[np.uint8]]
"""Gives a photograph, [H, W, 3]."""
Counts: TypeAlias = npt.NDArray[np.int64]
"""[255 x RESOLUTION + 1]: how many values differ by so many parts of a level."""

RESOLUTION = 100
"""Parts of a level that differences are told apart by."""
EPOCHS = 4
"""Every photograph is rendered this many times, with other draws."""
BATCH_SIZE = 4

PLAIN = View(name="global", count=2, size=224, area=(0.05, 1.0), flip=0.5, gray=0, blur=0)
NONE = Jitter(brightness=0, contrast=0, saturation=0, hue=0, probability=1)
HUE = 0.1
"""Turns of hue that are measured. Below them the difference is proportional to the turn, above them it hardly grows."""
OPERATORS: dict[str, View] = {
    "crop, bicubic": PLAIN,
    "crop, bilinear": replace(PLAIN, interpolation="bilinear"),
    "crop to 96": replace(PLAIN, size=96),
    "brightness": replace(PLAIN, jitter=replace(NONE, brightness=0.4)),
    "contrast": replace(PLAIN, jitter=replace(NONE, contrast=0.4)),
    "saturation": replace(PLAIN, jitter=replace(NONE, saturation=0.4)),
    "hue": replace(PLAIN, jitter=replace(NONE, hue=HUE)),
    "jitter order": replace(PLAIN, jitter=replace(NONE, brightness=0.8, contrast=0.8, saturation=0.8)),
    "gray": replace(PLAIN, gray=1.0),
    "blur": replace(PLAIN, blur=1.0),
    "solarize": replace(PLAIN, solarize=1.0),
}
"""Each operator at the strength of DINO; the order of the jitter's parts at SimCLR's, where it matters most."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Bound:
    """How far a backend may be from the reference, and why it is not nearer."""

    mean: float
    """Levels, on average over all values."""
    p99: float
    """Levels that 99 of 100 values stay within."""
    reason: str


_BORDER = "the filter reads beyond the crop's border, PIL's does not"
_ROUNDING = "values are rounded, PIL truncates"
_EXACT = "the crop's difference, no other"
BOUNDS: dict[BackendName, dict[str, Bound]] = {
    "dali-ops": {
        "crop, bicubic": Bound(mean=0.3, p99=1.5, reason=_BORDER),
        "crop, bilinear": Bound(mean=0.3, p99=1.5, reason=_BORDER),
        "crop to 96": Bound(mean=0.3, p99=1.5, reason=_BORDER),
        "brightness": Bound(mean=0.8, p99=3, reason=_ROUNDING),
        "contrast": Bound(mean=0.8, p99=3, reason=f"{_ROUNDING}; each image's gray mean as in PIL"),
        "saturation": Bound(mean=0.8, p99=3, reason=_ROUNDING),
        "hue": Bound(mean=16, p99=90, reason="hue turns in YIQ, PIL's in HSV"),
        "jitter order": Bound(mean=4, p99=40, reason="one fixed order, and no clipping between brightness and contrast"),
        "gray": Bound(mean=0.4, p99=2, reason=_ROUNDING),
        "blur": Bound(mean=0.3, p99=1.5, reason=_EXACT),
        "solarize": Bound(mean=0.3, p99=1.5, reason=_EXACT),
    },
    "fused": {
        **dict.fromkeys(OPERATORS, Bound(mean=0.05, p99=1, reason="Pillow 13 resizes tall boxes along the columns first")),
        "hue": Bound(mean=0.15, p99=2, reason="the crop's difference, which may be a step of HSV's 8 bits"),
    },
}
"""Backend -> operator -> bound."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """What was measured of one operator, or of the views of one name end to end."""

    backend: BackendName
    part: str
    mean: float
    p99: float
    max: float
    bound: Bound

    @property
    def within(self) -> bool:
        """Whether the bound holds."""
        return self.mean <= self.bound.mean and self.p99 <= self.bound.p99


def available(device: str = "cpu") -> list[BackendName]:
    """The backends that can be held against the reference on this device. Raises ValueError where there is none."""
    try:
        importlib.import_module("nvidia.dali")
    except ImportError as error:
        raise ValueError(f"no backend to compare with torchvision: {error}; pip install nvidia-dali-cuda120") from None
    return ["dali-ops", "fused"] if engine_of("dali", resolve_device(device)) == "fused" else ["dali-ops"]


def operators(folder: Path, backend: BackendName, device: str = "cpu") -> Iterator[Difference]:
    """Every operator alone, on the images of a folder."""
    for name in OPERATORS:
        yield operator(name, folder, backend, device)


def operator(name: str, folder: Path, backend: BackendName, device: str = "cpu") -> Difference:
    """One operator alone, after crop and flip."""
    recipe = Recipe(name="parity", source=f"hjepa parity, {name}", views=(OPERATORS[name],))
    (counts,) = _measure(recipe, folder, backend, device).values()
    return _difference(backend, name, counts, BOUNDS[backend][name])


def end_to_end(
    recipe: Recipe,
    folder: Path,
    backend: BackendName,
    device: str = "cpu",
    decoder: Decoder = "auto",
    hw_decoder_load: float = 1.0,
) -> Iterator[Difference]:
    """All operators of a recipe together, for each name of its views."""
    for name, counts in _measure(recipe, folder, backend, device, decoder, hw_decoder_load).items():
        group = [view for view in recipe.views if view.name == name and view.count]
        yield _difference(backend, f"{recipe.name}: {name}", counts, _bound(group, BOUNDS[backend]))


def photographs() -> Path:
    """A folder, in hjepa's cache, of the photographs of scikit-image and scikit-learn. Raises ValueError without either."""
    folder = cache_folder() / "photographs"
    folder.mkdir(parents=True, exist_ok=True)
    found = {**_from_scikit_image(), **_from_scikit_learn()}
    if not found:
        raise ValueError("no photographs here: pip install scikit-image or scikit-learn, or give a folder with --images")
    for name, pixels in found.items():
        if not (folder / f"{name}.jpg").exists():
            Image.fromarray(pixels()).save(folder / f"{name}.jpg", quality=95)
    return folder


def _from_scikit_image() -> dict[str, Pixels]:
    try:
        data: Any = importlib.import_module("skimage.data")
    except ImportError:
        return {}
    return {"astronaut": data.astronaut, "chelsea": data.chelsea, "coffee": data.coffee, "rocket": data.rocket}


def _from_scikit_learn() -> dict[str, Pixels]:
    try:
        data: Any = importlib.import_module("sklearn.datasets")
    except ImportError:
        return {}
    return {name: partial(data.load_sample_image, f"{name}.jpg") for name in ("china", "flower")}


def _measure(
    recipe: Recipe, folder: Path, backend: BackendName, device: str, decoder: Decoder = "auto", hw_decoder_load: float = 1.0
) -> dict[str, Counts]:
    """Name of the view -> how many values differ by how much."""
    options: dict[str, Any] = {"batch_size": BATCH_SIZE, "shuffle": False, "tail": "keep", "epochs": EPOCHS}
    decoding: dict[str, Any] = {"decoder": decoder, "hw_decoder_load": hw_decoder_load}
    counts: dict[str, Counts] = {}
    with (
        Loader(folder, recipe, backend="torchvision", device="cpu", num_workers=0, **options) as reference,
        Loader(folder, recipe, backend=backend, device=device, **decoding, **options) as other,
    ):
        for _ in range(EPOCHS):
            for expected, batch in zip(reference, other, strict=True):
                for name, crops in batch.crops.items():
                    more = _count((crops.cpu() - expected.crops[name]).abs(), recipe)
                    counts[name] = counts.get(name, np.int64(0)) + more
    return counts


def _count(differences: torch.Tensor, recipe: Recipe) -> Counts:
    levels = 255 * differences * torch.tensor(recipe.std).reshape(3, 1, 1)
    parts = levels.nan_to_num(nan=255).mul(RESOLUTION).round().clamp(max=255 * RESOLUTION).to(torch.int64)
    return np.bincount(parts.numpy().ravel(), minlength=255 * RESOLUTION + 1)


def _difference(backend: BackendName, part: str, counts: Counts, bound: Bound) -> Difference:
    levels = np.arange(len(counts)) / RESOLUTION
    p99 = levels[np.searchsorted(np.cumsum(counts), 0.99 * counts.sum())]
    mean, most = (counts * levels).sum() / counts.sum(), levels[np.nonzero(counts)[0][-1]]
    return Difference(backend=backend, part=part, mean=float(mean), p99=float(p99), max=float(most), bound=bound)


def _bound(group: list[View], bounds: dict[str, Bound]) -> Bound:
    """What these views may differ by: the sum of their operators' means; at p99 the worst, and the others' means."""
    jitters = [view.jitter for view in group if view.jitter is not None]
    used = {
        f"crop, {group[0].interpolation}": max(1.0, 96 / group[0].size),  # the smaller, the more of a crop is border
        "jitter order": float(bool(jitters)),  # measured with brightness, contrast and saturation, all at once
        "hue": max((min(1.0, jitter.hue / HUE) for jitter in jitters), default=0.0),
        "gray": float(any(view.gray > 0 for view in group)),
        "blur": float(any(view.blur > 0 for view in group)),
        "solarize": float(any(view.solarize > 0 for view in group)),
    }
    means, p99s = ({name: share * getattr(bounds[name], part) for name, share in used.items()} for part in ("mean", "p99"))
    worst = max(means, key=means.__getitem__)
    others = sum(means.values()) - means[worst]
    return Bound(mean=means[worst] + others, p99=max(p99s.values()) + others, reason=bounds[worst].reason)
