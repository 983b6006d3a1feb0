"""Keys for all crops, levels and so on of a batch, folded from its samples' keys: on a GPU in one launch."""

# B samples, P parts that are folded in, C0 to CP-1 numbers of each

import torch
from torch import Tensor

from hjepa.kernels import chance
from hjepa.kernels.rectangles import has_triton

MOST_PARTS = 4


def fold_ranges(keys: Tensor, *parts: range) -> Tensor:
    """Keys int64 [C0, ..., CP-1, B] of the samples' keys int64 [B]: one number of each part folded in, the first part first."""
    assert keys.dtype == torch.int64, keys.dtype
    assert keys.ndim == 1, keys.shape
    assert 1 <= len(parts) <= MOST_PARTS, parts
    assert all(part.step == 1 for part in parts), parts
    if keys.is_cuda and has_triton():
        from hjepa.kernels import folded_keys_triton  # here: Triton may not be installed

        return folded_keys_triton.fold_ranges(keys, *parts)
    return fold_reference(keys, *parts)


def fold_reference(keys: Tensor, *parts: range) -> Tensor:
    """The definition of `fold_ranges`."""
    for place, part in enumerate(parts):
        numbers = torch.arange(part.start, part.stop, device=keys.device)
        keys = chance.fold_tensor(keys, numbers.view(-1, *[1] * (len(parts) - place)))
    return keys
