"""What the GPU does while a run trains, as NVIDIA's management library (NVML) says; silent where there is no GPU."""

import logging
from collections.abc import Callable
from typing import Any

import torch

LOG = logging.getLogger("hjepa")


class GpuMonitor:
    """Reads one GPU; use it as a context manager, or call close()."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._answers = True
        self._nvml: Any = None
        self._readings: dict[str, Callable[[], float]] = {}
        if device.type != "cuda":
            return
        try:
            import pynvml
        except ImportError:
            LOG.warning("no telemetry of %s: pip install nvidia-ml-py", device)
            return
        try:
            pynvml.nvmlInit()
            self._nvml = pynvml
            # By its number NVML would find another GPU where CUDA_VISIBLE_DEVICES leaves some out.
            handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
        except pynvml.NVMLError as error:
            LOG.warning("no telemetry of %s: NVML says %s", device, error)
            return
        self._readings = _readings(pynvml, handle)

    def read(self) -> dict[str, float]:
        """What the driver gives of shares of time in percent, MiB, watts and degrees Celsius; it waits for no kernel."""
        try:
            found = {name: reading() for name, reading in self._readings.items()}
            self._answers = True
            return found
        except self._nvml.NVMLError as error:  # the run goes on without it
            if self._answers:
                LOG.warning("no telemetry of %s for now: NVML says %s", self._device, error)
            self._answers = False
            return {}

    def close(self) -> None:
        """Lets NVML go."""
        if self._nvml is not None:
            self._nvml.nvmlShutdown()
        self._nvml, self._readings = None, {}

    def __enter__(self) -> "GpuMonitor":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _readings(nvml: Any, gpu: Any) -> dict[str, Callable[[], float]]:
    """The readings that this GPU and driver support, by their names in the log."""
    every: dict[str, Callable[[], float]] = {
        "utilization_percent": lambda: nvml.nvmlDeviceGetUtilizationRates(gpu).gpu,
        "memory_mib": lambda: nvml.nvmlDeviceGetMemoryInfo(gpu).used / 2**20,
        "power_watt": lambda: nvml.nvmlDeviceGetPowerUsage(gpu) / 1000,
        "temperature_celsius": lambda: nvml.nvmlDeviceGetTemperature(gpu, nvml.NVML_TEMPERATURE_GPU),
        "decoder_percent": lambda: nvml.nvmlDeviceGetDecoderUtilization(gpu)[0],
        "jpeg_percent": lambda: nvml.nvmlDeviceGetJpgUtilization(gpu)[0],  # of the JPEG engine, which DALI decodes with
    }
    return {name: reading for name, reading in every.items() if _is_supported(nvml, reading)}


def _is_supported(nvml: Any, reading: Callable[[], float]) -> bool:
    try:
        reading()
    except (nvml.NVMLError, AttributeError):  # the driver's no, or bindings older than the question
        return False
    return True
