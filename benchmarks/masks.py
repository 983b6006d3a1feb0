"""CPU milliseconds that the masks of a batch take: hjepa's samplers, and the published algorithms as they are written.

    python benchmarks/masks.py [--batch 256] [--rounds 7] [--threads 1] [--output FILE.json]

On the CPU, 14 x 14 patches. Rounds are interleaved; medians of CPU time, which neighbours change little. The published ones
are Python loops over samples (`mask_loops.py`); hjepa makes the same shapes for the whole batch at once.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import mask_loops
import numpy as np
import torch
from record import described, output_file, whole, write
from rich.console import Console
from rich.table import Table

from hjepa.kernels import chance
from hjepa.kernels.blockwise_masks import blockwise_masks, stratified_counts
from hjepa.kernels.exact_blocks import draw_exact, exact_law_tensor
from hjepa.kernels.mask_indices import block_indices, mask_indices
from hjepa.kernels.rectangles import masks_of
from hjepa.kernels.shared_blocks import block_masks, tube_masks
from hjepa.pipeline.masks import HierarchicalMaskGenerator, MultiBlockMaskGenerator
from hjepa.pipeline.multicrop_masks import MultiCropMaskGenerator

GRID = (14, 14)
REPEATS = 5
"""Batches of hjepa's in a round; the published algorithms make one."""


def main() -> None:
    """Measures, shows and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rounds", type=whole, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=output_file, help="JSON file for every figure")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    found = measure(arguments.batch, arguments.rounds)
    show(found)
    result = {
        **described(),
        "threads": arguments.threads,
        "batch": arguments.batch,
        "rounds": arguments.rounds,
        "cpu_milliseconds": found,
    }
    if arguments.output:
        write(arguments.output, result)


def contests(batch: int) -> dict[str, dict[str, Callable[[], object]]]:
    """What is measured: of each family, the published loops and hjepa's."""
    keys = chance.key_tensor(chance.key(0, np.arange(batch)))
    of_crops = chance.key(0, np.arange(2 * batch))
    crops = chance.key_tensor(of_crops)

    def blockwise() -> torch.Tensor:
        counts, _ = stratified_counts(of_crops, GRID[0] * GRID[1], probability=0.5, ratio=(0.1, 0.5), at_most=True)
        return blockwise_masks(crops, torch.from_numpy(counts), GRID)

    weights = torch.rand(batch, GRID[0] * GRID[1])
    return {
        "multi-block": {
            "loops": lambda: [mask_loops.sample(GRID, (0.15, 0.2), (0.85, 1.0), (0.75, 1.5), (3, 3)) for _ in range(batch)],
            "hjepa reference": lambda: MULTI_BLOCK["reference"].sample(keys),
            "hjepa exact": lambda: MULTI_BLOCK["exact"].sample(keys),
        },
        "hierarchical, 3 levels": {
            "loops": lambda: mask_loops.hierarchical(batch),
            "hjepa reference": lambda: HIERARCHICAL["reference"].sample(keys),
            "hjepa exact": lambda: HIERARCHICAL["exact"].sample(keys),
        },
        "multi-crop, 3 levels, 2 globals": {
            "loops": lambda: mask_loops.multicrop(batch),
            "hjepa reference": lambda: MULTI_CROP["reference"].sample(keys),
            "hjepa exact": lambda: MULTI_CROP["exact"].sample(keys),
            "hjepa exact, nested": lambda: MULTI_CROP["nested"].sample(keys),
            "hjepa exact, weighted": lambda: MULTI_CROP["exact"].sample(keys, weights),
            "hjepa exact, without the native pass": lambda: torch_text(keys),
        },
        "I-JEPA, with indices": {"loops": lambda: mask_loops.ijepa(batch), "hjepa": lambda: of_ijepa(keys)},
        "V-JEPA 2, 8 x 16 x 16, with indices": {"loops": lambda: mask_loops.vjepa2(batch), "hjepa": lambda: tubes(keys)},
        "DINOv2, 2 globals": {"loops": lambda: mask_loops.dinov2(2 * batch), "hjepa": blockwise},
    }


MULTI_BLOCK: dict[str, Any] = {law: MultiBlockMaskGenerator(law=law) for law in ("reference", "exact")}
HIERARCHICAL: dict[str, Any] = {law: HierarchicalMaskGenerator(law=law) for law in ("reference", "exact")}
MULTI_CROP: dict[str, Any] = {law: MultiCropMaskGenerator(law=law) for law in ("reference", "exact")}
MULTI_CROP["nested"] = MultiCropMaskGenerator(nested=True)


def of_ijepa(keys: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """I-JEPA's contexts, as indices of the batch's least length, and targets."""
    context, targets = block_masks(keys, (13, 13), (6, 6), GRID, num_targets=4, min_outside=11)
    length = max(11, int(context.sum(-1).amin()))
    return block_indices(context, targets, length, target_length=36, min_keep=11, keys=chance.fold_tensor(keys, 1))


def tubes(keys: torch.Tensor) -> list[torch.Tensor]:
    """V-JEPA 2's context and targets as indices of the least length; of frames alike one is drawn, as the adapter does."""
    masks, order = tube_masks(keys, (1, 7, 5), (1, 16, 16), 8), chance.fold_tensor(keys, 1)
    starts = torch.arange(8).unsqueeze(-1) * 16 * 16
    indices = (mask_indices(mask, int(mask.sum(-1).amin()), order)[0] for mask in masks)
    return [(index.unsqueeze(1) + starts).flatten(1) for index in indices]


def torch_text(keys: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The masks of MULTI_CROP["exact"], as they are made where the native pass was not built."""
    sampler = MULTI_CROP["exact"].global_sampler
    laws = exact_law_tensor(sampler.laws, GRID, sampler.num_target_masks, sampler.min_keep)
    rows = chance.fold_tensor(keys, torch.arange(6).view(2, 3, 1))
    return masks_of(draw_exact(rows, laws, GRID, num_targets=sampler.num_target_masks, min_keep=sampler.min_keep), GRID)


def measure(batch: int, rounds: int) -> dict[str, dict[str, float]]:
    """Median CPU milliseconds of a batch, by family and implementation."""
    times: dict[tuple[str, str], list[float]] = {}
    runs = {(family, name): run for family, those in contests(batch).items() for name, run in those.items()}
    for _ in range(rounds):
        for place, run in runs.items():
            repeats = 1 if place[1] == "loops" else REPEATS
            if repeats > 1:
                run()
            for _ in range(repeats):
                start = time.process_time()
                run()
                times.setdefault(place, []).append(1e3 * (time.process_time() - start))
    found: dict[str, dict[str, float]] = {}
    for (family, name), taken in times.items():
        found.setdefault(family, {})[name] = round(statistics.median(taken), 3)
    return found


def show(found: dict[str, dict[str, float]]) -> None:
    """A table with ratios to the published algorithm."""
    table = Table("masks of a batch", "sampler", "CPU ms", "times as fast")
    for family, those in found.items():
        for name, taken in those.items():
            table.add_row(family, name, f"{taken:.2f}", f"{those['loops'] / taken:.0f}")
    Console().print(table)


if __name__ == "__main__":
    main()
