"""The teacher's weights: an exponential moving average of the student's."""

import torch
from torch import nn


@torch.no_grad()
def update_average(average: nn.Module, source: nn.Module, momentum: float) -> None:
    """average <- momentum * average + (1 - momentum) * source, in place, for modules of one architecture without buffers.

    Call it after the optimizer's step, once per step however many batches were accumulated.
    """
    if not 0 <= momentum <= 1:
        raise ValueError(f"momentum={momentum} must lie between 0 (a copy) and 1 (no change)")
    # As torch.optim.swa_utils does: a few kernels for all parameters instead of one for each.
    torch._foreach_lerp_(list(average.parameters()), list(source.parameters()), 1 - momentum)
