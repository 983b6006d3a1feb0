"""The block sampler has the law of the reference generators, and each row of masks depends on its key alone."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hjepa.kernels import block_masks, chance

REFERENCE = Path(__file__).resolve().parents[3] / "shared" / "data" / "mask_reference_stats.json"
ROWS = ["multiblock_14", "hier_14_L0", "hier_14_L1", "hier_14_L2", "multiblock_24", "hier_24_L0", "hier_24_L1", "hier_24_L2"]
ROWS += ["multiblock_6", "hier_6_L0", "hier_6_L1", "hier_6_L2"]
GRIDS = [(1, 1), (1, 7), (7, 1), (6, 6), (14, 14), (9, 5)]
SAMPLES = 30_000
ATTEMPTS = 10
TARGETS = 4


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """The threads' barriers take most of the time where test processes share few cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def law_of_row(row: str) -> tuple[block_masks.BlockLaw, tuple[int, int]]:
    """Law and grid of a row of the table, written out from the description, not from the code under test."""
    kind, side, *level = row.split("_")
    size = int(side)
    if kind == "multiblock":
        scales = ((0.15, 0.2), (0.85, 1.0), (0.75, 1.5), size // 4)
    else:
        scales = {
            "L0": ((0.05, 0.15), (0.6, 0.75), (0.85, 1.15), size // 2),
            "L1": ((0.1, 0.3), (0.75, 0.9), (0.75, 1.5), size // 3),
            "L2": ((0.2, 0.6), (0.9, 1.0), (0.75, 1.5), size // 4),
        }[level[0]]
    target, context, aspect, fallback = scales
    law = block_masks.BlockLaw(
        target_scale=target, context_scale=context, aspect_ratio=aspect, fallback=(max(1, fallback), max(1, fallback))
    )
    return law, (size, size)


def draw(keys: Tensor, grid: tuple[int, int], targets: int = TARGETS, row: str = "multiblock_14") -> tuple[Tensor, Tensor]:
    """Masks of one level for keys [B]."""
    laws = block_masks.law_tensor([law_of_row(row)[0]])
    context, masks = block_masks.block_masks(keys[None], laws, grid, num_targets=targets, max_attempts=ATTEMPTS)
    return context[0], masks[0]


def keys_of(seed: int, count: int) -> Tensor:
    return chance.key_tensor(chance.key(seed, np.arange(count)))


def per_sample_statistics(row: str) -> dict[str, Tensor]:
    """Each statistic's value for each of the samples, float64 [S], so that its mean has a measured standard error."""
    law, grid = law_of_row(row)
    keys = keys_of(ROWS.index(row), SAMPLES)
    blocks = block_masks.draw_blocks(
        keys[None], block_masks.law_tensor([law]), grid, num_targets=TARGETS, max_attempts=ATTEMPTS
    )
    parts = [statistics_of(*draw(part, grid, row=row), grid) for part in keys.view(-1, 5000)]
    found = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    fallback = (blocks.choice[:, 0] == ATTEMPTS).double()
    top, bottom, left, right = blocks.context[:, 0].double()
    found["ctx_block_cov"] = (bottom - top) * (right - left) / (grid[0] * grid[1])
    found["ctx_full"] = (found["ctx_block_cov"] == 1).double()
    found["fallback_sample_frac"] = fallback.amax(0)
    for t in range(TARGETS):
        found[f"fallback_block_frac_by_order.{t}"] = fallback[t]
        found[f"attempts_mean_by_order.{t}"] = (blocks.choice[t, 0] + 1).clamp_max(ATTEMPTS).double()
    return found


def statistics_of(context: Tensor, targets: Tensor, grid: tuple[int, int]) -> dict[str, Tensor]:
    regions = region_weights(grid)
    hits = sum((target.to(torch.float32) for target in targets.unbind(1)), torch.zeros(1))
    union = hits > 0
    found = {f"map_ctx.{n}": part for n, part in enumerate((context.float() @ regions).T[:3])}
    found |= {f"map_tgt.{n}": part / TARGETS for n, part in enumerate((hits @ regions).T[:3])}
    found |= {f"map_union.{n}": part for n, part in enumerate((union.float() @ regions).T[:3])}
    found |= {f"tgt_cov_by_order.{t}": targets[:, t].float() @ regions[:, 3] for t in range(TARGETS)}
    patches = context.sum(-1)
    found["ctx_cov"] = context.float() @ regions[:, 3]
    found["tgt_cov"] = hits @ regions[:, 3] / TARGETS
    found["union_cov"] = union.float() @ regions[:, 3]
    found["overlap_patches_mean"] = (hits > 1).sum(-1)
    found["overlap_sample_frac"] = found["overlap_patches_mean"] > 0
    found["ctx_tgt_overlap"] = (context & union).any(-1)
    found |= {"ctx_empty": patches == 0, "ctx_lt4": patches < 4, "ctx_lt10": patches < 10}
    return {name: values.double() for name, values in found.items()}


def region_weights(grid: tuple[int, int]) -> Tensor:
    """Columns that average an image [N] over its centre, the mid-points of its edges, its corners, and all of it."""
    weights = torch.zeros(*grid, 4)
    middle, last = slice(grid[0] // 2 - 1, grid[0] // 2 + 1), grid[0] - 1  # the grids of the table are square and even
    weights[middle, middle, 0] = 1 / 4
    weights[[0, last], middle, 1] = 1 / 8
    weights[middle, [0, last], 1] = 1 / 8
    weights[::last, ::last, 2] = 1 / 4
    weights[..., 3] = 1 / (grid[0] * grid[1])
    return weights.view(-1, 4)


def z_scores(found: dict[str, Tensor], expected: dict[str, Any]) -> dict[str, float]:
    """Difference to the reference in standard errors: both are samples of 30 000, so sqrt(2) of one's error."""
    scores = {}
    for name, values in found.items():
        entry, _, number = name.partition(".")
        stored = expected[entry]
        if entry.startswith("ctx_") and isinstance(stored, int):
            stored = stored / expected["S"]
        mean = stored[int(number or 0)] if isinstance(stored, list) else stored
        rounding = 3e-4 if entry in ("attempts_mean_by_order", "overlap_patches_mean") else 3e-5  # digits in the file
        error = float(values.std()) * (1 / SAMPLES + 1 / expected["S"]) ** 0.5 + rounding
        scores[name] = (float(values.mean()) - mean) / error
        if entry in ("ctx_cov", "ctx_block_cov", "union_cov"):
            squares = (values - values.mean()) ** 2
            error = float(squares.std() / (2 * values.std())) * (1 / SAMPLES + 1 / expected["S"]) ** 0.5 + rounding
            scores[f"{name}.std"] = (float(values.std()) - stored[1]) / error
    return scores


@pytest.mark.parametrize("row", ROWS)
def test_statistics_are_those_of_the_reference(row: str) -> None:
    if not REFERENCE.exists():
        pytest.skip(f"no reference statistics at {REFERENCE}: they are kept outside the repository")
    expected = json.loads(REFERENCE.read_text())[row]
    scores = z_scores(per_sample_statistics(row), expected)
    assert len(scores) == 36
    worst = max(scores, key=lambda name: abs(scores[name]))
    assert abs(scores[worst]) < 4.5, (worst, scores[worst])


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    grid=st.sampled_from(GRIDS),
    targets=st.integers(1, 6),
    row=st.sampled_from(["multiblock_14", "hier_6_L0", "hier_24_L2"]),
)
def test_context_and_targets_are_disjoint_and_no_target_is_empty(
    seed: int, grid: tuple[int, int], targets: int, row: str
) -> None:
    context, masks = draw(keys_of(seed, 33), grid, targets, row)
    assert context.shape == (33, grid[0] * grid[1])
    assert masks.shape == (33, targets, grid[0] * grid[1])
    assert context.dtype == masks.dtype == torch.bool
    assert context.is_contiguous()
    assert masks.is_contiguous()
    assert not (context & masks.any(1)).any()
    assert masks.any(-1).all()


@pytest.mark.parametrize("grid", [(6, 6), (14, 14), (9, 5)], ids=str)
def test_targets_overlap_only_where_one_is_the_fallback(grid: tuple[int, int]) -> None:
    laws = block_masks.law_tensor([law_of_row("multiblock_14")[0]])
    keys = keys_of(5, 500)[None]
    blocks = block_masks.draw_blocks(keys, laws, grid, num_targets=3, max_attempts=ATTEMPTS)
    _, masks = block_masks.block_masks(keys, laws, grid, num_targets=3, max_attempts=ATTEMPTS)
    overlapping = (masks[0].sum(1) > 1).any(-1)
    with_fallback = (blocks.choice[:, 0] == ATTEMPTS).any(0)
    assert not (overlapping & ~with_fallback).any()
    assert (overlapping & with_fallback).any()
    assert (~with_fallback).any()
    assert (blocks.choice[0] == 0).all()


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_a_mask_is_exactly_its_rectangle(grid: tuple[int, int]) -> None:
    laws = block_masks.law_tensor([law_of_row("hier_14_L1")[0]])
    keys = keys_of(6, 40)[None]
    blocks = block_masks.draw_blocks(keys, laws, grid, num_targets=2, max_attempts=ATTEMPTS)
    context, masks = block_masks.block_masks(keys, laws, grid, num_targets=2, max_attempts=ATTEMPTS)
    for sample in range(40):
        union = torch.zeros(grid, dtype=torch.bool)
        for t in range(2):
            top, bottom, left, right = (int(edge) for edge in blocks.targets[:, t, 0, sample])
            painted = torch.zeros(grid, dtype=torch.bool)
            painted[top:bottom, left:right] = True
            assert torch.equal(masks[0, sample, t].view(grid), painted)
            union |= painted
        top, bottom, left, right = (int(edge) for edge in blocks.context[:, 0, sample])
        expected = torch.zeros(grid, dtype=torch.bool)
        expected[top:bottom, left:right] = True
        assert torch.equal(context[0, sample].view(grid), expected & ~union)


def test_every_patch_including_the_last_row_and_column_is_used() -> None:
    context, masks = draw(keys_of(7, 4000), (14, 14))
    assert context.any(0).all()
    assert masks.any(0).all()


def test_a_row_depends_on_its_key_and_law_alone() -> None:
    laws = [law_of_row(row)[0] for row in ("hier_14_L0", "hier_14_L1", "hier_14_L2")]
    keys = chance.key_tensor(chance.key(3, np.arange(2)[:, None, None], np.arange(3)[:, None], np.arange(20)))
    numbers: dict[str, Any] = {"num_targets": 4, "max_attempts": ATTEMPTS}
    together = block_masks.block_masks(keys, block_masks.law_tensor(laws), (14, 14), **numbers)
    assert together[0].shape == (2, 3, 20, 196)
    assert together[1].shape == (2, 3, 20, 4, 196)
    for crop in range(2):
        for level in range(3):
            law = block_masks.law_tensor([laws[level]])
            alone = block_masks.block_masks(keys[crop, level, None, 7:9], law, (14, 14), **numbers)
            for one, all_of_them in zip(alone, together, strict=True):
                assert torch.equal(one[0], all_of_them[crop, level, 7:9])


def test_different_keys_give_different_masks() -> None:
    context, masks = draw(keys_of(11, 200), (24, 24))
    assert len({row.numpy().tobytes() for row in masks}) == 200
    assert len({row.numpy().tobytes() for row in context}) == 200


def test_no_step_looks_at_a_value() -> None:
    # Tensors on the meta device have shapes and no values: reading one, which on a GPU is a wait, raises.
    keys = torch.empty(2, 1, 8, dtype=torch.int64, device="meta")
    laws = torch.empty(1, 8, device="meta")
    context, targets = block_masks.block_masks(keys, laws, (9, 5), num_targets=4, max_attempts=ATTEMPTS)
    assert context.shape == (2, 1, 8, 45)
    assert targets.shape == (2, 1, 8, 4, 45)


def test_no_samples_give_empty_masks() -> None:
    context, targets = draw(keys_of(0, 0), (14, 14))
    assert context.shape == (0, 196)
    assert targets.shape == (0, 4, 196)
