"""Weights move blocks in proportion, leave everything else of the law alone, and change nothing where they are equal."""

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from hjepa.kernels import chance, exact_blocks, weighted_blocks
from hjepa.kernels.block_masks import BlockLaw
from hjepa.pipeline.masks import HierarchicalMaskGenerator, MultiBlockMaskGenerator
from hjepa.pipeline.multicrop_masks import MultiCropMaskGenerator

GENERATORS: dict[str, Any] = {"multi-block": MultiBlockMaskGenerator, "levels": HierarchicalMaskGenerator}
GENERATORS |= {"crops": MultiCropMaskGenerator, "nested": partial(HierarchicalMaskGenerator, nested=True)}


def keys_of(seed: int, count: int) -> Tensor:
    return chance.key_tensor(chance.key(seed, np.arange(count)))


def spot(count: int) -> Tensor:
    """Weights [B, 196]: ten times as much in a square of 16 patches at the upper left as elsewhere."""
    weights = torch.ones(14, 14)
    weights[1:5, 1:5] = 10
    return weights.view(1, 196).expand(count, -1)


@pytest.mark.parametrize("level", [1e-3, 1.0, 7e4])
@pytest.mark.parametrize(("name", "law"), [(name, "exact") for name in GENERATORS] + [("levels", "reference")])
def test_equal_weights_give_the_masks_without_weights_bit_for_bit(name: str, law: str, level: float) -> None:
    generator = GENERATORS[name](law=law)
    plain, equal = generator.sample(keys_of(1, 300)), generator.sample(keys_of(1, 300), torch.full((300, 196), level))
    assert torch.equal(plain.targets, equal.targets)
    assert torch.equal(plain.context, equal.context)


def test_every_patch_has_a_weight_of_1_to_255_also_where_it_was_0() -> None:
    weights = torch.tensor([[0.0, 1e-9, 0.5, 1, 0.25, 0], [0, 0, 0, 0, 0, 0]])
    sums = weighted_blocks.weight_sums(weights, (2, 3)).view(2, 3, 4)
    levels = sums.diff(dim=1).diff(dim=2).flatten(1)
    assert levels.tolist() == [[1, 1, 127, 255, 63, 1], [1] * 6]
    assert not sums[:, 0].any()
    assert not sums[..., 0].any()


def test_a_block_lies_where_the_law_puts_it_times_the_weight_there() -> None:
    # Single patches in a row: how often each is the target, with weights, against how often without.
    law = BlockLaw(target_scale=(0.1, 0.1), context_scale=(1, 1), aspect_ratio=(1, 1), fallback=(1, 1))
    grid, count, weights = (1, 6), 30_000, torch.tensor([1.0, 2, 4, 1, 8, 1])
    laws, keys = exact_blocks.exact_law_tensor([law], grid, 1, 1), keys_of(2, count).view(1, 1, -1)
    draw = partial(exact_blocks.draw_exact, laws=laws, grid=grid, num_targets=1, min_keep=1)
    sums = weighted_blocks.weight_sums(weights.expand(1, count, 6), grid)
    places = {}
    for name, chosen in {
        "without": keys,
        "with": weighted_blocks.choose_keys(keys, sums, grid, draw, arrangements=64),
    }.items():
        places[name] = torch.bincount(draw(chosen).targets[2].flatten().to(torch.int64), minlength=6).double() / count
    expected = places["without"] * weights
    assert (places["with"] - expected / expected.sum()).abs().max() < 0.015


@pytest.mark.parametrize("law", ["exact", "reference"])
def test_targets_lean_to_the_weights_and_keep_what_the_law_promises(law: Any) -> None:
    generator, keys = HierarchicalMaskGenerator(law=law, min_keep=4), keys_of(3, 3000)
    plain, leaning = generator.sample(keys), generator.sample(keys, spot(3000))
    hits = [masks.targets[0, 0].any(1).float().mean(0).view(14, 14)[1:5, 1:5].mean().item() for masks in (plain, leaning)]
    assert hits[1] > 1.2 * hits[0]
    assert not (leaning.context & leaning.targets.any(-2)).any()
    if law == "exact":
        assert leaning.targets.sum(-2).amax() == 1
        assert leaning.context.sum(-1).amin() >= 4
        areas = [masks.targets.float().mean((0, 2, 3, 4)) for masks in (plain, leaning)]
        assert torch.allclose(*areas, atol=0.003)


def test_a_row_depends_on_its_key_and_its_weights_alone() -> None:
    generator, keys, weights = MultiCropMaskGenerator(), keys_of(4, 40), torch.rand(40, 196)
    whole, part = generator.sample(keys, weights), generator.sample(keys[[9, 2]], weights[[9, 2]])
    assert torch.equal(whole.targets[:, :, [9, 2]], part.targets)
    of_crops = torch.stack([weights, torch.rand(40, 196)])
    apart = generator.sample(keys, of_crops)
    assert torch.equal(apart.targets[0], whole.targets[0])
    assert not torch.equal(apart.targets[1], whole.targets[1])


def test_nested_levels_follow_the_coarsest_one() -> None:
    generator, keys = HierarchicalMaskGenerator(num_hierarchies=2, nested=True), keys_of(5, 2000)
    plain, leaning = (generator.sample(keys, weights).targets.any(-2).float().mean((0, 2)) for weights in (None, spot(2000)))
    assert (leaning.view(2, 14, 14)[:, 1:5, 1:5].mean((1, 2)) > 1.005 * plain.view(2, 14, 14)[:, 1:5, 1:5].mean((1, 2))).all()


def test_zero_weights_are_allowed_and_masks_of_nothing_else_remain() -> None:
    weights = torch.zeros(500, 196)
    generator = MultiBlockMaskGenerator()
    assert torch.equal(generator.sample(keys_of(6, 500), weights).targets, generator.sample(keys_of(6, 500)).targets)
    weights[:, :98] = 1
    upper = generator.sample(keys_of(6, 500), weights).targets.float().view(1, 1, 500, 4, 2, 98).mean((0, 1, 2, 3, 5))
    assert upper[0] > upper[1]


def test_no_step_looks_at_a_value() -> None:
    keys, weights = torch.empty(8, dtype=torch.int64, device="meta"), torch.empty(8, 196, device="meta")
    assert HierarchicalMaskGenerator().sample(keys, weights).targets.shape == (1, 3, 8, 4, 196)
    assert HierarchicalMaskGenerator(law="reference").sample(keys, weights).targets.shape == (1, 3, 8, 4, 196)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (torch.ones(3, 196), r"weights of shape \[3, 196\] .* use \[8, 196\] or \[2, 8, 196\]"),
        (torch.ones(3, 8, 196), "none of these masks'"),
        (torch.full((8, 196), -1.0), "finite and not negative"),
        (torch.full((8, 196), float("nan")), "finite and not negative"),
        (torch.ones(8, 196, device="meta"), "weights on meta"),
        (np.ones((8, 196)), "of type ndarray; use a tensor"),
    ],
)
def test_weights_that_weigh_nothing_are_refused(weights: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MultiCropMaskGenerator().sample(keys_of(0, 8), weights)
