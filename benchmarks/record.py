"""What benchmarks write down: the command, the day, the machine and the figures, in a JSON file that is tried at the start."""

import argparse
import json
import os
import platform
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from peers import INSTALL, OTHERS

from hjepa.kernels.fused_crops import MissingKernelError, builds

RESULTS = Path(__file__).parent / "results"
DALI = ("nvidia-dali-cuda120", "nvidia-dali-cuda130")
PACKAGES = ("torch", "torchvision", *DALI, "pillow", "numpy", *(INSTALL.get(name, name) for name in OTHERS), "Pillow-SIMD")
INSTRUCTIONS = {"avx512": " with AVX-512", "avx2": " with AVX2"}
"""Of hjepa's kernels (fused_crops.builds), as a processor's name goes on: names alone, such as AMD EPYC, may be of either."""


def whole(text: str) -> int:
    """A number of things from the command line, 1 or more."""
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return int(text)


def duration(text: str) -> float:
    """Seconds from the command line, more than none."""
    if not 0 < float(text) < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is no time to measure in")
    return float(text)


def output_file(text: str) -> Path:
    """A file from the command line; that it cannot be written is said before the time is spent, not after."""
    path = Path(text)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new = not path.exists()
        path.open("a").close()
        if new:
            path.unlink()
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{text} cannot be written ({error.strerror}); name another file") from error
    return path


def described(device: torch.device | None = None) -> dict[str, Any]:
    """The command, the day and the machine."""
    command = " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])
    return {"command": command, "date": time.strftime("%Y-%m-%d"), "machine": machine(device or torch.device("cpu"))}


def machine(device: torch.device) -> dict[str, Any]:
    """What the figures depend on."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    found = {package: _version(package) for package in PACKAGES}
    return {
        "cpu": model + _instructions(),
        "cores": len(os.sched_getaffinity(0)),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "python": platform.python_version(),
        "versions": {package: number for package, number in found.items() if number},
    }


def write(path: Path, result: Any) -> None:
    """The JSON file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def _instructions() -> str:
    try:
        return INSTRUCTIONS.get(builds()[0], "")
    except MissingKernelError:
        return ""


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
