"""What a machine has, as far as loading images and training on them is concerned. Nothing is judged here: see findings.py."""

import importlib
import os
import platform
import shutil
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from hjepa.kernels.fused_crops import MissingKernelError, builds
from hjepa.pipeline.backend import lacking
from hjepa.pipeline.control_groups import memory_limits, quota
from hjepa.pipeline.device import cores, has_video_driver

GIB = 1 << 30
DALI_WHEELS = ("nvidia-dali-cuda110", "nvidia-dali-cuda120", "nvidia-dali-cuda130")
COMPILERS = ("c++", "g++", "clang++")


@dataclass(frozen=True, kw_only=True, slots=True)
class Gpu:
    """One GPU, as NVML describes it."""

    name: str
    memory_gib: float
    capability: tuple[int, int]
    """Compute capability, such as (9, 0)."""
    jpeg_engine: bool
    """Whether it has the hardware that decodes JPEGs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """What was found. Empty texts say that there is none."""

    cpu: str
    cores: int
    """That this process may run on."""
    quota: float
    """Cores' time that a container's limit grants, whatever the number of cores that it shows; 0 without a limit."""
    memory_gib: float
    """That this process may use: the machine's, or its container's limit."""
    shared_memory_gib: float
    """/dev/shm, through which torchvision's worker processes hand over batches."""
    gpus: tuple[Gpu, ...]
    has_gpu_files: bool
    """Whether the kernel has NVIDIA's devices (/dev/nvidia0)."""
    nvml_error: str
    """Why NVML does not answer."""
    driver: str
    driver_cuda: tuple[int, int]
    """Newest CUDA that the driver runs; (0, 0) without a driver."""
    torch_version: str
    torch_cuda: str
    """CUDA that torch was built for."""
    torch_gpus: int
    """GPUs that torch can use."""
    gpu_lacks: str
    """What the first of them lacks for hjepa's kernels of crops."""
    dali: dict[str, str]
    """Wheels of DALI that are installed -> version."""
    dali_error: str
    """Why DALI does not import."""
    video_driver: bool
    """Whether the driver's part for video is there, through which the JPEG engines are used; containers often lack it."""
    compiler: str
    """Path of a C++ compiler."""
    kernel: str
    """Instruction set of hjepa's native kernel."""
    jpeg_decoder: bool
    """Whether DALI decodes JPEGs on the CPU with hjepa's decoder."""


def look_at_machine() -> Machine:
    """Looks, and changes nothing."""
    found, dali_error = _ask_nvml(), _import_error("nvidia.dali")
    return Machine(
        cpu=_cpu(),
        cores=cores(),
        quota=quota(),
        memory_gib=_memory() / GIB,
        shared_memory_gib=shutil.disk_usage("/dev/shm").total / GIB if Path("/dev/shm").is_dir() else 0.0,
        gpus=found.gpus,
        has_gpu_files=Path("/dev/nvidia0").exists(),
        nvml_error=found.error,
        driver=found.driver,
        driver_cuda=found.driver_cuda,
        torch_version=torch.__version__,
        torch_cuda=torch.version.cuda or "",
        torch_gpus=torch.cuda.device_count() if torch.cuda.is_available() else 0,
        gpu_lacks=lacking(torch.device("cuda")) if torch.cuda.is_available() else "",
        dali=_installed(DALI_WHEELS),
        dali_error=dali_error,
        video_driver=has_video_driver(),
        compiler=next((path for name in COMPILERS if (path := shutil.which(name))), ""),
        kernel=_kernel(),
        jpeg_decoder=not dali_error and _has_jpeg_decoder(),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Nvml:
    gpus: tuple[Gpu, ...] = ()
    driver: str = ""
    driver_cuda: tuple[int, int] = (0, 0)
    error: str = ""


def _ask_nvml() -> _Nvml:
    try:
        nvml: Any = importlib.import_module("pynvml")
    except ImportError:
        return _Nvml(error="the package nvidia-ml-py is not installed")
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        return _Nvml(error=str(error))
    try:
        handles = [nvml.nvmlDeviceGetHandleByIndex(number) for number in range(nvml.nvmlDeviceGetCount())]
        cuda = nvml.nvmlSystemGetCudaDriverVersion()
        gpus = tuple(_gpu(nvml, handle) for handle in handles)
        return _Nvml(gpus=gpus, driver=_text(nvml.nvmlSystemGetDriverVersion()), driver_cuda=(cuda // 1000, cuda % 1000 // 10))
    except nvml.NVMLError as error:
        return _Nvml(error=str(error))
    finally:
        nvml.nvmlShutdown()


def _gpu(nvml: Any, handle: Any) -> Gpu:
    try:
        nvml.nvmlDeviceGetJpgUtilization(handle)
        has_engine = True
    except (nvml.NVMLError, AttributeError):  # "not supported" says that there is none; an old binding cannot ask
        has_engine = False
    try:
        memory = nvml.nvmlDeviceGetMemoryInfo(handle).total
    except nvml.NVMLError:  # it shares the computer's, and NVML has no number for it
        memory = _memory()
    return Gpu(
        name=_text(nvml.nvmlDeviceGetName(handle)),
        memory_gib=memory / GIB,
        capability=tuple(nvml.nvmlDeviceGetCudaComputeCapability(handle)),
        jpeg_engine=has_engine,
    )


def _text(value: str | bytes) -> str:
    """NVML's texts were bytes in its older versions."""
    return value.decode() if isinstance(value, bytes) else value


def _installed(wheels: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for wheel in wheels:
        try:
            found[wheel] = version(wheel)
        except PackageNotFoundError:
            continue
    return found


def _import_error(module: str) -> str:
    try:
        importlib.import_module(module)
    except (ImportError, OSError, RuntimeError) as error:  # a library that does not load is an OSError
        return str(error)
    return ""


def _kernel() -> str:
    try:
        return builds()[0]
    except MissingKernelError:
        return ""


def _has_jpeg_decoder() -> bool:
    from hjepa.pipeline.backends.dali_jpeg import takes_part  # DALI is there

    return takes_part()


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _memory() -> int:
    """Bytes of the machine, or the least limit of the control groups, such as a container's or a job's."""
    return min([os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), *memory_limits()])
