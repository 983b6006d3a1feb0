"""Nested levels: a fine target lies in its coarse one, whatever the setting, and all that the law "exact" promises holds."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hjepa.kernels import chance
from hjepa.kernels.block_masks import BlockLaw
from hjepa.kernels.exact_blocks import exact_law_tensor
from hjepa.kernels.nested_blocks import nested_masks
from hjepa.pipeline.masks import HierarchicalMaskGenerator


def keys_of(seed: int, count: int) -> Tensor:
    return chance.key_tensor(chance.key(seed, np.arange(count)))


@st.composite
def any_levels(chosen: st.DrawFn) -> tuple[list[BlockLaw], tuple[int, int], int, int]:
    grid = (chosen(st.integers(1, 64)), chosen(st.integers(1, 64)))
    targets, min_keep, patches = chosen(st.integers(1, 8)), chosen(st.integers(1, 8)), grid[0] * grid[1]
    most = (patches - min_keep) / patches / targets
    laws = []
    for _ in range(chosen(st.integers(1, 4))):
        low, aspect = chosen(st.floats(0.001, 1)) * most * 0.999, chosen(st.floats(0.2, 2))
        scale = (low, chosen(st.floats(low, 1)))
        laws.append(BlockLaw(target_scale=scale, context_scale=(0.5, 1), aspect_ratio=(aspect, 2 * aspect), fallback=(1, 1)))
    return laws, grid, targets, min_keep


@settings(max_examples=100, deadline=None)
@given(setting=any_levels(), seed=st.integers(0, 2**32))
def test_coarse_targets_contain_fine_ones_in_any_setting(
    setting: tuple[list[BlockLaw], tuple[int, int], int, int], seed: int
) -> None:
    laws, grid, targets, min_keep = setting
    if targets + min_keep > grid[0] * grid[1]:
        return
    keys = chance.fold_tensor(keys_of(seed, 5), torch.arange(len(laws)).view(-1, 1))
    context, masks = nested_masks(
        keys, exact_law_tensor(laws, grid, targets, min_keep), grid, num_targets=targets, min_keep=min_keep
    )
    assert not (masks[:-1] & ~masks[1:]).any()
    assert masks.any(-1).all()
    assert (masks.sum(-2) + context).amax() == 1
    assert context.sum(-1).amin() >= min_keep


def test_areas_are_those_of_the_scales_where_the_coarse_blocks_have_room() -> None:
    nested = HierarchicalMaskGenerator(384, nested=True).sample(keys_of(1, 3000)).targets[0].float().mean((1, 2, 3))
    assert nested.tolist() == pytest.approx([0.1, 0.18, 0.213], abs=0.005)


def test_the_coarsest_level_is_that_of_levels_apart_and_places_inside_are_alike() -> None:
    keys = keys_of(2, 4000)
    apart, nested = (HierarchicalMaskGenerator(nested=inside).sample(keys).targets[0] for inside in (False, True))
    assert torch.equal(apart[2], nested[2])
    assert not torch.equal(apart[0], nested[0])
    hits = nested[0].any(1).float().mean(0).view(14, 14)
    error = (2 * hits * (1 - hits) / 4000).sqrt()
    assert ((hits - hits.flip(0)).abs() < 5 * error).all()
    assert ((hits - hits.flip(1)).abs() < 5 * error).all()


def test_a_row_depends_on_its_key_alone_and_no_step_looks_at_a_value() -> None:
    generator = HierarchicalMaskGenerator(nested=True)
    whole, part = generator.sample(keys_of(3, 20)), generator.sample(keys_of(3, 20)[[7, 1]])
    assert torch.equal(whole.targets[:, :, [7, 1]], part.targets)
    assert generator.sample(torch.empty(4, dtype=torch.int64, device="meta")).context.shape == (1, 3, 4, 196)
    assert generator(0)["level_0"]["targets"].shape == (0, 4, 196)


def test_overlapping_targets_cannot_be_nested() -> None:
    with pytest.raises(ValueError, match="nested=True needs targets that do not overlap; use law='exact'"):
        HierarchicalMaskGenerator(law="reference", nested=True)
