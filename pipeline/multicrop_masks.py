"""Document A's mask generator for multi-crop training: hierarchical masks for the global crops, and three uses of the locals.

The structures are the reference implementation's. The masks of all crops and levels come from one call
and are views of two tensors, which `sample` and `sample_local` give out as they are, for a trainer with keyed samples.
"""

# B samples, T targets, N patches of a global crop, n patches of a local crop

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypedDict, get_args

import numpy.typing as npt
import torch
from torch import Tensor

from hjepa.pipeline.mask_sampler import BlockMasks, KeyStream, Law, MaskSampler, patch_grid
from hjepa.pipeline.masks import LevelMasks, ScaleProgression, hierarchy_laws, level_masks
from hjepa.pipeline.recipe import whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MaskingStrategy = Literal["global_only", "global_with_local_context", "cross_crop_prediction"]


class VisibleMasks(TypedDict):
    """A local crop that is context as a whole."""

    context: Tensor
    """bool [B, n], all true"""
    targets: None


class MultiCropMasks(TypedDict):
    """Masks of a batch of multi-crop samples. Keys are "crop_0", ... and below them "level_0", ..."""

    strategy: MaskingStrategy
    num_global_crops: int
    num_local_crops: int
    global_masks: dict[str, dict[str, LevelMasks]]
    local_masks: dict[str, dict[str, LevelMasks]] | dict[str, VisibleMasks] | None


class MultiCropMaskGenerator(KeyStream):
    """Hierarchical masks for global crops and, by strategy, for locals (document A; laws: docs/masks.md).

    * global_only: no masks for locals (None).
    * global_with_local_context: every local patch is context.
    * cross_crop_prediction: the first half of the locals is masked like the globals, on its own grid, at num_local_hierarchies
      levels (None: at all); of the others every patch is context.

    Other options: HierarchicalMaskGenerator. Raises ValueError for settings without a solution.
    """

    def __init__(
        self,
        global_crop_size: int = 224,
        local_crop_size: int = 96,
        num_global_crops: int = 2,
        num_local_crops: int = 6,
        patch_size: int = 16,
        num_hierarchies: int = 3,
        num_target_masks: int = 4,
        masking_strategy: MaskingStrategy = "global_only",
        base_scale: tuple[float, float] = (0.05, 0.15),
        aspect_ratio_range: tuple[float, float] = (0.75, 1.5),
        max_attempts: int = 10,
        *,
        scale_progression: ScaleProgression = "geometric",
        law: Law = "exact",
        min_keep: int = 1,
        nested: bool = False,
        num_local_hierarchies: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(seed)
        if masking_strategy not in get_args(MaskingStrategy):
            raise ValueError(f"unknown masking_strategy={masking_strategy!r}; use one of {get_args(MaskingStrategy)}")
        self.num_global_crops = whole("num_global_crops", num_global_crops, 1)
        self.num_local_crops = whole("num_local_crops", num_local_crops, 0)
        if num_local_hierarchies is not None:
            whole("num_local_hierarchies", num_local_hierarchies, 1)

        def sampler(grid: tuple[int, int], num_levels: int) -> MaskSampler:
            laws = hierarchy_laws(grid, num_levels, scale_progression, base_scale, aspect_ratio_range)
            return MaskSampler(
                laws,
                grid,
                num_target_masks=num_target_masks,
                law=law,
                max_attempts=max_attempts,
                min_keep=min_keep,
                nested=nested,
            )

        self.global_sampler = sampler(patch_grid(global_crop_size, patch_size, "global_crop_size"), num_hierarchies)
        self.local_grid = patch_grid(local_crop_size, patch_size, "local_crop_size")
        # Crops that are never masked may be too small for the blocks.
        num_local_levels = num_hierarchies if num_local_hierarchies is None else num_local_hierarchies
        masked = masking_strategy == "cross_crop_prediction"
        self.local_sampler = sampler(self.local_grid, num_local_levels) if masked else None
        self.num_target_masks = num_target_masks
        self.global_crop_size = global_crop_size
        self.local_crop_size = local_crop_size
        self.masking_strategy = masking_strategy

    def __call__(self, batch_size: int, device: torch.device | str = "cpu", *, weights: Tensor | None = None) -> MultiCropMasks:
        """Masks of the stream's next samples, bool [B, N] and [B, T, N] for each crop and level.

        The default device is "cpu", where the documents have "cuda". Targets of the global crops lean to where weights,
        floating [B, N] or [G, B, N] on the same device, are greater (`MaskSampler.sample`).
        """
        return self.named(self.take(batch_size, device), weights)

    def named(self, keys: Tensor, weights: Tensor | None = None) -> MultiCropMasks:
        """What a call returns, for keys int64 [B], on their device; leaves the stream alone."""
        masks = self.sample(keys, weights)
        return {
            "strategy": self.masking_strategy,
            "num_global_crops": self.num_global_crops,
            "num_local_crops": self.num_local_crops,
            "global_masks": {f"crop_{crop}": level_masks(masks, crop) for crop in range(self.num_global_crops)},
            "local_masks": self._local_masks(keys),
        }

    def sample(self, keys: Tensor, weights: Tensor | None = None) -> BlockMasks:
        """Masks of the global crops for keys int64 [B], on their device; leaves the stream alone."""
        return self.global_sampler.sample(keys, range(self.num_global_crops), weights)

    def sample_local(self, keys: Tensor, weights: Tensor | None = None) -> BlockMasks:
        """Masks of the locals that cross_crop_prediction masks, the first num_local_crops // 2, for keys int64 [B]."""
        if self.local_sampler is None:
            raise ValueError(
                f"masking_strategy={self.masking_strategy} masks no local crop; use masking_strategy='cross_crop_prediction'"
            )
        first = self.num_global_crops  # crops are numbered through, so that no local shares a global's chance
        return self.local_sampler.sample(keys, range(first, first + self.num_local_crops // 2), weights)

    def get_crop_info(self) -> dict[str, int]:
        """Sizes in pixels, and numbers of patches and crops."""
        return {
            "global_crop_size": self.global_crop_size,
            "local_crop_size": self.local_crop_size,
            "global_num_patches": self.global_sampler.grid[0] * self.global_sampler.grid[1],
            "local_num_patches": self._num_local_patches(),
            "num_global_crops": self.num_global_crops,
            "num_local_crops": self.num_local_crops,
            "total_crops": self.num_global_crops + self.num_local_crops,
        }

    def visualize_multicrop_masks(
        self,
        masks: MultiCropMasks,
        sample_idx: int = 0,
        figsize: tuple[float, float] = (20, 10),
        save_path: str | Path | None = None,
        *,
        images: Sequence[npt.ArrayLike] | None = None,
    ) -> "Figure":
        """One sample's contexts and targets: crops in columns, levels in rows (`mask_pictures.plot_multicrop_masks`)."""
        from hjepa.pipeline.mask_pictures import plot_multicrop_masks  # here, so that drawing masks does not load matplotlib

        grids = self.global_sampler.grid, self.local_grid
        return plot_multicrop_masks(masks, *grids, sample_idx=sample_idx, figsize=figsize, save_path=save_path, images=images)

    def _local_masks(self, keys: Tensor) -> dict[str, dict[str, LevelMasks]] | dict[str, VisibleMasks] | None:
        if self.masking_strategy == "global_only":
            return None
        visible = torch.ones(self.num_local_crops, len(keys), self._num_local_patches(), dtype=torch.bool, device=keys.device)
        if self.masking_strategy == "global_with_local_context":
            return {f"crop_{crop}": {"context": context, "targets": None} for crop, context in enumerate(visible)}
        masked = self.sample_local(keys)
        num_masked = self.num_local_crops // 2
        local_masks = {f"crop_{crop}": level_masks(masked, crop) for crop in range(num_masked)}
        for crop in range(num_masked, self.num_local_crops):
            nothing = visible.new_zeros(len(keys), self.num_target_masks, self._num_local_patches())
            local_masks[f"crop_{crop}"] = {"level_0": {"context": visible[crop], "targets": nothing}}
        return local_masks

    def _num_local_patches(self) -> int:
        return self.local_grid[0] * self.local_grid[1]
