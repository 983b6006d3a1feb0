"""Statistics equal a slow loop over samples and targets, and are defined for one sample, one target and empty targets."""

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from hjepa.pipeline.mask_statistics import (
    PART,
    estimate_marginal_maps,
    marginal_maps,
    mask_statistics,
    named_statistics,
)
from hjepa.pipeline.masks import HierarchicalMaskGenerator, MultiBlockMaskGenerator
from hjepa.pipeline.multicrop_masks import MultiCropMaskGenerator


def random_masks(batch: int, targets: int, patches: int, share: float = 0.3) -> tuple[Tensor, Tensor]:
    """Masks that overlap, as those of the generators never do."""
    chance = torch.Generator().manual_seed(batch + targets)
    return (
        torch.rand(batch, patches, generator=chance) < share,
        torch.rand(batch, targets, patches, generator=chance) < share,
    )


def moments(values: list[float]) -> tuple[float, float]:
    mean = sum(values) / len(values)
    return mean, math.sqrt(sum((value - mean) ** 2 for value in values) / len(values))


def slow_statistics(context: Tensor, targets: Tensor) -> dict[str, float]:
    """The definition, one patch at a time."""
    num_patches = context.shape[1]
    seen, asked, overlaps = [], [], []
    for own_context, own_targets in zip(context.tolist(), targets.tolist(), strict=True):
        seen.append(sum(own_context) / num_patches)
        for target in own_targets:
            asked.append(sum(target) / num_patches)
            common = sum(one and other for one, other in zip(own_context, target, strict=True))
            overlaps.append(common / sum(target) if any(target) else 0.0)
    return {
        "context_coverage_mean": moments(seen)[0],
        "context_coverage_std": moments(seen)[1],
        "target_coverage_mean": moments(asked)[0],
        "target_coverage_std": moments(asked)[1],
        "overlap_mean": moments(overlaps)[0],
        "overlap_max": max(overlaps),
    }


def cases() -> Iterator[object]:
    yield pytest.param(*random_masks(7, 3, 33), id="some of each")
    yield pytest.param(*random_masks(1, 4, 36), id="one sample")
    yield pytest.param(*random_masks(5, 1, 36), id="one target")
    yield pytest.param(*random_masks(1, 1, 1, share=1), id="one of all")
    context, targets = random_masks(6, 3, 12)
    targets[::2, 1] = False
    yield pytest.param(context, targets, id="some targets empty")
    yield pytest.param(context, torch.zeros_like(targets), id="all targets empty")


@pytest.mark.parametrize(("context", "targets"), list(cases()))
def test_statistics_equal_a_slow_loop(context: Tensor, targets: Tensor) -> None:
    statistics = mask_statistics(context, targets)
    expected = slow_statistics(context, targets)
    assert list(statistics) == list(expected)
    assert statistics == pytest.approx(expected, abs=1e-12)
    assert all(type(value) is float for value in statistics.values())


def test_statistics_are_those_of_known_masks() -> None:
    context = torch.tensor([[1, 1, 0, 0], [1, 0, 0, 0]], dtype=torch.bool)
    targets = torch.tensor([[[0, 0, 1, 1], [0, 0, 0, 1]], [[1, 1, 0, 0], [0, 0, 0, 0]]], dtype=torch.bool)
    assert mask_statistics(context, targets) == {
        "context_coverage_mean": 0.375,
        "context_coverage_std": 0.125,
        "target_coverage_mean": 0.3125,
        "target_coverage_std": pytest.approx(0.2072890494),
        "overlap_mean": 0.125,
        "overlap_max": 0.5,
    }


def test_levels_may_differ_in_grid_and_number_of_targets() -> None:
    masks = {"fine": random_masks(4, 3, 25), "coarse": random_masks(2, 5, 9)}
    assert named_statistics(masks) == {name: mask_statistics(*pair) for name, pair in masks.items()}


def test_maps_are_shares_of_samples() -> None:
    context, targets = random_masks(6, 3, 10)
    maps = marginal_maps(context, targets)
    for patch in range(10):
        in_targets = [[bool(target[patch]) for target in sample] for sample in targets]
        assert maps.context[patch].item() == pytest.approx(sum(bool(sample[patch]) for sample in context) / 6)
        assert maps.target[patch].item() == pytest.approx(sum(map(sum, in_targets)) / 18)
        assert maps.union[patch].item() == pytest.approx(sum(map(any, in_targets)) / 6)


def test_maps_average_to_the_coverages() -> None:
    context, targets = MultiBlockMaskGenerator()(200)
    maps, statistics = marginal_maps(context, targets), mask_statistics(context, targets)
    assert maps.context.mean().item() == pytest.approx(statistics["context_coverage_mean"], abs=1e-6)
    assert maps.target.mean().item() == pytest.approx(statistics["target_coverage_mean"], abs=1e-6)
    assert (maps.target <= maps.union).all()
    assert (maps.union <= 4 * maps.target + 1e-6).all()
    assert (maps.context + maps.union <= 1 + 1e-6).all()  # no patch of one sample is both


def test_a_law_has_the_maps_of_its_samples_however_they_are_counted() -> None:
    count = PART + 7
    generator = HierarchicalMaskGenerator(96, seed=3)
    maps = estimate_marginal_maps(generator.sample, count, seed=3)
    assert maps.context.shape == (3, 36)
    for level, masks in enumerate(generator(count).values()):
        whole = marginal_maps(masks["context"], masks["targets"])
        torch.testing.assert_close(maps.context[level], whole.context)
        torch.testing.assert_close(maps.target[level], whole.target)
        torch.testing.assert_close(maps.union[level], whole.union)


def test_crops_of_one_generator_count_as_samples() -> None:
    generator = MultiCropMaskGenerator(96, num_global_crops=2, seed=1)
    maps = estimate_marginal_maps(generator.sample, 20, seed=1)
    crops = generator(20)["global_masks"].values()
    expected = torch.stack([crop["level_1"]["context"].float().mean(0) for crop in crops]).mean(0)
    torch.testing.assert_close(maps.context[1], expected)


@pytest.mark.gpu
def test_statistics_of_a_gpu_are_those_of_the_cpu() -> None:
    context, targets = random_masks(50, 4, 196)
    assert mask_statistics(context.cuda(), targets.cuda()) == pytest.approx(mask_statistics(context, targets))
    assert marginal_maps(context.cuda(), targets.cuda()).union.is_cuda


@pytest.mark.parametrize(
    ("context", "targets", "message"),
    [
        ((0, 4), (0, 2, 4), "0 samples, 2 targets and 4 patches have no statistics"),
        ((3, 4), (3, 0, 4), "3 samples, 0 targets"),
        ((3, 0), (3, 2, 0), "0 patches"),
        ((3, 4), (2, 2, 4), r"context \[3, 4\] and targets \[2, 2, 4\] do not belong together"),
        ((3, 4), (3, 4), "do not belong together"),
        ((4,), (3, 4), "do not belong together"),
    ],
)
def test_masks_without_statistics_are_refused(context: tuple[int, ...], targets: tuple[int, ...], message: str) -> None:
    masks = torch.ones(context, dtype=torch.bool), torch.ones(targets, dtype=torch.bool)
    with pytest.raises(ValueError, match=message):
        mask_statistics(*masks)
    with pytest.raises(ValueError, match=message):
        marginal_maps(*masks)


def test_maps_of_no_sample_are_refused() -> None:
    with pytest.raises(ValueError, match="num_samples=0 shows nothing"):
        estimate_marginal_maps(MultiBlockMaskGenerator().sample, 0)
