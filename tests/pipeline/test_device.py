"""With how many threads a Loader works, where its images are decoded, which rank of how many it is, and who is asked."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from hjepa.pipeline import control_groups, device
from hjepa.pipeline.device import has_jpeg_engines, require_rank, resolve_decoder, resolve_rank, resolve_workers

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
LOADS = None
"""What ctypes takes for the process itself: in place of a library that is there."""


def test_ranks_are_as_given_and_one_where_there_are_no_others() -> None:
    assert resolve_rank("auto", "auto") == (0, 1)
    assert resolve_rank(2, 3) == (2, 3)


def test_ranks_that_cannot_be_told_apart_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """All would train on the same images, and no figure would show it."""
    with pytest.raises(ValueError, match=r"there are 4 ranks.* not set up"):
        resolve_rank("auto", 4)
    monkeypatch.setattr(torch.distributed, "is_torchelastic_launched", lambda: True)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match=r"there are 2 ranks.* after init_process_group"):
        resolve_rank("auto", "auto")
    assert resolve_rank(1, 2) == (1, 2)
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert resolve_rank("auto", "auto") == (0, 1)


@pytest.mark.parametrize(("rank", "world_size", "name"), [(0.0, 2, "rank"), ("0", 2, "rank"), (0, 2.5, "world_size")])
def test_rank_that_is_no_whole_number_is_refused(rank: object, world_size: object, name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name}=.* is no whole number"):
        resolve_rank(rank, world_size)


def test_no_worker_is_torchvisions_alone() -> None:
    """Scripts for torch's DataLoader have num_workers=0."""
    assert resolve_workers(0, "torchvision") == 0
    with pytest.raises(ValueError, match=r"num_workers=0, but DALI needs a thread; use 1 or 'auto', or backend='torchvision'"):
        resolve_workers(0, "dali")


@pytest.mark.parametrize(
    ("limit", "workers"),
    [("max 100000", 16), ("400000 100000", 4), ("250000 100000", 3), ("10000 100000", 1), ("6400000 100000", 16)],
)
def test_workers_are_as_many_as_a_container_grants_time(
    limit: str, workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kubernetes shows all cores of a machine, and stops whoever takes more time than was granted."""
    monkeypatch.setattr(device, "cores", lambda: 16)
    monkeypatch.setattr(control_groups, "GROUPS", tmp_path)
    monkeypatch.setattr(control_groups, "OWN_GROUPS", tmp_path / "missing")
    assert resolve_workers("auto", "dali") == 16
    (tmp_path / "cpu.max").write_text(f"{limit}\n")
    assert resolve_workers("auto", "dali") == workers


def test_loader_that_was_made_before_the_ranks_were_joined_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning joins them in `fit`: each rank would go on as the only one."""
    require_rank("auto", "auto", made_as=(0, 1))
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 1)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    with pytest.raises(ValueError, match=r"is rank 0 of 1, and .* says rank 1 of 2: make it after that"):
        require_rank("auto", "auto", made_as=(0, 1))
    require_rank("auto", "auto", made_as=(1, 2))
    require_rank(0, 1, made_as=(0, 1))


@pytest.mark.parametrize(
    ("decoder", "load", "where", "backend", "engines", "expected"),
    [
        ("auto", 1.0, CPU, "dali", True, "cpu"),
        ("auto", 0.0, CPU, "dali", True, "cpu"),  # as settings said before there was a choice
        ("auto", 1.0, GPU, "torchvision", True, "cpu"),
        ("cpu", 1.0, CPU, "dali", True, "cpu"),
        ("auto", 1.0, GPU, "dali", True, "gpu"),
        ("auto", 0.65, GPU, "dali-ops", True, "gpu"),
        ("auto", 0.65, GPU, "dali", False, "gpu"),  # as `hjepa tune` wrote it for an A100 before there was a choice
        ("auto", 1.0, GPU, "dali", False, "cpu"),
        ("auto", 0.0, GPU, "fused", True, "cpu"),
        ("cpu", 1.0, GPU, "fused", True, "cpu"),
        ("gpu", 0.0, GPU, "fused", False, "gpu"),
    ],
)
def test_images_are_decoded_where_it_is_asked_for_or_where_it_is_faster(
    decoder: str, load: float, where: torch.device, backend: str, engines: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "has_jpeg_engines", lambda _: engines)
    assert resolve_decoder(decoder, load, where, backend) == expected


def test_a_share_for_a_gpus_engines_is_refused_where_the_cpu_is_to_decode() -> None:
    with pytest.raises(ValueError, match=r"hw_decoder_load=0.65 has no effect with decoder='cpu'; drop either"):
        resolve_decoder("cpu", 0.65, GPU, "dali")


class Nvml:
    """As much of pynvml as is asked."""

    class NVMLError(Exception):
        pass

    def __init__(self, has_engines: bool) -> None:
        self.has_engines, self.opened = has_engines, 0

    def nvmlInit(self) -> None:
        self.opened += 1

    def nvmlShutdown(self) -> None:
        self.opened -= 1

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        return uuid

    def nvmlDeviceGetJpgUtilization(self, handle: str) -> list[int]:
        assert handle == "GPU-its-number"
        if not self.has_engines:
            raise self.NVMLError("Not Supported")
        return [0, 0]


@pytest.mark.parametrize(
    ("capability", "nvml", "library", "expected"),
    [
        ((9, 0), Nvml(True), LOADS, True),
        ((8, 0), Nvml(True), LOADS, False),
        ((12, 0), Nvml(False), LOADS, False),
        ((9, 0), None, LOADS, False),
        ((9, 0), Nvml(True), "libnothing.so", False),
    ],
    ids=["H200", "A100, which has one", "none", "no NVML", "a container without the driver's part for video"],
)
def test_engines_are_what_nvml_says_of_gpus_that_have_enough(
    capability: tuple[int, int], nvml: Nvml | None, library: str | None, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "VIDEO_LIBRARY", library)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(uuid="its-number"))
    monkeypatch.setitem(sys.modules, "pynvml", nvml)  # type: ignore[arg-type]
    has_jpeg_engines.cache_clear()
    assert has_jpeg_engines(GPU) is expected
    has_jpeg_engines.cache_clear()
    assert nvml is None or nvml.opened == 0
