"""A DALI pipeline that has failed is gone on with: what follows is right, and nothing is opened or left behind."""

import os
import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from hjepa.pipeline.loader import Loader
from hjepa.pipeline.presets.jepa import multicrop
from tests.pipeline.broken import encode, picture

pytestmark = pytest.mark.dali
RECIPE = multicrop(global_crop_size=32, local_crop_size=16, num_local_crops=2)
BACKENDS = ["dali-ops", pytest.param("fused", marks=pytest.mark.fused)]
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
NUM_IMAGES = 120


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The batch sizes of the pipelines that are opened from here on."""
    from nvidia.dali.pipeline import Pipeline

    batch_sizes: list[int] = []
    build = Pipeline.build

    def note(pipe: Pipeline) -> None:  # called again at every run
        batch_sizes.extend([] if pipe._built else [pipe.max_batch_size])
        build(pipe)

    monkeypatch.setattr(Pipeline, "build", note)
    return batch_sizes


def folder_of(folder: Path, is_bad: range) -> Path:
    contents = [encode(picture(), kind) for kind in ("JPEG", "PNG")]  # on a GPU a JPEG that was cut off does not fail
    for number in range(NUM_IMAGES):
        content = contents[number // 2 % 2]
        (folder / f"{number:03}.jpg").write_bytes(content[: len(content) // 2] if number in is_bad else content)
    return folder


def crops_of(folder: Path, backend: str, device: str, **options: object) -> Iterator[tuple[int, torch.Tensor]]:
    options = {"batch_size": 7, "num_workers": 2, "tail": "keep", "max_bad": 1.0, "bad_images": folder / "bad.jsonl"} | options
    with Loader(folder, RECIPE, backend=backend, device=device, **options) as loader:
        for batch in loader:
            for place, index in enumerate(batch.indices.tolist()):
                yield index, torch.cat([batch.globals[:, place].flatten(), batch.locals[:, place].flatten()])


@pytest.mark.parametrize("prefetch", [1, 2, 5])
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_one_pipeline_makes_what_one_without_bad_images_would(
    backend: str, device: str, prefetch: int, tmp_path: Path, opened: list[int]
) -> None:
    bad = range(5, NUM_IMAGES, 6)  # one or two in every batch
    found = list(crops_of(folder_of(tmp_path, bad), backend, device, prefetch=prefetch))
    assert len(opened) <= 1 + len(bad)  # those that looked for a bad one
    opened.clear()
    again = list(crops_of(tmp_path, backend, device, prefetch=prefetch))  # the bad ones are known now
    assert len(opened) == 1
    assert [index for index, _ in found] == [index for index, _ in again]
    assert all(torch.equal(one, other) for (_, one), (_, other) in zip(found, again, strict=True))
    assert len((tmp_path / "bad.jsonl").read_text().splitlines()) == len(bad)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_bad_images_open_no_second_pipeline_and_leave_no_threads(
    backend: str, device: str, tmp_path: Path, opened: list[int]
) -> None:
    threads = []
    for bad in (range(3, 4), range(0, NUM_IMAGES, 4)):
        folder = tmp_path / str(len(bad))
        folder.mkdir()
        opened.clear()
        crops = crops_of(folder_of(folder, bad), backend, device, batch_size=8)
        threads.append(statistics.median(len(os.listdir("/proc/self/task")) for _ in crops))
        assert len(opened) <= 1 + len(bad)  # those that looked for a bad one
    assert threads[1] <= threads[0] + 2
