"""The law "exact": whatever the setting, blocks are disjoint and of their size, and the context has its patches."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hjepa.kernels import chance, exact_blocks
from hjepa.kernels.block_masks import BlockLaw
from hjepa.kernels.rectangles import masks_of

MIN_KEEP = 4
LEVELS = [
    BlockLaw(target_scale=(0.05, 0.15), context_scale=(0.6, 0.75), aspect_ratio=(0.85, 1.15), fallback=(1, 1)),
    BlockLaw(target_scale=(0.1, 0.3), context_scale=(0.75, 0.9), aspect_ratio=(0.75, 1.5), fallback=(1, 1)),
    BlockLaw(target_scale=(0.15, 0.2), context_scale=(0.85, 1.0), aspect_ratio=(0.75, 1.5), fallback=(1, 1)),
]


def keys_of(seed: int, count: int) -> Tensor:
    return chance.key_tensor(chance.key(seed, torch.arange(count).numpy()))


def draw(law: BlockLaw, grid: tuple[int, int], count: int, seed: int = 0, targets: int = 4) -> tuple[Tensor, Tensor]:
    """Context [B, N] and targets [B, T, N] of one level."""
    laws = exact_blocks.exact_law_tensor([law], grid, targets, MIN_KEEP)
    context, masks = exact_blocks.exact_masks(keys_of(seed, count)[None], laws, grid, num_targets=targets, min_keep=MIN_KEEP)
    return context[0], masks[0]


def test_a_share_that_is_a_whole_number_of_patches_is_that_number() -> None:
    law = BlockLaw(target_scale=(0.29, 0.57), context_scale=(0.58, 1.0), aspect_ratio=(1, 1), fallback=(1, 1))
    assert 0.29 * 100 < 29  # in floats; 64ths of a patch are cut off
    assert exact_blocks.exact_law_tensor([law], (10, 10), 1, 1)[0, :4].tolist() == [29, 57, 58, 100]


@st.composite
def any_setting(chosen: st.DrawFn) -> tuple[BlockLaw, tuple[int, int], int, int]:
    grid = (chosen(st.integers(1, 64)), chosen(st.integers(1, 64)))
    targets, min_keep = chosen(st.integers(1, 20)), chosen(st.integers(1, 20))
    low = chosen(st.floats(0.001, 1))
    context = chosen(st.floats(0.001, 1))
    aspect = chosen(st.floats(0.1, 4))
    law = BlockLaw(
        target_scale=(low, chosen(st.floats(low, 1))),
        context_scale=(context, chosen(st.floats(context, 1))),
        aspect_ratio=(aspect, chosen(st.floats(aspect, 8))),
        fallback=(1, 1),
    )
    return law, grid, targets, min_keep


@settings(max_examples=150, deadline=None)
@given(setting=any_setting(), seed=st.integers(0, 2**32))
def test_any_setting_is_refused_or_gives_disjoint_blocks_and_a_context(
    setting: tuple[BlockLaw, tuple[int, int], int, int], seed: int
) -> None:
    law, grid, targets, min_keep = setting
    patches = grid[0] * grid[1]
    if targets * max(1, int(law.target_scale[0] * patches * 64 + 1e-6) / 64) > patches - min_keep:
        with pytest.raises(ValueError, match="cannot be disjoint"):
            exact_blocks.exact_law_tensor([law], grid, targets, min_keep)
        return
    laws = exact_blocks.exact_law_tensor([law], grid, targets, min_keep)
    blocks = exact_blocks.draw_exact(keys_of(seed, 7)[None], laws, grid, num_targets=targets, min_keep=min_keep)
    context, masks = masks_of(blocks, grid)
    top, bottom, left, right = blocks.targets.to(torch.int64).unbind(0)
    assert torch.equal(masks.sum(-1), ((bottom - top) * (right - left)).movedim(0, -1))  # whole rectangles, within the grid
    assert masks.any(-1).all()
    assert (masks.sum(-2) + context).amax() == 1
    assert (context.sum(-1) >= min_keep).all()


@pytest.mark.parametrize("grid", [(14, 14), (24, 24), (9, 16)], ids=str)
@pytest.mark.parametrize("level", [0, 2])
def test_areas_are_those_of_the_scale_for_every_target(level: int, grid: tuple[int, int]) -> None:
    _, masks = draw(LEVELS[level], grid, 4000)
    areas = masks.float().mean(-1)
    low, high = LEVELS[level].target_scale
    by_order = areas.mean(0)
    assert by_order.tolist() == pytest.approx([(low + high) / 2] * 4, abs=0.0025)
    rounding = 0.5 * max(grid) * 0.5 / (grid[0] * grid[1])  # half a column of the tallest block
    assert low - rounding <= areas.amin() < low + rounding
    assert high - rounding < areas.amax() <= high + rounding


def test_areas_that_do_not_fit_together_shrink_alike() -> None:
    # Uniform between 10 and 30 %, four of them exceed the budget of 85 % in a third of the samples.
    _, masks = draw(LEVELS[1], (24, 24), 4000)
    areas = masks.float().mean(-1)
    assert areas.mean(0).tolist() == pytest.approx([0.1935] * 4, abs=0.004)
    assert areas.sum(-1).amax() < 0.9
    assert areas.amax() > 0.28


def test_a_block_of_the_whole_grid_is_possible_but_for_the_context() -> None:
    law = BlockLaw(target_scale=(0.9, 0.9), context_scale=(1, 1), aspect_ratio=(1, 1), fallback=(1, 1))
    context, masks = draw(law, (14, 14), 100, targets=1)
    assert masks.float().mean().item() == pytest.approx(0.9, abs=0.05)
    assert (context.sum(-1) == 196 - masks[:, 0].sum(-1)).all()  # a context block of 100 % loses nothing to clamping


@pytest.mark.parametrize("targets", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("grid", [(14, 14), (6, 6), (5, 9)], ids=str)
def test_every_patch_can_be_target_and_the_map_is_symmetric(grid: tuple[int, int], targets: int) -> None:
    law = BlockLaw(target_scale=(0.05, 0.1), context_scale=(0.85, 1.0), aspect_ratio=(0.75, 1.5), fallback=(1, 1))
    count = 8_000
    _, masks = draw(law, grid, count, targets=targets)
    for t in range(min(targets, 2)):  # every target by itself
        hit = masks[:, t].float().mean(0).view(grid)
        assert hit.amin() > 0.15 * hit.mean()
        error = (hit * (1 - hit) / count).sqrt() * 2**0.5
        assert ((hit - hit.flip(0)).abs() < 5 * error).all()
        assert ((hit - hit.flip(1)).abs() < 5 * error).all()


def test_the_map_is_flatter_than_that_of_uniform_places() -> None:
    _, masks = draw(LEVELS[0], (14, 14), 8_000)
    union = masks.any(1).float().mean(0).view(14, 14)
    corner, middle = union[0, 0].item(), union[7, 7].item()
    assert 0.8 < corner / middle < 1.25  # 0.12 under the reference law


def test_targets_do_not_depend_on_their_order() -> None:
    _, masks = draw(LEVELS[1], (14, 14), 8_000)
    hits = masks.float().mean(0)  # [T, N]
    error = (hits.mean(0) * (1 - hits.mean(0)) / 8_000).sqrt()
    assert ((hits - hits.mean(0)).abs() < 5 * error).all()


def test_layouts_of_rows_and_of_columns_and_the_last_resort_are_used() -> None:
    for law, grid, shares in ((LEVELS[0], (14, 14), (0.3, 0.3, 0.0)), (LEVELS[1], (6, 6), (0.2, 0.2, 0.02))):
        laws = exact_blocks.exact_law_tensor([law], grid, 4, MIN_KEEP)
        choice = exact_blocks.draw_exact(keys_of(1, 3000)[None], laws, grid, num_targets=4, min_keep=MIN_KEEP).choice
        last = choice == exact_blocks.num_layouts(4)
        columns = (choice // exact_blocks.PROPOSALS % 2 == 1) & ~last
        found = (float((~columns & ~last).float().mean()), float(columns.float().mean()), float(last.float().mean()))
        assert all(share >= least for share, least in zip(found, shares, strict=True)), found


def test_the_least_settings_that_are_refused() -> None:
    law = BlockLaw(target_scale=(0.24, 0.5), context_scale=(1, 1), aspect_ratio=(1, 1), fallback=(1, 1))
    exact_blocks.exact_law_tensor([law], (14, 14), 4, 7)
    with pytest.raises(ValueError, match=r"47.0 of 14x14 patches \(24%\) cannot be disjoint and leave 9 .* at most 3 blocks"):
        exact_blocks.exact_law_tensor([law, law], (14, 14), 4, 9)


def test_a_row_depends_on_its_key_and_law_alone() -> None:
    keys = chance.fold_tensor(keys_of(3, 20), torch.arange(6).view(2, 3, 1))
    laws = exact_blocks.exact_law_tensor(LEVELS, (14, 14), 4, MIN_KEEP)
    together = exact_blocks.exact_masks(keys, laws, (14, 14), num_targets=4, min_keep=MIN_KEEP)
    assert together[0].shape == (2, 3, 20, 196)
    assert together[1].shape == (2, 3, 20, 4, 196)
    for crop in range(2):
        for level in range(3):
            part = keys[crop, level, None, 7:9]
            alone = exact_blocks.exact_masks(part, laws[level, None], (14, 14), num_targets=4, min_keep=MIN_KEEP)
            for one, all_of_them in zip(alone, together, strict=True):
                assert torch.equal(one[0], all_of_them[crop, level, 7:9])


def test_no_step_looks_at_a_value_and_no_samples_give_empty_masks() -> None:
    # Tensors on the meta device have shapes and no values: reading one, which on a GPU is a wait, raises.
    keys = torch.empty(2, 1, 8, dtype=torch.int64, device="meta")
    laws = torch.empty(1, 7, device="meta")
    context, targets = exact_blocks.exact_masks(keys, laws, (9, 5), num_targets=4, min_keep=1)
    assert context.shape == (2, 1, 8, 45)
    assert targets.shape == (2, 1, 8, 4, 45)
    assert draw(LEVELS[0], (14, 14), 0)[1].shape == (0, 4, 196)
