"""Launches of the Triton kernels, compiled with what Triton makes of their arguments on a GPU; there need not be one.

    python tests/kernels/compiled/launches.py

Run by `test_triton.py`. A program of its own, because it gives Triton a GPU that runs nothing. Neither the interpreter nor
benchmarks/kernels_aot.py sees what is seen here: of an argument that is 1 Triton makes a constant, for multiples of 16 another
kernel. Sizes of 1 are therefore in every launch.
"""

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from triton.backends.compiler import GPUTarget
from triton.runtime import JITFunction, driver

from hjepa.kernels import (
    block_masks_triton,
    blockwise_masks_triton,
    chance,
    exact_blocks_triton,
    folded_keys_triton,
    fused_crops_triton,
    mask_indices_triton,
    nested_blocks_triton,
    shared_blocks_triton,
    simple_masks_triton,
    token_gather_triton,
    weighted_blocks,
    weighted_blocks_triton,
)
from hjepa.kernels.block_masks import law_tensor
from hjepa.kernels.exact_blocks import exact_law_tensor
from hjepa.pipeline.masks import hierarchy_laws
from tests.kernels.test_fused_crops import MEAN, STD, decoded, pictures, random_group

GRIDS = [((14, 14), 4), ((1, 17), 1), ((7, 1), 1), ((1, 1), 1)]
"""Grid and targets."""
BATCHES = (1, 7, 16)
compiled: dict[str, set[int]] = {}
launch = JITFunction.run
current: list[int] = []
"""Devices that are the current one, the last of them."""


class NoGpu:
    """What Triton asks of a GPU before it compiles for one."""

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 90, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return device


def compile_only(kernel: Any, *arguments: Any, grid: Any, warmup: bool, **options: Any) -> None:
    assert current == [-1], f"{kernel.__name__} is started on whatever device is the current one"
    made = launch(kernel, *arguments, grid=grid, warmup=True, **options)
    compiled.setdefault(kernel.__name__, set()).add(id(made))


@contextmanager
def device(number: int) -> Iterator[None]:
    """In the stead of torch.cuda.device."""
    current.append(number)
    yield
    current.pop()


def blocks(grid: tuple[int, int], targets: int, samples: int) -> None:
    """The laws of block masks, with the least context there is."""
    laws, patches = hierarchy_laws(grid, 1, "geometric", (0.05, 0.15), (0.75, 1.5)), grid[0] * grid[1]
    keys, reference = chance.key_tensor(chance.key(0, np.arange(samples))).view(1, 1, -1), law_tensor(laws)
    sums = weighted_blocks.weight_sums(torch.ones(1, samples, patches), grid)
    tries = {"num_targets": targets, "max_attempts": 10}
    block_masks_triton.reference_masks(keys, reference, grid, **tries)
    weighted_blocks_triton.weighted_reference(keys, reference, sums, grid, **tries, arrangements=16)
    if patches > targets:
        exact, least = exact_law_tensor(laws, grid, targets, 1), {"num_targets": targets, "min_keep": 1}
        exact_blocks_triton.exact_masks(keys, exact, grid, **least)
        nested_blocks_triton.nested_masks(keys, exact, grid, **least)
        weighted_blocks_triton.weighted_exact(keys, exact, sums, grid, **least, arrangements=16)


def families(grid: tuple[int, int], targets: int, samples: int) -> None:
    """Every other kind of mask, and the indices of masks."""
    keys, patches = chance.key_tensor(chance.key(0, np.arange(samples))), grid[0] * grid[1]
    counts = torch.ones(samples, dtype=torch.int64)
    for least, rounds in ((4, 16), (1, 1)):
        blockwise_masks_triton.blockwise_masks(keys, counts, grid, min_patches=least, most=least, rounds=rounds, log_aspect=-1)
    shared_blocks_triton.block_masks(keys, grid, (1, 1), grid, num_targets=targets, min_outside=1)
    shared_blocks_triton.tube_masks(keys, (1, 1, 1), (1, *grid), targets, 1)
    simple_masks_triton.random_masks(keys, patches, 1)
    simple_masks_triton.paint_rectangles(keys.view(-1, 1).expand(-1, 4), grid)
    for parts in range(1, 5):
        folded_keys_triton.fold_ranges(keys, *[range(1, 2)] * parts)
        folded_keys_triton.fold_ranges(keys, *[range(16, 32)] * parts)
    masks = torch.zeros(samples, patches, dtype=torch.bool)
    for length in (1, patches):
        mask_indices_triton.indices(masks, None, length, 0, keys)
        mask_indices_triton.indices(masks, masks, length, 1, keys)
        mask_indices_triton.block_indices(masks, masks.unsqueeze(1).expand(-1, targets, -1), length, 1, 1, keys)


def tokens(rows: int, dtype: torch.dtype) -> None:
    for groups, length, patches, width in ((1, 1, 1, 1), (4, 16, 196, 192)):
        index = torch.zeros(rows, groups, length, dtype=torch.int64)
        token_gather_triton.gather(torch.zeros(rows, patches, width, dtype=dtype), index, index == 0)
        slots = torch.zeros(rows, groups, patches, dtype=torch.int64)
        token_gather_triton.combine(torch.zeros(rows, groups, length, width, dtype=dtype), slots)


def crops(sizes: list[tuple[int, int]], size: int, dtype: torch.dtype) -> None:
    """Crops with a contrast and a blur, so that each of the kernels is launched."""
    images, shape = pictures(sizes), (len(sizes), 1)
    sigma, jitter = np.ones(shape, np.float32), np.full((*shape, 4), 0.5, np.float32)
    out = torch.zeros(1, len(sizes), 3, size, size, dtype=dtype)
    group = random_group(images, 1, size, sigma=sigma, jitter=jitter, out=out)
    fused_crops_triton.render(decoded(images), [group], MEAN, STD)


def main() -> None:
    """Prints the kernels' names; what does not compile, or is compiled for some batches again, is an error."""
    driver.set_active(NoGpu())
    JITFunction.run, torch.cuda.device = compile_only, device
    for samples in BATCHES:
        for grid, targets in GRIDS:
            blocks(grid, targets, samples)
            families(grid, targets, samples)
    mask_kernels = Counter({name: len(made) for name, made in compiled.items()})
    for name in ("reference", "exact", "nested", "weighted_reference", "weighted_exact"):
        assert mask_kernels[f"{name}_kernel"] == 2, mask_kernels  # for 1 and for 4 targets
    assert mask_kernels["fold_kernel"] == 4, mask_kernels  # for 1 to 4 parts
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        tokens(2, dtype)
        crops([(1, 1)], 1, dtype)
        crops([(40, 61), (30, 20)], 33, dtype)
    print(" ".join(sorted(compiled)))


if __name__ == "__main__":
    sys.exit(main())
