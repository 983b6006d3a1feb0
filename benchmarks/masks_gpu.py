"""Milliseconds that the masks of a batch take on a GPU: by hjepa's Triton kernels, and by the torch texts that define them.

    python benchmarks/masks_gpu.py [--batch 256] [--rounds 20] [--output FILE]

2 global crops, 3 levels, 14 x 14 patches, 4 targets. Medians after warm-up, between CUDA events around the launches and of the
host's time to enqueue them, as in fused_gpu.py; and of a CUDA graph's replay, for which the host launches once. What the CPU
takes for them is in masks.py.
"""

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from fused_gpu import measure
from record import described, output_file, write
from rich.console import Console
from rich.markdown import Markdown

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
    parser.add_argument("--output", type=output_file, help="JSON file for every figure")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("this needs a CUDA GPU, and torch finds none")
    rows = {}
    for name, draw in contests(arguments.batch, "cuda").items():
        on_gpu, on_host = measure(draw, arguments.rounds)
        rows[name] = {"on_gpu_ms": on_gpu, "on_host_ms": on_host, "replayed_ms": measure(captured(draw), arguments.rounds)[0]}
    result = {
        **described(torch.device("cuda")),
        "batch": arguments.batch,
        "rows": rows,
    }
    Console().print(Markdown(markdown(result)))
    if arguments.output:
        write(arguments.output, result)


def captured(draw: Callable[[], object]) -> Callable[[], None]:
    """Replays it as a CUDA graph."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        draw()
    return graph.replay


def markdown(result: dict[str, Any]) -> str:
    """The command, the machine, and the medians."""
    where = result["machine"]
    lines = [
        f"`{result['command']}`, {result['date']}: {where['device']}, torch {where['versions']['torch']}; medians.",
        "",
        f"| masks of {result['batch']} images | on the GPU, ms | as a CUDA graph, ms | enqueued in, ms |",
        "|---|---|---|---|",
    ]
    for name, row in result["rows"].items():
        lines.append(f"| {name} | {row['on_gpu_ms']:.3f} | {row['replayed_ms']:.3f} | {row['on_host_ms']:.3f} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
