"""Folders of images: what is found, labelled, left out, cached and refused."""

import os
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hjepa.pipeline import index
from hjepa.pipeline.source import Source, open_folder


def write(path: Path, size: tuple[int, int] = (40, 30), **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)).save(path, **options)


def names(source: Source) -> list[str]:
    return [os.fsdecode(path) for path in source.paths]


def test_nested_folders_and_all_formats_are_found_and_labelled(tmp_path: Path) -> None:
    for number, ending in enumerate([".jpg", ".JPEG", ".png", ".webp", ".bmp", ".tif"]):
        write(tmp_path / "b" / f"deep/er{number}" / f"x{ending}", (20 + number, 10))
    write(tmp_path / "a" / "ü ñ.jpg")
    write(tmp_path / "a" / ".hidden.jpg")
    (tmp_path / "a" / "notes.txt").write_text("no image")
    (tmp_path / "empty").mkdir()
    source = open_folder(tmp_path)
    assert source.classes == ("a", "b")
    assert names(source)[0] == "a/ü ñ.jpg"
    assert source.labels.tolist() == [0] + [1] * 6
    assert source.sizes(np.arange(1, 7), "ignore").tolist() == [[10, 20 + number] for number in range(6)]
    assert [os.fsdecode(path) for path in source.absolute_paths(np.array([0]))] == [str(tmp_path / "a" / "ü ñ.jpg")]


def test_flat_folder_has_no_labels(tmp_path: Path) -> None:
    write(tmp_path / "x.jpg")
    source = open_folder(tmp_path)
    assert source.labels.tolist() == [-1]
    assert source.classes == ()


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    write(tmp_path / "real" / "x.jpg")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "linked").symlink_to(tmp_path / "real")
    (tmp_path / "data" / "circle").symlink_to(tmp_path / "data")
    assert names(open_folder(tmp_path / "data")) == ["linked/x.jpg"]


def test_exif_orientation_turns_the_size_when_asked(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    write(tmp_path / "x.jpg", (40, 30), exif=exif)
    source = open_folder(tmp_path)
    assert source.sizes(np.array([0]), "ignore").tolist() == [[30, 40]]
    assert source.sizes(np.array([0]), "exif").tolist() == [[40, 30]]


def test_unreadable_files_are_left_out_and_listed_with_the_reason(tmp_path: Path) -> None:
    write(tmp_path / "good.jpg")
    (tmp_path / "text.jpg").write_text("<html>")
    (tmp_path / "zero.jpg").touch()
    (tmp_path / "dangling.jpg").symlink_to(tmp_path / "nowhere")
    write(tmp_path / "animation.gif")
    os.rename(tmp_path / "animation.gif", tmp_path / "animation.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    write(tmp_path / "turned.tif", exif=exif)
    Image.fromarray(np.ones((9, 9), dtype=np.float32)).save(tmp_path / "float.tif")
    (tmp_path / "itself").symlink_to(tmp_path / "itself")
    source = open_folder(tmp_path)
    assert names(source) == ["good.jpg"]
    reasons = {bad.path: bad.reason for bad in source.bad}
    assert reasons.keys() == {"text.jpg", "zero.jpg", "dangling.jpg", "animation.png", "turned.tif", "float.tif"}
    assert "GIF" in reasons["animation.png"]
    assert "No such file" in reasons["dangling.jpg"]


def count_scans(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    scanned: list[bytes] = []
    real = index._read_header
    monkeypatch.setattr(index, "_read_header", lambda path: (scanned.append(path), real(path))[1])
    return scanned


def test_headers_are_read_once_and_again_only_for_changed_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        write(tmp_path / f"{number}.jpg")
    first = open_folder(tmp_path)
    scanned = count_scans(monkeypatch)
    again = open_folder(tmp_path)
    assert scanned == []
    np.testing.assert_array_equal(first.headers.height, again.headers.height)
    write(tmp_path / "3.jpg", (99, 77))
    os.utime(tmp_path / "1.jpg", (time.time() + 5, time.time() + 5))
    write(tmp_path / "25.jpg", (11, 12))
    changed = open_folder(tmp_path)
    assert {Path(os.fsdecode(path)).name for path in scanned} == {"3.jpg", "1.jpg", "25.jpg"}
    assert changed.sizes(np.arange(6), "ignore").tolist() == [[30, 40], [30, 40], [30, 40], [12, 11], [77, 99], [30, 40]]
    assert not any(path.suffix == ".npz" for path in tmp_path.rglob("*"))


def test_damaged_cache_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HJEPA_CACHE", str(tmp_path / "cache"))
    write(tmp_path / "data" / "x.jpg")
    open_folder(tmp_path / "data")
    for cache in (index.cache_folder() / "index").iterdir():
        cache.write_bytes(b"nonsense")
    with pytest.warns(UserWarning, match="made anew"):
        assert len(open_folder(tmp_path / "data")) == 1


def test_unwritable_cache_is_said_and_survived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "data" / "x.jpg")
    (tmp_path / "file").touch()
    monkeypatch.setenv("HJEPA_CACHE", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="set HJEPA_CACHE"):
        assert len(open_folder(tmp_path / "data")) == 1


def test_spread_takes_evenly_spaced_images(tmp_path: Path) -> None:
    for number in range(9):
        write(tmp_path / str(number % 3) / f"{number}.jpg", (40 + number, 30))
    source = open_folder(tmp_path)
    few = source.spread(3)
    assert names(few) == ["0/0.jpg", "1/4.jpg", "2/8.jpg"]
    assert few.labels.tolist() == [0, 1, 2]
    assert few.sizes(np.arange(3), "ignore")[:, 1].tolist() == [40, 44, 48]
    assert source.spread(9) is source


def test_fingerprint_knows_the_files_not_the_place(tmp_path: Path) -> None:
    for place in ("one", "two"):
        write(tmp_path / place / "x.jpg")
    fingerprints = [open_folder(tmp_path / place).fingerprint() for place in ("one", "two")]
    assert fingerprints[0] == fingerprints[1]
    write(tmp_path / "two" / "y.jpg")
    assert open_folder(tmp_path / "two").fingerprint() != fingerprints[0]


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "does not exist"), ({}, "found: nothing"), ({"a.csv": "1"}, r"found: 1 \.csv"), ({"a.jpg": "1"}, "none of the 1")],
    ids=["missing", "empty", "no images", "no good images"],
)
def test_folder_without_images_is_refused(content: dict[str, str] | None, message: str, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    if content is not None:
        folder.mkdir()
        for name, text in content.items():
            (folder / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        open_folder(folder)


def test_file_in_place_of_a_folder_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "x.jpg")
    with pytest.raises(ValueError, match="is a file"):
        open_folder(tmp_path / "x.jpg")
