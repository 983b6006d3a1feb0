"""A DALI pipeline that has failed is gone on with: what follows is right, and nothing is opened or left behind."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from hjepa.pipeline.backend import Request
from hjepa.pipeline.loader import Loader
from hjepa.pipeline.presets.jepa import multicrop
from tests.pipeline.broken import encode, picture

pytestmark = pytest.mark.dali
DaliPipe = pytest.importorskip("hjepa.pipeline.backends.dali_pipe", reason="needs NVIDIA DALI").DaliPipe
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


@pytest.fixture
def fed(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What the pipelines are fed with from here on: the keys of each batch's images and epochs."""
    keys: list[bytes] = []
    feed = DaliPipe._feed

    def note(pipe: DaliPipe) -> object:
        inputs = feed(pipe)
        keys.append(pipe._flying[-1].draws.keys.tobytes())
        return inputs

    monkeypatch.setattr(DaliPipe, "_feed", note)
    return keys


def folder_of(folder: Path, is_bad: range, num_images: int = NUM_IMAGES) -> Path:
    contents = [encode(picture(), kind) for kind in ("JPEG", "PNG")]  # on a GPU a JPEG that was cut off does not fail
    for number in range(num_images):
        content = contents[number // 2 % 2]
        (folder / f"{number:03}.jpg").write_bytes(content[: len(content) // 2] if number in is_bad else content)
    return folder


def crops_of(folder: Path, backend: str, device: str, epochs: int = 1, **options: object) -> Iterator[tuple[int, torch.Tensor]]:
    options = {"batch_size": 7, "num_workers": 2, "tail": "keep", "max_bad": 1.0, "bad_images": folder / "bad.jsonl"} | options
    with Loader(folder, RECIPE, backend=backend, device=device, **options) as loader:
        for batch in (batch for _ in range(epochs) for batch in loader):
            for place, index in enumerate(batch.indices.tolist()):
                yield index, torch.cat([batch.globals[:, place].flatten(), batch.locals[:, place].flatten()])


def assert_equal(some: list[tuple[int, torch.Tensor]], others: list[tuple[int, torch.Tensor]]) -> None:
    assert [index for index, _ in some] == [index for index, _ in others]
    assert all(torch.equal(one, other) for (_, one), (_, other) in zip(some, others, strict=True))


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
    assert_equal(found, again)
    assert len((tmp_path / "bad.jsonl").read_text().splitlines()) == len(bad)


@pytest.mark.parametrize("backend", BACKENDS)
def test_bad_images_that_are_read_ahead_in_later_epochs_are_replaced_there(backend: str, tmp_path: Path) -> None:
    """So that what is on its way when they are found is not what is asked for then."""
    folder_of(tmp_path, range(0, 16, 7), num_images=16)
    found = list(crops_of(tmp_path, backend, "cpu", epochs=4, prefetch=6))
    assert_equal(found, list(crops_of(tmp_path, backend, "cpu", epochs=4, prefetch=6)))


@pytest.mark.parametrize("num_bad", [1, 9])  # few enough that none of them stands in for another
@pytest.mark.parametrize("backend", BACKENDS)
def test_batches_behind_a_bad_one_are_not_made_again(
    backend: str, num_bad: int, tmp_path: Path, fed: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    failed, find = [], DaliPipe._raise_bad

    def note(pipe: DaliPipe, request: Request, error: RuntimeError) -> None:
        failed.append(request.draws.keys.tobytes())
        find(pipe, request, error)

    monkeypatch.setattr(DaliPipe, "_raise_bad", note)
    assert len(list(crops_of(folder_of(tmp_path, range(num_bad)), backend, "cpu"))) == NUM_IMAGES
    far_from_the_end = list(dict.fromkeys(fed))[:12]  # behind it, bad images of the next epoch are read ahead
    assert [fed.count(batch) for batch in far_from_the_end] == [1 + failed.count(batch) for batch in far_from_the_end]
    assert num_bad // 2 < len(failed) <= num_bad


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
        counts = [len(os.listdir("/proc/self/task")) for _ in crops]
        threads.append(min(counts[len(counts) // 2 :]))  # without those that look for a bad one just then
        assert len(opened) <= 1 + len(bad)  # those that looked for a bad one
    assert threads[1] <= threads[0] + 2
