"""What an engine takes of a GPU: time of kernels and bytes of copies (CUPTI's trace), memory and engines at work (NVML)."""

import json
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from hjepa.gpu_monitor import GpuMonitor

MIB = 1 << 20
INTERVAL = 0.1
"""Seconds between two readings."""
FIGURES = ("utilization_percent", "jpeg_percent")
"""What is averaged of NVML's readings, where the driver gives it."""
TRACED = 8
"""Batches in a trace."""


class GpuUsage:
    """Watches the GPU while one engine after the other uses it in this process, and no other process does."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._others = 0.0  # MiB that other processes hold while this one measures
        self._kept = 0.0  # and that this one has kept since its earlier measurements
        self._traced: dict[str, float] = {}

    @contextmanager
    def measurement(self) -> Iterator[None]:
        """Surrounds an engine from before it is opened until it is closed."""
        self._others = self._used_mib() - self._kept
        yield
        self._kept = self._used_mib() - self._others

    @contextmanager
    def watch(self) -> Iterator[dict[str, float]]:
        """Fills the dictionary when it ends: gpu_memory_mib, the most at once, and means of FIGURES. Empty without a GPU."""
        found: dict[str, float] = {}
        if self._device.type != "cuda":
            yield found
            return
        readings, stop = [], threading.Event()
        with GpuMonitor(self._device) as monitor:

            def read() -> None:
                while not stop.wait(INTERVAL):
                    readings.append(monitor.read())
                    used.append(self._used_mib())

            used, thread = [self._used_mib()], threading.Thread(target=read)
            thread.start()
            try:
                yield found
            finally:
                stop.set()
                thread.join()
        found["gpu_memory_mib"] = max(used) - self._others
        for name in FIGURES:
            values = [reading[name] for reading in readings if name in reading]
            if values:
                found[name] = sum(values) / len(values)

    def trace(self, batches: Iterator[Any], batch_size: int) -> dict[str, float]:
        """GPU time and bytes from the host for each image of some batches, traced once. Empty without a GPU."""
        if self._device.type != "cuda" or self._traced:
            return self._traced
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA], acc_events=True) as profile:
            for _ in range(TRACED):
                next(batches)
            torch.cuda.synchronize(self._device)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "trace.json")
            profile.export_chrome_trace(str(path))
            events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
        self._traced = summed(events, TRACED * batch_size)
        return self._traced

    def _used_mib(self) -> float:
        if self._device.type != "cuda":
            return 0.0
        free, total = torch.cuda.mem_get_info(self._device)
        return (total - free) / MIB


def summed(events: list[dict[str, Any]], images: int) -> dict[str, float]:
    """Milliseconds of kernels and KiB that came from the host, for an image. Kernels beside each other both count."""
    kernels = sum(event["dur"] for event in events if event.get("cat") == "kernel")
    copies = [event for event in events if event.get("cat") == "gpu_memcpy" and "HtoD" in event["name"]]
    return {
        "gpu_ms_per_image": kernels / 1000 / images,
        "from_host_kib_per_image": sum(event["args"]["bytes"] for event in copies) / 1024 / images,
    }
