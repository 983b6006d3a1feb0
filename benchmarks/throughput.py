"""Images per second of hjepa's loaders against torchvision's transforms in a DataLoader, on the same images and recipe.

    python benchmarks/throughput.py [--data FOLDER] [--recipe hjepa] [--batch-size 32] [--rounds 5] [--quick]

"fused" is DALI's decoder and hjepa's kernel, "dali-ops" DALI's operators, and "decode" DALI reading and decoding alone: what no
engine can pass. torchvision gets its best number of workers, searched first. Then the engines run in turn, A B A B ..., each
opened anew and warmed up; the table shows medians over the rounds, and the JSON file every one of them. On a machine that has
other work to do, compare the CPU time (of all threads and worker processes) rather than the rate.
"""

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import sys
import time
import warnings
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from engines import ENGINES, Batches, engine
from rich.console import Console
from rich.progress import track
from rich.table import Table

from hjepa import sample_data
from hjepa.pipeline.device import resolve_device
from hjepa.pipeline.folder import open_folder
from hjepa.pipeline.presets import PRESETS, preset

WIDTH = 112
"""Characters of the table, which a narrower terminal would cut the figures out of."""
RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Parses the arguments, measures, and shows and writes the results."""
    warnings.filterwarnings("ignore", message="This DataLoader will create")  # the search tries more workers than cores
    arguments = parse()
    console = Console(width=max(Console().width, WIDTH))
    folder = arguments.data or sample_data.make(sample_data.default_folder())
    try:
        source, recipe, device = open_folder(folder), preset(arguments.recipe), resolve_device(arguments.device)
        if not source.classes:
            raise ValueError(f"torchvision's ImageFolder needs a folder per class, and {folder} has none; make one")
        if len(source) < arguments.batch_size:
            raise ValueError(f"--batch-size {arguments.batch_size} is more than the {len(source)} images in {folder}")
    except ValueError as error:
        console.print(f"throughput.py: {error}", markup=False, style="red")
        sys.exit(2)
    engines = {name: engine(name, source, recipe, arguments.batch_size, device) for name in arguments.engines}
    cores = len(os.sched_getaffinity(0))
    workers = dict.fromkeys(engines, cores)
    if "torchvision" in engines and arguments.workers is None:
        workers["torchvision"] = best_workers(engines["torchvision"], cores, arguments)
    elif "torchvision" in engines:
        workers["torchvision"] = arguments.workers
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in engines}
    for _ in track(range(arguments.rounds), "rounds", console=console, transient=True):
        for name, batches in engines.items():
            rounds[name].append(measure(batches, workers[name], arguments.batch_size, arguments.seconds))
    result = {
        "command": " ".join(["python", "benchmarks/throughput.py", *sys.argv[1:]]),
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(device),
        "recipe": recipe.to_dict(),
        "batch_size": arguments.batch_size,
        "images": {
            "count": len(source),
            "mean_kib": round(float(source.index.column("length")[source.index.rows].mean()) / 1024, 1),
        },
        "workers": workers,
        "rounds": rounds,
    }
    show(console, result)
    path = arguments.output or RESULTS / f"throughput-{platform.node() or 'machine'}-{arguments.recipe}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    console.print(f"written: {path}", soft_wrap=True)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of folders of images; the sample data set by default")
    parser.add_argument("--recipe", default="hjepa", choices=PRESETS)
    parser.add_argument("--engines", nargs="+", default=ENGINES, choices=ENGINES)
    parser.add_argument("--workers", type=int, help="processes of torchvision; the best number is searched by default")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=8.0, help="length of one measurement")
    parser.add_argument("--quick", action="store_true", help="3 rounds of 3 seconds")
    parser.add_argument("--output", type=Path, help="JSON file; benchmarks/results/ by default")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rounds, arguments.seconds = 3, 3.0
    return arguments


def best_workers(batches: Batches, cores: int, arguments: argparse.Namespace) -> int:
    """The fastest number of worker processes, from half the cores to twice as many."""
    candidates = sorted({max(1, cores // 2), cores, cores + cores // 2, 2 * cores})
    seconds = arguments.seconds / 2
    rates = {count: measure(batches, count, arguments.batch_size, seconds)["images_per_second"] for count in candidates}
    return max(rates, key=lambda count: rates[count])


def measure(batches: Batches, workers: int, batch_size: int, seconds: float) -> dict[str, float]:
    """Opens an engine, waits until what it had made ahead is used up, and counts batches for some seconds."""
    start = time.perf_counter()
    with closing(batches(workers)) as iterator:
        next(iterator)
        first_batch = time.perf_counter() - start
        for _ in range(2 * workers + 2):  # a DataLoader keeps two batches per worker ready
            next(iterator)
        _synchronize()
        start, cpu_start, number = time.perf_counter(), cpu_seconds(), 0
        while time.perf_counter() - start < seconds:
            next(iterator)
            number += 1
        _synchronize()
        images = number * batch_size
        rate, cpu_ms = images / (time.perf_counter() - start), 1000 * (cpu_seconds() - cpu_start) / images
    return {"images_per_second": rate, "cpu_ms_per_image": cpu_ms, "first_batch_seconds": first_batch}


def cpu_seconds() -> float:
    """User and system time so far of this process and of the worker processes that live."""
    workers = [child.pid for child in multiprocessing.active_children() if child.pid is not None]
    stats = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in workers]
    ticks = sum(int(stat[11]) + int(stat[12]) for stat in stats)
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


def machine(device: torch.device) -> dict[str, Any]:
    """What the figures depend on."""
    model = next((line.split(":")[1].strip() for line in _cpu_lines() if line.startswith("model name")), platform.processor())
    dali = next((name for name in ("nvidia-dali-cuda120", "nvidia-dali-cuda130") if _version(name)), "nvidia-dali")
    packages = ("torch", "torchvision", dali, "pillow", "numpy")
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in packages},
    }


def show(console: Console, result: dict[str, Any]) -> None:
    """Prints the table of medians."""
    machine_ = result["machine"]
    crops = sum(view["count"] for view in result["recipe"]["views"])
    title = f"{machine_['cpu']}, {machine_['cores']} cores, {machine_['device']}; recipe {result['recipe']['name']}; medians"
    table = Table(title=title, title_justify="left")
    for heading in ("engine", "workers", "images/s (min - max)", "crops/s", "ratio", "CPU ms", "CPU ratio", "first batch"):
        table.add_column(heading, no_wrap=True)
    reference = "torchvision" if "torchvision" in result["rounds"] else next(iter(result["rounds"]))
    rate, cpu = (_median(result, reference, name) for name in ("images_per_second", "cpu_ms_per_image"))
    for name, samples in result["rounds"].items():
        rates = [sample["images_per_second"] for sample in samples]
        median, own_cpu = statistics.median(rates), _median(result, name, "cpu_ms_per_image")
        table.add_row(
            name,
            str(result["workers"][name]),
            f"{median:.0f} ({min(rates):.0f} - {max(rates):.0f})",
            f"{median * crops:.0f}" if name != "decode" else "-",
            f"{median / rate:.2f}",
            f"{own_cpu:.2f}",
            f"{cpu / own_cpu:.2f}",
            f"{_median(result, name, 'first_batch_seconds'):.2f} s",
        )
    console.print(table)


def _median(result: dict[str, Any], engine: str, name: str) -> float:
    return statistics.median(float(sample[name]) for sample in result["rounds"][engine])


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _cpu_lines() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def _version(package: str) -> str:
    try:
        return version(package)
    except ModuleNotFoundError:
        return ""


if __name__ == "__main__":
    main()
