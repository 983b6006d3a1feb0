"""Milliseconds that gathering visible tokens takes, forward and backward: hjepa's kernels, and torch's gather.

    python benchmarks/tokens.py [--images 32] [--device cpu] [--rounds 15]

Sizes of the default run: 2 globals of 196 tokens of width 768, 3 levels with 98 context tokens each. Medians of interleaved
rounds: of CPU time on a CPU, of wall time to the end of the work on a GPU.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from hjepa.kernels.token_gather import gather_visible

TOKENS, WIDTH, LEVELS, CONTEXT = 196, 768, 3, 98


def torch_gather(tokens: Tensor, index: Tensor, valid: Tensor) -> Tensor:
    """What torch offers: the index expanded to the tokens' width."""
    flat = index.flatten(1).unsqueeze(-1).expand(-1, -1, tokens.shape[-1])
    return tokens.gather(1, flat).view(*index.shape, -1).masked_fill(~valid.unsqueeze(-1), 0)


def both_ways(gather: Callable[[Tensor, Tensor, Tensor], Tensor], tokens: Tensor, index: Tensor, valid: Tensor) -> None:
    """Forward, and backward from a gradient of ones."""
    gathered = gather(tokens, index, valid)
    torch.autograd.grad(gathered, tokens, torch.ones_like(gathered))


def main() -> None:
    """Measures and shows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows, on_gpu = 2 * arguments.images, arguments.device != "cpu"
    tokens = torch.randn(rows, TOKENS, WIDTH, device=arguments.device, requires_grad=True)
    index = torch.rand(rows, LEVELS, TOKENS, device=arguments.device).argsort(-1)[..., :CONTEXT].sort(-1).values
    valid = torch.ones_like(index, dtype=torch.bool)
    runs = {"torch.gather": torch_gather, "hjepa": gather_visible}
    times: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(arguments.rounds + 2):
        for name, gather in runs.items():
            clock = time.perf_counter if on_gpu else time.process_time
            start = clock()
            both_ways(gather, tokens, index, valid)
            if on_gpu:
                torch.cuda.synchronize()
            if number >= 2:  # after warm-up
                times[name].append(1e3 * (clock() - start))
    table = Table("gather and its gradient", f"ms on {arguments.device}")
    for name, taken in times.items():
        table.add_row(name, f"{statistics.median(taken):.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
