"""Images per second of hjepa's engines against torchvision and other libraries, on the same images and recipe.

    python benchmarks/throughput.py [--data FOLDER] [--recipe dino] [--engines fused torchvision ...] [--quick]

"fused" is DALI with hjepa's JPEG decoder and kernel, "fused-reduced" the same with JPEGs decoded at a reduced scale,
"fused-cpu-decoded" on a GPU with that decoder on the CPU, and not the GPU's,
"dali-ops" hjepa's graph of DALI's operators, "dali-plain" the graph that users of DALI write, and "decode" DALI as it comes,
reading and decoding alone: what other pipelines of DALI cannot pass, and "fused" may where decoding is most of the work.
Libraries that are installed take part (peers.py, ffcv_loader.py); FFCV only crops and flips. Each engine lives in a process of
its own; other libraries get the best number of workers, searched first. Pixels are checked before anything is timed: hjepa's
against torchvision's for the same draws, other libraries' levels against torchvision's of the same work on average; one that
fails is shown without a speed. Then they run in turn, A B C A B C, each opened anew and warmed up. The table shows medians;
the JSON file every round, the machine, versions and the command; the PNG file beside it the table as bars. On a machine that
has other work to do, compare the CPU time (of all threads and worker processes) rather than the rate.
"""

import argparse
import os
import platform
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import torch
from engines import CPU_DECODED, DECODE, ENGINES, HJEPA, REDUCED, available, engine
from images import Size, resized, spread_paths
from peers import INSTALL, OTHERS, installed
from record import RESULTS, described, duration, output_file, whole, write
from rich.console import Console
from rich.progress import track
from stopwatch import Stopwatch, stopwatches
from throughput_table import changes, chart, earlier, table

from hjepa import sample_data
from hjepa.pipeline.device import resolve_device
from hjepa.pipeline.folder import FolderSource, open_folder
from hjepa.pipeline.presets import PRESETS, preset
from hjepa.pipeline.recipe import Recipe

WIDTH = 138
"""Characters of the table, which a narrower terminal would cut the figures out of."""
QUICK = ("fused", "dali-ops", "torchvision", DECODE)
QUICK_IMAGES = 256
"""The usual number takes 16 seconds to make on 2 cores."""
PHOTOGRAPHS = 6
"""Images that hjepa's pixels are compared with torchvision's on."""
CHECKED = 48
"""Images that other libraries' levels are compared with torchvision's on; of fewer, each several times."""


def main() -> None:
    """Parses the arguments, measures, and shows and writes the results."""
    arguments = parse()
    console = Console(width=max(Console().width, WIDTH))
    try:
        count = QUICK_IMAGES if arguments.quick else sample_data.COUNT
        folder = arguments.data or sample_data.make(sample_data.default_folder(count), count)
        folders = [resized(folder, size) for size in arguments.sizes] or [folder]
        path = arguments.output or RESULTS / f"throughput-{platform.node() or 'machine'}-{arguments.recipe}.json"
        results: list[dict[str, Any]] = []
        for each in folders:
            results.append(run(open_folder(each), arguments, console))
            write(path, results if len(results) > 1 else results[0])  # at once: a later one may not come to its end
        chart(results, path.with_suffix(".png"))
        for line in changes(arguments.compare, results) if arguments.compare else ():
            console.print(line, soft_wrap=True, highlight=False)
        console.print(f"written: {path} and {path.with_suffix('.png').name}", soft_wrap=True)
    except (ValueError, OSError) as error:
        console.print(f"throughput.py: {error}", markup=False, style="red")
        sys.exit(2)
    except KeyboardInterrupt:
        console.print("throughput.py: interrupted; of folders that were not measured to the end nothing is written")
        sys.exit(130)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of folders of images; the sample data set by default")
    parser.add_argument(
        "--sizes", type=Size, nargs="+", default=[], help="such as 500x375: copies of the images of these sizes"
    )
    parser.add_argument("--recipe", default="dino", choices=PRESETS)
    parser.add_argument("--local-crops", type=int, help="in place of the recipe's own number")
    parser.add_argument("--engines", nargs="+", choices=ENGINES, help="by default all that are installed")
    parser.add_argument("--threads", type=whole, help="threads of hjepa's engines and of decode; one per core by default")
    parser.add_argument(
        "--workers", type=whole, help="processes or threads of the other engines; the best number is searched by default"
    )
    parser.add_argument("--batch-size", type=whole, default=32)
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--hw-decoder-load", type=float, default=1.0, help="share of the JPEGs for a GPU's JPEG engines: hjepa's and decode's"
    )
    parser.add_argument("--rounds", type=whole, default=5)
    parser.add_argument("--seconds", type=duration, default=8.0, help="length of one measurement")
    parser.add_argument(
        "--quick", action="store_true", help="under a minute: four engines, fewer images, 2 rounds of 2 seconds, no search"
    )
    parser.add_argument("--compare", type=earlier, help="JSON file of an earlier run: how the ratios have changed")
    parser.add_argument("--output", type=output_file, help="JSON file; benchmarks/results/ by default")
    arguments = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    arguments.threads = arguments.threads or cores
    if arguments.quick:
        arguments.rounds, arguments.seconds = 2, 2.0
        arguments.workers = arguments.workers or cores
    return arguments


def run(source: FolderSource, arguments: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Measures every engine on one folder of images, and shows the table."""
    recipe, device = choose_recipe(arguments), resolve_device(arguments.device)
    arguments.engines = list(dict.fromkeys(arguments.engines or usual(arguments.quick, device)))
    check(source, recipe, arguments, device)
    what = (source.root, recipe, arguments.batch_size, device, arguments.hw_decoder_load)
    with stopwatches(arguments.engines, *what) as watches:
        failed = check_pixels(watches, source, console)
        workers, rounds = measure(watches, failed, arguments, console)
    result = {
        **described(device),
        "recipe": recipe.to_dict(),
        "batch_size": arguments.batch_size,
        "images": describe(source),
        "workers": workers,
        "failed": failed,
        "rounds": rounds,
    }
    console.print(table(result))
    for name, reason in failed.items():
        console.print(f"FAILED, so without a speed: {name}: {reason}", style="red", soft_wrap=True)
    missing = [INSTALL.get(name, name) for name in OTHERS if not installed(name)]
    if missing:
        console.print(f"not compared, because not installed: {', '.join(missing)}", soft_wrap=True)
    return result


def usual(quick: bool, device: torch.device) -> list[str]:
    """The engines that are measured where none are named."""
    here = available(device)
    return [name for name in (QUICK if quick else ENGINES) if name in here and name not in (REDUCED, CPU_DECODED)]


def measure(
    watches: dict[str, Stopwatch], failed: dict[str, str], arguments: argparse.Namespace, console: Console
) -> tuple[dict[str, int], dict[str, list[dict[str, float]]]]:
    """The workers and the rounds of every engine that does not fail before the end; those that do are added to `failed`."""
    workers = dict.fromkeys(watches, arguments.threads)
    for name in (name for name in OTHERS if name in watches and name not in failed):
        with noted(name, failed):
            workers[name] = best_workers(watches[name], arguments)
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in watches}
    for _ in track(range(arguments.rounds), "rounds", console=console, transient=True):
        for name in (name for name in watches if name not in failed):
            with noted(name, failed):
                rounds[name].append(watches[name].measure(workers[name], arguments.seconds))
    return workers, {name: samples for name, samples in rounds.items() if name not in failed}


@contextmanager
def noted(name: str, failed: dict[str, str]) -> Iterator[None]:
    """An engine that fails, at an image that it cannot read for one, does not take the others' figures with it."""
    try:
        yield
    except RuntimeError as error:
        lines = str(error).splitlines()  # of which a traceback's are indented
        failed[name] = " ".join(line for line in lines if line and not line.startswith(" "))


def choose_recipe(arguments: argparse.Namespace) -> Recipe:
    """The preset, with as many local crops as are asked for. Raises ValueError where it has none, or for less than one."""
    recipe, count = preset(arguments.recipe), arguments.local_crops
    if count is None:
        return recipe
    if count < 1 or all(view.name != "local" for view in recipe.views):
        raise ValueError(f"--local-crops {count} does not go with --recipe {recipe.name}; it takes 1 or more, of local crops")
    return replace(recipe, views=tuple(replace(view, count=count) if view.name == "local" else view for view in recipe.views))


def check(source: FolderSource, recipe: Recipe, arguments: argparse.Namespace, device: torch.device) -> None:
    """Raises ValueError for what cannot be compared; engines that cannot do the recipe are left out."""
    if not source.classes:
        raise ValueError(f"torchvision's ImageFolder needs a folder per class, and {source.root} has none; make one")
    if len(source) < arguments.batch_size:
        raise ValueError(f"--batch-size {arguments.batch_size} is more than the {len(source)} images in {source.root}")
    if any(view.crop == "center" or view.same_box_as for view in recipe.views):
        raise ValueError(
            f"--recipe {recipe.name} is not one of random crops alone, which is what other libraries are asked for"
        )
    for name in list(arguments.engines):
        try:
            engine(name, source, recipe, arguments.batch_size, device)
        except (ValueError, ImportError) as error:
            print(f"left out: {name}: {error}")
            arguments.engines.remove(name)
    if not arguments.engines:
        raise ValueError("none of these engines can be measured here, for the reasons above; name others with --engines")


def check_pixels(watches: dict[str, Stopwatch], source: FolderSource, console: Console) -> dict[str, str]:
    """The engines whose crops are not what the recipe asks for, and why."""
    failed: dict[str, str] = {}
    images = list(islice(cycle(spread_paths(source, CHECKED)), CHECKED))
    with tempfile.TemporaryDirectory() as place:
        for number, path in enumerate(spread_paths(source, PHOTOGRAPHS)):
            Path(place, f"{number}{path.suffix}").symlink_to(path)
        for name, watch in track(watches.items(), "checking pixels", console=console, transient=True):
            reason = ""
            with noted(name, failed):
                if name in HJEPA:
                    reason = watch.parity(Path(place))
                elif name not in ("torchvision", DECODE):
                    reason = watch.levels(images)
            if reason:
                failed[name] = reason
    return failed


def best_workers(watch: Stopwatch, arguments: argparse.Namespace) -> int:
    """The fastest number of workers, from half the cores to twice as many."""
    if arguments.workers is not None:
        return int(arguments.workers)
    cores = len(os.sched_getaffinity(0))
    candidates = sorted({max(1, cores // 2), cores, cores + cores // 2, 2 * cores})
    rates = {count: watch.measure(count, arguments.seconds / 2)["images_per_second"] for count in candidates}
    return max(rates, key=lambda count: rates[count])


def describe(source: FolderSource) -> dict[str, Any]:
    """What the images are."""
    columns = {name: source.index.column(name)[source.index.rows] for name in ("length", "height", "width")}
    return {
        "folder": source.root.name,
        "count": len(source),
        "mean_kib": round(float(columns["length"].mean()) / 1024, 1),
        "mean_size": [round(float(columns[side].mean())) for side in ("width", "height")],
    }


if __name__ == "__main__":
    main()
