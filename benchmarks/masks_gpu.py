"""Milliseconds that the masks of a batch take on a GPU: by hjepa's Triton kernels, and by the torch texts that define them.

    python benchmarks/masks_gpu.py [--batch 256] [--rounds 20]

2 global crops, 3 levels, 14 x 14 patches, 4 targets. Medians after warm-up, between CUDA events around the launches and of the
host's time to enqueue them, as in fused_gpu.py. What the CPU takes for them is in masks.py.
"""

import argparse
from collections.abc import Callable

import numpy as np
import torch
from fused_gpu import measure
from rich.console import Console
from rich.table import Table

from hjepa.kernels import chance
from hjepa.kernels.exact_blocks import draw_exact, exact_law_tensor
from hjepa.kernels.folded_keys import fold_ranges
from hjepa.kernels.mask_indices import block_indices
from hjepa.kernels.rectangles import masks_of
from hjepa.pipeline.multicrop_masks import MultiCropMaskGenerator

CONTEXT, TARGET = 98, 49
"""Length of the indices."""


def contests(batch: int, device: str) -> dict[str, Callable[[], object]]:
    """What is measured."""
    keys, weights = chance.key_tensor(chance.key(0, np.arange(batch)), device), torch.rand(batch, 196, device=device)
    exact, reference = MultiCropMaskGenerator(), MultiCropMaskGenerator(law="reference")
    nested, sampler = MultiCropMaskGenerator(nested=True), exact.global_sampler
    laws = exact_law_tensor(sampler.laws, sampler.grid, sampler.num_target_masks, sampler.min_keep).to(device)
    numbers = {"num_targets": sampler.num_target_masks, "min_keep": sampler.min_keep}
    rows = fold_ranges(keys, range(2), range(3))
    masks = exact.sample(keys)

    return {
        "reference": lambda: reference.sample(keys),
        "exact": lambda: exact.sample(keys),
        "exact, nested": lambda: nested.sample(keys),
        "exact, weighted": lambda: exact.sample(keys, weights),
        "exact, torch text": lambda: masks_of(draw_exact(rows, laws, sampler.grid, **numbers), sampler.grid),
        "their indices": lambda: block_indices(masks.context, masks.targets, CONTEXT, TARGET, 1, rows),
    }


def main() -> None:
    """Measures and shows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=20)
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("this needs a CUDA GPU, and torch finds none")
    table = Table(f"masks of {arguments.batch} images", "on the GPU, ms", "enqueued in, ms")
    for name, draw in contests(arguments.batch, "cuda").items():
        on_gpu, on_host = measure(draw, arguments.rounds)
        table.add_row(name, f"{on_gpu:.3f}", f"{on_host:.3f}")
    Console().print(table)


if __name__ == "__main__":
    main()
