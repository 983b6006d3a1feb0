"""Levels inside each other: every target of a finer level lies in the target of the same number of the next coarser level.

The coarsest level follows the law "exact". At each finer one a target has its area and aspect from its own level's law, is cut
to the target around it where that is smaller, and lies anywhere in it with the same chance. Targets of a level are disjoint
because those around them are. The context of each level is drawn as the law "exact" draws it, beside its own level's targets.
"""

# L levels from fine to coarse, B samples, T targets, ... leading axes (crops), H x W grid

import torch
from torch import Tensor

from hjepa.kernels import chance, native_masks
from hjepa.kernels.exact_blocks import context_block, draw_areas, draw_exact
from hjepa.kernels.rectangles import Blocks, Grid, exponential, has_kernel, masks_of, uniforms

INSIDE = (1 << 20) + (1 << 10)
"""Counter of a row's key, beyond those of the law: from it come a finer level's targets and context."""


def nested_masks(keys: Tensor, laws: Tensor, grid: Grid, *, num_targets: int, min_keep: int) -> tuple[Tensor, Tensor]:
    """As `exact_blocks.exact_masks`, with levels inside each other; levels come from fine to coarse."""
    if has_kernel(keys, num_targets):
        from hjepa.kernels import nested_blocks_triton  # here: Triton may not be installed

        return nested_blocks_triton.nested_masks(keys, laws, grid, num_targets=num_targets, min_keep=min_keep)
    if native_masks.has_native(keys, num_targets):
        return native_masks.block_masks(keys, laws, grid, "nested", num_targets=num_targets, min_keep=min_keep)
    return masks_of(draw_nested(keys, laws, grid, num_targets=num_targets, min_keep=min_keep), grid)


def draw_nested(keys: Tensor, laws: Tensor, grid: Grid, *, num_targets: int, min_keep: int) -> Blocks:
    """The rectangles behind `nested_masks`; choice [..., 1, B] is the coarsest level's."""
    coarsest = draw_exact(keys[..., -1:, :], laws[-1:], grid, num_targets=num_targets, min_keep=min_keep)
    targets, contexts = [coarsest.targets], [coarsest.context]
    for level in reversed(range(len(laws) - 1)):
        law = laws[level : level + 1]
        numbers = uniforms(chance.fold_tensor(keys[..., level : level + 1, :], INSIDE), 4 * num_targets + 4)
        drawn = numbers[:-4].view(4, num_targets, *numbers.shape[1:])
        targets.append(_inside(drawn, law, targets[-1]))
        contexts.append(context_block(numbers[-4:], law, targets[-1], grid, min_keep))
    return Blocks(targets=torch.cat(targets[::-1], -2), context=torch.cat(contexts[::-1], -2), choice=coarsest.choice)


def _inside(numbers: Tensor, law: Tensor, around: Tensor) -> Tensor:
    """Edges [4, T, ..., 1, B] of blocks inside others [4, T, ..., 1, B], from uniforms [4, T, ..., 1, B]."""
    low, high, _, _, together, aspect, growth = law.unsqueeze(-1).unbind(-2)
    area, ratio = draw_areas(numbers[0], low, high, together), aspect * exponential(numbers[1] * growth)
    top, bottom, left, right = around.unbind(0)
    tallest, widest = bottom - top, right - left
    height = torch.maximum((area / ratio).sqrt_().round_().clamp_min_(1), (area / widest).ceil_())
    height = torch.minimum(height, tallest)
    width = torch.minimum((area / height).round_().clamp_min_(1), widest)
    top = top + (numbers[2] * (tallest + 1 - height)).floor_()
    left = left + (numbers[3] * (widest + 1 - width)).floor_()
    return torch.stack([top, top + height, left, left + width])
