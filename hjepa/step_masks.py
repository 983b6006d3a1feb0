"""The masks of one step: what the student sees of a batch and what is asked of the predictor, keyed by (seed, epoch, sample).

So they resume and shard as crops do. All shapes are fixed by the settings, and nothing waits for the device.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from hjepa.configs.model_sections import MaskingSettings
from hjepa.configs.schema import Settings
from hjepa.kernels.folded_keys import fold_ranges
from hjepa.kernels.mask_indices import block_indices, mask_indices
from hjepa.models.geometry import PatchPlaces, place_patches, touches
from hjepa.models.local_crops import LocalMasks, MaskedLocals
from hjepa.pipeline.batch import Batch
from hjepa.pipeline.mask_sampler import BlockMasks
from hjepa.pipeline.multicrop_masks import MultiCropMaskGenerator

# G global crops, V local crops of which the first M are masked and the other U are read, L levels, B images, N patches of a
# global crop and n of a local one, K context tokens, J tokens read of a local crop, T target blocks, P patches of a block

GLOBALS, READ, READ_BESIDE, MASKED = 1, 2, 4, 1 << 20
"""Parts folded into a sample's key, one for each use: which patches go must not depend on where the blocks are. These are drawn
from keys of two parts, a crop's number and a level, and so is the order of masked local crops: its part is no crop's number."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Watched:
    """What the teacher says of the global crops before their masks are drawn."""

    tokens: Tensor
    """floating [G, B, N, D]"""
    attention: Tensor
    """float32 [G, B, N]: what each patch receives in the last block"""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepMasks:
    """What the student sees and what is asked of the predictor, as boolean masks and as index tensors of fixed length."""

    blocks: BlockMasks
    context_index: Tensor
    """int64 [G, L, B, K]"""
    context_valid: Tensor
    """bool [G, L, B, K]"""
    target_index: Tensor
    """int64 [G, L, B, T, P]"""
    target_valid: Tensor
    """bool [G, L, B, T, P]"""
    places: PatchPlaces | None
    """Of the V local crops in the global crops; None with global_only, as the next."""
    local: LocalMasks | None
    watched: Watched | None
    """What the blocks of the global crops lean to; None where they follow chance alone."""


def draw_masks(
    generator: MultiCropMaskGenerator, batch: Batch, settings: Settings, watched: Watched | None = None
) -> StepMasks:
    """The masks of a batch, on the device of its crops."""
    masking, keys = settings.masking, batch.mask_keys
    blocks = generator.sample(keys, None if watched is None else watched.attention)
    order = _fold(keys, GLOBALS, blocks.context.shape[:2])
    context_index, context_valid, target_index, target_valid = _indices(blocks.context, blocks.targets, order, masking)
    places = local = None
    if masking.strategy != "global_only":
        places = _places(batch, generator, "global", "local")
        local = _local_masks(generator, batch, keys, blocks, places, masking)
    return StepMasks(
        blocks=blocks,
        context_index=context_index,
        context_valid=context_valid,
        target_index=target_index,
        target_valid=target_valid,
        places=places,
        local=local,
        watched=watched,
    )


def _local_masks(
    generator: MultiCropMaskGenerator,
    batch: Batch,
    keys: Tensor,
    blocks: BlockMasks,
    places: PatchPlaces,
    masking: MaskingSettings,
) -> LocalMasks:
    """What is read of the local crops for each level of each global crop; with cross_crop_prediction, what is masked, too.

    The first half of the local crops is masked: the crops of an image are drawn alike, so it is a random half.
    """
    num_masked = places.centre.shape[1] // 2 if masking.strategy == "cross_crop_prediction" else 0
    read = places.of(slice(num_masked, None))
    # [G, L, U, B, n]: a patch is read if it lies in the global crop and shows no part of a block of the level
    seen = read.inside.unsqueeze(1).expand(-1, blocks.targets.shape[1], -1, -1, -1)
    if masking.exclude_leaks:
        hidden = blocks.targets.any(-2).unsqueeze(2)
        seen = seen & ~touches(read.footprint.unsqueeze(1), hidden, generator.global_sampler.grid)
    seen_index, seen_valid = _seen(seen, _fold(keys, READ, seen.shape[:3]), masking)
    masked = _masked_locals(generator, batch, keys, num_masked, masking) if num_masked else None
    return LocalMasks(seen_index=seen_index, seen_valid=seen_valid, masked=masked)


def _masked_locals(
    generator: MultiCropMaskGenerator, batch: Batch, keys: Tensor, num_masked: int, masking: MaskingSettings
) -> MaskedLocals:
    """Blocks of the masked local crops and what is read beside them.

    Only the finest level is predicted: in a grid as small as theirs a coarser one leaves no context.
    """
    blocks = generator.sample_local(keys)
    context, targets = blocks.context[:num_masked, 0], blocks.targets[:num_masked, 0]  # [M, B, n] and [M, B, T, n]
    order = _fold(keys, MASKED, context.shape[:1])
    context_index, context_valid, target_index, target_valid = _indices(context, targets, order, masking)
    # Where the other local crops lie in the masked ones, which is what the global crops are elsewhere.
    read = _places(batch, generator, "local", "local", slice(0, num_masked), slice(num_masked, None))
    seen = torch.ones_like(read.inside)  # [M, U, B, n]
    if masking.exclude_leaks:
        seen = ~touches(read.footprint, targets.any(-2).unsqueeze(1), generator.local_grid)
    seen_index, seen_valid = _seen(seen, _fold(keys, READ_BESIDE, seen.shape[:2]), masking)
    return MaskedLocals(
        context_index=context_index,
        context_valid=context_valid,
        target_index=target_index,
        target_valid=target_valid,
        seen_index=seen_index,
        seen_valid=seen_valid,
    )


def _indices(
    context: Tensor, targets: Tensor, order: Tensor, masking: MaskingSettings
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Index and valid [..., K] of contexts [..., N], and [..., T, P] of their targets [..., T, N]."""
    tokens, asked = (max(1, int(share * context.shape[-1])) for share in (masking.context_tokens, masking.target_tokens))
    return block_indices(context, targets, tokens, asked, min(masking.min_keep, tokens), order)


def _seen(seen: Tensor, order: Tensor, masking: MaskingSettings) -> tuple[Tensor, Tensor]:
    """Index and valid [..., J] of masks [..., n] of local crops that are read."""
    return mask_indices(seen, length=max(1, int(masking.context_tokens * seen.shape[-1])), keys=order)


def _fold(keys: Tensor, use: int, axes: torch.Size) -> Tensor:
    """Keys int64 [*axes, B] of the samples' keys [B], for one use of them."""
    return fold_ranges(keys, range(use, use + 1), *map(range, axes))[0]


def _places(
    batch: Batch,
    generator: MultiCropMaskGenerator,
    outer: str,
    inner: str,
    outer_crops: slice = slice(None),
    inner_crops: slice = slice(None),
) -> PatchPlaces:
    """Where the patches of some crops lie in others of the same image, on the device of the batch."""
    device = batch.globals.device
    grids = {"global": generator.global_sampler.grid, "local": generator.local_grid}
    box, flip = (
        {name: views.transpose(0, 1).to(device, non_blocking=True) for name, views in placed.items() if name in (outer, inner)}
        for placed in (batch.boxes, batch.flips)
    )
    return place_patches(
        box[inner][:, inner_crops],
        flip[inner][:, inner_crops],
        box[outer][:, outer_crops],
        flip[outer][:, outer_crops],
        grids[inner],
        grids[outer],
    )
