"""Data sets by name: each name and split finds its files, and settings reach them."""

import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hjepa.assembly import open_source
from hjepa.configs.load import load_settings
from hjepa.named_data import NAMES, open_named
from hjepa.pipeline import folder
from hjepa.pipeline.open_source import name_of
from hjepa.pipeline.open_source import open_source as open_unnamed
from hjepa.pipeline.source import Samples, Source
from tests.pipeline.test_arrays import write_cifar10


def everything(source: Source) -> Samples:
    return source.fetch(np.arange(len(source)))


@pytest.fixture
def places(labelled: Path, tmp_path: Path) -> dict[str, Path]:
    """Name -> where such data lies."""
    for split in ("train", "val"):
        (tmp_path / "folders" / split).parent.mkdir(exist_ok=True)
        (tmp_path / "folders" / split).symlink_to(labelled / ("dark" if split == "val" else "."))
    write_cifar10(tmp_path / "cifar10")
    stl10 = tmp_path / "stl10_binary"
    stl10.mkdir()
    for split, count in (("train", 2), ("test", 1)):
        (stl10 / f"{split}_X.bin").write_bytes(bytes(count * 3 * 96 * 96))
        (stl10 / f"{split}_y.bin").write_bytes(bytes([1] * count))
    paths = sorted(labelled.rglob("*.jpg"))
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for path in paths[:3]:
            archive.add(path, path.name)
    (tmp_path / "x.csv").write_text("".join(f"{path},{path.parent.name}\n" for path in paths))
    return {
        "imagefolder": labelled,
        "imagenet": tmp_path / "folders",
        "imagenet100": tmp_path / "folders",
        "cifar10": tmp_path / "cifar10",
        "stl10": tmp_path,
        "webdataset": tmp_path / "x.tar",
        "csv": tmp_path / "x.csv",
    }


def test_every_name_and_split_finds_its_images(places: dict[str, Path]) -> None:
    counts = {name: [len(open_named(name, place, split)) for split in ("train", "val")] for name, place in places.items()}
    assert counts == {
        "imagefolder": [40, 40],
        "imagenet": [40, 20],
        "imagenet100": [40, 20],
        "cifar10": [50, 10],
        "stl10": [2, 1],
        "webdataset": [3, 3],
        "csv": [40, 40],
    }
    assert set(NAMES) - set(places) == {"cifar100", "parquet"}


def test_what_lies_at_a_place_is_found_out(places: dict[str, Path], tmp_path: Path) -> None:
    for name in ("imagefolder", "cifar10", "stl10", "webdataset", "csv"):
        place = tmp_path / "stl10_binary" if name == "stl10" else places[name]
        assert name_of(place) == name
        assert open_unnamed(place).fingerprint() == open_named(name, place).fingerprint()  # as whoever names nothing reads it
    (tmp_path / "hundred" / "cifar-100-python").mkdir(parents=True)
    (tmp_path / "hundred" / "cifar-100-python" / "test").touch()
    assert name_of(tmp_path / "hundred") == "cifar100"
    shards = tmp_path / "shards"
    shards.mkdir()
    (shards / "0.tar").touch()
    assert name_of(shards) == "webdataset"
    (shards / "dark").mkdir()
    assert name_of(shards) == "webdataset"
    Image.new("RGB", (8, 8)).save(shards / "dark" / "x.png")
    with pytest.raises(ValueError, match=r"both \.tar files and images in folders \(dark/x.png\)"):
        name_of(shards)
    names = {
        "shard-{0..9}.tar": "webdataset",
        "cifar-100-python.tar.gz": "cifar100",
        "x.parquet": "parquet",
        "gone": "imagefolder",
    }
    assert {place: name_of(tmp_path / place) for place in names} == names


def test_settings_name_the_data_and_limit_its_pixels(places: dict[str, Path]) -> None:
    told: list[tuple[str, int, int]] = []

    def show(what: str, done: int, total: int) -> None:
        told.append((what, done, total))

    for name, place in places.items():
        settings = load_settings(None, [f"data.dataset={name}", f"data.data_path={place}"])
        assert len(open_source(settings, show)) == len(open_named(name, place))
    settings = load_settings(None, ["data.dataset=csv", f"data.data_path={places['csv']}", "data.max_pixels=4200"])
    source = open_source(settings, show)
    assert everything(source).sizes[:, 0].max() == 70  # of 60 columns
    assert len(source) + len(source.bad) == 40
    assert (f"reading the headers of {places['webdataset']}", 3, 3) in told


def test_settings_pass_on_that_files_are_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "CHECKED_FILES", 0)
    Image.new("RGB", (40, 30)).save(tmp_path / "x.jpg")
    os.utime(tmp_path, (1, 1))
    settings = load_settings(None, ["data.dataset=imagefolder", f"data.data_path={tmp_path}"])
    assert everything(open_source(settings, print)).sizes.tolist() == [[30, 40]]
    with open(tmp_path / "x.jpg", "r+b") as file:  # in place: the folder does not change
        Image.new("RGB", (200, 300)).save(file, "JPEG")
    assert everything(open_source(settings, print)).sizes.tolist() == [[30, 40]]
    verifying = load_settings(None, ["data.dataset=imagefolder", f"data.data_path={tmp_path}", "data.verify=true"])
    assert everything(open_source(verifying, print)).sizes.tolist() == [[300, 200]]


def test_unknown_name_and_missing_data_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'mnist' is unknown; use one of imagefolder"):
        open_named("mnist", tmp_path)
    for name in NAMES:
        with pytest.raises(ValueError, match=f"the path of the data set '{name}' is empty"):
            open_named(name, "")
        with pytest.raises(ValueError, match=r"no |does not exist|cannot read|pyarrow"):
            open_named(name, tmp_path / "missing")
