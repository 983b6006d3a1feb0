"""How masks lie over a crop in a contact sheet: context as it is, targets tinted, all else under a gray that few images have.

Targets look as in every other picture of hjepa (mask_panel.py). There context is tinted, too, as it may lie over nothing.
"""

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from hjepa.pipeline.mask_panel import BOTH, CONTEXT, FIRST_TARGET, INK, NEITHER, SEVERAL, TARGET_COLOURS, Roles, strip
from hjepa.pipeline.mask_panel import COLOURS as PANEL_COLOURS

# H, W patches of a crop
NAMES = {NEITHER: "neither: hidden", CONTEXT: "context: as it is", BOTH: "context and target", SEVERAL: "in several targets"}
COLOURS = {NEITHER: "#9a9a9a", CONTEXT: "#ffffff", BOTH: PANEL_COLOURS[BOTH], SEVERAL: PANEL_COLOURS[SEVERAL]}
OPACITIES = {NEITHER: 0.93, CONTEXT: 0.0, BOTH: 0.6, SEVERAL: 0.7}
"""How much of a crop the colours hide."""
TARGET_OPACITY = 0.6
LEGEND_COLUMN = 1.6
"""Width of a column of the legend, in inches, with the longest of NAMES in some."""
LEGEND_ROW = 0.25
"""Height of its rows, in inches."""


def colour_of(role: int) -> str:
    """The colour that lies over a patch."""
    return COLOURS[role] if role < FIRST_TARGET else TARGET_COLOURS[(role - FIRST_TARGET) % len(TARGET_COLOURS)]


def opacity_of(role: int) -> float:
    """How much of a patch its colour hides."""
    return OPACITIES.get(role, TARGET_OPACITY)


def name_of(role: int) -> str:
    """A role in words."""
    return NAMES[role] if role < FIRST_TARGET else f"target {role - FIRST_TARGET}"


def show_over(axis: Axes, shown: Roles, pixels: npt.NDArray[np.uint8]) -> None:
    """Draws a crop [S, S, 3], of whole patches, with what its masks hide."""
    height, width = shown.shape
    axis.imshow(pixels, extent=(-0.5, width - 0.5, height - 0.5, -0.5))
    veil = [[to_rgba(colour_of(role), opacity_of(role)) for role in row] for row in shown.tolist()]
    axis.imshow(np.array(veil), interpolation="nearest")
    axis.vlines(np.arange(0.5, width - 1), -0.5, height - 0.5, colors="white", linewidths=0.4)
    axis.hlines(np.arange(0.5, height - 1), -0.5, width - 0.5, colors="white", linewidths=0.4)
    strip(axis)


def legend_rows(roles: set[int], width: float) -> int:
    """Rows that the legend of these roles takes in a figure of that many inches."""
    return -(-len(roles) // _columns(roles, width))


def add_legend(figure: Figure, roles: set[int]) -> None:
    """Names the roles below a figure, in as many rows as its width asks for."""
    handles = [Patch(facecolor=colour_of(role), edgecolor="#888888", label=name_of(role)) for role in sorted(roles)]
    columns = _columns(roles, figure.get_figwidth())
    figure.legend(handles=handles, loc="lower center", ncols=columns, frameon=False, labelcolor=INK)


def _columns(roles: set[int], width: float) -> int:
    return max(1, min(len(roles), int(width / LEGEND_COLUMN)))
