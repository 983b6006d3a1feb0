"""The law "reference": rectangles drawn by rejection for every sample, crop and level at once, as document E's generators do.

T target blocks in order, each redrawn (scale, aspect, place) until it is clear of the targets before it, at most A times, and
then a small fallback block anywhere, which may lie on others; one context block with no condition, less the targets. Blocks as
prediction targets: I-JEPA, arXiv 2301.08243, section 3. What makes it fast:

* All candidates of all blocks are drawn together; a candidate is clear of an occupancy map exactly if it is clear of the
  rectangles that made the map, so rejection compares rectangles, and only the accepted ones are painted.
* No step looks at a value, so nothing waits for the device, and shapes depend on sizes alone: fit for a CUDA graph.
"""

# L levels, B samples, ... further leading axes (crops); T targets, A attempts, H x W grid, N = H * W patches

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hjepa.kernels import native_masks
from hjepa.kernels.rectangles import Blocks, Grid, has_kernel, masks_of, place, uniforms


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockLaw:
    """What one level draws its blocks from. The law "exact" (`kernels.exact_blocks`) has no use for the fallback."""

    target_scale: tuple[float, float]
    """Least and greatest area of a target block, as a share of the grid."""
    context_scale: tuple[float, float]
    """Least and greatest area of the context block before the targets are removed, as a share of the grid."""
    aspect_ratio: tuple[float, float]
    """Least and greatest width / height, of targets and context."""
    fallback: tuple[int, int]
    """Height and width, in patches, of a target that found no free place."""


def law_tensor(laws: Sequence[BlockLaw]) -> Tensor:
    """The laws of L levels as float32 [L, 8] on the CPU. Copy it to the device once: a copy in every step would be a wait."""
    rows = [(*law.target_scale, *law.context_scale, *law.aspect_ratio, *law.fallback) for law in laws]
    return torch.tensor(rows, dtype=torch.float32, device="cpu")


def block_masks(keys: Tensor, laws: Tensor, grid: Grid, *, num_targets: int, max_attempts: int) -> tuple[Tensor, Tensor]:
    """Context bool [..., L, B, N] and targets bool [..., L, B, T, N], True = use, on the device of the keys.

    keys: int64 [..., L, B], one for each sample, crop and level; laws: `law_tensor`, on the same device. Context and targets
    are disjoint; a target overlaps an earlier one only where it is the fallback.
    """
    if has_kernel(keys, num_targets):
        from hjepa.kernels.block_masks_triton import reference_masks  # here: Triton may not be installed

        return reference_masks(keys, laws, grid, num_targets=num_targets, max_attempts=max_attempts)
    if native_masks.has_native(keys, num_targets):
        numbers = {"num_targets": num_targets, "max_attempts": max_attempts}
        return native_masks.block_masks(keys, laws, grid, "reference", **numbers)
    return masks_of(draw_blocks(keys, laws, grid, num_targets=num_targets, max_attempts=max_attempts), grid)


def draw_blocks(keys: Tensor, laws: Tensor, grid: Grid, *, num_targets: int, max_attempts: int) -> Blocks:
    """The rectangles behind `block_masks`, and which candidate each one was.

    Candidate a of target t is made from number t * (A + 1) + a of the row's key, the context from number T * (A + 1). The
    fallback is the last candidate: of another size and accepted wherever it lies.
    """
    candidates = max_attempts + 1
    count = num_targets * candidates + 1
    numbers = uniforms(keys, 4 * count).view(count, 4, *keys.shape).transpose(0, 1)
    columns = laws.unsqueeze(-1).unbind(-2)  # each [L, 1]
    context = _candidates(numbers[:, -1], columns[2:4], columns[4:6], grid)
    numbers = numbers[:, :-1].reshape(4, num_targets, candidates, *keys.shape)
    redrawn = _candidates(numbers[:, :, :-1], columns[0:2], columns[4:6], grid)
    fallback = place(numbers[2:, :, -1:], columns[6].clamp_max(grid[0]), columns[7].clamp_max(grid[1]), grid)
    targets, accepted = _accept(torch.cat([redrawn, fallback], dim=2))
    return Blocks(targets=targets, context=context, choice=accepted)


def _candidates(numbers: Tensor, scale: Sequence[Tensor], aspect: Sequence[Tensor], grid: Grid) -> Tensor:
    """Edges [4, ..., L, B] of blocks from four uniforms each: scale, aspect, top, left."""
    area = (scale[0] + numbers[0] * (scale[1] - scale[0])).mul_(grid[0] * grid[1])
    ratio = aspect[0] + numbers[1] * (aspect[1] - aspect[0])
    height = (area / ratio).sqrt_().round_()  # half to even, as numpy and Python round
    width = (height * ratio).round_()  # from the rounded height, before the clamp: part of the law
    return place(numbers[2:], height.clamp_(1, grid[0]), width.clamp_(1, grid[1]), grid)


def _accept(candidates: Tensor) -> tuple[Tensor, Tensor]:
    """Edges [4, T, ...] and numbers [T, ...] of the first of each target's candidates [4, T, A + 1, ...] that is accepted.

    Accepted is what is clear of the targets accepted before it, and the last candidate in any case.
    """
    last = candidates.shape[2] - 1
    numbers = torch.arange(last, device=candidates.device).view(-1, *[1] * (candidates.ndim - 3))
    accepted = [torch.zeros_like(candidates[0, 0, 0], dtype=torch.int64)]
    edges = [candidates[:, 0, 0]]
    for tries in candidates.unbind(1)[1:]:
        top, bottom, left, right = tries[:, :last].unbind(0)
        blocked = torch.zeros_like(top, dtype=torch.bool)
        for other in edges:
            blocked |= (top < other[1]) & (bottom > other[0]) & (left < other[3]) & (right > other[2])
        first = torch.where(blocked, last, numbers).amin(0)
        accepted.append(first)
        edges.append(tries.gather(1, first.expand(4, 1, *first.shape)).squeeze(1))
    return torch.stack(edges, dim=1), torch.stack(accepted)
