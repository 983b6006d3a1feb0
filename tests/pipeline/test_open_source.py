"""The one door: what the user has is recognised, and what it is not is said; and every source feeds every backend alike."""

import io
import json
import pickle
import re
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import random_split
from torchvision.datasets import ImageFolder

import hjepa
from hjepa.pipeline.arrays import ArraySource
from hjepa.pipeline.dataset import DatasetSource
from hjepa.pipeline.folder import FolderSource
from hjepa.pipeline.labels import LABEL_NAMES
from hjepa.pipeline.lists import ListSource
from hjepa.pipeline.loader import Loader
from hjepa.pipeline.open_source import open_source
from hjepa.pipeline.recipe import Recipe, View
from hjepa.pipeline.source import Source, Subset, open_image
from hjepa.pipeline.webdataset import WebDatasetSource

CHANCE = np.random.default_rng(0)
PIXELS = CHANCE.integers(0, 255, (2, 32, 32, 3), dtype=np.uint8)


def png(pixels: np.ndarray) -> bytes:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


@pytest.fixture
def everything(tmp_path: Path) -> dict[str, tuple[Any, type]]:
    """Name -> data with the two images in it, and the source that reads them."""
    for number in range(2):
        (tmp_path / "folder" / "a").mkdir(parents=True, exist_ok=True)
        (tmp_path / "folder" / "a" / f"{number}.png").write_bytes(png(PIXELS[number]))
    paths = sorted((tmp_path / "folder" / "a").iterdir())
    (tmp_path / "list.csv").write_text("".join(f"folder/a/{path.name},x\n" for path in paths))
    (tmp_path / "list.txt").write_text("".join(f"folder/a/{path.name}\n" for path in paths))
    (tmp_path / "shards").mkdir()
    for number, path in enumerate(paths):
        with tarfile.open(tmp_path / "shards" / f"{number}.tar", "w") as archive:
            archive.add(path, path.name)
    planes = PIXELS.transpose(0, 3, 1, 2).reshape(2, -1)
    cifar = tmp_path / "data" / "cifar-10-batches-bin"
    cifar.mkdir(parents=True)
    for number in range(6):
        record = b"" if number == 1 else b"\1" + planes[min(number, 1) if number < 2 else 0].tobytes()
        (cifar / ("test_batch.bin" if number == 0 else f"data_batch_{number}.bin")).write_bytes(record or b"\1" + bytes(3072))
    (cifar / "batches.meta.txt").write_text("\n".join(f"c{number}" for number in range(10)))
    source = open_source(tmp_path / "folder")
    return {
        "folder": (tmp_path / "folder", FolderSource),
        "text": (str(tmp_path / "folder"), FolderSource),
        "csv": (tmp_path / "list.csv", ListSource),
        "txt": (tmp_path / "list.txt", ListSource),
        "shards": (tmp_path / "shards", WebDatasetSource),
        "pattern": (str(tmp_path / "shards" / "{0..1}.tar"), WebDatasetSource),
        "paths": (paths, ListSource),
        "pairs": ([(path, 1) for path in paths], ListSource),
        "contents": ([path.read_bytes() for path in paths], DatasetSource),
        "arrays": (list(PIXELS), DatasetSource),
        "data set": (torch.utils.data.Subset([Image.fromarray(one) for one in PIXELS], [0, 1]), DatasetSource),
        "source": (source, FolderSource),
        "subset": (Subset(source=source, chosen=np.arange(2)), Subset),
        "cifar": (tmp_path / "data", ArraySource),
        "cifar itself": (cifar, ArraySource),
    }


def test_every_kind_of_data_finds_its_source(everything: dict[str, tuple[Any, type]]) -> None:
    for name, (data, kind) in everything.items():
        source = open_source(data)
        assert isinstance(source, kind), name
        assert len(source) == (2 if "cifar" not in name else 5), name
        assert source.name, name


@pytest.mark.parametrize(
    "backend", [pytest.param("dali-ops", marks=pytest.mark.dali), pytest.param("fused", marks=pytest.mark.fused), "torchvision"]
)
def test_same_images_give_the_same_crops_whatever_they_lie_in(backend: str, everything: dict[str, tuple[Any, type]]) -> None:
    recipe = Recipe(name="test", source="", views=(View(name="global", count=2, size=16, area=(0.3, 1.0)),))
    options = {
        "batch_size": 2,
        "shuffle": False,
        "device": "cpu",
        "backend": backend,
        "num_workers": int(backend != "torchvision"),
    }
    crops = {}
    for name, (data, _) in everything.items():
        if "cifar" not in name:
            with Loader(open_source(data), recipe, **options) as loader:
                crops[name] = next(iter(loader)).globals
    for name, own in crops.items():
        assert torch.equal(own, crops["folder"]), name


def test_sources_survive_the_way_to_another_process(everything: dict[str, tuple[Any, type]]) -> None:
    for name, (data, _) in everything.items():
        source: Source = open_source(data)
        again = pickle.loads(pickle.dumps(source))
        assert again.fingerprint() == source.fingerprint(), name
        assert again.fetch(np.array([1])).keys == source.fetch(np.array([1])).keys, name


def test_images_beside_shards_make_a_folder_of_images(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(png(PIXELS[0]))
    (tmp_path / "x.tar").touch()
    assert isinstance(open_source(tmp_path), FolderSource)


@pytest.mark.parametrize("below", ["c0/x.png", "c0/deep/X.JPG"])
@pytest.mark.parametrize("packed", ["c0.tar", "x.parquet"])
def test_shards_beside_folders_of_images_are_refused(packed: str, below: str, tmp_path: Path) -> None:
    (tmp_path / below).parent.mkdir(parents=True)
    (tmp_path / below).write_bytes(png(PIXELS[0]))
    assert isinstance(open_source(tmp_path), FolderSource)
    (tmp_path / packed).touch()
    with pytest.raises(
        ValueError, match=rf"both {Path(packed).suffix} files and images in folders \({below}\); use open_folder"
    ):
        open_source(tmp_path)


def test_hidden_files_do_not_decide_what_lies_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "cats").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "cats" / "1.png")
    (tmp_path / "._shard.tar").write_bytes(b"of macOS")
    assert isinstance(open_source(tmp_path), FolderSource)


def test_shards_beside_folders_without_images_are_shards(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "x.json").touch()
    (tmp_path / "notes" / ".x.png").touch()
    (tmp_path / "notes" / "back").symlink_to(tmp_path)
    (tmp_path / "x.png").write_bytes(png(PIXELS[0]))
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        archive.add(tmp_path / "x.png", "x.png")
    (tmp_path / "x.png").unlink()
    assert isinstance(open_source(tmp_path), WebDatasetSource)
    (tmp_path / "x.parquet").touch()
    with pytest.raises(ValueError, match=r"both \.parquet files and \.tar files"):
        open_source(tmp_path)


@pytest.mark.parametrize("ending", [".tar", ".parquet"])
def test_shards_in_folders_are_named_by_a_pattern(ending: str, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / f"0{ending}").touch()
    with pytest.raises(ValueError, match=re.escape(f"by a pattern, such as {tmp_path / '*' / '*'}{ending}")):
        open_source(tmp_path)


def test_half_a_source_is_refused_by_what_it_lacks() -> None:
    class Half:
        name = "x"

        def __len__(self) -> int:
            return 2

        def fetch(self, indices: np.ndarray) -> Any: ...

        def fingerprint(self) -> str:
            return "x"

    with pytest.raises(ValueError, match=r"Half has fetch, but is no Source without classes, bad; see hjepa\.Source"):
        open_source(Half())
    Half.classes, Half.bad = (), [hjepa.BadImage(path="x", reason="y")]
    assert isinstance(open_source(Half()), Half)


def test_data_set_with_a_fetch_of_its_own_is_a_data_set() -> None:
    class Fetching(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return 2

        def __getitem__(self, index: int) -> np.ndarray:
            return self.fetch(index)

        def fetch(self, index: int) -> np.ndarray:
            return PIXELS[index]

    assert isinstance(open_source(Fetching()), DatasetSource)


class Swapped(torch.utils.data.Subset[Any]):
    """A subset of the user's own, with other labels."""

    def __getitem__(self, place: Any) -> Any:
        image, label = super().__getitem__(place)
        return image, 1 - label

    def __getitems__(self, places: Any) -> Any:
        return [self[place] for place in places]


def test_image_folder_of_torchvision_gives_its_files_unless_it_changes_them(tmp_path: Path) -> None:
    for name in ("b", "a"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.png").write_bytes(png(PIXELS[0]))
    source = open_source(ImageFolder(tmp_path))
    assert isinstance(source, ListSource)
    assert (source.classes, source.fetch(np.arange(2)).labels.tolist()) == (("a", "b"), [0, 1])
    half = open_source(torch.utils.data.Subset(torch.utils.data.Subset(ImageFolder(tmp_path), [1, 0]), [0]))
    assert isinstance(half, ListSource)
    assert (half.classes, half.fetch(np.arange(1)).labels.tolist()) == (("a", "b"), [1])
    swapped = open_source(Swapped(ImageFolder(tmp_path), [0, 1]))
    assert swapped.fetch(np.arange(2)).labels.tolist() == [1, 0]
    turned = open_source(ImageFolder(tmp_path, transform=lambda image: image.rotate(180)))
    assert isinstance(turned, DatasetSource)
    samples = turned.fetch(np.array([1]))
    np.testing.assert_array_equal(np.asarray(open_image(samples.encoded, 0)), PIXELS[0][::-1, ::-1])
    assert (turned.classes, samples.labels.tolist()) == (("a", "b"), [1])
    part = open_source(torch.utils.data.Subset(turned.dataset, [1]))
    assert (part.classes, part.fetch(np.arange(1)).labels.tolist()) == (("a", "b"), [1])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("missing", "missing does not exist; give a folder"),
        ("~nobody_here/photos", "does not exist; give a folder"),
        (b"missing", "missing does not exist; give a folder"),
        ("x.zip", r"x\.zip is a file of a kind"),
        (5, "int is no data that hjepa reads; give a folder"),
        (iter([1]), "without numbers"),
        ([], "list of images is empty"),
        ("", "the path of the data is empty"),
        (" ", "the path of the data is empty"),
        ({"train": [1]}, r"dict is a dictionary \(of train\)"),
    ],
    ids=["missing", "no home", "bytes", "zip", "number", "iterator", "empty list", "empty path", "blank path", "dictionary"],
)
def test_anything_else_is_refused_with_what_is_accepted(
    data: Any, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.zip").touch()
    with pytest.raises(ValueError, match=message):
        open_source(data)


@pytest.mark.parametrize("name", LABEL_NAMES)
def test_label_is_known_by_the_same_names_everywhere(name: str, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(png(PIXELS[0]))
    (tmp_path / "x.json").write_text(json.dumps({"id": 1, name: 5}))
    (tmp_path / "x.csv").write_text(f"id,{name},path\n1,5,x.png\n")
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for member in ("x.png", "x.json"):
            archive.add(tmp_path / member, member)
    sources = [open_source(tmp_path / "x.csv"), open_source(tmp_path / "x.tar")]
    sources.append(open_source(torch.utils.data.Subset([{"id": 1, name: 5, "image": PIXELS[0]}], [0])))
    assert [source.fetch(np.array([0])).labels.tolist() for source in sources] == [[5]] * 3


def test_torchs_split_of_a_source_gives_the_images_of_each_part(tmp_path: Path) -> None:
    for number in range(10):
        Image.fromarray(PIXELS[0]).save(tmp_path / f"{number}.png")
    whole = open_source(tmp_path)
    parts = random_split(whole, [0.8, 0.2], generator=torch.Generator().manual_seed(0))
    train, val = (open_source(part) for part in parts)
    keys = [part.fetch(np.arange(len(part))).keys for part in (train, val)]
    assert [len(part) for part in keys] == [8, 2]
    assert {*keys[0], *keys[1]} == {f"{number}.png" for number in range(10)}
    assert train.fingerprint() != val.fingerprint()


def test_a_list_of_shards_is_read_as_shards(tmp_path: Path) -> None:
    shards = [tmp_path / "a.tar", tmp_path / "b.tar"]
    for shard in shards:
        with tarfile.open(shard, "w") as archive:
            member = tarfile.TarInfo("1.png")
            content = png(PIXELS[0])
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    assert isinstance(open_source(shards), WebDatasetSource)
    assert len(open_source([str(shard) for shard in shards])) == 2
