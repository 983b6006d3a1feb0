"""The published mask samplers as they are written: Python loops over samples, one global source of chance, numpy.

`benchmarks/masks.py` measures hjepa against them, and the tests hold the law "reference" against `hierarchical`, whose every
draw is counted here. Algorithms: document E's generators; I-JEPA's MaskCollator (arXiv 2301.08243); DINOv2's MaskingGenerator,
which is BEiT's (arXiv 2106.08254); V-JEPA 2's MaskCollator (arXiv 2506.09985).
"""

# B samples, T targets, H x W grid, N = H * W patches

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Mask = npt.NDArray[np.bool_]
Range = tuple[float, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Draw:
    """Masks of one sample, and how they came about."""

    context: Mask
    """bool [H, W], the targets removed"""
    targets: list[Mask]
    """T of bool [H, W]"""
    context_area: int
    """Patches of the context block before the targets are removed"""
    attempts: list[int] = field(default_factory=list)
    """Of each target; max_attempts + 1 where it is the fallback"""


def block(
    grid: tuple[int, int], scale: Range, aspect: Range, occupied: Mask | None, fallback: tuple[int, int], max_attempts: int
) -> tuple[Mask, int]:
    """A block clear of what is occupied, or the fallback anywhere; and the attempts it took."""
    height, width = grid
    attempt = 0
    while attempt < max_attempts:
        attempt += 1
        area = np.random.uniform(*scale) * height * width  # noqa: NPY002  # as published
        ratio = np.random.uniform(*aspect)  # noqa: NPY002
        rows = int(np.round(np.sqrt(area / ratio)))
        columns = int(np.round(rows * ratio))
        rows, columns = min(max(rows, 1), height), min(max(columns, 1), width)
        top = np.random.randint(0, height - rows + 1)  # noqa: NPY002
        left = np.random.randint(0, width - columns + 1)  # noqa: NPY002
        if occupied is None or not occupied[top : top + rows, left : left + columns].any():
            break
    else:
        attempt, (rows, columns) = max_attempts + 1, fallback
        top = np.random.randint(0, height - rows + 1)  # noqa: NPY002
        left = np.random.randint(0, width - columns + 1)  # noqa: NPY002
    mask = np.zeros(grid, dtype=bool)
    mask[top : top + rows, left : left + columns] = True
    return mask, attempt


def sample(
    grid: tuple[int, int],
    target_scale: Range,
    context_scale: Range,
    aspect: Range,
    fallback: tuple[int, int],
    num_targets: int = 4,
    max_attempts: int = 10,
) -> Draw:
    """One sample of one level."""
    occupied = np.zeros(grid, dtype=bool)
    targets, attempts = [], []
    for _ in range(num_targets):
        target, taken = block(grid, target_scale, aspect, occupied, fallback, max_attempts)
        occupied |= target
        targets.append(target)
        attempts.append(taken)
    context, _ = block(grid, context_scale, aspect, None, fallback, max_attempts)
    return Draw(context=context & ~occupied, targets=targets, context_area=int(context.sum()), attempts=attempts)


def levels(grid: tuple[int, int], count: int, base: Range, aspect: Range, progression: str) -> list[tuple[Range, ...]]:
    """Target scale, context scale, aspect and fallback of each level."""
    found: list[tuple[Range, ...]] = []
    for level in range(count):
        growth = 2**level if progression == "geometric" else 1 + level
        start = 0.6 + 0.3 * level / max(1, count - 1)
        found.append(
            (
                (min(0.95, base[0] * growth), min(0.95, base[1] * growth)),
                (min(0.95, start), min(1.0, start + 0.15)),
                (max(aspect[0], 0.85), min(aspect[1], 1.15)) if level == 0 else aspect,
                (max(1, grid[0] // (level + 2)), max(1, grid[1] // (level + 2))),
            )
        )
    return found


def hierarchical(
    batch_size: int,
    grid: tuple[int, int] = (14, 14),
    count: int = 3,
    base: Range = (0.05, 0.15),
    aspect: Range = (0.75, 1.5),
    progression: str = "geometric",
) -> dict[str, dict[str, Tensor]]:
    """Document E's dict for a batch: context bool [B, N] and targets bool [B, T, N] of each level."""
    masks = {}
    for number, (target, context, ratio, fallback) in enumerate(levels(grid, count, base, aspect, progression)):
        draws = [sample(grid, target, context, ratio, (int(fallback[0]), int(fallback[1]))) for _ in range(batch_size)]
        contexts = [torch.from_numpy(draw.context.flatten()) for draw in draws]
        targets = [torch.stack([torch.from_numpy(target.flatten()) for target in draw.targets]) for draw in draws]
        masks[f"level_{number}"] = {"context": torch.stack(contexts), "targets": torch.stack(targets)}
    return masks


def multicrop(batch_size: int, num_globals: int = 2) -> dict[str, dict[str, dict[str, Tensor]]]:
    """Document A's global masks for a batch, with its default settings."""
    return {f"crop_{crop}": hierarchical(batch_size) for crop in range(num_globals)}


def ijepa(batch_size: int, grid: tuple[int, int] = (14, 14), min_keep: int = 10) -> tuple[Tensor, list[Tensor]]:
    """I-JEPA's collator: context int64 [B, K] and 4 targets int64 [B, K'], of block sizes that the batch shares."""
    sizes = []
    for scale, aspect in (((0.15, 0.2), (0.75, 1.5)), ((0.85, 1.0), (1.0, 1.0))):
        uniform = torch.rand(1).item()
        area = int(grid[0] * grid[1] * (scale[0] + uniform * (scale[1] - scale[0])))
        ratio = aspect[0] + uniform * (aspect[1] - aspect[0])
        rows, columns = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        sizes.append((min(rows, grid[0] - 1), min(columns, grid[1] - 1)))
    contexts, targets = [], []
    for _ in range(batch_size):
        drawn, allowed = [], torch.ones(grid, dtype=torch.int32)
        for _ in range(4):
            index, outside = _patches(sizes[0], grid, torch.ones(grid, dtype=torch.int32), min_keep)
            drawn.append(index)
            allowed *= outside
        targets.append(drawn)
        contexts.append(_patches(sizes[1], grid, allowed, min_keep)[0])
    shortest = min(len(context) for context in contexts)
    stacked = [torch.stack([drawn[number] for drawn in targets]) for number in range(4)]
    return torch.stack([context[:shortest] for context in contexts]), stacked


def _patches(size: tuple[int, int], grid: tuple[int, int], allowed: Tensor, min_keep: int) -> tuple[Tensor, Tensor]:
    """Patches of a block where it is allowed, more than min_keep, and the grid without the block."""
    while True:
        top = int(torch.randint(0, grid[0] - size[0], (1,)))
        left = int(torch.randint(0, grid[1] - size[1], (1,)))
        mask = torch.zeros(grid, dtype=torch.int32)
        mask[top : top + size[0], left : left + size[1]] = 1
        index = torch.nonzero((mask * allowed).flatten()).squeeze(-1)
        if len(index) > min_keep:
            return index, 1 - mask


def vjepa2(
    batch_size: int, grid: tuple[int, int, int] = (8, 16, 16), blocks: int = 8, scale: float = 0.15
) -> tuple[Tensor, Tensor]:
    """V-JEPA 2's collator, one mask setting: context int64 [B, K] and targets int64 [B, K'], cut to the batch's smallest."""
    _, height, width = grid
    ratio = 0.75 + torch.rand(1).item() * 0.75
    area = int(height * width * scale)
    rows, columns = min(round(math.sqrt(area * ratio)), height), min(round(math.sqrt(area / ratio)), width)
    contexts, targets = [], []
    for _ in range(batch_size):
        mask = torch.ones(grid, dtype=torch.int32)
        for _ in range(blocks):
            top, left = (int(torch.randint(0, side + 1, (1,))) for side in (height - rows, width - columns))
            mask[:, top : top + rows, left : left + columns] = 0
        contexts.append(torch.nonzero(mask.flatten()).squeeze(-1))
        targets.append(torch.nonzero(mask.flatten() == 0).squeeze(-1))
    shortest = [min(len(index) for index in indices) for indices in (contexts, targets)]
    kept = ([index[:count] for index in indices] for indices, count in zip((contexts, targets), shortest, strict=True))
    first, second = map(torch.stack, kept)
    return first, second


def dinov2(num_crops: int, grid: tuple[int, int] = (14, 14), ratio: Range = (0.1, 0.5)) -> Tensor:
    """DINOv2's masks bool [crops, N]: half of the crops, with sizes spread over the ratios."""
    ends = torch.linspace(*ratio, num_crops // 2 + 1)
    masks = [_blockwise(grid, 0) for _ in range(num_crops - num_crops // 2)]
    for low, high in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True):
        masks.append(_blockwise(grid, int(grid[0] * grid[1] * np.random.uniform(low, high))))  # noqa: NPY002
    np.random.shuffle(masks)  # noqa: NPY002
    return torch.stack([torch.from_numpy(mask.flatten()) for mask in masks])


def _blockwise(grid: tuple[int, int], wanted: int) -> Mask:
    """BEiT's loop: blocks until so many patches are hidden, or none is found in 10 attempts."""
    mask, count = np.zeros(grid, dtype=bool), 0
    while count < wanted:
        added, room = 0, min(wanted - count, grid[0] * grid[1] // 2)
        for _ in range(10):
            area = np.random.uniform(4, room)  # noqa: NPY002
            ratio = math.exp(np.random.uniform(math.log(0.3), math.log(1 / 0.3)))  # noqa: NPY002
            rows, columns = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if rows >= grid[0] or columns >= grid[1]:
                continue
            top, left = np.random.randint(0, grid[0] - rows + 1), np.random.randint(0, grid[1] - columns + 1)  # noqa: NPY002
            part = mask[top : top + rows, left : left + columns]
            if 0 < part.size - part.sum() <= room:
                added = int(part.size - part.sum())
                part[:] = True
                break
        if not added:
            break
        count += added
    return mask
