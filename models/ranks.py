"""Sums over the ranks of a distributed run, through which gradients pass; on one rank everything is returned as it is.

The mean of a loss over all ranks must divide by counts of all ranks, or a rank with few valid terms would weigh them more.
Gradients are averaged over the ranks afterwards, so what each rank adds to such a mean is multiplied by their number.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def num_ranks() -> int:
    """Ranks that train together; 1 without torch.distributed."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def all_sum(part: Tensor) -> Tensor:
    """The sum of every rank's tensor. Its gradient is the sum of the ranks' gradients."""
    if num_ranks() == 1:
        return part
    summed: Tensor = _AllSum.apply(part)
    return summed


def all_rows(part: Tensor) -> Tensor:
    """Every rank's [V, B, D] as one [V, ranks * B, D], in the order of the ranks. Its gradient is that of `all_sum`."""
    if num_ranks() == 1:
        return part
    rows = part.shape[1]
    own = dist.get_rank() * rows
    return all_sum(torch.nn.functional.pad(part, (0, 0, own, num_ranks() * rows - own - rows)))


def share_of_mean(summed: Tensor, count: Tensor) -> Tensor:
    """This rank's share of (sum over ranks) / (count over ranks), which is the mean of the shares; 0 where nothing counts."""
    return summed * num_ranks() / all_sum(count).clamp_min(1)


class _AllSum(torch.autograd.Function):
    @staticmethod
    def forward(_: Any, part: Tensor) -> Tensor:
        return _reduced(part)

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        return _reduced(gradient)


def _reduced(part: Tensor) -> Tensor:
    summed = part.detach().clone(memory_format=torch.contiguous_format)
    dist.all_reduce(summed)
    return summed
