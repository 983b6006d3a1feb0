"""A picture of what the model really saw: each image with its boxes, its crops, and the masks of every level."""

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from hjepa.mask_veil import colour_of, opacity_of
from hjepa.pipeline.batch import Batch
from hjepa.pipeline.header import upright
from hjepa.pipeline.mask_panel import roles
from hjepa.pipeline.pixels import to_rgb
from hjepa.pipeline.recipe import Recipe
from hjepa.pipeline.source import Source, open_image
from hjepa.step_masks import StepMasks

# H, W pixels, N patches, T target blocks
Picture = npt.NDArray[np.float32]
"""[H, W, 3] in [0, 1]"""

EDGES = {"global": "#ffb000", "local": "#4fc3f7"}


def save_picture(
    path: Path, batch: Batch, masks: StepMasks | None, recipe: Recipe, source: Source, num_images: int = 2
) -> None:
    """Writes a PNG: two rows per image, the first its global crops with the masks of each level, the second its local crops."""
    num_globals, num_levels = len(batch.globals), 0 if masks is None else masks.blocks.context.shape[1]
    num_locals = 0 if batch.locals is None else len(batch.locals)
    columns = 1 + max(num_globals * (1 + num_levels), num_locals)
    rows = 2 if num_locals else 1
    num_images = min(num_images, len(batch.labels))
    figure = Figure(figsize=(1.6 * columns, 1.75 * rows * num_images + 0.7), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows * num_images, columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for image in range(num_images):
        own = axes[image * rows : (image + 1) * rows]
        _show_source(own[0, 0], batch, image, recipe, source)
        _show_globals(own[0, 1:], batch, masks, image, recipe)
        if num_locals:
            _show_locals(own[1, 1:], batch, masks, image, recipe)
    title = "Masked crops: gray = hidden from the student, full colour = its context, tint = target blocks"
    boxes = "Boxes in the image: orange = global crops, blue = local crops"
    figure.suptitle(f"{'Crops' if masks is None else title}\n{boxes}", fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def to_picture(crop: torch.Tensor, recipe: Recipe) -> Picture:
    """A normalised crop [3, S, S] as a picture."""
    mean, std = (np.array(values, dtype=np.float32) for values in (recipe.mean, recipe.std))
    levels: Picture = crop.detach().float().cpu().numpy().transpose(1, 2, 0) * std + mean
    return levels.clip(0, 1)


def mask_picture(picture: Picture, context: torch.Tensor, targets: torch.Tensor) -> Picture:
    """The picture with gray over hidden patches, as dark ones would not show in a dark crop, and a tint over target blocks.

    context bool [N], targets bool [T, N].
    """
    side = round(len(context) ** 0.5)
    patch = picture.shape[0] // side
    shown = roles(context, targets, (side, side))
    colours = np.array([[to_rgba(colour_of(role), opacity_of(role)) for role in row] for row in shown.tolist()])
    veil = colours.repeat(patch, axis=0).repeat(patch, axis=1).astype(np.float32)  # [H, W, 4]
    colour, opacity = veil[..., :3], veil[..., 3:]
    return picture * (1 - opacity) + colour * opacity


def scatter(index: torch.Tensor, valid: torch.Tensor, num_patches: int) -> torch.Tensor:
    """bool [..., N]: the patches named by the valid ones of index int64 [..., K]."""
    shown = torch.zeros(*index.shape[:-1], num_patches + 1, dtype=torch.bool, device=index.device)
    shown.scatter_(-1, index.masked_fill(~valid, num_patches), True)  # padding goes to a patch that is cut off
    return shown[..., :-1]


def _show_source(axis: Axes, batch: Batch, image: int, recipe: Recipe, source: Source) -> None:
    samples = source.fetch(batch.indices[image : image + 1].numpy())
    with open_image(samples.encoded, 0) as stored:
        turned = upright(stored) if recipe.orientation == "exif" else stored
        axis.imshow(np.asarray(to_rgb(turned)))
    for name, draws in batch.draws.views.items():
        for top, left, height, width in draws.box[image].tolist():
            edge = EDGES.get(name, "white")
            axis.add_patch(Rectangle((left, top), width, height, fill=False, edgecolor=edge, linewidth=1))
    name = os.path.join(*Path(batch.keys[image]).parts[-2:]).encode(errors="replace").decode()
    axis.set_title(name, fontsize=7, parse_math=False)  # a name with two dollar signs is no formula


def _show_globals(axes: npt.NDArray[np.object_], batch: Batch, masks: StepMasks | None, image: int, recipe: Recipe) -> None:
    if masks is None:
        for number, crop in enumerate(batch.globals[:, image]):
            _show(axes[number], to_picture(crop, recipe), f"global {number}")
        return
    num_levels, num_patches = masks.blocks.context.shape[1], masks.blocks.context.shape[-1]
    context = scatter(masks.context_index, masks.context_valid, num_patches)[:, :, image].cpu()
    targets = scatter(masks.target_index, masks.target_valid, num_patches)[:, :, image].cpu()
    for number, crop in enumerate(batch.globals[:, image]):
        picture = to_picture(crop, recipe)
        first = number * (1 + num_levels)
        _show(axes[first], picture, f"global {number}")
        for level in range(num_levels):
            masked = mask_picture(picture, context[number, level], targets[number, level])
            _show(axes[first + 1 + level], masked, f"global {number}, level {level}")


def _show_locals(axes: npt.NDArray[np.object_], batch: Batch, masks: StepMasks | None, image: int, recipe: Recipe) -> None:
    """Those that are masked with their masks, which have one level."""
    masked = None if masks is None or masks.local is None else masks.local.masked
    assert batch.locals is not None
    for number, crop in enumerate(batch.locals[:, image]):
        picture, title = to_picture(crop, recipe), f"local {number}"
        if masks is not None and masked is not None and number < len(masked.context_index):
            num_patches = masks.blocks.context.shape[-1] * crop.shape[-1] ** 2 // batch.globals.shape[-1] ** 2
            context = scatter(masked.context_index[number, image], masked.context_valid[number, image], num_patches)
            targets = scatter(masked.target_index[number, image], masked.target_valid[number, image], num_patches)
            picture, title = mask_picture(picture, context, targets), f"{title}, masked"
        _show(axes[number], picture, title)


def _show(axis: Axes, picture: Picture, title: str) -> None:
    axis.imshow(picture)
    axis.set_title(title, fontsize=7)
