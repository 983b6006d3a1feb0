"""Time and scratch memory of the fused engine per image, over the image's size and over the number of crops.

    python benchmarks/scaling.py [--repeats 7] [--output FILE.json] [--plot FILE.png]

One thread, CPU time, medians. Decoding is DALI's, of one JPEG in memory; rendering is the native kernel with the usual colour
jitter and blur. Both should grow with the pixels and with the crops, and no faster: the cost of a pixel should not rise down
the first table, nor that of a crop down the second.
"""

import argparse
import io
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import nvidia.dali.fn as fn
import torch
from matplotlib import pyplot
from nvidia.dali.pipeline import Pipeline
from PIL import Image
from rich.console import Console
from rich.table import Table

from hjepa.kernels.fused_crops import CropGroup, Decoded, Threads
from hjepa.pipeline.backends.dali_decode import decode
from hjepa.pipeline.draws import draw
from hjepa.pipeline.recipe import Jitter, Recipe, View

SIZES = (64, 128, 256, 500, 1000, 2000, 4000)
"""Sides of square images, in pixels."""
CROPS = (1, 2, 4, 8, 16, 32)
USUAL_SIZE, USUAL_CROPS, CROP_SIZE = 500, 8, 96
WIDTH = 104
"""Characters of a table."""
NUM_DRAWS = 16
"""Times that an image is cropped anew in one measurement, so that chance's boxes average out."""
RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Measures, shows a table for each of the two, and writes the figures and a plot."""
    arguments = parse()
    sizes = [measure(size, USUAL_CROPS, arguments.repeats) for size in SIZES]
    crops = [measure(USUAL_SIZE, count, arguments.repeats) for count in CROPS]
    console = Console(width=max(Console().width, WIDTH))
    console.print(table(f"{USUAL_CROPS} crops of {CROP_SIZE}, by the image's side", sizes))
    console.print(table(f"an image of {USUAL_SIZE}x{USUAL_SIZE}, by the number of crops", crops))
    command = " ".join(["python", "benchmarks/scaling.py", *sys.argv[1:]])
    result = {"command": command, "date": time.strftime("%Y-%m-%d"), "by_size": sizes, "by_crops": crops}
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    plot(sizes, crops, arguments.plot)
    console.print(f"written: {arguments.output}, {arguments.plot}", soft_wrap=True)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--output", type=Path, default=RESULTS / "scaling.json")
    parser.add_argument("--plot", type=Path, default=RESULTS / "scaling.png")
    return parser.parse_args()


def measure(size: int, num_crops: int, repeats: int) -> dict[str, float]:
    """Milliseconds to decode and to render one image of this side, and bytes of scratch memory."""
    image = picture(size)
    threads = Threads(1)
    decoded = Decoded(pointers=np.full(NUM_DRAWS, image.ctypes.data), sizes=np.full((NUM_DRAWS, 2), size, np.int32))
    group, recipe = crop_group(num_crops, decoded.sizes)
    render_ms = median_ms(lambda: threads.render(decoded, [group], recipe.mean, recipe.std), repeats) / NUM_DRAWS
    decode_ms = median_ms(decoder(image).run, repeats)
    return {
        "size": size,
        "crops": num_crops,
        "decode_ms": decode_ms,
        "render_ms": render_ms,
        "scratch_bytes": threads.scratch_bytes,
    }


def picture(size: int) -> npt.NDArray[np.uint8]:
    """An image [size, size, 3] with detail at the scale of pixels, whatever its size, as photographs have."""
    chance = np.random.default_rng(size)
    coarse = chance.integers(0, 256, (size // 16 + 1, size // 16 + 1, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC), dtype=np.int16)
    return np.clip(smooth + chance.normal(0, 6, smooth.shape), 0, 255).astype(np.uint8)


def crop_group(num_crops: int, sizes: npt.NDArray[np.int32]) -> tuple[CropGroup, Recipe]:
    """Crops as they are drawn for images of these sizes [B, 2], and their recipe."""
    jitter = Jitter(brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1)
    view = View(name="crop", count=num_crops, size=CROP_SIZE, area=(0.05, 1), jitter=jitter)
    recipe = Recipe(name="scaling", source="", views=(view,))
    drawn = draw(recipe, 0, 0, np.arange(len(sizes)), sizes).views[view.name]
    group = CropGroup(
        **{name: getattr(drawn, name) for name in drawn.__slots__},
        interpolation=view.interpolation,
        blur_window=view.blur_window,
        solarize_threshold=view.solarize_threshold,
        out=torch.empty(num_crops, len(sizes), 3, CROP_SIZE, CROP_SIZE),
    )
    return group, recipe


def decoder(image: npt.NDArray[np.uint8]) -> Pipeline:
    """DALI's decoder for one image as a JPEG of quality 95."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=95)
    content = np.frombuffer(file.getvalue(), dtype=np.uint8)
    recipe = crop_group(1, np.full((1, 2), len(image), np.int32))[1]
    pipe = Pipeline(batch_size=1, num_threads=1, device_id=None, prefetch_queue_depth=1, exec_dynamic=True)
    with pipe:
        pipe.set_outputs(decode(fn.external_source(source=lambda: [content], batch=True), recipe, False))
    pipe.build()
    return pipe


def median_ms(work: Callable[[], Any], repeats: int) -> float:
    """CPU time of all threads for one call, after one that is not counted; calls are repeated until they are long enough."""
    work()
    rounds = []
    for _ in range(repeats):
        start, calls = time.process_time(), 0
        while time.process_time() - start < 0.05:
            work()
            calls += 1
        rounds.append(1000 * (time.process_time() - start) / calls)
    return statistics.median(rounds)


def table(title: str, rows: list[dict[str, float]]) -> Table:
    """One row per measurement."""
    made = Table(title=title, title_justify="left")
    for heading in ("side", "crops", "decode ms", "render ms", "scratch KiB", "decode ns/px", "render ns/px", "render ms/crop"):
        made.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        pixels = row["size"] ** 2
        made.add_row(
            str(row["size"]),
            str(row["crops"]),
            f"{row['decode_ms']:.3f}",
            f"{row['render_ms']:.3f}",
            f"{row['scratch_bytes'] / 1024:.0f}",
            f"{1e6 * row['decode_ms'] / pixels:.2f}",
            f"{1e6 * row['render_ms'] / pixels:.2f}",
            f"{row['render_ms'] / row['crops']:.4f}",
        )
    return made


def plot(sizes: list[dict[str, float]], crops: list[dict[str, float]], path: Path) -> None:
    """Both measurements, with a line of what would be proportional to the largest."""
    mpl.use("Agg")
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    pixels = [row["size"] ** 2 / 1e6 for row in sizes]
    for name, label in (("decode_ms", "decode"), ("render_ms", f"render, {USUAL_CROPS} crops")):
        times = [row[name] for row in sizes]
        (line,) = left.loglog(pixels, times, "o-", label=label)
        left.loglog(pixels, [times[-1] * count / pixels[-1] for count in pixels], ":", color=line.get_color())
    left.set(xlabel="megapixels", ylabel="CPU ms per image", title="by size (dotted: proportional to the pixels)")
    left.legend()
    counts, times = [row["crops"] for row in crops], [row["render_ms"] for row in crops]
    right.plot(counts, times, "o-")
    right.plot([0, counts[-1]], [0, times[-1]], ":", color="gray")
    right.set(
        xlabel="crops", ylabel="CPU ms per image", title=f"rendering, {USUAL_SIZE} px (dotted: proportional to the crops)"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
