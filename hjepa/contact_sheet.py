"""A contact sheet: what the real pipeline makes of some images, gathered so that a picture and a page can show the same.

Everything on it comes from one batch of a Loader: the crops are the backend's own, the boxes and words are the draws, and the
masks are those that the batch's keys give.
"""

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast, get_args

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from hjepa.draws_in_words import in_words
from hjepa.pipeline.backend import BackendName
from hjepa.pipeline.batch import Batch
from hjepa.pipeline.loader import Loader
from hjepa.pipeline.mask_panel import Roles, roles
from hjepa.pipeline.mask_sampler import BlockMasks
from hjepa.pipeline.multicrop_masks import MaskingStrategy, MultiCropMaskGenerator
from hjepa.pipeline.open_source import open_source
from hjepa.pipeline.recipe import Recipe, whole
from hjepa.pipeline.scan import Progress
from hjepa.pipeline.source import Source
from hjepa.pipeline.spelling import suggest
from hjepa.recipe_table import summary
from hjepa.view import source_pixels, to_picture

# H, W pixels
Pixels: TypeAlias = npt.NDArray[np.uint8]
"""[H, W, 3]"""
MASKS: tuple[str, ...] = (*get_args(MaskingStrategy), "none")
"""What may be drawn over crops: a strategy, or nothing."""
OWN = "hjepa"
"""Recipe of the work whose masks these are; a recipe of another may have masks of its own, which its adapter gives."""
PART = 16
"""Images that are made at once."""
PATCH_SIZES = (16, 14, 8, 4)
"""Sides of a patch in pixels, the usual ones; the first that fits a recipe's crops is taken."""
LEAST_PATCHES = 6
"""Patches on a side of a global crop that blocks of three levels need to differ."""


def silent(done: int, total: int) -> None:
    """For whoever does not ask how far it is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ShownCrop:
    """One crop."""

    name: str
    """Name of its view and its number: "global 0"."""
    box: tuple[int, int, int, int]
    """Top, left, height, width in pixels of the image."""
    flip: bool
    """Mirrored left to right."""
    words: tuple[str, ...]
    """Its draws."""
    pixels: Pixels
    """As the model sees it, without the normalisation."""
    levels: tuple[Roles, ...]
    """The role of each patch at each level of the masks, from fine to coarse; empty for a crop without masks."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ShownImage:
    """One image and all of its crops, in the recipe's order."""

    key: str
    label: str
    """Name of its class; empty without one."""
    pixels: Pixels
    """The source, turned as the recipe's orientation says: what the boxes refer to."""
    crops: tuple[ShownCrop, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Sheet:
    """Everything that is shown."""

    title: str
    """Recipe, engine and masks in one line."""
    images: tuple[ShownImage, ...]


def gather(
    data: Any,
    recipe: Recipe,
    *,
    backend: BackendName = "dali",
    masks: str = "global_only",
    count: int = 4,
    patch_size: int | Literal["auto"] = "auto",
    device: str = "auto",
    seed: int = 0,
    epoch: int = 0,
    progress: Progress = silent,
) -> Sheet:
    """The first `count` images of an epoch as a training run would get them. data: see open_source.

    masks: one of MASKS. patch_size: of the masks, in pixels; "auto" is the first of PATCH_SIZES that fits the crops. progress:
    told (images done, images to do). Raises ValueError.
    """
    if masks not in MASKS:
        raise ValueError(f"masks={masks!r} is unknown; {suggest(masks, MASKS)}")
    generator = None if masks == "none" else _generator(recipe, cast(MaskingStrategy, masks), patch_size, seed)
    source = open_source(data)
    count = min(whole("count", count, 1), len(source))
    with Loader(
        source,
        recipe,
        batch_size=min(count, PART),
        backend=backend,
        device=device,
        seed=seed,
        tail="keep",
        num_workers=0 if backend == "torchvision" else "auto",  # processes would take longer to start than to work
        prefetch=1,
        epochs=epoch + 1,
        max_bad=1.0,  # who looks at a few images trains on none
    ) as loader:
        loader.set_epoch(epoch)
        images: list[ShownImage] = []
        for batch in loader:
            images += _images(batch, generator, recipe, source)
            progress(min(len(images), count), count)
            if len(images) >= count:
                break
        made = f"{recipe.name}: {summary(recipe)}; made by {loader.engine}"
    drawn = "no masks" if generator is None else _whose(masks, recipe)
    return Sheet(title=f"{made}; {drawn}; seed {seed}, epoch {epoch}", images=tuple(images[:count]))


def _whose(masks: str, recipe: Recipe) -> str:
    return f"masks: {masks}" if recipe.name == OWN else f"masks: {masks}, which are {OWN}'s, not {recipe.name}'s"


def fitting_patch_size(recipe: Recipe) -> int:
    """The first of PATCH_SIZES that divides every masked crop and gives global crops LEAST_PATCHES on a side."""
    sizes = {group[0].name: group[0].size for group in recipe.groups() if group[0].name in ("global", "local")}
    for patch in PATCH_SIZES:
        if all(size % patch == 0 for size in sizes.values()) and sizes["global"] // patch >= LEAST_PATCHES:
            return patch
    raise ValueError(f"no usual size of patch fits crops of {sizes}; give one with --patch-size, or use --masks none")


def _generator(
    recipe: Recipe, strategy: MaskingStrategy, patch_size: int | Literal["auto"], seed: int
) -> MultiCropMaskGenerator:
    groups = {group[0].name: group for group in recipe.groups()}
    if "global" not in groups:
        raise ValueError(f"masks are for crops named 'global', and recipe {recipe.name} has none; use --masks none")
    counts = {name: sum(view.count for view in group) for name, group in groups.items()}
    size = groups["global"][0].size
    if strategy != "global_only" and counts.get("local", 0) < 2:
        raise ValueError(
            f"masks={strategy} needs 2 crops named 'local' or more, and recipe {recipe.name} has fewer; use --masks global_only"
        )
    return MultiCropMaskGenerator(
        global_crop_size=size,
        local_crop_size=groups["local"][0].size if "local" in groups else size,
        num_global_crops=counts["global"],
        num_local_crops=counts.get("local", 0),
        patch_size=fitting_patch_size(recipe) if patch_size == "auto" else patch_size,
        masking_strategy=strategy,
        num_local_hierarchies=1,  # as in training: in a grid as small as theirs a coarser level leaves no context
        seed=seed,
    )


def _images(batch: Batch, generator: MultiCropMaskGenerator | None, recipe: Recipe, source: Source) -> tuple[ShownImage, ...]:
    shown = _shown_masks(batch, generator)
    samples = source.fetch(batch.indices.numpy())
    images = []
    for number, label in enumerate(batch.labels.tolist()):
        pixels = source_pixels(samples.encoded, number, batch, number, recipe)
        crops = tuple(replace(crop, levels=tuple(shown.get((crop.name, number), ()))) for crop in _crops(batch, number, recipe))
        name = source.classes[label] if 0 <= label < len(source.classes) else ""
        images.append(ShownImage(key=_printable(batch.keys[number]), label=_printable(name), pixels=pixels, crops=crops))
    return tuple(images)


def _crops(batch: Batch, image: int, recipe: Recipe) -> list[ShownCrop]:
    height, width = batch.draws.sizes[image].tolist()
    crops = []
    for name, stacked in batch.crops.items():
        draws = batch.draws.views[name]
        for number, crop in enumerate(stacked[:, image]):
            top, left, rows, columns = draws.box[image, number].tolist()
            crops.append(
                ShownCrop(
                    name=f"{name} {number}",
                    box=(top, left, rows, columns),
                    flip=bool(draws.flip[image, number]),
                    words=in_words(draws, image, number, (height, width)),
                    pixels=(to_picture(crop, recipe) * 255).round().astype(np.uint8),
                    levels=(),
                )
            )
    return crops


def _shown_masks(batch: Batch, generator: MultiCropMaskGenerator | None) -> dict[tuple[str, int], list[Roles]]:
    """(name of the crop, number of the image) -> the roles of its patches at each level."""
    if generator is None:
        return {}
    num_images, keys = len(batch.labels), batch.mask_keys
    shown = _roles("global", generator.sample(keys), generator.global_sampler.grid)
    if generator.masking_strategy == "global_only":
        return shown
    num_masked = 0
    if generator.masking_strategy == "cross_crop_prediction":
        masked = generator.sample_local(keys)
        num_masked = masked.context.shape[0]
        shown |= _roles("local", masked, generator.local_grid)
    patches = generator.local_grid[0] * generator.local_grid[1]
    whole_crop = roles(torch.ones(patches, dtype=torch.bool), torch.zeros(1, patches, dtype=torch.bool), generator.local_grid)
    for crop in range(num_masked, generator.num_local_crops):
        shown |= {(f"local {crop}", image): [whole_crop] for image in range(num_images)}
    return shown


def _roles(name: str, masks: BlockMasks, grid: tuple[int, int]) -> dict[tuple[str, int], list[Roles]]:
    context, targets = masks.context.cpu(), masks.targets.cpu()
    num_crops, num_levels, num_images = context.shape[:3]
    return {
        (f"{name} {crop}", image): [
            roles(context[crop, level, image], targets[crop, level, image], grid) for level in range(num_levels)
        ]
        for crop in range(num_crops)
        for image in range(num_images)
    }


def _printable(name: str) -> str:
    """A file's name, with a question mark for each byte that is no UTF-8."""
    return name.encode(errors="replace").decode()


def thumbnail(pixels: Pixels, longest: int) -> Pixels:
    """The pixels, made smaller where a side is longer than that."""
    image = Image.fromarray(pixels)
    image.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    return np.asarray(image)


def write(sheet: Sheet, path: Path, progress: Progress = silent) -> None:
    """Writes a sheet as what the file's name ends with: a picture (.png) or a page (.html). Raises ValueError for another.

    progress: told (images drawn, images to draw).
    """
    from hjepa.contact_page import page  # here: each of the two imports this file
    from hjepa.contact_picture import save_sheet

    check_ending(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        if path.suffix.lower() == ".png":
            save_sheet(sheet, path, progress)
        else:
            path.write_text(page(sheet, progress), encoding="utf-8")
    except OSError as error:  # of a full disk it names no file
        reason = error.strerror or error
        raise OSError(f"cannot write {path} ({reason}); free some space there, or write to another folder") from error


def check_place(path: Path) -> None:
    """Raises ValueError for a file that `write` could not write; makes its folder. So that it is said before the work."""
    check_ending(path)
    if path.is_dir():
        raise ValueError(f"--output {path} is a folder; give the name of a file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        reason = f"{path.parent} is a file" if path.parent.is_file() else error.strerror
        raise ValueError(f"--output {path} cannot be written ({reason}); give a file in another folder") from error


def check_ending(path: Path) -> None:
    """Raises ValueError for a file that is neither a picture nor a page."""
    if path.suffix.lower() not in (".png", ".html"):
        raise ValueError(f"--output {path} ends with {path.suffix or 'nothing'}; use a name with .png or .html")
