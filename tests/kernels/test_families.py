"""Every family of masks on any grid up to 64 x 64: sizes right, disjoint where they must be, nothing outside, no hanging."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hjepa.kernels import block_masks, chance
from hjepa.kernels.block_masks import BlockLaw
from hjepa.kernels.blockwise_masks import blockwise_masks
from hjepa.kernels.mask_indices import context_indices, mask_indices
from hjepa.kernels.shared_blocks import block_masks as shared_masks
from hjepa.kernels.shared_blocks import tube_masks
from hjepa.kernels.simple_masks import random_masks, rectangle_masks

ROWS = 6
sides = st.integers(1, 64)
seeds = st.integers(0, 2**32)
shares = st.floats(0, 1)


def keys_of(seed: int) -> Tensor:
    return chance.key_tensor(chance.key(seed, np.arange(ROWS)))


def side_of(share: float, whole: int) -> int:
    return 1 + int(share * (whole - 1))


@settings(max_examples=100, deadline=None)
@given(sides, sides, seeds, shares, shares, st.integers(1, 8), st.integers(1, 12))
def test_blocks_by_the_reference_law(
    height: int, width: int, seed: int, low: float, high: float, targets: int, attempts: int
) -> None:
    law = BlockLaw(
        target_scale=(min(low, high) + 1e-4, max(low, high) + 1e-4),
        context_scale=(min(low, high), max(low, high) + 1e-3),
        aspect_ratio=(0.2 + low, 1.2 + high),
        fallback=(side_of(low, height), side_of(high, width)),
    )
    context, masks = block_masks.block_masks(
        keys_of(seed)[None], block_masks.law_tensor([law]), (height, width), num_targets=targets, max_attempts=attempts
    )
    assert context.shape == (1, ROWS, height * width)
    assert masks.any(-1).all()
    assert not (context & masks.any(-2)).any()


@settings(max_examples=100, deadline=None)
@given(sides, sides, seeds, shares, st.floats(0.05, 1))
def test_blockwise(height: int, width: int, seed: int, share: float, aspect: float) -> None:
    counts = torch.linspace(0, share * height * width, ROWS).to(torch.int64)
    assert torch.equal(blockwise_masks(keys_of(seed), counts, (height, width), min_aspect=aspect).sum(-1), counts)


@settings(max_examples=100, deadline=None)
@given(sides, sides, seeds, shares, shares, shares, st.integers(1, 6))
def test_blocks_that_a_batch_shares(
    height: int, width: int, seed: int, tall: float, wide: float, context_share: float, targets: int
) -> None:
    block = (side_of(tall, height), side_of(wide, width))
    context_block = (side_of(context_share, height), side_of(context_share, width))
    free = height * width - block[0] * block[1]
    context, masks = shared_masks(
        keys_of(seed), context_block, block, (height, width), num_targets=targets, min_outside=free // 2
    )
    assert (masks.sum(-1) == block[0] * block[1]).all()
    assert not (context & masks.any(1)).any()
    assert (context.sum(-1) <= context_block[0] * context_block[1]).all()
    assert ((~masks.any(1)).sum(-1) >= free // 2).all()


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 8), st.integers(1, 24), st.integers(1, 24), seeds, shares, shares, shares, st.integers(1, 6))
def test_tubes(frames: int, height: int, width: int, seed: int, long: float, tall: float, wide: float, count: int) -> None:
    block = (side_of(long, frames), side_of(tall, height), side_of(wide, width))
    context, targets = tube_masks(keys_of(seed), block, (frames, height, width), count)
    assert torch.equal(context, ~targets)
    seen = side_of(tall, frames)
    limited, rest = tube_masks(keys_of(seed), block, (frames, height, width), count, seen)
    assert torch.equal(limited, ~rest)
    assert not limited.view(ROWS, frames, -1)[:, seen:].any()
    assert limited.any(-1).all() or (block[0] >= seen and block[1:] == (height, width))
    size = block[0] * block[1] * block[2]
    assert (targets.sum(-1) >= size).all()
    assert (targets.sum(-1) <= count * size).all()
    assert context.any(-1).all() == (size < frames * height * width)
    cube = targets.view(ROWS, frames, height, width)
    assert (cube.any(-1).any(-1).sum(-1) >= block[0]).all()
    if count == 1:  # a box: the same wherever it is
        assert (cube.any(1).any(1).sum(-1) == block[2]).all()
        assert (cube.any(1).any(2).sum(-1) == block[1]).all()
        assert (cube.any(-1).any(-1).sum(-1) == block[0]).all()


@settings(max_examples=60, deadline=None)
@given(sides, sides, seeds, shares)
def test_random_patches(height: int, width: int, seed: int, share: float) -> None:
    count = int(share * height * width)
    assert (random_masks(keys_of(seed), height * width, count).sum(-1) == count).all()


@settings(max_examples=60, deadline=None)
@given(sides, sides, shares, shares, shares, shares)
def test_given_rectangles(height: int, width: int, top: float, left: float, tall: float, wide: float) -> None:
    rows, columns = side_of(tall, height), side_of(wide, width)
    first, start = int(top * (height - rows)), int(left * (width - columns))
    mask = rectangle_masks([(first, start, rows, columns)], (height, width)).view(height, width)
    assert mask[first : first + rows, start : start + columns].all()
    assert mask.sum() == rows * columns


@settings(max_examples=100, deadline=None)
@given(sides, sides, seeds, shares, shares, st.integers(0, 200), shares)
def test_indices(height: int, width: int, seed: int, share: float, other: float, length: int, least: float) -> None:
    patches = height * width
    mask, union = (random_masks(keys_of(seed + use), patches, int(part * patches)) for use, part in ((1, share), (2, other)))
    index, valid = mask_indices(mask, length, keys_of(seed))
    assert index.shape == valid.shape == (ROWS, length)
    assert torch.equal(valid.sum(-1), mask.sum(-1).clamp_max(length))
    assert mask.gather(-1, index)[valid].all()
    min_keep = int(least * min(length, patches))
    index, valid = context_indices(mask & ~union, union, length, min_keep, keys_of(seed))
    assert torch.equal(valid.sum(-1), (mask & ~union).sum(-1).clamp(min_keep, length))
    assert all(len(set(row[kept].tolist())) == int(kept.sum()) for row, kept in zip(index, valid, strict=True))


def test_tubes_of_some_frames_begin_in_every_frame_with_the_same_chance() -> None:
    keys = chance.key_tensor(chance.key(1, np.arange(12_000)))
    _, targets = tube_masks(keys, (3, 2, 2), (8, 4, 4), 1)
    starts = torch.bincount(targets.view(-1, 8, 16).any(-1).to(torch.int8).argmax(-1), minlength=6)
    assert len(starts) == 6
    assert ((starts - 2000).abs() < 4.5 * 2000**0.5).all()
