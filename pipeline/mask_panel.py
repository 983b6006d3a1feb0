"""One panel of a picture of masks: each patch a square in the colour of its role, over the image where there is one."""

# T targets, N patches of an H x W grid

from collections.abc import Iterable
from typing import TypeAlias, cast

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from torch import Tensor

Grid: TypeAlias = tuple[int, int]
Roles: TypeAlias = npt.NDArray[np.int64]
"""int64 [H, W]: the role of each patch, an index of the colours"""

NEITHER, CONTEXT, BOTH, SEVERAL, FIRST_TARGET = range(5)
"""Roles of a patch; target t has role FIRST_TARGET + t."""
NAMES = ("neither", "context", "context and target", "in several targets")
COLOURS = ("#e9e9e9", "#7eb0e0", "#d62728", "#4a4a4a")
TARGET_COLOURS = ("#e69f00", "#009e73", "#cc79a7", "#f0e442", "#8c510a", "#7a5fb5")
"""Colours of targets in order, and over again: four of Okabe and Ito's, then two that differ from them in lightness."""
VEILS = (0.8, 0.3, 0.7, 0.75)
"""How much of an image the colours of NAMES hide."""
TARGET_VEIL = 0.6
INK = "#222222"
LEGEND_COLUMN = 1.5
"""Width of a column of the legend, in inches, with the longest of NAMES in some."""


def roles(context: Tensor, targets: Tensor, grid: Grid) -> Roles:
    """The role of each patch for one sample, context bool [N] and targets bool [T, N]."""
    if context.shape[-1] != grid[0] * grid[1]:
        raise ValueError(
            f"masks of {context.shape[-1]} patches do not fit a grid of {grid[0]} x {grid[1]}; use its generator's"
        )
    in_targets = targets.sum(0)
    asked = torch.where(in_targets > 1, SEVERAL, FIRST_TARGET + targets.int().argmax(0))
    seen = torch.where(context, CONTEXT, NEITHER)
    role = torch.where(in_targets > 0, torch.where(context, BOTH, asked), seen)
    return cast(Roles, role.cpu().numpy().reshape(grid))


def show_roles(axis: Axes, shown: Roles, image: npt.ArrayLike | None) -> None:
    """Draws the squares, over the image if there is one."""
    height, width = shown.shape
    num_targets = max(1, shown.max() - FIRST_TARGET + 1)
    if image is None:
        veils = (1.0,) * (len(NAMES) + num_targets)
    else:
        pixels = np.asarray(image)
        if pixels.ndim not in (2, 3) or pixels.shape[2:] not in ((), (1,), (3,), (4,)):
            raise ValueError(
                f"an image of shape {list(pixels.shape)} cannot be shown; use [H, W, 3], as permute(1, 2, 0) makes"
            )
        if pixels.shape[0] % height or pixels.shape[1] % width or pixels.shape[0] * width != pixels.shape[1] * height:
            raise ValueError(
                f"an image of {pixels.shape[0]} x {pixels.shape[1]} pixels does not divide into {height} x {width} squares; "
                "cut off what no patch covers, at the bottom and the right"
            )
        axis.imshow(pixels, extent=(-0.5, width - 0.5, height - 0.5, -0.5))
        veils = (*VEILS, *(TARGET_VEIL,) * num_targets)
    colours = ListedColormap([to_rgba(_colour(role), veil) for role, veil in enumerate(veils)])
    axis.imshow(shown, cmap=colours, vmin=-0.5, vmax=len(veils) - 0.5, interpolation="nearest")
    axis.vlines(np.arange(0.5, width - 1), -0.5, height - 0.5, colors="white", linewidths=0.6)
    axis.hlines(np.arange(0.5, height - 1), -0.5, width - 0.5, colors="white", linewidths=0.6)
    strip(axis)


def write_cell(axis: Axes, text: str) -> None:
    """Says in place of squares why there are none."""
    axis.text(0.5, 0.5, text, ha="center", va="center", color="#555555", transform=axis.transAxes)
    axis.set_box_aspect(1)
    strip(axis)


def strip(axis: Axes) -> None:
    """No ticks, and a frame that does not compete with the squares."""
    axis.set_xticks([])
    axis.set_yticks([])
    axis.spines[:].set_color("#bbbbbb")


def add_legend(figure: Figure, shown: Iterable[Roles]) -> None:
    """Names the roles that occur in the figure, in as many rows as its width asks for."""
    present = np.unique(np.concatenate([panel.ravel() for panel in shown]))
    handles = [Patch(facecolor=_colour(role), edgecolor="#888888", label=_name(role)) for role in present]
    columns = max(1, min(len(handles), int(figure.get_figwidth() / LEGEND_COLUMN)))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False, labelcolor=INK)


def _colour(role: int) -> str:
    return COLOURS[role] if role < FIRST_TARGET else TARGET_COLOURS[(role - FIRST_TARGET) % len(TARGET_COLOURS)]


def _name(role: int) -> str:
    return NAMES[role] if role < FIRST_TARGET else f"target {role - FIRST_TARGET}"
