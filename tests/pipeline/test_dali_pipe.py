"""A DALI pipeline that has failed is gone on with: what follows is right, and nothing is opened or left behind."""

import importlib
import json
import os
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from hjepa.pipeline.backend import BackendSettings, Request
from hjepa.pipeline.loader import Loader
from hjepa.pipeline.presets.jepa import multicrop
from hjepa.pipeline.recipe import Recipe, View
from hjepa.pipeline.source import Samples
from tests.pipeline.broken import encode, picture

pytestmark = pytest.mark.dali
dali_pipe = pytest.importorskip("hjepa.pipeline.backends.dali_pipe", reason="needs NVIDIA DALI")
DaliPipe, Pipeline = dali_pipe.DaliPipe, dali_pipe.Pipeline
RECIPE = multicrop(global_crop_size=32, local_crop_size=16, num_local_crops=2)
BACKENDS = ["dali-ops", pytest.param("fused", marks=pytest.mark.fused)]
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
NUM_IMAGES = 120


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The batch sizes of the pipelines that are opened from here on, but of those that look for a bad image."""
    batch_sizes: list[int] = []
    for name in ("fused", "dali_ops"):
        module = importlib.import_module(f"hjepa.pipeline.backends.{name}")

        def note(pipe: Pipeline, decoder: str, build: Callable[[Pipeline, str], None] = module.build) -> None:
            batch_sizes.append(pipe.max_batch_size)
            build(pipe, decoder)

        monkeypatch.setattr(module, "build", note)
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
    again = list(crops_of(tmp_path, backend, device, prefetch=prefetch))  # the bad ones are known now
    assert opened == [7, 7]
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
    failed, find = [], DaliPipe._fail

    def note(pipe: DaliPipe, request: Request, error: RuntimeError) -> None:
        failed.append(request.draws.keys.tobytes())
        find(pipe, request, error)

    monkeypatch.setattr(DaliPipe, "_fail", note)
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
        crops = crops_of(folder_of(folder, bad), backend, device, batch_size=8)
        counts = [len(os.listdir("/proc/self/task")) for _ in crops]
        threads.append(min(counts[len(counts) // 2 :]))  # without those that look for a bad one just then
    assert opened == [8, 8]
    assert threads[1] <= threads[0] + 2


@pytest.mark.parametrize("backend", BACKENDS)
def test_bad_images_in_the_last_batches_of_a_run_are_replaced(backend: str, tmp_path: Path) -> None:
    """There is nothing to feed behind them, which a pipeline is told once: another is opened."""
    folder_of(tmp_path, range(0, 20, 3), num_images=20)
    options = {"batch_size": 4, "num_workers": 2, "max_bad": 1.0, "bad_images": tmp_path / "bad.jsonl", "epochs": 1}
    delivered = []
    for _ in range(2):
        with Loader(tmp_path, RECIPE, backend=backend, device="cpu", **options) as loader:
            delivered.append([index for batch in loader for index in batch.indices.tolist()])
    assert len(delivered[0]) == 20
    assert not set(delivered[0]) & set(range(0, 20, 3))
    assert delivered[0] == delivered[1]


@pytest.mark.parametrize("comes_back", [True, False])
@pytest.mark.parametrize("backend", BACKENDS)
def test_batch_in_which_nothing_bad_is_found_is_tried_once_again(
    backend: str, comes_back: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fed: list[bytes]
) -> None:
    """A file may be away for a moment, and back when it is looked at."""
    folder_of(tmp_path, range(50, 51))

    def nothing(*_: object) -> dict[tuple[int, int], str]:
        if comes_back:
            folder_of(tmp_path, range(0))
        return {}

    monkeypatch.setattr(dali_pipe, "find_bad", nothing)
    if comes_back:
        assert {index for index, _ in crops_of(tmp_path, backend, "cpu")} == set(range(NUM_IMAGES))
        assert not (tmp_path / "bad.jsonl").exists()
    else:
        with pytest.raises(RuntimeError, match="Critical error in pipeline"):
            list(crops_of(tmp_path, backend, "cpu"))
        assert max(map(fed.count, fed)) == 2


@pytest.mark.parametrize("backend", BACKENDS)
def test_few_batches_are_kept_however_many_are_bad(backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, start = [], DaliPipe._start

    def note(pipe: DaliPipe, *arguments: object) -> None:
        start(pipe, *arguments)
        kept.append(len(pipe._made))

    monkeypatch.setattr(DaliPipe, "_start", note)
    folder_of(tmp_path, range(0, 400, 8), num_images=400)  # of such a number few stand in for one another
    delivered = [index for index, _ in crops_of(tmp_path, backend, "cpu", batch_size=4, prefetch=5)]
    assert len(delivered) == 400
    assert 0 < max(kept) <= 10


def test_bad_image_behind_a_batch_that_failed_for_once_is_the_one_that_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder_of(tmp_path, range(30), num_images=60)
    find, asked = dali_pipe.find_bad, []

    def not_at_first(flying: deque[Request], *arguments: object) -> dict[tuple[int, int], str]:
        """Of two batches that fail the first is whole again, when it is looked at; then that behind it is found."""
        asked.append(len(flying))
        reasons = find(deque(list(flying)[1:]), *arguments[:1]) if len(asked) % 2 else find(flying, *arguments)
        return {(number + 1, place): reason for (number, place), reason in reasons.items()} if len(asked) % 2 else reasons

    monkeypatch.setattr(dali_pipe, "find_bad", not_at_first)
    options = {"batch_size": 4, "prefetch": 4, "num_workers": 1, "max_bad": 1.0, "bad_images": tmp_path / "bad.jsonl"}
    with Loader(tmp_path, RECIPE, backend="dali-ops", device="cpu", **options) as loader:
        assert all(index >= 30 for batch in loader for index in batch.indices.tolist())
    entries = [json.loads(line) for line in (tmp_path / "bad.jsonl").read_text().splitlines()]
    assert {entry["id"] for entry in entries} <= set(range(30))


class OneLevelEach:
    """Image i is of level 10 i; image 1 is bad, and the second time that image 2 is fetched DALI does not take it."""

    name, classes, bad = "memory", ("one",), ()
    fetched = 0

    def __len__(self) -> int:
        return 24

    def fetch(self, indices: np.ndarray) -> Samples:
        contents = [encode(Image.new("RGB", (32, 32), (10 * index,) * 3), "PNG") for index in indices.tolist()]
        encoded = [
            np.frombuffer(content[: 40 if index == 1 else None], np.uint8)
            for content, index in zip(contents, indices.tolist(), strict=True)
        ]
        if 2 in indices:
            self.fetched += 1
            place = indices.tolist().index(2)
            encoded[place] = encoded[place] if self.fetched == 1 else np.repeat(encoded[place], 2)[::2]
        return Samples(
            encoded=encoded,
            sizes=np.full((len(indices), 2), 32, np.int32),
            orientation=np.ones(len(indices), np.uint8),
            labels=np.zeros(len(indices), np.int64),
            keys=tuple(map(str, indices.tolist())),
        )

    def fingerprint(self) -> str:
        return "levels/1"


@pytest.mark.parametrize("backend", BACKENDS)
def test_images_that_dali_does_not_take_end_the_run_before_pixels_are_anothers(backend: str, tmp_path: Path) -> None:
    recipe = Recipe(name="plain", source="", views=(View(name="global", count=1, size=8, area=(1, 1), ratio=(1, 1)),))
    options = {"batch_size": 4, "shuffle": False, "num_workers": 1, "prefetch": 3, "max_bad": 1.0, "epochs": 1}

    def check_pixels(loader: Loader) -> None:
        for batch in loader:
            pixels = (batch.globals[0, :, 0, 0, 0] * recipe.std[0] + recipe.mean[0]) * 255
            assert (pixels / 10).round().long().tolist() == batch.indices.tolist()

    loader = Loader(OneLevelEach(), recipe, backend=backend, device="cpu", bad_images=tmp_path / "bad.jsonl", **options)
    with loader, pytest.raises(RuntimeError, match="Strided data not supported"):
        check_pixels(loader)


def test_dali_is_asked_where_the_loaders_gpu_is_the_current_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes a default stream, whose handle is 0 on every GPU, to be the current one's."""
    current, seen = [0], list[int]()

    @contextmanager
    def device(number: int) -> Iterator[None]:
        current.append(number)
        yield
        current.pop()

    class OnePixelEach:
        def schedule_run(self) -> None:
            pass

        def outputs(self, _: object) -> list[SimpleNamespace]:
            seen.append(current[-1])
            return [SimpleNamespace(as_tensor=lambda: torch.zeros(1, 2, 3, 1, 1))] * 2

    def noted(tensor: torch.Tensor) -> torch.Tensor:
        seen.append(current[-1])
        return tensor

    dali_ops = importlib.import_module("hjepa.pipeline.backends.dali_ops")
    monkeypatch.setattr(torch.cuda, "device", device)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: None)
    monkeypatch.setattr(dali_ops, "from_dlpack", noted)
    settings = BackendSettings(
        recipe=RECIPE,
        batch_size=1,
        device=torch.device("cuda", 1),
        num_workers=1,
        prefetch=1,
        pin_memory=True,
        dtype=torch.float32,
    )
    backend = dali_ops.DaliOpsBackend(settings)
    backend._pipe._pipe = OnePixelEach()
    backend._pipe._flying.append(object())
    dali_ops._to_crops(settings, backend._pipe._take().outputs)
    assert seen == [1, 1, 1]
    assert current == [0]
