"""Writes docs/data-path.jpg: one photograph on its way from the source to the batch, every panel made by the stage it shows.

    python docs/make_data_path_picture.py [--output docs/data-path.jpg] [--seed 3]

The photograph is Chelsea the cat, by Stefan van der Walt, CC0, from scikit-image.
"""

import argparse
from pathlib import Path

import numpy as np
import skimage
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Rectangle
from matplotlib.text import OffsetFrom
from PIL import Image

from hjepa.kernels import chance
from hjepa.pipeline.backends.torchvision import render_image
from hjepa.pipeline.draws import ViewDraws, draw
from hjepa.pipeline.masks import HierarchicalMaskGenerator
from hjepa.pipeline.presets import preset
from hjepa.view import EDGES, Picture, mask_picture, to_picture

GAP = 8
"""Pixels between two crops."""
BATCH = """globals  [2, B, 3, 224, 224]
locals   [6, B, 3, 96, 96]
labels   [B]
keys     B paths
boxes    [V, B, 4]
flips    [V, B]
context  [2, 3, B, 196]
targets  [2, 3, B, 4, 196]"""


def main() -> None:
    """Writes the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "data-path.jpg", help="file to write")
    parser.add_argument("--seed", type=int, default=3, help="seed of the draws")
    arguments = parser.parse_args()
    photograph, recipe = Image.fromarray(skimage.data.chelsea()), preset("hjepa")
    sizes = np.array([[photograph.height, photograph.width]], dtype=np.int32)
    draws = draw(recipe, arguments.seed, 0, np.array([0]), sizes)
    crops = render_image(photograph, recipe, draws, 0)
    pictures = {name: [to_picture(crop, recipe) for crop in each] for name, each in crops.items()}
    masks = HierarchicalMaskGenerator().sample(chance.key_tensor(draws.keys))
    figure = Figure(figsize=(13, 2.9), layout=ConstrainedLayoutEngine(wspace=0.14))
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 5, width_ratios=[1.5, 1.5, 1.75, 1.2, 1.5])
    titles = ("source, sampler:\nwhich image now", "draws:\nwhat chance decided", "backend: decoded once,\nevery crop")
    for axis, title in zip(axes, (*titles, "masks: which patches\nto hide, per level", "batch, view-major"), strict=True):
        axis.set_axis_off()
        axis.set_title(title, fontsize=10)
    axes[0].imshow(photograph)
    show_boxes(axes[1], photograph, draws.views)
    axes[2].imshow(mosaic(pictures))
    levels = [mask_picture(pictures["global"][0], masks.context[0, level, 0], masks.targets[0, level, 0]) for level in (0, 1)]
    axes[3].imshow(np.concatenate([levels[0], np.ones((GAP, 224, 3), dtype=np.float32), levels[1]]))
    axes[4].text(0, 0.95, BATCH, family="monospace", fontsize=8.5, va="top", transform=axes[4].transAxes)
    for axis in axes[:4]:
        edge = OffsetFrom(axis, (1, 0.5))  # points beside the right edge: a fraction of the narrow masks would be a stub
        axis.annotate("", (26, 0), (4, 0), xycoords=edge, textcoords=edge, arrowprops={"arrowstyle": "->", "lw": 1.5})
    figure.savefig(arguments.output, dpi=100, pil_kwargs={"quality": 80, "optimize": True})
    print(arguments.output)


def show_boxes(axis: Axes, photograph: Image.Image, views: dict[str, ViewDraws]) -> None:
    """The photograph, paled, with its boxes, and in words what was drawn for the first crop of each kind."""
    axis.imshow(photograph, alpha=0.55)
    lines = []
    for name, view in views.items():
        for top, left, height, width in view.box[0].tolist():
            axis.add_patch(Rectangle((left, top), width, height, fill=False, edgecolor=EDGES[name], linewidth=1.6))
        flip = "mirrored" if view.flip[0, 0] else "not mirrored"
        lines.append(f"{name} 0: {flip}, brightness x {view.jitter[0, 0, 0]:.2f}")
    axis.text(0.5, -0.04, "\n".join(lines), fontsize=7.5, ha="center", va="top", transform=axis.transAxes)


def mosaic(pictures: dict[str, list[Picture]]) -> Picture:
    """Global crops above local ones, pixel for pixel."""
    white = np.ones((224 + GAP + 2 * 96 + GAP, 2 * 224 + GAP, 3), dtype=np.float32)
    for place, crop in enumerate(pictures["global"]):
        left = place * (224 + GAP)
        white[:224, left : left + 224] = crop
    for place, crop in enumerate(pictures["local"]):
        top, left = 224 + GAP + place // 3 * (96 + GAP), 76 + place % 3 * (96 + GAP)
        white[top : top + 96, left : left + 96] = crop
    return white


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
