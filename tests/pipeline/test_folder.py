"""Folders of images: what is found, labelled, left out, cached and refused."""

import errno
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hjepa.pipeline import folder, index, walk
from hjepa.pipeline.folder import open_folder
from hjepa.pipeline.header import Header, refused
from hjepa.pipeline.source import Samples, Source, spread, upright_sizes


def write(path: Path, size: tuple[int, int] = (40, 30), **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)).save(path, **options)


def everything(source: Source) -> Samples:
    return source.fetch(np.arange(len(source)))


def names(source: Source) -> list[str]:
    return list(everything(source).keys)


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
    samples = everything(source)
    assert samples.labels.tolist() == [0] + [1] * 6
    assert samples.sizes[1:].tolist() == [[10, 20 + number] for number in range(6)]
    assert samples.encoded[0] == os.fsencode(tmp_path / "a" / "ü ñ.jpg")


def test_flat_folder_has_no_labels(tmp_path: Path) -> None:
    write(tmp_path / "x.jpg")
    source = open_folder(tmp_path)
    assert everything(source).labels.tolist() == [-1]
    assert source.classes == ()


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    write(tmp_path / "real" / "x.jpg")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "linked").symlink_to(tmp_path / "real")
    (tmp_path / "data" / "circle").symlink_to(tmp_path / "data")
    assert names(open_folder(tmp_path / "data")) == ["linked/x.jpg"]


def test_pipe_is_no_image_and_is_not_waited_for(tmp_path: Path) -> None:
    write(tmp_path / "x.jpg")
    os.mkfifo(tmp_path / "y.jpg")
    assert names(open_folder(tmp_path)) == ["x.jpg"]


def test_exif_orientation_turns_the_size_when_asked(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    write(tmp_path / "x.jpg", (40, 30), exif=exif)
    samples = everything(open_folder(tmp_path))
    assert upright_sizes(samples, "ignore").tolist() == [[30, 40]]
    assert upright_sizes(samples, "exif").tolist() == [[40, 30]]


def test_damaged_cache_is_said_once(tmp_path: Path) -> None:
    write(tmp_path / "x.jpg")
    open_folder(tmp_path)
    index.cache_file("folder", bytes(tmp_path)).write_bytes(b"x" * 200)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("default")
        open_folder(tmp_path)
    assert [str(warning.message).endswith("(it is no index) and is made anew") for warning in said] == [True]


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
    real = folder.read_file_header
    monkeypatch.setattr(folder, "read_file_header", lambda path: (scanned.append(path), real(path))[1])
    return scanned


def test_headers_are_read_once_and_again_only_for_changed_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        write(tmp_path / f"{number}.jpg")
    first = open_folder(tmp_path)
    scanned = count_scans(monkeypatch)
    again = open_folder(tmp_path)
    assert scanned == []
    np.testing.assert_array_equal(everything(first).sizes, everything(again).sizes)
    write(tmp_path / "3.jpg", (99, 77))
    os.utime(tmp_path / "1.jpg", (time.time() + 5, time.time() + 5))
    write(tmp_path / "25.jpg", (11, 12))
    changed = open_folder(tmp_path)
    assert {Path(os.fsdecode(path)).name for path in scanned} == {"3.jpg", "1.jpg", "25.jpg"}
    assert everything(changed).sizes.tolist() == [[30, 40], [30, 40], [30, 40], [12, 11], [77, 99], [30, 40]]
    assert {path.suffix for path in tmp_path.rglob("*")} == {".jpg"}


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
    few = spread(source, 3)
    assert names(few) == ["0/0.jpg", "1/4.jpg", "2/8.jpg"]
    assert everything(few).labels.tolist() == [0, 1, 2]
    assert everything(few).sizes[:, 1].tolist() == [40, 44, 48]
    assert spread(source, 9) is source


def test_fingerprint_knows_the_files_not_the_place(tmp_path: Path) -> None:
    for place in ("one", "two"):
        write(tmp_path / place / "x.jpg")
    fingerprints = [open_folder(tmp_path / place).fingerprint() for place in ("one", "two")]
    assert fingerprints[0] == fingerprints[1]
    write(tmp_path / "two" / "y.jpg")
    assert open_folder(tmp_path / "two").fingerprint() != fingerprints[0]


def test_bad_files_are_known_and_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").write_text("<html>")
    reasons = [image.reason for image in open_folder(tmp_path).bad]
    scanned = count_scans(monkeypatch)
    write(tmp_path / "c.jpg")
    assert [image.reason for image in open_folder(tmp_path).bad] == reasons
    assert scanned == [os.fsencode(tmp_path / "c.jpg")]


def settle(*folders: Path) -> None:
    """Gives folders a time of change that is old enough to be trusted, another one at each call."""
    for place in folders:
        seconds = time.time() - 100 + next(COUNTER)
        os.utime(place, (seconds, seconds))


COUNTER = iter(range(100))


def test_large_folders_are_listed_again_only_where_they_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "CHECKED_FILES", 2)
    for name in ("a/1.jpg", "a/b/2.jpg", "a/c/3.jpg", "d/4.jpg"):
        write(tmp_path / name)
    settle(tmp_path, tmp_path / "a", tmp_path / "a/b", tmp_path / "a/c", tmp_path / "d")
    first = open_folder(tmp_path)
    listed: list[bytes] = []
    real = walk._list
    monkeypatch.setattr(walk, "_list", lambda root, name, tree: (listed.append(name), real(root, name, tree))[1])
    scanned = count_scans(monkeypatch)
    again = open_folder(tmp_path)
    assert (listed, scanned, names(again)) == ([], [], names(first))
    write(tmp_path / "a/b/new/5.jpg", (50, 60))
    (tmp_path / "a/c/3.jpg").unlink()
    settle(tmp_path / "a/b", tmp_path / "a/c")
    changed = open_folder(tmp_path)
    assert sorted(listed) == [b"a/b", b"a/b/new", b"a/c"]
    assert names(changed) == ["a/1.jpg", "a/b/2.jpg", "a/b/new/5.jpg", "d/4.jpg"]
    assert scanned == [os.fsencode(tmp_path / "a/b/new/5.jpg")]
    assert everything(changed).sizes.tolist() == [[30, 40], [30, 40], [60, 50], [30, 40]]
    assert everything(changed).labels.tolist() == [0, 0, 0, 1]
    shutil.rmtree(tmp_path / "a")
    settle(tmp_path)
    assert names(open_folder(tmp_path)) == ["d/4.jpg"]


def test_verify_looks_at_every_file_of_a_large_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "CHECKED_FILES", 0)
    write(tmp_path / "x.jpg", (40, 30))
    settle(tmp_path)
    open_folder(tmp_path)
    with open(tmp_path / "x.jpg", "r+b") as file:  # in place: the folder does not change
        Image.new("RGB", (200, 300)).save(file, "JPEG")
    assert everything(open_folder(tmp_path)).sizes.tolist() == [[30, 40]]
    assert everything(open_folder(tmp_path, verify=True)).sizes.tolist() == [[300, 200]]
    assert everything(open_folder(tmp_path)).sizes.tolist() == [[300, 200]]


def test_too_many_pixels_are_refused_by_the_limit_of_the_day(tmp_path: Path) -> None:
    write(tmp_path / "small.png")
    bomb(tmp_path / "bomb.png", 20_000, 20_000)
    bomb(tmp_path / "large.png", 9_500, 10_000)  # PIL itself would warn of this one
    source = open_folder(tmp_path)
    assert names(source) == ["large.png", "small.png"]
    assert [(image.path, image.reason) for image in source.bad] == [
        ("bomb.png", "its 20000 x 20000 pixels are more than max_pixels=100000000")
    ]
    assert names(open_folder(tmp_path, max_pixels=1200)) == ["small.png"]
    assert len(open_folder(tmp_path, max_pixels=400_000_000)) == 3
    assert len({open_folder(tmp_path, max_pixels=limit).fingerprint() for limit in (1200, 100_000_000, 400_000_000)}) == 3
    with pytest.raises(ValueError, match="can be used; the first"):
        open_folder(tmp_path, max_pixels=1199)
    with pytest.raises(ValueError, match="max_pixels=0"):
        open_folder(tmp_path, max_pixels=0)


def bomb(path: Path, height: int, width: int) -> None:
    """A PNG whose header claims that many pixels."""
    size = struct.pack(">II", width, height) + b"\x08\x02\0\0\0"
    chunks = [(b"IHDR", size), (b"IDAT", zlib.compress(b"\0")), (b"IEND", b"")]
    parts = [struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


def test_header_that_claims_more_than_the_index_can_hold_costs_its_image_alone(tmp_path: Path) -> None:
    write(tmp_path / "good.png")
    bomb(tmp_path / "bad.png", 5, 0xFFFFFFFF)
    source = open_folder(tmp_path)
    assert len(source) == 1
    assert [image.reason for image in source.bad] == ["its header claims 5 x 4294967295 pixels"]


@pytest.mark.parametrize("age", [100, -3600], ids=["settled", "of tomorrow"])
def test_change_in_a_large_folder_is_built_once_for_all_ranks(
    age: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All have walked it before the first has built; a folder's time may lie ahead of this machine's clock."""
    monkeypatch.setattr(folder, "CHECKED_FILES", 2)
    for name in ("a", "b"):
        for number in range(3):
            write(tmp_path / name / f"{number}.png")
    for place in (tmp_path, tmp_path / "a", tmp_path / "b"):
        then = time.time() - (age if place.name == "b" else 100)
        os.utime(place, (then, then))
    stored = open_folder(tmp_path).index.stored
    write(tmp_path / "b" / "new.png")
    os.utime(tmp_path / "b", (then + 10, then + 10))
    trees = [walk.walk(tmp_path, folder._folders(stored)) for _ in range(3)]
    built, real = [], folder._build
    monkeypatch.setattr(folder, "_build", lambda *given: (built.append(1), real(*given))[1])
    monkeypatch.setattr(folder, "walk", lambda *_: trees.pop())
    assert [len(open_folder(tmp_path)) for _ in range(3)] == [7, 7, 7]
    assert len(built) == 1


def test_processes_that_open_at_once_scan_the_headers_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(20):
        write(tmp_path / f"{number}.jpg")
    scanned = count_scans(monkeypatch)
    with ThreadPoolExecutor(4) as pool:  # each opens the lock by itself, as processes do
        sources = list(pool.map(lambda _: open_folder(tmp_path), range(4)))
    assert len(scanned) == 20
    assert len({source.fingerprint() for source in sources}) == 1


def test_what_a_killed_builder_left_is_removed_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A partial index may be gigabytes, and jobs are killed often."""
    monkeypatch.setenv("HJEPA_CACHE", str(tmp_path / "cache"))
    write(tmp_path / "data" / "x.png")
    file = index.cache_file("folder", os.fsencode(tmp_path / "data"))
    file.parent.mkdir(parents=True)
    killed = "import os, sys; from pathlib import Path; from hjepa.pipeline import columns, folder\n"
    killed += "columns.os.replace = lambda *_: os.kill(os.getpid(), 9)\nfolder.open_folder(sys.argv[1])"
    ended = subprocess.run([sys.executable, "-c", killed, str(tmp_path / "data")], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert len(list(file.parent.glob("*.partial"))) == 1
    open_folder(tmp_path / "data")
    assert [left.suffix for left in sorted(file.parent.iterdir())] == [".columns", ".lock"]


def test_names_that_are_no_text_are_kept_as_they_are(tmp_path: Path) -> None:
    write(tmp_path / "x.jpg")
    name = os.fsencode(tmp_path) + b"/\xff\xfe.jpg"
    os.rename(tmp_path / "x.jpg", name)
    (tmp_path / os.fsdecode(b"\xfe.jpg")).touch()
    for _ in range(2):
        source = open_folder(tmp_path)
        assert everything(source).encoded.tolist() == [name]
        assert [os.fsencode(image.path) for image in source.bad] == [b"\xfe.jpg"]


def test_one_long_path_does_not_cost_its_length_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HJEPA_CACHE", str(tmp_path / "cache"))
    data = tmp_path / "data"
    write(data / ("long" * 50) / ("name" * 50) / "x.png", (1, 1))
    for number in range(200):
        shutil.copy(data / ("long" * 50) / ("name" * 50) / "x.png", data / f"{number}.png")
    open_folder(data)
    (file,) = (tmp_path / "cache").rglob("*.columns")
    assert file.stat().st_size < 200 * 60 + 2000


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist"),
        ({}, "found: nothing"),
        ({"a.csv": "1"}, r"found: 1 \.csv"),
        ({"a.jpg": "1"}, "can be used; the"),
    ],
    ids=["missing", "empty", "no images", "no good images"],
)
def test_folder_without_images_is_refused(content: dict[str, str] | None, message: str, tmp_path: Path) -> None:
    place = tmp_path / "data"
    if content is not None:
        place.mkdir()
        for name, text in content.items():
            (place / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        open_folder(place)


def test_file_in_place_of_a_folder_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "x.jpg")
    with pytest.raises(ValueError, match="is a file"):
        open_folder(tmp_path / "x.jpg")


@pytest.mark.parametrize("trusts", [False, True], ids=["looks at every file", "trusts folders"])
def test_image_that_could_not_be_read_is_tried_again(trusts: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network disk that was away, or rights that were wrong: neither changes the file."""
    monkeypatch.setattr(folder, "CHECKED_FILES", 0 if trusts else 1000)
    read, broken = folder.read_file_header, [b"1.png"]
    for number in range(3):
        Image.new("RGB", (20, 20 + number)).save(tmp_path / f"{number}.png")

    def read_or_fail(path: bytes) -> Header:
        if path.endswith(tuple(broken)):
            return refused(OSError(errno.ESTALE, "Stale file handle"))
        return read(path)

    monkeypatch.setattr(folder, "read_file_header", read_or_fail)
    for _ in range(2):
        source = open_folder(tmp_path)
        assert (len(source), [image.reason for image in source.bad]) == (2, [os.strerror(errno.ESTALE)])
    broken.clear()
    assert len(open_folder(tmp_path)) == 3
    monkeypatch.setattr(folder, "read_file_header", None)
    assert len(open_folder(tmp_path)) == 3  # and is not read once more


def test_class_whose_images_are_all_bad_keeps_its_number(tmp_path: Path) -> None:
    """As in torchvision's ImageFolder; the labels of the others must not depend on it."""
    for name in ("a", "b", "c"):
        write(tmp_path / name / "0.png")
    (tmp_path / "b" / "0.png").write_bytes(b"broken")
    source = open_folder(tmp_path)
    assert source.classes == ("a", "b", "c")
    assert everything(source).labels.tolist() == [0, 2]


def test_cache_folder_that_is_empty_is_not_the_current_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HJEPA_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert index.cache_folder() == Path("/cache/hjepa")


@pytest.mark.parametrize("home", ["~", "/"], ids=["none", "as docker sets it"])
def test_user_without_a_home_has_a_cache_among_temporary_folders(home: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HJEPA_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(index.os.path, "expanduser", lambda _: home)  # as where there is no entry in passwd
    assert index.cache_folder() == Path(tempfile.gettempdir()) / f"hjepa-{os.getuid()}"


def test_folders_that_look_like_splits_are_said_to_be_taken_for_classes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("train/x.png", "val/y.png", "cat/z.png"):
        write(tmp_path / "three" / name)
        if "cat" not in name:
            write(tmp_path / "two" / name)
    open_folder(tmp_path / "three")
    assert not caplog.text
    assert open_folder(tmp_path / "two").classes == ("train", "val")
    assert "its folders train, val look like splits" in caplog.text


def test_folder_deeper_than_a_path_may_be_is_said_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(25):
        os.mkdir("d" * 200)
        os.chdir("d" * 200)
    with pytest.raises(
        ValueError, match=r"^cannot read folder .{400}\.\.\.: File name too long; shorten the names of the folders"
    ):
        open_folder(tmp_path)
    shutil.rmtree(tmp_path / ("d" * 200))
