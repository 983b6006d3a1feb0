"""Kernels against their torch texts in Triton's interpreter, on 10 240 random settings each: run by `test_triton.py`.

    TRITON_INTERPRET=1 python tests/kernels/interpreted/equality.py

A program of its own, because the variable must be set before a kernel is imported, and would slow down nothing else here.
"""

import sys

import numpy as np
import torch

from hjepa.kernels import (
    block_masks,
    block_masks_triton,
    chance,
    exact_blocks,
    exact_blocks_triton,
    token_gather,
    token_gather_triton,
)
from hjepa.kernels.block_masks import BlockLaw

SETTINGS = 1024
"""In one launch: each row has a law of its own."""
SIZES = [((14, 14), 4, 4), ((6, 6), 4, 1), ((24, 24), 3, 10), ((1, 17), 2, 1), ((33, 7), 1, 5)]
SIZES += [((9, 16), 5, 2), ((4, 4), 4, 1), ((64, 64), 2, 100), ((7, 1), 3, 2), ((16, 12), 6, 30)]
"""Grid, targets and min_keep of a launch."""


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


def main() -> None:
    """Prints how many settings gave equal masks; anything else is an error."""
    compare_tokens()
    numbers = np.random.default_rng(0)
    block_masks_triton.ROWS = exact_blocks_triton.ROWS = SETTINGS  # one program a launch: the interpreter is slow in programs
    equal, last = 0, 0
    for launch, (grid, targets, min_keep) in enumerate(SIZES):
        laws = [legal_law(numbers, grid, targets, min_keep) for _ in range(SETTINGS)]
        keys = chance.key_tensor(chance.key(launch, np.arange(SETTINGS))).view(SETTINGS, 1)
        exact = exact_blocks.exact_law_tensor(laws, grid, targets, min_keep)
        wanted = exact_blocks.exact_masks(keys, exact, grid, num_targets=targets, min_keep=min_keep)
        found = exact_blocks_triton.exact_masks(keys, exact, grid, num_targets=targets, min_keep=min_keep)
        assert all(map(torch.equal, wanted, found)), ("exact", grid, targets)
        choice = exact_blocks.draw_exact(keys, exact, grid, num_targets=targets, min_keep=min_keep).choice
        last += int((choice == exact_blocks.num_layouts(targets)).sum())
        attempts, reference = launch + 1, block_masks.law_tensor(laws)
        wanted = block_masks.block_masks(keys, reference, grid, num_targets=targets, max_attempts=attempts)
        found = block_masks_triton.reference_masks(keys, reference, grid, num_targets=targets, max_attempts=attempts)
        assert all(map(torch.equal, wanted, found)), ("reference", grid, targets)
        equal += SETTINGS
    assert last > SETTINGS, last  # the last resort was compared too
    print(f"{equal} settings equal")


if __name__ == "__main__":
    sys.exit(main())
