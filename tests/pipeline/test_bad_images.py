"""Bad images: found, named and replaced alike by every backend, in every position; good ones are all delivered."""

import errno
import json
import os
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hjepa.kernels import chance
from hjepa.kernels.fused_crops import MAX_SIDE
from hjepa.pipeline.backend import BackendSettings, BadBatchError, Crops, Request
from hjepa.pipeline.backends.torchvision import TorchvisionBackend
from hjepa.pipeline.draws import draw
from hjepa.pipeline.folder import open_folder
from hjepa.pipeline.loader import Loader
from hjepa.pipeline.presets.jepa import multicrop
from hjepa.pipeline.quarantine import BadImageError, TooManyBadImagesError
from hjepa.pipeline.recipe import Recipe, View
from hjepa.pipeline.source import Encoded, Samples, Source
from tests.pipeline.broken import bad_files, encode, good_files, picture

RECIPE = multicrop(global_crop_size=32, local_crop_size=16, num_local_crops=2)
BACKENDS = [pytest.param("dali-ops", marks=pytest.mark.dali), pytest.param("fused", marks=pytest.mark.fused), "torchvision"]


def open_loader(data: Path | Source, backend: str, **options: object) -> Loader:
    workers = {"num_workers": 0 if backend == "torchvision" else 2}
    return Loader(data, RECIPE, backend=backend, device="cpu", **({"batch_size": 4, "max_bad": 1.0} | workers | options))


def write_all(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def named(file: Path) -> dict[str, str]:
    entries = [json.loads(line) for line in file.read_text().splitlines()]
    return {os.path.basename(entry["path"]): entry["reason"] for entry in entries}


@pytest.mark.parametrize("seed", range(3))  # another order, and so other places of the bad ones, for each
@pytest.mark.parametrize("backend", BACKENDS)
def test_every_good_image_is_delivered_and_every_bad_one_named(backend: str, seed: int, tmp_path: Path) -> None:
    good, bad = good_files(), bad_files()
    assert len(good) + len(bad) == 45
    write_all(tmp_path, good | bad)
    with open_loader(tmp_path, backend, seed=seed, tail="keep", bad_images=tmp_path / "bad.jsonl") as loader:
        first = [key for batch in loader for key in batch.keys]
        assert named(tmp_path / "bad.jsonl").keys() == bad.keys()
        second = [key for batch in loader for key in batch.keys]
    for epoch in (first, second):
        assert set(epoch) == good.keys()
        source = open_folder(tmp_path)
        late = [key for key in source.fetch(np.arange(len(source))).keys if key in bad]
        assert len(epoch) == len(good) + len(late)
    assert len((tmp_path / "bad.jsonl").read_text().splitlines()) == len(bad)


def test_backends_and_ranks_replace_alike_whether_or_not_the_bad_ones_are_known(tmp_path: Path) -> None:
    pytest.importorskip("nvidia.dali")
    write_all(tmp_path, good_files() | bad_files())
    delivered = []
    for number, (backend, ranks) in enumerate([("dali-ops", 1), ("torchvision", 1), ("dali-ops", 2), ("dali-ops", 1)]):
        file = tmp_path / ("known.jsonl" if number in (0, 3) else f"{number}.jsonl")  # the last one knows them at once
        indices = []
        for rank in range(ranks):
            with open_loader(
                tmp_path, backend, batch_size=4 // ranks, rank=rank, world_size=ranks, bad_images=file, prefetch=1 + number
            ) as loader:
                indices.append(torch.stack([batch.indices for batch in loader]))
        delivered.append(torch.cat(indices, dim=1))
    for other in delivered[1:]:
        assert torch.equal(delivered[0], other)


@pytest.mark.parametrize("backend", BACKENDS)
def test_good_images_of_a_failed_batch_keep_their_pixels(backend: str, tmp_path: Path) -> None:
    for number in range(8):
        (tmp_path / f"{number}.png").write_bytes(encode(picture(40 + number), "PNG"))
    with open_loader(tmp_path, backend, on_error="raise") as loader:
        whole = [(batch.indices, batch.globals.clone()) for batch in loader]
    content = (tmp_path / "3.png").read_bytes()
    (tmp_path / "3.png").write_bytes(content[: len(content) // 2])
    with open_loader(tmp_path, backend, bad_images=tmp_path / "bad.jsonl") as loader:
        damaged = [(batch.indices, batch.globals.clone()) for batch in loader]
    assert named(tmp_path / "bad.jsonl").keys() == {"3.png"}
    replaced = 0
    for (before, crops), (after, others) in zip(whole, damaged, strict=True):
        same = before == after
        replaced += int((~same).sum())
        assert torch.equal(crops[:, same], others[:, same])
    assert replaced == 1


@pytest.mark.parametrize("backend", BACKENDS)
def test_image_that_was_overwritten_after_the_index_was_made_is_named(backend: str, tmp_path: Path) -> None:
    for number in range(8):
        (tmp_path / f"{number}.png").write_bytes(encode(picture(), "PNG"))
    source = open_folder(tmp_path)
    (tmp_path / "5.png").write_bytes(encode(picture(90, 30), "PNG"))
    with open_loader(source, backend, bad_images=tmp_path / "bad.jsonl") as loader:
        assert not any("5.png" in batch.keys for batch in loader)
    assert "90x30 pixels" in named(tmp_path / "bad.jsonl")["5.png"]
    with open_loader(source, backend, on_error="raise") as loader, pytest.raises(BadImageError, match=r"5\.png.*overwritten"):
        list(loader)


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut_off": lambda content: content[: len(content) // 2],
    "emptied": lambda _: b"",
    "a_text": lambda _: b"<html>",
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_image_that_cannot_be_parsed_is_named_in_a_large_batch(backend: str, damage: str, tmp_path: Path) -> None:
    """DALI's decoder takes batches above 16 apart for its threads, and ended the process there."""
    for number in range(128):
        (tmp_path / f"{number:03}.png").write_bytes(encode(picture(32, 32), "PNG"))
    source = open_folder(tmp_path)
    for name in ("000.png", "070.png"):
        (tmp_path / name).write_bytes(DAMAGES[damage]((tmp_path / name).read_bytes()))
    with open_loader(source, backend, batch_size=64, shuffle=False, bad_images=tmp_path / "bad.jsonl") as loader:
        keys = [key for batch in loader for key in batch.keys]
    assert named(tmp_path / "bad.jsonl").keys() == {"000.png", "070.png"}
    assert len(keys) == 128


@pytest.mark.fused
def test_image_with_a_box_too_long_for_the_kernel_is_named_and_replaced(tmp_path: Path) -> None:
    for number in range(8):
        (tmp_path / f"{number}.png").write_bytes(encode(picture(), "PNG"))
    Image.new("RGB", (MAX_SIDE + 1, 1)).save(tmp_path / "5.png")
    recipe = Recipe(name="long", source="", views=(View(name="whole", count=2, size=8, area=(1, 1), ratio=(1, 1e6)),))
    options = {"batch_size": 4, "max_bad": 1.0, "num_workers": 2, "bad_images": tmp_path / "bad.jsonl"}
    with Loader(tmp_path, recipe, backend="fused", device="cpu", **options) as loader:
        delivered = [key for batch in loader for key in batch.keys]
    assert len(delivered) == 8
    assert "5.png" not in delivered
    assert f"{MAX_SIDE + 1} pixels long" in named(tmp_path / "bad.jsonl")["5.png"]


class InMemory:
    """A source as a user writes one; image 2 cannot be fetched, and image 5 does not decode."""

    name, classes, bad = "memory", ("one",), ()

    def __len__(self) -> int:
        return 8

    def fetch(self, indices: np.ndarray) -> Samples:
        contents = [encode(picture(), "JPEG") if index != 5 else b"nonsense" for index in indices.tolist()]
        return Samples(
            encoded=[np.frombuffer(content, dtype=np.uint8) for content in contents],
            sizes=np.tile(np.array([[60, 80]], dtype=np.int32), (len(indices), 1)),
            orientation=np.ones(len(indices), dtype=np.uint8),
            labels=np.zeros(len(indices), dtype=np.int64),
            keys=tuple(f"image {index}" for index in indices.tolist()),
            failures={place: "the server is gone" for place, index in enumerate(indices.tolist()) if index == 2},
        )

    def fingerprint(self) -> str:
        return "memory/1"


@pytest.mark.parametrize("backend", [*BACKENDS, "torchvision, one worker"])
@pytest.mark.parametrize("error", [BadImageError, OSError])
def test_what_comes_before_an_error_of_the_source_is_delivered(
    backend: str, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However far the loader reads ahead."""
    name, _, worker = backend.partition(", ")
    source = InMemory()
    fetch = source.fetch
    if error is OSError:

        def broken(indices: np.ndarray) -> Samples:
            if 2 in indices:
                raise OSError("the server is gone")
            return fetch(indices)

        monkeypatch.setattr(source, "fetch", broken)
    options = {"num_workers": 1} if worker else {}
    with open_loader(source, name, batch_size=1, prefetch=4, on_error="raise", shuffle=False, **options) as loader:
        delivered: list[int] = []
        with pytest.raises(error, match="the server is gone"):
            delivered.extend(index for batch in loader for index in batch.indices.tolist())
        assert delivered == [0, 1]
        assert loader.state_dict()["position"] == 2


@pytest.mark.parametrize("backend", BACKENDS)
def test_file_that_is_away_for_a_while_is_read_by_a_later_run(backend: str, tmp_path: Path) -> None:
    folder, away = tmp_path / "images", tmp_path / "2.jpg"
    folder.mkdir()
    write_all(folder, {f"{number}.jpg": encode(picture(), "JPEG") for number in range(4)})
    options = {"bad_images": tmp_path / "bad.jsonl", "batch_size": 2}
    for expected in ({"0.jpg", "1.jpg", "3.jpg"}, {"0.jpg", "1.jpg", "2.jpg", "3.jpg"}):
        with open_loader(folder, backend, **options) as loader:
            if not away.exists():
                (folder / "2.jpg").rename(away)
            assert {key for batch in loader for key in batch.keys} == expected
        if not (folder / "2.jpg").exists():
            away.replace(folder / "2.jpg")
            away.touch()


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file that opens and cannot be read")
@pytest.mark.parametrize("backend", BACKENDS)
def test_file_that_opens_but_cannot_be_read_for_a_while_is_read_by_a_later_run(backend: str, tmp_path: Path) -> None:
    """As on a network's disk whose server is away: the status is still known, and reading is an error."""
    for number in range(8):
        (tmp_path / f"{number}.png").write_bytes(encode(picture(), "PNG"))
    source, content = open_folder(tmp_path), (tmp_path / "5.png").read_bytes()
    (tmp_path / "5.png").unlink()
    (tmp_path / "5.png").symlink_to("/proc/self/mem")
    with open_loader(source, backend, bad_images=tmp_path / "bad.jsonl") as loader:
        assert not any("5.png" in batch.keys for batch in loader)
    assert named(tmp_path / "bad.jsonl") == {"5.png": os.strerror(errno.EIO)}
    (tmp_path / "5.png").unlink()
    (tmp_path / "5.png").write_bytes(content)
    with open_loader(source, backend, bad_images=tmp_path / "bad.jsonl") as loader:
        assert any("5.png" in batch.keys for batch in loader)


@pytest.mark.parametrize("backend", BACKENDS)
def test_contents_from_a_source_of_ones_own_are_rendered_and_replaced_like_files(backend: str, tmp_path: Path) -> None:
    (tmp_path / "one.jpg").write_bytes(encode(picture(), "JPEG"))
    with open_loader(InMemory(), backend, bad_images=tmp_path / "bad.jsonl") as loader:
        batches = list(loader)
    assert named(tmp_path / "bad.jsonl") == {
        "image 2": "the server is gone",
        "image 5": "not an image that can be identified",
    }
    indices = torch.cat([batch.indices for batch in batches])
    assert set(indices.tolist()) == {0, 1, 3, 4, 6, 7}
    assert len(indices) == 8
    with open_loader(InMemory(), backend, bad_images=tmp_path / "bad.jsonl") as later:
        assert [index for index in range(8) if index in later.quarantine] == [5]  # the server may be there again
    with open_loader(InMemory(), backend, on_error="raise") as loader, pytest.raises(BadImageError, match=r"image [25]"):
        list(loader)


def test_bad_image_of_a_batch_further_ahead_is_the_one_that_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    render, failures = TorchvisionBackend.render, [BadBatchError({(1, 2): "cut off"})]

    def fails_once(backend: TorchvisionBackend, requests: Iterator[Request]) -> Iterator[Crops]:
        if failures:
            next(requests), next(requests)
            raise failures.pop()
        yield from render(backend, requests)

    monkeypatch.setattr(TorchvisionBackend, "render", fails_once)
    write_all(tmp_path, {f"{number}.png": encode(picture(), "PNG") for number in range(8)})
    with open_loader(tmp_path, "torchvision", shuffle=False, bad_images=tmp_path / "bad.jsonl") as loader:
        delivered = [key for batch in loader for key in batch.keys]
    assert named(tmp_path / "bad.jsonl") == {"6.png": "cut off"}
    assert [number for number in range(8) if delivered[number] != f"{number}.png"] == [6]


def test_images_that_cannot_be_fetched_once_a_loader_is_closed_are_not_called_bad(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those of a folder that is removed after its loader is closed."""
    source = InMemory()
    fetch = source.fetch
    monkeypatch.setattr(source, "fetch", lambda indices: (loader.close(), fetch(indices))[1])
    loader = open_loader(source, "torchvision", batch_size=8, bad_images=tmp_path / "bad.jsonl")
    with pytest.raises(ValueError, match=r"closed|ended"):
        next(iter(loader))
    assert not loader.quarantine
    assert not (tmp_path / "bad.jsonl").exists()


class AllButOne(InMemory):
    """Image 3 alone is good."""

    def __init__(self, *, fetched: bool) -> None:
        self.fetched = fetched

    def fetch(self, indices: np.ndarray) -> Samples:
        good = super().fetch(np.full_like(indices, 3))
        bad = [place for place, index in enumerate(indices.tolist()) if index != 3]
        if not self.fetched:
            return replace(good, failures=dict.fromkeys(bad, "the server is gone"))
        contents = [np.zeros(9, np.uint8) if place in bad else content for place, content in enumerate(good.encoded)]
        return replace(good, encoded=contents)


@pytest.mark.parametrize("fetched", [True, False])
def test_image_that_stands_in_for_another_and_is_bad_itself_is_replaced_in_its_turn(fetched: bool, tmp_path: Path) -> None:
    source, options = AllButOne(fetched=fetched), {"batch_size": 1, "bad_images": tmp_path / "bad.jsonl"}
    with open_loader(source, "torchvision", **options) as loader:
        assert [batch.indices.tolist() for batch in loader] == [[3]] * 8


def test_image_that_stands_in_for_another_is_cropped_anew(tmp_path: Path) -> None:
    with open_loader(InMemory(), "torchvision", batch_size=8, shuffle=False, bad_images=tmp_path / "bad.jsonl") as loader:
        batch = next(iter(loader))
    assert len(set(batch.indices.tolist())) == 6
    np.testing.assert_array_equal(batch.draws.keys, chance.key(0, 0, np.arange(8)))


def request_of(encoded: Encoded) -> Request:
    sizes = np.array([[60, 80]] * len(encoded), np.int32)
    return Request(encoded=encoded, sizes=sizes, draws=draw(RECIPE, 0, 0, np.arange(len(encoded)), sizes))


def settings_of(device: str) -> BackendSettings:
    sizes = {"batch_size": 4, "num_workers": 1, "prefetch": 1, "decoder": "cpu" if device == "cpu" else "gpu"}
    return BackendSettings(recipe=RECIPE, device=torch.device(device), pin_memory=False, dtype=torch.float32, **sizes)


@pytest.mark.dali
@pytest.mark.parametrize(("num_bad", "asked"), [(1, ["cpu"]), (2, ["cpu", "cuda"]), (0, ["cpu", "cuda"])])
def test_a_gpu_is_asked_which_image_is_bad_only_where_the_cpu_does_not_know(
    num_bad: int, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from hjepa.pipeline.backends import dali_decode

    devices: list[str] = []
    build = dali_decode._build_probe

    def on_the_cpu(settings: BackendSettings, batch_size: int, *, from_files: bool) -> object:
        devices.append(settings.device.type)
        return build(replace(settings, device=torch.device("cpu"), decoder="cpu"), batch_size, from_files=from_files)

    monkeypatch.setattr(dali_decode, "_build_probe", on_the_cpu)
    whole = np.frombuffer(encode(picture(), "JPEG"), np.uint8)
    encoded = [whole[:100] if place < num_bad else whole for place in range(4)]
    found = dali_decode.find_bad(deque([request_of(encoded)]), settings_of("cuda:0"))
    assert found.keys() == {(0, place) for place in range(num_bad)}
    assert list(dict.fromkeys(devices)) == asked


@pytest.mark.dali
def test_images_that_the_cpu_refuses_and_a_gpu_does_not_are_bad(monkeypatch: pytest.MonkeyPatch) -> None:
    from hjepa.pipeline.backends import dali_decode

    def probe(_: Request, places: list[int], settings: BackendSettings) -> dict[int, str]:
        return {place: "cut off" for place in places if place < 2 and settings.device.type == "cpu"}

    monkeypatch.setattr(dali_decode, "_probe", probe)
    whole = np.frombuffer(encode(picture(), "JPEG"), np.uint8)
    assert list(dali_decode.find_bad(deque([request_of([whole] * 4)]), settings_of("cuda:0"))) == [(0, 0), (0, 1)]


@pytest.mark.dali
@pytest.mark.parametrize(("num_refused", "num_bad"), [(4, 0), (3, 3), (1, 1)])
def test_images_are_not_bad_because_a_gpu_without_memory_refuses_every_one(
    num_refused: int, num_bad: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hjepa.pipeline.backends import dali_decode

    def probe(_: Request, places: list[int], settings: BackendSettings) -> dict[int, str]:
        return dict.fromkeys(places[:num_refused], "CUDA allocation failed") if settings.device.type == "cuda" else {}

    monkeypatch.setattr(dali_decode, "_probe", probe)
    whole = np.frombuffer(encode(picture(), "JPEG"), np.uint8)
    assert len(dali_decode.find_bad(deque([request_of([whole] * 4)]), settings_of("cuda:0"))) == num_bad


@pytest.mark.dali
@pytest.mark.parametrize("bad", [[], [0], [3], [0, 1, 2, 3, 4], [1, 4]], ids=str)
def test_all_bad_images_of_a_batch_are_found_by_halves(bad: list[int]) -> None:
    from hjepa.pipeline.backends import dali_decode

    whole = np.frombuffer(encode(picture(), "JPEG"), np.uint8)
    request = request_of([whole[:-300] if place in bad else whole for place in range(5)])
    found = dali_decode.find_bad(deque([request_of([whole]), request]), settings_of("cpu"))
    assert list(found) == [(1, place) for place in bad]
    assert all("truncated" in reason for reason in found.values())


@pytest.mark.dali
@pytest.mark.parametrize(("named", "found"), [(3, [3]), (2, [1, 3])])
def test_image_that_dali_names_is_looked_at_before_all_others(named: int, found: list[int]) -> None:
    from hjepa.pipeline.backends import dali_decode

    whole = np.frombuffer(encode(picture(), "JPEG"), np.uint8)
    request = request_of([whole[:-300] if place in (1, 3) else whole for place in range(4)])
    said = f"Error in CPU operator\nFailed to decode sample #{named} : \n"
    assert list(dali_decode.find_bad(deque([request]), settings_of("cpu"), said)) == [(0, place) for place in found]


def jpegs_with_ends() -> dict[str, bytes]:
    """Name -> content of whole pictures, with all that may be before or behind them."""
    jpeg, thumbnail = encode(picture(), "JPEG"), encode(picture(9, 12), "JPEG")
    exif = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    return {
        "plain": jpeg,
        "progressive": encode(picture(), "JPEG", progressive=True),
        "restart markers": encode(picture(), "JPEG", restart_marker_blocks=2),
        "thumbnail": jpeg[:2] + exif + jpeg[2:],
        "fill bytes": jpeg[:2] + b"\xff\xff" + jpeg[2:],
        "something behind it": jpeg + bytes(7),
        "much behind it": jpeg + bytes(10_000),
        "a part of another behind it": jpeg + jpeg[:200],
        "much with a scan behind it": jpeg + bytes(5000) + b"\xff\xda" + bytes(50),
    }


@pytest.mark.dali
@pytest.mark.parametrize("name", jpegs_with_ends())
def test_end_of_a_jpeg_is_found_wherever_it_was_cut_off(name: str) -> None:
    from hjepa.pipeline.backends import dali_decode

    content = jpegs_with_ends()[name]
    assert dali_decode._has_end([np.frombuffer(content, np.uint8)], 0)
    end = content.rindex(b"\xff\xd9", 0, -200 if "another" in name else None)
    for length in range(3, end + 2):
        assert not dali_decode._has_end([np.frombuffer(content[:length], np.uint8)], 0), length


@pytest.mark.dali
@pytest.mark.parametrize("from_files", [False, True])
def test_jpegs_that_were_cut_off_are_told_by_their_ends(from_files: bool, tmp_path: Path) -> None:
    """A GPU decodes them without a word; the graph of ends is the same here. They are those that the CPU's decoder refuses."""
    import nvidia.dali.fn as fn
    from nvidia.dali.pipeline import Pipeline

    from hjepa.pipeline.backend import BadBatchError
    from hjepa.pipeline.backends import dali_decode
    from hjepa.pipeline.backends.dali_inputs import contents_of

    whole = jpegs_with_ends()
    files = whole | {f"half of {name}": content[: len(content) // 2] for name, content in whole.items() if "behind" not in name}
    files |= {"without its end": whole["plain"][:-2], "zeros for its end": whole["plain"][:-2] + bytes(6)}
    files |= {
        "cut off, but for its thumbnail": whole["thumbnail"][:-300],
        "PNG": encode(picture(), "PNG"),
        "gone": whole["plain"] + b"x",
    }
    contents = list(files.values())
    encoded = [np.frombuffer(content, np.uint8) for content in contents]
    if from_files:
        for number, content in enumerate(contents):
            (tmp_path / f"{number:02}").write_bytes(content)
        encoded = np.array([bytes(tmp_path / f"{number:02}") for number in range(len(contents))])
    request, settings = request_of(encoded), replace(settings_of("cuda:0"), batch_size=len(files))
    pipe = Pipeline(batch_size=len(files), num_threads=1, device_id=None, exec_dynamic=True)
    with pipe:
        read = dali_decode.read(fn.external_source(lambda: contents_of(request.encoded), batch=True), from_files)
        pipe.set_outputs(*dali_decode.ends(read, settings))
    (ends,) = pipe.run()
    refused = {list(files)[place] for _, place in dali_decode.find_bad(deque([request]), settings_of("cpu"))}
    assert {"half of plain", "half of progressive", "cut off, but for its thumbnail"} <= refused
    assert not refused & whole.keys()
    if from_files:
        (tmp_path / f"{len(files) - 1:02}").unlink()
    with pytest.raises(BadBatchError) as raised:
        dali_decode.check_ends(np.asarray(ends.as_tensor()), request, settings)
    assert {list(files)[place] for _, place in raised.value.reasons} == refused
    assert dali_decode.ends(read, settings_of("cpu")) == ()


def test_what_was_left_out_is_written_by_the_first_rank_alone(tmp_path: Path) -> None:
    write_all(tmp_path, good_files() | {"text.png": b"no image"})
    for rank in (1, 0):
        with open_loader(tmp_path, "torchvision", rank=rank, world_size=2, bad_images=tmp_path / "bad.jsonl"):
            assert (tmp_path / "bad.jsonl").exists() == (rank == 0)
    assert named(tmp_path / "bad.jsonl").keys() == {"text.png"}


@pytest.mark.parametrize("backend", BACKENDS)
def test_too_many_bad_images_end_the_run_with_the_list(backend: str, tmp_path: Path) -> None:
    write_all(tmp_path, good_files() | bad_files())
    message = r"4 of 30 images are bad.*max_bad=0\.1.*bad\.jsonl"
    loader = open_loader(tmp_path, backend, max_bad=0.1, bad_images=tmp_path / "bad.jsonl")
    with loader, pytest.raises(TooManyBadImagesError, match=message):
        list(loader)


def test_header_of_a_bomb_is_refused_before_anything_is_decoded(tmp_path: Path) -> None:
    write_all(tmp_path, {name: content for name, content in bad_files().items() if name.startswith("bomb")})
    Image.new("RGB", (9, 9)).save(tmp_path / "good.png")
    source = open_folder(tmp_path)
    assert len(source) == 1
    assert all("pixels" in image.reason for image in source.bad)
