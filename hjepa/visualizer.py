"""Documents C's and D's pictures of crops: of a sample, of a batch, of many images, and of the scales that were really drawn.

They take what hjepa's loaders and transforms give, undo the recipe's own normalisation, and return matplotlib's figures without
pyplot: no window, and nothing to close. `hjepa view` shows more of fewer images.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image
from torch import Tensor

from hjepa.configs.recipe_file import find_recipe
from hjepa.contact_picture import colour
from hjepa.crop_statistics import CropStatistics, analyze_crop_statistics, loader_of
from hjepa.dino_augmentations import get_multicrop_augmentation
from hjepa.multicrop_dataset import CropBatches
from hjepa.multicrop_transforms import MultiCropEvalTransform
from hjepa.pipeline.backends.torchvision import render_image
from hjepa.pipeline.batch import Batch
from hjepa.pipeline.draws import Draws, draw
from hjepa.pipeline.loader import Loader
from hjepa.pipeline.mask_panel import INK
from hjepa.pipeline.open_source import open_source
from hjepa.pipeline.recipe import IMAGENET_MEAN, IMAGENET_STD, Recipe, integer, require_recipe, whole
from hjepa.pipeline.source import decoded, spread
from hjepa.recipe_transform import Picture, RecipeTransform, sizes_of, to_picture

# B images, S pixels
Statistics: TypeAlias = tuple[float, float, float]
Transform: TypeAlias = RecipeTransform | MultiCropEvalTransform | Recipe | str | Path
"""A transform, or the recipe of one: a Recipe, a name of `preset`, or the path of a YAML file."""
FINE_DPI, DPI = 300, 150
CELL = 1.9
"""Inches."""
BINS = 40


class MultiCropVisualizer:
    """Document C's three pictures."""

    @staticmethod
    def visualize_multicrop_sample(image: Picture, transform: Transform, save_path: str | Path | None = None) -> Figure:
        """The image with its boxes, then a row for each name of view: what the transform's next call makes of the image."""
        picture = to_picture(image)
        recipe, draws = _next_draws(transform, picture)
        crops = render_image(picture, recipe, draws, 0)
        columns = max(len(stacked) for stacked in crops.values())
        figure, axes = _grid(1 + len(crops), columns)
        _show_boxes(axes[0, 0], picture, draws)
        number = 0
        for row, (name, stacked) in enumerate(crops.items(), start=1):
            for place, crop in enumerate(stacked):
                share = draws.views[name].box[0, place, 2:].prod() / (picture.height * picture.width)
                _show(axes[row, place], crop, (recipe.mean, recipe.std), f"{name} {place}: {share:.0%} of the image", number)
                number += 1
        return _save(figure, save_path, DPI)

    @staticmethod
    def visualize_batch(dataloader: Loader | CropBatches, num_samples: int = 4, save_path: str | Path | None = None) -> Figure:
        """The first two global and two local crops of the next batch's first images, a row for each; fewer where there are."""
        loader = loader_of(dataloader)
        batch = next(iter(loader), None)
        if not isinstance(batch, Batch):
            raise ValueError("the loader yields no Batch; give a Loader without adapter and with more images than batch_size")
        shown = [(name, place) for name, stacked in batch.crops.items() for place in range(min(2, len(stacked)))]
        rows = min(whole("num_samples", num_samples, 1), len(batch.labels))
        normalisation = loader.recipe.mean, loader.recipe.std
        figure, axes = _grid(rows, len(shown))
        for row in range(rows):
            for column, (name, place) in enumerate(shown):
                _show(axes[row, column], batch.crops[name][place, row], normalisation, f"{name} {place}")
        return _save(figure, save_path, DPI)

    @staticmethod
    def plot_crop_statistics(
        dataloader: Loader | CropBatches, num_batches: int = 10, save_path: str | Path | None = None
    ) -> Figure:
        """Histograms of the share of the image that crops cover, by the boxes, against the range that the recipe asks for."""
        return plot_scales(analyze_crop_statistics(dataloader, num_batches), save_path)


def denormalize_tensor(tensor: Tensor, mean: Statistics = IMAGENET_MEAN, std: Statistics = IMAGENET_STD) -> Tensor:
    """A normalised image [3, H, W], or images [..., 3, H, W], as it was before, around [0, 1]; the defaults are ImageNet's.

    For another data set give its recipe's own: denormalize_tensor(crop, recipe.mean, recipe.std). Raises ValueError for what is
    no such image.
    """
    if not isinstance(tensor, Tensor):
        raise ValueError(f"{type(tensor).__name__} is no tensor; give one, as of torch.from_numpy")
    if tensor.ndim < 3 or tensor.shape[-3] != 3 or not tensor.is_floating_point():
        raise ValueError(f"a tensor {tensor.dtype} {list(tensor.shape)} is no image; give floating [3, H, W] or [B, 3, H, W]")
    scale, offset = (torch.tensor(values, dtype=tensor.dtype, device=tensor.device).view(3, 1, 1) for values in (std, mean))
    return tensor * scale + offset


def visualize_multicrop_batch(
    crops: Batch | Sequence[Tensor],
    global_crops_number: int = 2,
    sample_idx: int = 0,
    save_path: str | Path | None = None,
    *,
    mean: Statistics = IMAGENET_MEAN,
    std: Statistics = IMAGENET_STD,
) -> Figure:
    """All crops of one sample of a batch, global crops in the first row and local ones, if any, in the second.

    crops: a list of [B, 3, S, S], globals first, or a Batch, which knows itself which are global. mean, std: those of the
    recipe that normalised them. Raises ValueError.
    """
    if isinstance(crops, Batch):
        own = crops.split_crops() if "global" in crops.crops else (crops.views(), [])
    else:
        _require_crops(crops)
        first = whole("global_crops_number", global_crops_number, 0)
        own = list(crops[:first]), list(crops[first:])
    rows = [row for row in own if row]
    if not rows:
        raise ValueError("there are no crops to show; give a list of [B, 3, S, S]")
    sample_idx = integer("sample_idx", sample_idx)
    if not 0 <= sample_idx < len(rows[0][0]):
        raise ValueError(f"sample_idx={sample_idx} is not in this batch of {len(rows[0][0])}; use 0 to {len(rows[0][0]) - 1}")
    figure, axes = _grid(len(rows), max(map(len, rows)))
    for number, row in enumerate(rows):
        name = "local" if row is own[1] else "global"
        for place, crop in enumerate(row):
            title = f"{name} {place}: {crop.shape[-2]}x{crop.shape[-1]}"
            _show(axes[number, place], crop[sample_idx], (mean, std), title)
    return _save(figure, save_path, FINE_DPI)


def visualize_augmentation_effects(
    dataset: Any, config: Transform | Any = "hjepa", n_samples: int = 4, save_path: str | Path | None = None
) -> Figure:
    """A row for each of some images, evenly spaced: the image with its boxes, its first two global and first four local crops.

    dataset: see open_source. config: a recipe or a transform, or document D's configuration (get_multicrop_augmentation).
    """
    source = open_source(dataset)
    chosen = spread(source, whole("n_samples", n_samples, 1))
    samples = chosen.fetch(np.arange(len(chosen)))
    if not isinstance(config, Transform):
        config = get_multicrop_augmentation(config)
    recipe = config.recipe if isinstance(config, RecipeTransform | MultiCropEvalTransform) else _recipe(config)
    limits = {name: 2 if name == "global" else 4 for name in recipe.names}
    counts = {group[0].name: sum(view.count for view in group) for group in recipe.groups()}
    figure, axes = _grid(len(chosen), 1 + sum(min(counts[name], limits[name]) for name in recipe.names))
    for row in range(len(chosen)):
        picture = decoded(samples, row, recipe.orientation)
        draws = draw(recipe, 0, 0, np.array([row]), sizes_of(picture))
        _show_boxes(axes[row, 0], picture, draws)
        crops = render_image(picture, recipe, draws, 0)
        shown = [(name, place) for name in crops for place in range(min(counts[name], limits[name]))]
        for column, (name, place) in enumerate(shown, start=1):
            before = sum(counts[other] for other in list(crops)[: list(crops).index(name)])
            _show(axes[row, column], crops[name][place], (recipe.mean, recipe.std), f"{name} {place}", before + place)
    return _save(figure, save_path, DPI)


def plot_scales(statistics: CropStatistics, save_path: str | Path | None = None) -> Figure:
    """A histogram for each name of view, of the share of the image that its crops cover."""
    figure = Figure(figsize=(4.6 * len(statistics.views), 3.4), layout="constrained")
    axes = figure.subplots(1, len(statistics.views), squeeze=False)[0]
    for number, (axis, (name, view)) in enumerate(zip(axes, statistics.views.items(), strict=True)):
        low, high = statistics.configured[name]
        axis.hist(view.scales, bins=BINS, range=(0, 1), color=colour(number))
        for edge in (low, high):
            axis.axvline(edge, color=INK, linestyle="--", linewidth=1)
        drawn = f"drawn {view.scales.min():.2f} to {view.scales.max():.2f}, asked for {low:g} to {high:g}"
        axis.set_title(f"{name}: {view.count} crops of {view.size} px\n{drawn}", fontsize=10, color=INK)
        axis.set_xlabel("share of the image")
    axes[0].set_ylabel("crops")
    return _save(figure, save_path, DPI)


def _next_draws(transform: Transform, picture: Image.Image) -> tuple[Recipe, Draws]:
    """The recipe and the draws of the next call; the transform itself does not move on."""
    if isinstance(transform, RecipeTransform):
        place = (transform.seed, transform.epoch, np.array([transform.calls]))
        return transform.recipe, draw(transform.recipe, *place, sizes_of(picture))
    recipe = transform.recipe if isinstance(transform, MultiCropEvalTransform) else _recipe(transform)
    return recipe, draw(recipe, 0, 0, np.array([0]), sizes_of(picture))


def _recipe(config: Recipe | str | Path) -> Recipe:
    recipe = find_recipe(str(config)) if isinstance(config, str | Path) else config
    require_recipe(recipe)
    return recipe


def _require_crops(crops: Sequence[Tensor]) -> None:
    """Raises ValueError for what is no batch's list of crops: the pair or the dictionary of a batch, or one image's crops."""
    found = [crops] if isinstance(crops, Mapping) else crops
    other = next((crop for crop in found if not isinstance(crop, Tensor) or crop.ndim != 4), None)
    if other is not None:
        what = f"of shape {list(other.shape)}" if isinstance(other, Tensor) else f"a {type(other).__name__}"
        raise ValueError(
            f"one of the crops is {what}; give a list of [B, 3, S, S], such as the first of a pair (crops, labels)"
        )


def _grid(rows: int, columns: int) -> tuple[Figure, npt.NDArray[np.object_]]:
    """A figure and its axes [rows, columns], also where there is one of either."""
    figure = Figure(figsize=(CELL * columns, (CELL + 0.2) * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    return figure, axes


def _show_boxes(axis: Axes, picture: Image.Image, draws: Draws) -> None:
    axis.imshow(np.asarray(picture))
    axis.set_title(f"{picture.width}x{picture.height} px", fontsize=7, color=INK)
    boxes = np.concatenate([views.box[0] for views in draws.views.values()])
    for number, (top, left, height, width) in enumerate(boxes.tolist()):
        axis.add_patch(Rectangle((left, top), width, height, fill=False, edgecolor=colour(number), linewidth=1.2))


def _show(
    axis: Axes, crop: Tensor, normalisation: tuple[Statistics, Statistics], title: str, number: int | None = None
) -> None:
    """Draws a normalised crop; with a number, framed in the colour of its box."""
    levels = denormalize_tensor(crop.detach().float().cpu(), *normalisation)
    axis.imshow(levels.clamp(0, 1).permute(1, 2, 0).numpy())
    axis.set_title(title, fontsize=7, color=INK, parse_math=False)
    if number is not None:
        axis.set_axis_on()
        axis.set_xticks([])
        axis.set_yticks([])
        axis.spines[:].set(color=colour(number), linewidth=2)


def _save(figure: Figure, save_path: str | Path | None, dpi: int) -> Figure:
    if save_path is not None:
        Path(save_path).parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(save_path, dpi=dpi)
    return figure
