"""Milliseconds that the kernels of `fused` take on a GPU for a batch that is decoded already, beside what its bytes must take.

    python benchmarks/fused_gpu.py [--recipe hjepa] [--images 256] [--height 375] [--width 500] [--dtype bfloat16] [--rounds 20]
        [--output FILE]

Medians of rounds after warm-up: between CUDA events around the launches, and of the host's time to enqueue them. The bound is
the time to read every image once and to write every crop once at the speed at which this GPU copies a GiB.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from record import described, output_file, write
from rich.console import Console
from rich.markdown import Markdown
from torch import Tensor

from hjepa.kernels.fused_crops import CropGroup, Decoded
from hjepa.kernels.fused_crops_triton import render
from hjepa.pipeline.draws import draw
from hjepa.pipeline.presets import preset
from hjepa.pipeline.recipe import Recipe

GIB = 1 << 30
WARM_UP = 5


def groups_of(recipe: Recipe, sizes: np.ndarray, dtype: torch.dtype) -> list[CropGroup]:
    """Draws for images of these sizes [B, 2], and what they are rendered into."""
    draws = draw(recipe, 0, 0, np.arange(len(sizes)), sizes)
    groups = []
    for views in recipe.groups():
        view, drawn = views[0], draws.views[views[0].name]
        shape = (drawn.flip.shape[1], len(sizes), 3, view.size, view.size)
        group = CropGroup(
            **{field.name: getattr(drawn, field.name) for field in fields(drawn)},
            interpolation=view.interpolation,
            blur_window=view.blur_window,
            solarize_threshold=view.solarize_threshold,
            out=torch.empty(shape, dtype=dtype, device="cuda"),
        )
        groups.append(group)
    return groups


def measure(work: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Medians in ms: of the GPU's time, and of the host's until it has enqueued the work."""
    on_gpu, on_host = [], []
    for number in range(WARM_UP + rounds):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        torch.cuda._sleep(50_000_000)  # what is timed is in the queue before it begins, so that no gap is the host's
        began = time.perf_counter()
        start.record()
        work()
        end.record()
        enqueued = time.perf_counter() - began
        end.synchronize()
        if number >= WARM_UP:
            on_gpu.append(start.elapsed_time(end))
            on_host.append(1e3 * enqueued)
    return statistics.median(on_gpu), statistics.median(on_host)


def bytes_per_ms(rounds: int) -> float:
    """Bytes read and written by a copy within the GPU's memory."""
    source, target = (torch.empty(GIB, dtype=torch.uint8, device="cuda") for _ in range(2))
    return 2 * GIB / measure(lambda: target.copy_(source), rounds)[0]


def main() -> None:
    """Measures and shows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", nargs="+", default=["hjepa"])
    for name, default in {"images": 256, "height": 375, "width": 500, "rounds": 20}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--dtype", choices=["float32", "float16", "bfloat16"], default="bfloat16")
    parser.add_argument("--output", type=output_file, help="JSON file for every figure")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("this needs a CUDA GPU, and torch finds none")
    rate = bytes_per_ms(arguments.rounds)
    result = {
        **described(torch.device("cuda")),
        "copied_bytes_per_second": 1000 * rate,
        "images": [arguments.images, arguments.height, arguments.width],
        "dtype": arguments.dtype,
        "rows": {recipe: of_recipe(preset(recipe), arguments, rate) for recipe in arguments.recipe},
    }
    Console().print(Markdown(markdown(result)))
    if arguments.output:
        write(arguments.output, result)


def of_recipe(recipe: Recipe, arguments: argparse.Namespace, rate: float) -> dict[str, float]:
    """Milliseconds of a batch; rate: bytes that a copy moves in one."""
    shape = (arguments.images, arguments.height, arguments.width, 3)
    images: Tensor = torch.randint(0, 256, shape, dtype=torch.uint8, device="cuda")
    sizes = np.tile(np.array(shape[1:3], dtype=np.int32), (arguments.images, 1))
    decoded = Decoded(pointers=np.array([image.data_ptr() for image in images]), sizes=sizes)
    groups = groups_of(recipe, sizes, getattr(torch, arguments.dtype))
    on_gpu, on_host = measure(lambda: render(decoded, groups, recipe.mean, recipe.std), arguments.rounds)
    return {
        "on_gpu_ms": on_gpu,
        "on_host_ms": on_host,
        "bound_ms": (images.nbytes + sum(group.out.nbytes for group in groups)) / rate,
    }


def markdown(result: dict[str, Any]) -> str:
    """The command, the machine, and the medians."""
    where, (count, height, width) = result["machine"], result["images"]
    lines = [
        f"`{result['command']}`, {result['date']}: {where['device']}, torch {where['versions']['torch']}; {count} images of "
        f"{width}x{height} px to {result['dtype']}; medians.",
        "",
        "| recipe | on the GPU, ms | images/s | enqueued in, ms | bound, ms |",
        "|---|---|---|---|---|",
    ]
    for name, row in result["rows"].items():
        lines.append(
            f"| {name} | {row['on_gpu_ms']:.2f} | {1000 * count / row['on_gpu_ms']:,.0f} | {row['on_host_ms']:.2f} | "
            f"{row['bound_ms']:.2f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
