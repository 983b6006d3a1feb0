"""Document E's mask generators for single images: multi-block, and a hierarchy of levels with blocks of growing size.

They follow one of two laws (docs/masks.md). "exact", the default: targets never overlap, have the areas that were asked for,
and leave min_keep patches of context. "reference": that of the published generators, number for number, with their rejection
and their fallback blocks. The idea of predicting several blocks from one context block is I-JEPA's, arXiv 2301.08243. Chance
comes from a seed of the generator, not from global state, and settings without a solution are refused.

Masks are bool, one byte for each patch, True = use; patch n lies in row n // W and column n % W of the H x W grid.
"""

# B samples, L levels, T targets, N patches

from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypedDict, get_args

import numpy.typing as npt
import torch
from torch import Tensor

from hjepa.kernels.block_masks import BlockLaw
from hjepa.pipeline.mask_sampler import BlockMasks, KeyStream, Law, MaskSampler, check_range, patch_grid
from hjepa.pipeline.mask_statistics import mask_statistics, named_statistics
from hjepa.pipeline.recipe import whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ScaleProgression = Literal["geometric", "linear"]


class LevelMasks(TypedDict):
    """Masks of one level."""

    context: Tensor
    """bool [B, N]"""
    targets: Tensor
    """bool [B, T, N]"""


class MultiBlockMaskGenerator(KeyStream):
    """Several target blocks and one large context block without them, as in document E.

    Scales are shares of the grid, the aspect ratio is width / height; a context keeps min_keep patches or more. Raises
    ValueError for settings without a solution. law="reference": targets are redrawn until they are clear of each other, at
    most `max_attempts` times; then a block of a quarter of the grid's sides goes anywhere, so targets may overlap, and
    min_keep is not kept.
    """

    def __init__(
        self,
        input_size: int | tuple[int, int] = 224,
        patch_size: int = 16,
        num_target_masks: int = 4,
        target_scale: tuple[float, float] = (0.15, 0.2),
        context_scale: tuple[float, float] = (0.85, 1.0),
        aspect_ratio_range: tuple[float, float] = (0.75, 1.5),
        max_attempts: int = 10,
        *,
        law: Law = "exact",
        min_keep: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__(seed)
        check_range("target_scale", target_scale, 1)
        check_range("context_scale", context_scale, 1)
        check_range("aspect_ratio_range", aspect_ratio_range)
        grid = patch_grid(input_size, patch_size)
        blocks = BlockLaw(
            target_scale=target_scale,
            context_scale=context_scale,
            aspect_ratio=aspect_ratio_range,
            fallback=(max(1, grid[0] // 4), max(1, grid[1] // 4)),
        )
        self.sampler = MaskSampler(
            [blocks], grid, num_target_masks=num_target_masks, law=law, max_attempts=max_attempts, min_keep=min_keep
        )

    def __call__(
        self, batch_size: int, device: torch.device | str = "cpu", *, weights: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Context bool [B, N] and targets bool [B, T, N] of the stream's next samples. (Document E's default is "cuda".)

        Targets lean to where weights, floating [B, N] on the same device, are greater (`MaskSampler.sample`).
        """
        masks = self.sample(self.take(batch_size, device), weights)
        return masks.context[0, 0], masks.targets[0, 0]

    def sample(self, keys: Tensor, weights: Tensor | None = None) -> BlockMasks:
        """Masks [1, 1, B, ...] for keys int64 [B], on their device; leaves the stream alone."""
        return self.sampler.sample(keys, range(1), weights)

    @staticmethod
    def get_mask_statistics(context: Tensor, targets: Tensor) -> dict[str, float]:
        """`mask_statistics`."""
        return mask_statistics(context, targets)

    def visualize_masks(
        self,
        context: Tensor,
        targets: Tensor,
        sample_idx: int = 0,
        figsize: tuple[float, float] = (12, 4.8),
        save_path: str | Path | None = None,
        *,
        image: npt.ArrayLike | None = None,
    ) -> "Figure":
        """One sample's context, targets and both, over its image [H, W, 3] where there is one (`mask_pictures.plot_masks`)."""
        from hjepa.pipeline.mask_pictures import plot_masks  # here, so that drawing masks does not load matplotlib

        return plot_masks(
            context, targets, self.sampler.grid, sample_idx=sample_idx, figsize=figsize, save_path=save_path, image=image
        )


class HierarchicalMaskGenerator(KeyStream):
    """Masks for several levels, drawn independently of each other, as in document E, or with nested=True inside each other.

    Targets and context blocks grow with the level as `hierarchy_laws` says, but four large blocks do not fit beside each other.
    law="exact" brings areas down to what fits: with the defaults 10, 19 and 21 % of the grid at levels 0, 1 and 2, instead of
    10, 20 and 40. law="reference" then uses its fallback blocks, for 14, 93 and 100 % of the samples, and its targets overlap.
    min_keep, patches that a context keeps at least, is the exact law's. Raises ValueError for settings without a solution.
    """

    def __init__(
        self,
        input_size: int | tuple[int, int] = 224,
        patch_size: int = 16,
        num_hierarchies: int = 3,
        num_target_masks: int = 4,
        scale_progression: ScaleProgression = "geometric",
        base_scale: tuple[float, float] = (0.05, 0.15),
        aspect_ratio_range: tuple[float, float] = (0.75, 1.5),
        max_attempts: int = 10,
        *,
        law: Law = "exact",
        min_keep: int = 1,
        nested: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(seed)
        self.input_size = input_size
        grid = patch_grid(input_size, patch_size)
        laws = hierarchy_laws(grid, num_hierarchies, scale_progression, base_scale, aspect_ratio_range)
        self.sampler = MaskSampler(
            laws, grid, num_target_masks=num_target_masks, law=law, max_attempts=max_attempts, min_keep=min_keep, nested=nested
        )

    def __call__(
        self, batch_size: int, device: torch.device | str = "cpu", *, weights: Tensor | None = None
    ) -> dict[str, LevelMasks]:
        """{"level_0": {"context": bool [B, N], "targets": bool [B, T, N]}, ...} of the stream's next samples.

        Document E's default device is "cuda". Targets lean to where weights, floating [B, N] on the same device, are greater.
        """
        return self.named(self.take(batch_size, device), weights)

    def named(self, keys: Tensor, weights: Tensor | None = None) -> dict[str, LevelMasks]:
        """What a call returns, for keys int64 [B], on their device; leaves the stream alone."""
        return level_masks(self.sample(keys, weights), crop=0)

    def sample(self, keys: Tensor, weights: Tensor | None = None) -> BlockMasks:
        """Masks [1, L, B, ...] for keys int64 [B], on their device; leaves the stream alone."""
        return self.sampler.sample(keys, range(1), weights)

    @staticmethod
    def get_hierarchical_statistics(masks: dict[str, LevelMasks]) -> dict[str, dict[str, float]]:
        """`mask_statistics` of each level."""
        return named_statistics({name: (level["context"], level["targets"]) for name, level in masks.items()})

    def visualize_hierarchical_masks(
        self,
        masks: dict[str, LevelMasks],
        sample_idx: int = 0,
        figsize: tuple[float, float] = (11, 8),
        save_path: str | Path | None = None,
        *,
        image: npt.ArrayLike | None = None,
    ) -> "Figure":
        """One sample's contexts above its targets, a column for each level (`mask_pictures.plot_hierarchical_masks`)."""
        from hjepa.pipeline.mask_pictures import plot_hierarchical_masks

        return plot_hierarchical_masks(
            masks, self.sampler.grid, sample_idx=sample_idx, figsize=figsize, save_path=save_path, image=image
        )

    def visualize_combined_view(
        self,
        masks: dict[str, LevelMasks],
        sample_idx: int = 0,
        figsize: tuple[float, float] = (12, 5),
        save_path: str | Path | None = None,
        *,
        image: npt.ArrayLike | None = None,
    ) -> "Figure":
        """One sample's context and targets in one panel for each level (`mask_pictures.plot_combined_view`)."""
        from hjepa.pipeline.mask_pictures import plot_combined_view

        return plot_combined_view(
            masks, self.sampler.grid, sample_idx=sample_idx, figsize=figsize, save_path=save_path, image=image
        )


def hierarchy_laws(
    grid: tuple[int, int],
    num_hierarchies: int,
    scale_progression: ScaleProgression,
    base_scale: tuple[float, float],
    aspect_ratio_range: tuple[float, float],
) -> list[BlockLaw]:
    """The law of each level: target scales times 2**level or 1 + level, 0.95 at most; context from 60 % to 90 %, 15 % wide."""
    if scale_progression not in get_args(ScaleProgression):
        raise ValueError(f"unknown scale_progression={scale_progression!r}; use one of {get_args(ScaleProgression)}")
    num_hierarchies = whole("num_hierarchies", num_hierarchies, 1)
    check_range("base_scale", base_scale, 1)
    check_range("aspect_ratio_range", aspect_ratio_range)
    low, high = aspect_ratio_range
    # Squarer blocks at the finest level. The outer bounds only matter for ranges that leave out 0.85 or 1.15.
    squarer = (min(max(low, 0.85), high), max(min(high, 1.15), low))
    laws = []
    for level in range(num_hierarchies):
        growth = 2**level if scale_progression == "geometric" else 1 + level
        context = 0.6 + 0.3 * level / max(1, num_hierarchies - 1)
        law = BlockLaw(
            target_scale=(min(0.95, base_scale[0] * growth), min(0.95, base_scale[1] * growth)),
            context_scale=(min(0.95, context), min(1.0, context + 0.15)),
            aspect_ratio=squarer if level == 0 else aspect_ratio_range,
            fallback=(max(1, grid[0] // (level + 2)), max(1, grid[1] // (level + 2))),
        )
        laws.append(law)
    return laws


def level_masks(masks: BlockMasks, crop: int) -> dict[str, LevelMasks]:
    """The documents' dict of one crop: views, not copies."""
    return {
        f"level_{level}": {"context": masks.context[crop, level], "targets": masks.targets[crop, level]}
        for level in range(masks.context.shape[1])
    }
