"""A picture of what the model really saw: each image with its boxes, its crops, and the masks of every level."""

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from hjepa.pipeline.header import explain, upright
from hjepa.pipeline.mask_panel import roles
from hjepa.pipeline.pixels import to_rgb
from hjepa.pipeline.recipe import Recipe
from hjepa.pipeline.source import Encoded, Source, open_image

if TYPE_CHECKING:
    from hjepa.step_masks import StepMasks  # imports timm, which takes longer than a contact sheet

log = logging.getLogger(__name__)

# H, W pixels, N patches, T target blocks
Picture = npt.NDArray[np.float32]
"""[H, W, 3] in [0, 1]"""

EDGES = {"global": "#ffb000", "local": "#4fc3f7"}
CELL, SIDE, TITLE = (1.6, 1.75), 1.5, 0.6
"""Inches: width and height of a picture's cell, longest side of a picture in it, height of the title of all."""
GRAY = 128
"""Level of an image that cannot be shown."""
LONGEST_NAME = 27
"""Letters of an image's name that its cell has room for."""


def save_picture(
    path: Path, batch: Batch, masks: "StepMasks | None", recipe: Recipe, source: Source, num_images: int = 2
) -> None:
    """Writes a PNG: two rows per image, the first its global crops with the masks of each level, the second its local crops."""
    num_globals, num_levels = len(batch.globals), 0 if masks is None else masks.blocks.context.shape[1]
    num_locals = 0 if batch.locals is None else len(batch.locals)
    columns = 1 + max(num_globals * (1 + num_levels), num_locals)
    rows = 2 if num_locals else 1
    num_images = min(num_images, len(batch.labels))
    width, height = CELL[0] * columns, CELL[1] * rows * num_images
    figure = Figure(figsize=(width, height + TITLE))
    FigureCanvasAgg(figure)
    axis = figure.add_axes((0, 0, 1, height / (height + TITLE)))  # one for all: each takes longer to make than its picture
    axis.set_axis_off()
    for image in range(num_images):
        row = image * rows
        _show_source(axis, row, batch, image, recipe, source)
        _show_globals(axis, row, batch, masks, image, recipe)
        if num_locals:
            _show_locals(axis, row + 1, batch, masks, image, recipe)
    axis.set(xlim=(0, width), ylim=(height, 0))
    title = "Masked crops: gray = hidden from the student, full colour = its context, tint = target blocks"
    boxes = "Boxes in the image: orange = global crops, blue = local crops"
    figure.suptitle(f"{'Crops' if masks is None else title}\n{boxes}", fontsize=9, y=1 - 0.1 / (height + TITLE))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def source_pixels(encoded: Encoded, place: int, batch: Batch, image: int, recipe: Recipe) -> npt.NDArray[np.uint8]:
    """[H, W, 3] the image of a batch that its boxes lie in, turned as the recipe says. encoded, place: where its content is.

    Gray, with a warning, where PIL refuses a file that the backend decoded, as some damaged JPEGs: no run ends for a picture.
    """
    try:
        with open_image(encoded, place) as stored:
            return np.asarray(to_rgb(upright(stored) if recipe.orientation == "exif" else stored))
    except Exception as error:  # of bad data PIL's decoders raise OSError, SyntaxError, ValueError and more
        log.warning("%s is gray in the picture, because PIL cannot read it: %s", batch.keys[image], explain(error))
        height, width = batch.draws.sizes[image].tolist()
        return np.full((height, width, 3), GRAY, dtype=np.uint8)


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


def _show_source(axis: Axes, row: int, batch: Batch, image: int, recipe: Recipe, source: Source) -> None:
    samples = source.fetch(batch.indices[image : image + 1].numpy())
    pixels = source_pixels(samples.encoded, 0, batch, image, recipe)
    name = os.path.join(*Path(batch.keys[image]).parts[-2:]).encode(errors="replace").decode()
    _show(axis, row, 0, pixels, name if len(name) <= LONGEST_NAME else f"\N{HORIZONTAL ELLIPSIS}{name[1 - LONGEST_NAME :]}")
    x, y, pixel = _place(row, 0, *pixels.shape[:2])
    for name, draws in batch.draws.views.items():
        for top, left, height, width in draws.box[image].tolist():
            corner, edge = (x + pixel * left, y + pixel * top), EDGES.get(name, "white")
            axis.add_patch(Rectangle(corner, pixel * width, pixel * height, fill=False, edgecolor=edge, linewidth=1))


def _show_globals(axis: Axes, row: int, batch: Batch, masks: "StepMasks | None", image: int, recipe: Recipe) -> None:
    if masks is None:
        for number, crop in enumerate(batch.globals[:, image]):
            _show(axis, row, 1 + number, to_picture(crop, recipe), f"global {number}")
        return
    num_levels, num_patches = masks.blocks.context.shape[1], masks.blocks.context.shape[-1]
    context = scatter(masks.context_index, masks.context_valid, num_patches)[:, :, image].cpu()
    targets = scatter(masks.target_index, masks.target_valid, num_patches)[:, :, image].cpu()
    for number, crop in enumerate(batch.globals[:, image]):
        picture = to_picture(crop, recipe)
        first = 1 + number * (1 + num_levels)
        _show(axis, row, first, picture, f"global {number}")
        for level in range(num_levels):
            masked = mask_picture(picture, context[number, level], targets[number, level])
            _show(axis, row, first + 1 + level, masked, f"global {number}, level {level}")


def _show_locals(axis: Axes, row: int, batch: Batch, masks: "StepMasks | None", image: int, recipe: Recipe) -> None:
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
        _show(axis, row, 1 + number, picture, title)


def _show(axis: Axes, row: int, column: int, picture: npt.NDArray[Any], title: str) -> None:
    height, width = picture.shape[:2]
    x, y, pixel = _place(row, column, height, width)
    axis.imshow(picture, extent=(x, x + pixel * width, y + pixel * height, y))
    # a name with two dollar signs is no formula
    axis.text(CELL[0] * (column + 0.5), y - 0.05, title, fontsize=7, horizontalalignment="center", parse_math=False)


def _place(row: int, column: int, height: int, width: int) -> tuple[float, float, float]:
    """Left and top of a picture in the middle of its cell, below its title, and the length of its pixels, all in inches."""
    pixel = SIDE / max(height, width)
    left, top = ((length - pixel * pixels) / 2 for length, pixels in zip(CELL, (width, height), strict=True))
    return CELL[0] * column + left, CELL[1] * row + top + (CELL[1] - CELL[0]) / 2, pixel
