"""Kernels against their torch texts in Triton's interpreter, and the native passes too, on so many random settings of each.

    TRITON_INTERPRET=1 python tests/kernels/interpreted/equality.py blocks|families [10240]

Run by `test_triton.py`. A program of its own, because the variable must be set before a kernel is imported, and would slow
down nothing else here.
"""

import sys
from functools import partial

import numpy as np
import torch
from torch import Tensor

from hjepa.kernels import (
    block_masks,
    block_masks_triton,
    blockwise_masks,
    blockwise_masks_triton,
    chance,
    exact_blocks,
    exact_blocks_triton,
    folded_keys,
    folded_keys_triton,
    mask_indices,
    mask_indices_triton,
    native_masks,
    nested_blocks,
    nested_blocks_triton,
    shared_blocks,
    shared_blocks_triton,
    simple_masks,
    simple_masks_triton,
    token_gather,
    token_gather_triton,
    weighted_blocks,
    weighted_blocks_triton,
)
from hjepa.kernels.block_masks import BlockLaw
from hjepa.kernels.rectangles import masks_of, uniforms
from tests.kernels.interpreted.quicker import hurry

SIZES = [((14, 14), 4, 4), ((6, 6), 4, 1), ((24, 24), 3, 10), ((1, 17), 2, 1), ((33, 7), 1, 5)]
SIZES += [((9, 16), 5, 2), ((4, 4), 4, 1), ((64, 64), 2, 100), ((7, 1), 3, 2), ((16, 12), 6, 30)]
"""Grid, targets and min_keep of a launch, in which each row has a law of its own."""
LEVELS = 2
"""Of nested masks."""


def legal_law(numbers: np.random.Generator, grid: tuple[int, int], targets: int, min_keep: int) -> BlockLaw:
    most = (grid[0] * grid[1] - min_keep) / (grid[0] * grid[1]) / targets
    low, context = numbers.uniform(0.001, most - 1e-4), numbers.uniform(0.01, 1)
    aspect = numbers.uniform(0.3, 2)
    return BlockLaw(
        target_scale=(low, numbers.uniform(low, 1)),
        context_scale=(context, numbers.uniform(context, 1)),
        aspect_ratio=(aspect, numbers.uniform(aspect, 4)),
        fallback=(int(numbers.integers(1, grid[0] + 1)), int(numbers.integers(1, grid[1] + 1))),
    )


def same(what: str, wanted: tuple[Tensor, ...], *found: tuple[Tensor, ...]) -> None:
    for tensors in found:
        assert all(map(torch.equal, wanted, tensors)), what


def compare_tokens() -> None:
    """Gathering and combining, with padding, odd sizes and a patch in several groups."""
    generator = torch.Generator().manual_seed(0)
    for rows, groups, length, patches, width in ((1, 1, 1, 1, 1), (3, 2, 7, 33, 5), (2, 3, 33, 33, 130)):
        valid = torch.rand(rows, groups, length, generator=generator) < 0.7
        order = torch.rand(rows, groups, patches, generator=generator).argsort(-1)
        index = order[..., :length].masked_fill(~valid, 0)
        tokens = torch.randn(rows, patches, width, generator=generator)
        parts = token_gather.gather_reference(tokens, index, valid)
        assert torch.equal(token_gather_triton.gather(tokens, index, valid), parts)
        combined = token_gather_triton.combine(parts, token_gather.slots_of(index, valid, patches))
        assert torch.equal(combined, token_gather.combine_reference(parts, index, valid, patches))


def compare_blocks(
    laws: list[BlockLaw], keys: Tensor, grid: tuple[int, int], targets: int, min_keep: int, attempts: int
) -> int:
    """The laws exact and reference, plain and weighted, for keys [S, 1]; how often exact came to its last resort."""
    native = native_masks.has_native(keys, targets)
    exact, reference = exact_blocks.exact_law_tensor(laws, grid, targets, min_keep), block_masks.law_tensor(laws)
    where = f"{grid}, {targets} targets"
    numbers = {"num_targets": targets, "min_keep": min_keep}
    blocks = exact_blocks.draw_exact(keys, exact, grid, num_targets=targets, min_keep=min_keep)
    found = [exact_blocks_triton.exact_masks(keys, exact, grid, **numbers)]
    found += [native_masks.block_masks(keys, exact, grid, "exact", **numbers)] if native else []
    same(f"exact, {where}", masks_of(blocks, grid), *found)
    tries = {"num_targets": targets, "max_attempts": attempts}
    drawn = block_masks.draw_blocks(keys, reference, grid, num_targets=targets, max_attempts=attempts)
    found = [block_masks_triton.reference_masks(keys, reference, grid, **tries)]
    found += [native_masks.block_masks(keys, reference, grid, "reference", **tries)] if native else []
    same(f"reference, {where}", masks_of(drawn, grid), *found)
    weights = uniforms(chance.fold_tensor(keys[0, 0], 7), grid[0] * grid[1]).view(1, 1, -1) ** 4
    sums, keys, most = weighted_blocks.weight_sums(weights, grid), keys.unsqueeze(0), {"arrangements": 3}
    draw = partial(exact_blocks.draw_exact, laws=exact, grid=grid, num_targets=targets, min_keep=min_keep)
    chosen = [weighted_blocks_triton.weighted_exact(keys, exact, sums, grid, **numbers, **most)]
    chosen += [native_masks.weighted_keys(keys, exact, grid, "exact", sums, **numbers, **most)] if native else []
    same(f"weighted exact, {where}", (weighted_blocks.choose_keys(keys, sums, grid, draw, **most),), *zip(chosen))
    draw = partial(block_masks.draw_blocks, laws=reference, grid=grid, num_targets=targets, max_attempts=attempts)
    chosen = [weighted_blocks_triton.weighted_reference(keys, reference, sums, grid, **tries, **most)]
    chosen += [native_masks.weighted_keys(keys, reference, grid, "reference", sums, **tries, **most)] if native else []
    same(f"weighted reference, {where}", (weighted_blocks.choose_keys(keys, sums, grid, draw, **most),), *zip(chosen))
    return int((blocks.choice == exact_blocks.num_layouts(targets)).sum())


def compare_nested(laws: list[BlockLaw], keys: Tensor, grid: tuple[int, int], targets: int, min_keep: int) -> None:
    """Levels with the first laws, for keys [S, 1] as crops, levels and samples."""
    keys, numbers = keys.view(-1, LEVELS, 2), {"num_targets": targets, "min_keep": min_keep}
    exact = exact_blocks.exact_law_tensor(laws[:LEVELS], grid, targets, min_keep)
    found = [nested_blocks_triton.nested_masks(keys, exact, grid, **numbers)]
    found += (
        [native_masks.block_masks(keys, exact, grid, "nested", **numbers)] if native_masks.has_native(keys, targets) else []
    )
    wanted = nested_blocks.draw_nested(keys, exact, grid, num_targets=targets, min_keep=min_keep)
    same(f"nested, {grid}", masks_of(wanted, grid), *found)


def compare_families(numbers: np.random.Generator, keys: Tensor, grid: tuple[int, int]) -> None:
    """Blockwise masks of any size, blocks that a batch shares, tubes, and the indices of masks, for keys [S]."""
    patches, settings = grid[0] * grid[1], len(keys)
    counts = torch.from_numpy(numbers.integers(0, patches + 1, settings))
    law = {"min_patches": 4, "most": max(1, patches // 2), "rounds": 2}
    rest = {**law, "log_aspect": float(np.log(numbers.uniform(0.1, 1)))}
    found = [blockwise_masks_triton.blockwise_masks(keys, counts, grid, **rest)]
    found += [native_masks.blockwise_masks(keys, counts, grid, **rest)] if native_masks.has_native(keys) else []
    hidden = blockwise_masks.reference_masks(keys, counts, grid, **rest)
    same(f"blockwise, {grid}", (hidden,), *zip(found))
    context, block = ((int(numbers.integers(1, grid[0] + 1)), int(numbers.integers(1, grid[1] + 1))) for _ in range(2))
    blocks = {"num_targets": 2, "min_outside": int(numbers.integers(0, patches))}
    native = native_masks.has_native(keys)
    wanted = shared_blocks.block_reference(keys, context, block, grid, **blocks)
    found = [shared_blocks_triton.block_masks(keys, context, block, grid, **blocks)]
    found += [native_masks.shared_blocks(keys, context, block, grid, **blocks)] if native else []
    same(f"shared, {grid}", wanted, *found)
    tube, cube = (2, max(1, block[0] // 2), max(1, block[1] // 2)), (3, max(1, grid[0] // 2), max(1, grid[1] // 2))
    for frames in (1, 2, 3):
        found = [shared_blocks_triton.tube_masks(keys, tube, cube, 2, frames)]
        found += [native_masks.tube_masks(keys, tube, cube, 2, frames)] if native else []
        same(f"tubes, {grid}, {frames} frames", shared_blocks.tube_reference(keys, tube, cube, 2, frames), *found)
    compare_simple(numbers, keys, grid)
    for parts in range(1, folded_keys.MOST_PARTS + 1):
        drawn = [range(first, first + count) for first, count in numbers.integers([0, 1], [1 << 31, 4], (parts, 2)).tolist()]
        folded = folded_keys_triton.fold_ranges(keys[:7], *drawn)
        same(f"folded, {drawn}", (folded_keys.fold_reference(keys[:7], *drawn),), (folded,))
    length, order = int(numbers.integers(1, patches + 5)), chance.fold_tensor(keys, 9)
    union, least = wanted[1].any(1), int(numbers.integers(0, min(length, patches) + 1))
    for mask, beside, keep in ((hidden, None, 0), (wanted[0], union, least)):
        found = [mask_indices_triton.indices(mask, beside, length, keep, order)]
        found += [native_masks.indices(mask, beside, length, keep, order)] if native else []
        definition = mask_indices.mask_reference(mask, length, order)
        if beside is not None:
            definition = mask_indices.context_reference(mask, beside, length, keep, order)
        same(f"indices, {grid}", definition, *found)
    for lengths, keep in (((length, int(numbers.integers(1, patches + 5))), least), ((0, 2), 0), ((2, 0), 0)):
        of_context = mask_indices.context_reference(wanted[0], union, lengths[0], keep, order)
        definition = *of_context, *mask_indices.mask_reference(wanted[1], lengths[1], order.unsqueeze(-1))
        found = [mask_indices_triton.block_indices(*wanted, *lengths, keep, order)]
        same(f"indices of blocks, {grid}, {lengths}", definition, *found)


def compare_simple(numbers: np.random.Generator, keys: Tensor, grid: tuple[int, int]) -> None:
    """Random masks of the ends and of two sizes between, and a rectangle of each row that may reach out of the grid."""
    patches = grid[0] * grid[1]
    for count in (0, *numbers.integers(0, patches + 1, 2).tolist(), patches):
        found = simple_masks_triton.random_masks(keys, patches, count)
        same(f"random, {count} of {grid}", (simple_masks.random_reference(keys, patches, count),), (found,))
    high, wide = ([-side, side + 1] for side in grid)
    drawn = [numbers.integers(*ends, len(keys)) for ends in (high, wide, high, wide)]
    rectangles = torch.from_numpy(np.stack(drawn, axis=-1))
    found = simple_masks_triton.paint_rectangles(rectangles, grid)
    same(f"rectangles, {grid}", (simple_masks.paint_reference(rectangles, grid),), (found,))


def main() -> None:
    """Prints how many settings gave equal masks; anything else is an error."""
    hurry()
    compare_tokens()
    part, wanted = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 10240
    settings = 1024 if wanted >= 1024 * len(SIZES) else 256
    sizes = SIZES[: -(-wanted // settings)]
    # One program a launch, or as few as Triton's largest tensor allows: the interpreter is slow in programs.
    for launch in (block_masks_triton.LAUNCH, exact_blocks_triton.LAUNCH, nested_blocks_triton.LAUNCH):
        launch["ROWS"] = settings
    for launch in (weighted_blocks_triton.EXACT, weighted_blocks_triton.REFERENCE):
        launch["ROWS"] = settings
    numbers, last = np.random.default_rng(0), 0
    for launch, (grid, targets, min_keep) in enumerate(sizes):
        simple_masks_triton.PAINTED = settings
        rows = min(settings, (1 << 20) // (1 << (grid[0] * grid[1]).bit_length()))
        for module in (blockwise_masks_triton, shared_blocks_triton, simple_masks_triton):
            module.ROWS = rows
        mask_indices_triton.LAUNCH["ROWS"] = rows
        laws = [legal_law(numbers, grid, targets, min_keep) for _ in range(settings)]
        keys = chance.key_tensor(chance.key(launch, np.arange(settings)))
        if part == "blocks":
            last += compare_blocks(laws, keys.view(-1, 1), grid, targets, min_keep, launch + 1)
            compare_nested(laws, keys.view(-1, 1), grid, targets, min_keep)
        else:
            compare_families(numbers, keys, grid)
    assert last > 100 or part == "families", last  # the last resort was compared too
    print(f"{settings * len(sizes)} settings equal")


if __name__ == "__main__":
    sys.exit(main())
