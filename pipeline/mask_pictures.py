"""Pictures of masks as the documents ask for them: one sample's context and targets, by level and by crop, and heat maps.

The figures are matplotlib's own objects, without pyplot: no window, no global state, and nothing to close. The generators'
methods import this file when they are called, so that masks can be drawn where matplotlib is not loaded.
"""

# B samples, T targets, L levels, N patches of an H x W grid

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from torch import Tensor

from hjepa.pipeline.mask_panel import INK, Grid, Roles, add_legend, roles, show_roles, strip, write_cell
from hjepa.pipeline.mask_statistics import MarginalMaps
from hjepa.pipeline.masks import LevelMasks
from hjepa.pipeline.multicrop_masks import MultiCropMasks, VisibleMasks

DPI = 150


def plot_masks(
    context: Tensor,
    targets: Tensor,
    grid: Grid,
    *,
    sample_idx: int = 0,
    figsize: tuple[float, float] = (12, 4.8),
    save_path: str | Path | None = None,
    image: npt.ArrayLike | None = None,
) -> Figure:
    """Context, targets and both, side by side, for one sample of context bool [B, N] and targets bool [B, T, N]."""
    seen, asked = _pick(context, targets, sample_idx)
    figure = _figure(figsize)
    axes = figure.subplots(1, 3)
    panels = (
        (f"Context\n{_count(seen)}", roles(seen, torch.zeros_like(asked), grid)),
        (f"Targets ({len(asked)} blocks)\n{_count(asked.any(0))}", roles(torch.zeros_like(seen), asked, grid)),
        ("Context and targets", roles(seen, asked, grid)),
    )
    for axis, (title, shown) in zip(axes, panels, strict=True):
        show_roles(axis, shown, image)
        axis.set_title(title, color=INK)
    add_legend(figure, [shown for _, shown in panels])
    return _save(figure, save_path)


def plot_hierarchical_masks(
    masks: dict[str, LevelMasks],
    grid: Grid,
    *,
    sample_idx: int = 0,
    figsize: tuple[float, float] = (11, 8),
    save_path: str | Path | None = None,
    image: npt.ArrayLike | None = None,
) -> Figure:
    """The contexts of all levels in the first row, their targets in the second."""
    figure = _figure(figsize)
    axes = figure.subplots(2, len(masks), squeeze=False)
    shown = []
    for column, (level, masks_of_level) in enumerate(masks.items()):
        seen, asked = _pick(masks_of_level["context"], masks_of_level["targets"], sample_idx)
        shown += [roles(seen, torch.zeros_like(asked), grid), roles(torch.zeros_like(seen), asked, grid)]
        for axis, panel in zip(axes[:, column], shown[-2:], strict=True):
            show_roles(axis, panel, image)
        axes[0, column].set_title(f"{_words(level)}: context\n{_count(seen)}", color=INK)
        axes[1, column].set_title(f"{_words(level)}: {len(asked)} targets\n{_count(asked.any(0))}", color=INK)
    add_legend(figure, shown)
    return _save(figure, save_path)


def plot_combined_view(
    masks: dict[str, LevelMasks],
    grid: Grid,
    *,
    sample_idx: int = 0,
    figsize: tuple[float, float] = (12, 5),
    save_path: str | Path | None = None,
    image: npt.ArrayLike | None = None,
) -> Figure:
    """Context and targets of each level in one panel, the levels side by side."""
    figure = _figure(figsize)
    axes = figure.subplots(1, len(masks), squeeze=False)[0]
    shown = []
    for axis, (level, masks_of_level) in zip(axes, masks.items(), strict=True):
        seen, asked = _pick(masks_of_level["context"], masks_of_level["targets"], sample_idx)
        shown.append(roles(seen, asked, grid))
        show_roles(axis, shown[-1], image)
        shares = [mask.float().mean().item() for mask in (seen, asked.any(0))]
        axis.set_title(f"{_words(level)}\ncontext {shares[0]:.0%}\ntargets {shares[1]:.0%}", color=INK)
    add_legend(figure, shown)
    return _save(figure, save_path)


def plot_multicrop_masks(
    masks: MultiCropMasks,
    global_grid: Grid,
    local_grid: Grid,
    *,
    sample_idx: int = 0,
    figsize: tuple[float, float] = (20, 10),
    save_path: str | Path | None = None,
    images: Sequence[npt.ArrayLike] | None = None,
) -> Figure:
    """A column for each crop that has masks, and for each level a row of contexts and a row of targets.

    "No Targets" stands where nothing is asked of a crop, "N/A" where it has no masks of that level. Images are those of the
    columns, in order.
    """
    crops = _masked_crops(masks, global_grid, local_grid)
    if images is not None and len(images) != len(crops):
        raise ValueError(f"{len(images)} images came for the {len(crops)} crops that have masks; give one for each, in order")
    num_levels = max(len(crop) for _, _, crop in crops if "context" not in crop)
    figure = _figure(figsize)
    axes = figure.subplots(2 * num_levels, len(crops), squeeze=False)
    shown: list[Roles] = []
    for column, (name, grid, crop) in enumerate(crops):
        axes[0, column].set_title(f"{name}\n{grid[0]} x {grid[1]} patches", color=INK)
        for level in range(num_levels):
            own = axes[2 * level : 2 * level + 2, column]
            shown += _show_crop(own, crop, level, grid, sample_idx, None if images is None else images[column])
    for level in range(num_levels):
        axes[2 * level, 0].set_ylabel(f"level {level}\ncontext", color=INK)
        axes[2 * level + 1, 0].set_ylabel(f"level {level}\ntargets", color=INK)
    unmasked = masks["num_local_crops"] if masks["local_masks"] is None else 0
    note = f"\n{unmasked} local crops have no masks" if unmasked else ""
    figure.suptitle(f"Masks of sample {sample_idx}, strategy {masks['strategy']}{note}", color=INK)
    add_legend(figure, shown)
    return _save(figure, save_path)


def plot_marginal_maps(
    maps: MarginalMaps,
    grid: Grid,
    *,
    row_names: Sequence[str],
    title: str,
    figsize: tuple[float, float] = (8, 11),
    save_path: str | Path | None = None,
) -> Figure:
    """Heat maps of maps float32 [L, N]: a row for each level, and columns for context, one target, and all of them."""
    figure = _figure(figsize)
    axes = figure.subplots(len(row_names), 3, squeeze=False)
    columns = (
        ("context", maps.context, 1.0),
        ("one target", maps.target, maps.target.max().item()),
        ("any target", maps.union, 1.0),
    )
    for column, (name, probabilities, highest) in enumerate(columns):
        for axis, level in zip(axes[:, column], probabilities.cpu().numpy().reshape(-1, *grid), strict=True):
            heat = axis.imshow(level, cmap="viridis", vmin=0, vmax=highest, interpolation="nearest")
            axis.set_title(f"{level.min():.2f} to {level.max():.2f}", fontsize=9, color=INK)
            strip(axis)
        axes[0, column].set_title(f"P(patch in {name})\n{axes[0, column].get_title()}", fontsize=10, color=INK)
        ticks = (0, highest / 2, highest)
        figure.colorbar(
            heat, ax=axes[:, column], location="bottom", shrink=0.8, aspect=20, pad=0.01, ticks=ticks, format="%.2f"
        )
    for axis, row_name in zip(axes[:, 0], row_names, strict=True):
        axis.set_ylabel(row_name, color=INK)
    figure.suptitle(title, color=INK)
    return _save(figure, save_path)


def _masked_crops(
    masks: MultiCropMasks, global_grid: Grid, local_grid: Grid
) -> list[tuple[str, Grid, dict[str, LevelMasks] | VisibleMasks]]:
    """Name, grid and masks of each crop that has masks, globals first."""
    crops: list[tuple[str, Grid, dict[str, LevelMasks] | VisibleMasks]]
    crops = [(f"global {_words(name)}", global_grid, crop) for name, crop in masks["global_masks"].items()]
    if masks["local_masks"] is not None:
        crops += [(f"local {_words(name)}", local_grid, crop) for name, crop in masks["local_masks"].items()]
    return crops


def _pick(context: Tensor, targets: Tensor, sample_idx: int) -> tuple[Tensor, Tensor]:
    """Context [N] and targets [T, N] of one sample."""
    if (context.ndim, targets.ndim) != (2, 3):
        raise ValueError(
            f"context {list(context.shape)} and targets {list(targets.shape)} are no batch of masks; use [B, N] and [B, T, N]"
        )
    if not 0 <= sample_idx < len(context):
        raise ValueError(f"sample_idx={sample_idx} is not in this batch of {len(context)}; use 0 to {len(context) - 1}")
    return context[sample_idx].cpu(), targets[sample_idx].cpu()


def _show_crop(
    axes: npt.NDArray[np.object_],
    crop: dict[str, LevelMasks] | VisibleMasks,
    level: int,
    grid: Grid,
    sample_idx: int,
    image: npt.ArrayLike | None,
) -> list[Roles]:
    """Fills the cells of a crop at a level, context above targets, and returns what they show."""
    # Without levels, the crop is context at each of them.
    masks = crop if "context" in crop else crop.get(f"level_{level}")
    if masks is None:
        for axis in axes:
            write_cell(axis, "N/A")
        return []
    context = cast(Tensor, masks["context"])
    targets = cast(Tensor | None, masks["targets"])
    seen, asked = _pick(context, torch.zeros_like(context).unsqueeze(1) if targets is None else targets, sample_idx)
    shown = [roles(seen, torch.zeros_like(asked), grid), roles(torch.zeros_like(seen), asked, grid)]
    show_roles(axes[0], shown[0], image)
    if not asked.any():
        write_cell(axes[1], "No Targets")
        return shown[:1]
    show_roles(axes[1], shown[1], image)
    return shown


def _count(mask: Tensor) -> str:
    return f"{mask.sum().item()} of {len(mask)} patches"


def _words(name: str) -> str:
    """A key of the masks as a title says it: "level_0" is "level 0"."""
    return name.replace("_", " ")


def _figure(figsize: tuple[float, float]) -> Figure:
    """An empty figure whose panels stand close together, whatever its shape."""
    return Figure(figsize=figsize, layout=ConstrainedLayoutEngine(compress=True, w_pad=0.07, h_pad=0.07))


def _save(figure: Figure, save_path: str | Path | None) -> Figure:
    """Writes the figure where a path is given, and returns it."""
    if save_path is not None:
        Path(save_path).parent.mkdir(parents=True, exist_ok=True)
        figure.draw_without_rendering()  # the layout settles at the second drawing; after one, titles may be cut off
        figure.savefig(save_path, dpi=DPI)
    return figure
