"""What NVML says of the GPU goes to the log, as far as GPU and driver know it; without a GPU nothing is said or loaded."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from hjepa.configs.load import load_settings
from hjepa.configs.schema import Settings
from hjepa.display import Display
from hjepa.gpu_monitor import GpuMonitor
from hjepa.pipeline.folder import open_folder
from hjepa.trainer import Trainer

EVERY = {
    "utilization_percent": 87,
    "memory_mib": 1024.0,
    "power_watt": 250.5,
    "temperature_celsius": 61,
    "decoder_percent": 12,
    "jpeg_percent": 34,
}


def quick(output: Path, *overrides: str) -> Settings:
    place = ["data.dataset=imagefolder", "data.data_path=unused", "data.pipeline=torchvision", "data.num_workers=0"]
    short = ["data.batch_size=8", "training.epochs=1", "logging.log_frequency=1", "device=cpu", f"output_dir={output}"]
    return load_settings(Path("small"), [*place, *short, *overrides])


class NVMLError(Exception):
    """As pynvml's."""


class FakeNvml(SimpleNamespace):
    """One GPU, whose UUID is `abc`; counts how often the library is opened and not closed."""

    NVMLError = NVMLError
    NVML_TEMPERATURE_GPU = 0

    def __init__(self) -> None:
        super().__init__(opened=0)

    def nvmlInit(self) -> None:
        self.opened += 1

    def nvmlShutdown(self) -> None:
        self.opened -= 1

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        if uuid != "GPU-abc":
            raise NVMLError("Not Found")
        return "gpu"

    def nvmlDeviceGetUtilizationRates(self, _: str) -> Any:
        return SimpleNamespace(gpu=87, memory=20)

    def nvmlDeviceGetMemoryInfo(self, _: str) -> Any:
        return SimpleNamespace(used=2**30)

    def nvmlDeviceGetPowerUsage(self, _: str) -> int:
        return 250_500

    def nvmlDeviceGetTemperature(self, _: str, __: int) -> int:
        return 61

    def nvmlDeviceGetDecoderUtilization(self, _: str) -> list[int]:
        return [12, 1000]

    def nvmlDeviceGetJpgUtilization(self, _: str) -> list[int]:
        return [34, 1000]


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    fake = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(uuid="abc"))
    return fake


def test_every_figure_has_its_unit_and_the_library_is_let_go(nvml: FakeNvml) -> None:
    with GpuMonitor(torch.device("cuda")) as monitor:
        assert nvml.opened == 1
        assert monitor.read() == EVERY
    assert nvml.opened == 0
    assert monitor.read() == {}
    monitor.close()  # twice is no mistake
    assert nvml.opened == 0


def test_what_a_gpu_or_a_driver_does_not_know_is_left_out(nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> list[int]:
        raise NVMLError("Not Supported")

    monkeypatch.setattr(FakeNvml, "nvmlDeviceGetDecoderUtilization", refuse)
    monkeypatch.delattr(FakeNvml, "nvmlDeviceGetJpgUtilization")  # as bindings from before the question
    with GpuMonitor(torch.device("cuda")) as monitor:
        assert monitor.read().keys() == EVERY.keys() - {"decoder_percent", "jpeg_percent"}


def test_a_gpu_that_nvml_does_not_find_is_said_once_and_stops_nothing(
    nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(uuid="other"))
    with GpuMonitor(torch.device("cuda")) as monitor:
        assert (monitor.read(), monitor.read()) == ({}, {})
    assert [record.getMessage() for record in caplog.records] == ["no telemetry of cuda: NVML says Not Found"]
    assert nvml.opened == 0


def test_a_driver_that_ceases_to_answer_stops_nothing(
    nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> int:
        raise NVMLError("Unknown Error")

    with GpuMonitor(torch.device("cuda")) as monitor:
        with monkeypatch.context() as meanwhile:
            meanwhile.setattr(FakeNvml, "nvmlDeviceGetPowerUsage", refuse)
            assert monitor.read() == monitor.read() == {}
        assert monitor.read() == EVERY
    assert [record.getMessage() for record in caplog.records] == ["no telemetry of cuda for now: NVML says Unknown Error"]


def test_without_a_gpu_the_library_is_not_even_imported(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)  # importing it would raise
    with GpuMonitor(torch.device("cpu")) as monitor:
        assert monitor.read() == {}
    assert not caplog.records


def test_a_run_logs_what_the_gpu_does(nvml: FakeNvml, labelled: Path, tmp_path: Path) -> None:
    settings = quick(tmp_path, "evaluation.knn.enabled=false")
    with Display() as display, Trainer(settings, open_folder(labelled), display) as trainer:
        assert trainer.gpu.read() == {}  # it trains on the CPU
        trainer.gpu = GpuMonitor(torch.device("cuda"))
        trainer.run()
    assert nvml.opened == 0
    lines = [json.loads(line) for line in settings.metrics_file.read_text().splitlines()]
    told = [line for line in lines if line["kind"] == "gpu"]
    assert [line["step"] for line in told] == [line["step"] for line in lines if line["kind"] == "train"]
    assert all(line.items() >= EVERY.items() for line in told)
