"""What an engine takes of a GPU is told from what it held before and from what others hold; there is no GPU in these tests."""

import importlib
import json
import time
from pathlib import Path
from types import ModuleType

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
RESULTS = BENCHMARKS / "results"
pytestmark = pytest.mark.dali


@pytest.fixture
def gpu_usage(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("gpu_usage")


class Monitor:
    def __init__(self, _: torch.device) -> None:
        pass

    def __enter__(self) -> "Monitor":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def read(self) -> dict[str, float]:
        return {"utilization_percent": 40.0}


def test_memory_is_that_of_this_process(gpu_usage: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    used = 0  # MiB, of all processes
    monkeypatch.setattr(gpu_usage, "GpuMonitor", Monitor)
    monkeypatch.setattr(gpu_usage, "INTERVAL", 0.001)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (-used * gpu_usage.MIB, 0))
    usage, kept = gpu_usage.GpuUsage(torch.device("cuda:0")), 0
    for others in (1000, 5000):
        used = others + kept
        with usage.measurement():
            used = others + 700
            with usage.watch() as found:
                time.sleep(0.1)
            kept = 100
            used = others + kept
        assert found == {"gpu_memory_mib": 700, "utilization_percent": 40}


def test_nothing_is_asked_without_a_gpu(gpu_usage: ModuleType) -> None:
    usage = gpu_usage.GpuUsage(torch.device("cpu"))
    with usage.measurement(), usage.watch() as found:
        pass
    assert found == usage.trace(iter(()), 32) == {}


def test_columns_of_a_gpu_are_shown_where_any_engine_has_them(gpu_usage: ModuleType) -> None:
    table = importlib.import_module("throughput_table")
    results = RESULTS / "throughput-epyc-2cores-hjepa.json"
    result = json.loads(results.read_text())
    plain = table.markdown(result).splitlines()
    for sample in result["rounds"]["fused"]:
        sample.update({"gpu_ms_per_image": 0.0123, "gpu_memory_mib": 512.4})
    with_gpu = table.markdown(result).splitlines()
    assert {line.count("|") for line in plain if line.startswith("|")} == {8}
    assert {line.count("|") for line in with_gpu if line.startswith("|")} == {10}
    fused = next(line for line in with_gpu if line.startswith("| `fused`"))
    assert fused.endswith("| 0.012 | 512 |")
    assert len(table.table(result).columns) == len(table.HEADINGS) + 2


def test_a_trace_is_summed_by_kind(gpu_usage: ModuleType) -> None:
    events = [
        {"cat": "kernel", "name": "resize", "dur": 300.0},
        {"cat": "kernel", "name": "blur", "dur": 100.0},
        {"cat": "gpu_memcpy", "name": "Memcpy HtoD (Pinned -> Device)", "dur": 5.0, "args": {"bytes": 4096}},
        {"cat": "gpu_memcpy", "name": "Memcpy DtoD (Device -> Device)", "dur": 5.0, "args": {"bytes": 1 << 20}},
        {"cat": "cuda_runtime", "name": "cudaLaunchKernel", "dur": 9.0},
        {"ph": "M", "name": "process_name"},
    ]
    assert gpu_usage.summed(events, images=2) == {"gpu_ms_per_image": 0.2, "from_host_kib_per_image": 2.0}
