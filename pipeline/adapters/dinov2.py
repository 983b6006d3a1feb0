"""The batches of DINOv2 and DINOv3: dinov2/data/collate.py and dinov3/data/collate.py, with masks drawn on the device.

Both are crop-major: crop 0 of all images, then crop 1 of all images. The order of the samples is the same in every tensor.
"""

# B images, L local crops, S, s and T pixels, N = (S / patch)^2 patches of a global crop, M masked patches

from dataclasses import dataclass
from numbers import Real
from typing import ClassVar, TypedDict, cast

import numpy as np
import torch
from torch import Tensor

from hjepa.kernels import chance
from hjepa.kernels.blockwise_masks import blockwise_masks, stratified_counts
from hjepa.pipeline.adapters.contract import crop_major, host_mask_keys, require_patches, require_views
from hjepa.pipeline.batch import Batch
from hjepa.pipeline.mask_sampler import check_range
from hjepa.pipeline.recipe import Range, Recipe


class DinoV2Batch(TypedDict):
    """What `SSLMetaArch.forward_backward` reads."""

    collated_global_crops: Tensor
    """dtype [2 * B, 3, S, S], crop-major"""
    collated_local_crops: Tensor
    """dtype [L * B, 3, s, s], crop-major"""
    collated_masks: Tensor
    """bool [2 * B, N], True = hidden from the student"""
    mask_indices_list: Tensor
    """int64 [M]: where the flattened masks are true, ascending"""
    masks_weight: Tensor
    """float32 [M]: 1 / number of masked patches in the row"""
    upperbound: int
    """M at most"""
    n_masked_patches: Tensor
    """int64 [1]: M"""


class DinoV3Batch(DinoV2Batch, total=False):
    """What DINOv3's `SSLMetaArch` reads."""

    collated_gram_teacher_crops: Tensor
    """dtype [2 * B, 3, T, T], crop-major, with the boxes of the global crops; where the recipe has "gram" crops"""


@dataclass(frozen=True, kw_only=True, slots=True)
class DinoV2:
    """Batch -> DINOv2's dict. Unlike upstream's, every mask has exactly the size that was drawn for it."""

    patch_size: int = 16
    """Side of a patch of the trainer's ViT, in pixels; the released models have 14, and local crops of 98."""
    mask_probability: float = 0.5
    """Share of the 2 * B global crops that have a mask (ibot.mask_sample_probability)."""
    mask_ratio: Range = (0.1, 0.5)
    """Least and greatest share of masked patches in those (ibot.mask_ratio_min_max)."""
    dtype: torch.dtype = torch.float16
    """Of the crops. Give the Loader the same, and nothing is copied where the crops are contiguous."""

    trainer: ClassVar[str] = "DINOv2"
    at_most: ClassVar[bool] = True
    """Mask sizes are uniform in their stratum, not its upper end."""

    def __post_init__(self) -> None:
        check_range("mask_ratio", self.mask_ratio, 1)
        if not (isinstance(self.mask_probability, Real) and 0 < self.mask_probability <= 1):
            raise ValueError(f"mask_probability={self.mask_probability!r} masks nothing; use a share in (0, 1]")
        if not isinstance(self.dtype, torch.dtype):
            raise ValueError(f"dtype={self.dtype!r} is no torch.dtype; use torch.float16, torch.bfloat16 or torch.float32")

    def check(self, recipe: Recipe) -> None:
        """2 crops named "global" and some named "local", of whole patches."""
        require_views(self.trainer, recipe, {"global": 2, "local": None})
        require_patches(self.trainer, recipe, self.patch_size)

    def __call__(self, batch: Batch) -> DinoV2Batch:
        """The trainer's dict."""
        crops, device = batch.globals, batch.globals.device
        side = crops.shape[-1] // self.patch_size
        keys = host_mask_keys(batch, np.arange(2)[:, None]).ravel()  # crop-major, as the crops
        counts, upperbound = stratified_counts(
            keys, side**2, probability=self.mask_probability, ratio=self.mask_ratio, at_most=self.at_most
        )
        on_device = torch.from_numpy(counts).to(device, non_blocking=True)
        rows = torch.from_numpy(np.flatnonzero(counts)).to(device, non_blocking=True)
        masks = torch.zeros(len(keys), side**2, dtype=torch.bool, device=device)
        masks[rows] = blockwise_masks(chance.key_tensor(keys, device)[rows], on_device[rows], (side, side))
        num_masked = int(counts.sum())  # known on the CPU: nonzero() would wait for the device to count
        indices = torch.searchsorted(masks.flatten().cumsum(0), torch.arange(1, num_masked + 1, device=device))
        return {
            "collated_global_crops": crop_major(crops, self.dtype),
            "collated_local_crops": crop_major(batch.crops["local"], self.dtype),
            "collated_masks": masks,
            "mask_indices_list": indices,
            "masks_weight": on_device.to(torch.float32).reciprocal()[indices // side**2],
            "upperbound": upperbound,
            "n_masked_patches": torch.full((1,), num_masked, dtype=torch.int64, device=device),
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class DinoV3(DinoV2):
    """Batch -> DINOv3's dict: DINOv2's, with the greatest mask size of each stratum, so that M == upperbound.

    A recipe with a view named "gram" (dinov3-gram, dinov3-highres-...) adds `collated_gram_teacher_crops`. The trainer itself
    adds `global_batch_size`.
    """

    dtype: torch.dtype = torch.bfloat16
    """Of the crops (compute_precision.param_dtype)."""

    trainer: ClassVar[str] = "DINOv3"
    at_most: ClassVar[bool] = False

    def check(self, recipe: Recipe) -> None:
        """As DINOv2, and perhaps 2 crops named "gram" with the boxes of the global ones."""
        gram = [view for view in recipe.views if view.name == "gram" and view.count]
        require_views(self.trainer, recipe, {"global": 2, "local": None} | ({"gram": 2} if gram else {}))
        require_patches(self.trainer, recipe, self.patch_size)
        if any(view.same_box_as != "global" for view in gram):
            raise ValueError("DINOv3 compares 'gram' crops with the global ones; give that view same_box_as='global'")

    def __call__(self, batch: Batch) -> DinoV3Batch:
        """The trainer's dict."""
        # super() without arguments does not know a class that slots=True has replaced
        made = cast(DinoV3Batch, DinoV2.__call__(self, batch))
        if "gram" in batch.crops:
            made["collated_gram_teacher_crops"] = crop_major(batch.crops["gram"], self.dtype)
        return made
