"""Statistics of masks: how much of the grid they cover, whether they overlap, and where on the grid they fall.

All samples are counted at once on the masks' device, and the figures come to the host in one transfer. Deviations are those of
the population, so that one sample has a deviation, 0.
"""

# G crops, L levels, B samples, T targets, N patches; ... any leading axes

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from hjepa.kernels.rectangles import any_target
from hjepa.pipeline.mask_sampler import BlockMasks, KeyStream

STATISTICS = (
    "context_coverage_mean",
    "context_coverage_std",
    "target_coverage_mean",
    "target_coverage_std",
    "overlap_mean",
    "overlap_max",
)
PART = 500
"""Samples that `estimate_marginal_maps` holds at a time: 7 MiB of target masks for three levels of 24 x 24 patches."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MarginalMaps:
    """Share of samples in which each patch is used; float32 in [0, 1] on the device of the masks."""

    context: Tensor
    """float32 [..., N], in the context"""
    target: Tensor
    """float32 [..., N], in a target, averaged over targets"""
    union: Tensor
    """float32 [..., N], in any target"""


def mask_statistics(context: Tensor, targets: Tensor) -> dict[str, float]:
    """Coverages and overlaps of context bool [B, N] and targets bool [B, T, N], as Python numbers: waits for the device.

    A coverage is a share of the grid; mean and deviation are over samples (and targets). An overlap is the share of a target's
    patches that are context too, 0 for a target without patches; mean and maximum are over samples and targets.
    """
    return named_statistics({"masks": (context, targets)})["masks"]


def named_statistics(masks: Mapping[str, tuple[Tensor, Tensor]]) -> dict[str, dict[str, float]]:
    """`mask_statistics` of several masks (context, targets) on one device, with one wait for all of them."""
    rows = torch.stack([_statistics(context, targets) for context, targets in masks.values()]).tolist()
    return {name: dict(zip(STATISTICS, row, strict=True)) for name, row in zip(masks, rows, strict=True)}


def marginal_maps(context: Tensor, targets: Tensor) -> MarginalMaps:
    """Where masks fall: context bool [..., B, N] and targets bool [..., B, T, N], averaged over the samples."""
    _check(context, targets)
    num_samples, num_targets = targets.shape[-3:-1]
    return MarginalMaps(
        context=context.sum(-2) / num_samples,
        target=targets.sum((-3, -2)) / (num_samples * num_targets),
        union=any_target(targets).sum(-2) / num_samples,
    )


def estimate_marginal_maps(
    sample: Callable[[Tensor], BlockMasks], num_samples: int, *, seed: int = 0, device: torch.device | str = "cpu"
) -> MarginalMaps:
    """Maps [L, N] of a generator's law, from its method `sample`; the standard error is 0.5 / sqrt(num_samples) at most."""
    if num_samples < 1:
        raise ValueError(f"num_samples={num_samples} shows nothing; use 1 or more")
    keys = KeyStream(seed).take(num_samples, device)
    counted = []
    for part in torch.split(keys, PART):
        masks = sample(part)
        # Crops of one generator have one law: they count as samples.
        maps = marginal_maps(masks.context.movedim(0, 1).flatten(1, 2), masks.targets.movedim(0, 1).flatten(1, 2))
        counted.append(torch.stack([maps.context, maps.target, maps.union]) * len(part))
    context, target, union = torch.stack(counted).sum(0) / num_samples
    return MarginalMaps(context=context, target=target, union=union)


def _statistics(context: Tensor, targets: Tensor) -> Tensor:
    """The values of STATISTICS, float64 [6], on the device of the masks."""
    _check(context, targets)
    num_patches = context.shape[-1]
    context_coverage = context.sum(-1).double() / num_patches
    num_target_patches = targets.sum(-1).double()
    target_coverage = num_target_patches / num_patches
    overlap = (targets & context.unsqueeze(-2)).sum(-1) / num_target_patches.clamp_min(1)
    means = [coverage.mean() for coverage in (context_coverage, target_coverage)]
    deviations = [coverage.std(correction=0) for coverage in (context_coverage, target_coverage)]
    return torch.stack([means[0], deviations[0], means[1], deviations[1], overlap.mean(), overlap.max()])


def _check(context: Tensor, targets: Tensor) -> None:
    """Refuses masks that do not belong together, and empty ones."""
    if context.ndim < 2 or targets.ndim != context.ndim + 1 or context.shape != (*targets.shape[:-2], targets.shape[-1]):
        raise ValueError(
            f"context {list(context.shape)} and targets {list(targets.shape)} do not belong together; "
            "use [B, N] and [B, T, N] of one call"
        )
    num_samples, num_targets, num_patches = targets.shape[-3:]
    if 0 in (num_samples, num_targets, num_patches):
        raise ValueError(
            f"masks of {num_samples} samples, {num_targets} targets and {num_patches} patches have no statistics; "
            "use at least 1 of each"
        )
