"""WebDataset shards: which members make a sample, what is read of them, and what a damaged shard still gives."""

import errno
import io
import json
import os
import pickle
import resource
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hjepa.pipeline import handles, webdataset
from hjepa.pipeline.header import Header, refused
from hjepa.pipeline.source import Samples, open_image
from hjepa.pipeline.tars import Member
from hjepa.pipeline.webdataset import WebDatasetSource, find_shards, open_webdataset

CHANCE = np.random.default_rng(0)


def image(height: int = 30, width: int = 40, kind: str = "PNG") -> bytes:
    content = io.BytesIO()
    Image.fromarray(CHANCE.integers(0, 255, (height, width, 3), dtype=np.uint8)).save(content, kind)
    return content.getvalue()


def write(file: Path, members: Mapping[str, bytes | str], kind: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(file, "w", format=kind) as archive:
        for name, content in members.items():
            content = content.encode() if isinstance(content, str) else content
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return file


def everything(source: WebDatasetSource) -> Samples:
    return source.fetch(np.arange(len(source)))


@contextmanager
def handles_below(limit: int) -> Iterator[None]:
    """Lets this process open files only where their handles are below the limit."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_members_become_samples_with_labels_and_extra_members_are_ignored(tmp_path: Path) -> None:
    members = {
        "a/001.jpg": image(10, 20, "JPEG"),
        "a/001.cls": "3\n",
        "a/001.json": '{"label": 7}',
        "a/001.seg.png": image(99, 99),
        "a/002.PNG": image(11, 21),
        "a/002.json": json.dumps({"caption": "x", "label": 2}),
        "b.c/002.webp": image(12, 22, "WEBP"),
        "b.c/002.txt": " 0 ",
        "003.left.png": image(13, 23),
        "._004.png": b"",
        "__info__": "{}",
        "README": "none",
    }
    with open_webdataset(write(tmp_path / "x.tar", members)) as source:
        samples = everything(source)
        assert samples.keys == tuple(f"x.tar/{name}" for name in ("a/001.jpg", "a/002.PNG", "b.c/002.webp", "003.left.png"))
        assert samples.sizes.tolist() == [[10, 20], [11, 21], [12, 22], [13, 23]]
        assert samples.labels.tolist() == [3, 2, 0, -1]
        assert source.classes == ("0", "1", "2", "3")
        assert [content.tobytes() for content in samples.encoded] == [members[key[6:]] for key in samples.keys]
        assert samples.failures == {}
        assert [(bad.path, bad.reason) for bad in source.bad] == [("x.tar/README", "the sample has no image")]


def test_names_of_classes_are_sorted_and_captions_are_no_classes(tmp_path: Path) -> None:
    few = {
        f"{number}.{kind}": image() if kind == "png" else name for number, name in enumerate("ba") for kind in ("png", "txt")
    }
    source = open_webdataset(write(tmp_path / "few.tar", few | {"9.png": image(), "9.json": '{"cls": "a"}'}))
    assert (source.classes, everything(source).labels.tolist()) == (("a", "b"), [1, 0, 0])
    one = image()
    many = {
        f"{number}.{kind}": one if kind == "png" else f"a photograph of {number}"
        for number in range(150)
        for kind in ("png", "txt")
    }
    source = open_webdataset(write(tmp_path / "many.tar", many))
    assert (source.classes, set(everything(source).labels.tolist())) == ((), {-1})
    numbers = {f"{number}.{kind}": one if kind == "png" else str(number) for number in range(150) for kind in ("png", "cls")}
    source = open_webdataset(write(tmp_path / "numbers.tar", numbers))
    assert everything(source).labels.tolist() == list(range(150))
    breeds = {f"{number}.{kind}": one if kind == "png" else f"n{number:03}" for number in range(150) for kind in ("png", "cls")}
    source = open_webdataset(write(tmp_path / "breeds.tar", breeds))
    assert (len(source.classes), everything(source).labels.tolist()) == (150, list(range(150)))


@pytest.mark.parametrize("content", ["", "[1]", '{"label": [1]}', "{", "[" * 100_000, "\xff"])
def test_label_that_cannot_be_read_is_none(content: str, tmp_path: Path) -> None:
    source = open_webdataset(write(tmp_path / "x.tar", {"1.png": image(), "1.json": content.encode("latin1")}))
    assert everything(source).labels.tolist() == [-1]


def test_shards_are_found_by_folder_pattern_and_list(tmp_path: Path) -> None:
    (tmp_path / "run{1,2}").mkdir()
    braces = write(tmp_path / "run{1,2}" / "x.tar", {"0.png": image()})
    (tmp_path / "run{1,2}" / "._x.tar").write_bytes(b"of macOS")
    assert find_shards(braces) == find_shards(braces.parent) == [braces]
    for number in range(3):
        write(tmp_path / f"s-{number:03d}.tar", {f"{number}.png": image(10 + number)})
    (tmp_path / "notes.txt").touch()
    whole = [tmp_path / f"s-{number:03d}.tar" for number in range(3)]
    assert find_shards(tmp_path) == find_shards(tmp_path / "s-{000..002}.tar") == find_shards(f"{tmp_path}/s-*.tar") == whole
    assert find_shards(tmp_path / "s-00{0,2}.tar") == [whole[0], whole[2]]
    source = open_webdataset([whole[2], whole[0]])
    assert everything(source).sizes[:, 0].tolist() == [12, 10]
    with pytest.raises(ValueError, match=r"there is no shard .*s-003\.tar"):
        open_webdataset(tmp_path / "s-{001..003}.tar")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"no \.tar files"):
        open_webdataset(tmp_path / "empty")
    with pytest.raises(ValueError, match="list of shards is empty"):
        open_webdataset([])


@pytest.mark.parametrize("kind", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT], ids=["GNU", "pax"])
def test_long_names_are_read(kind: int, tmp_path: Path) -> None:
    name = "folder/" * 40 + "ü" * 150 + ".png"
    source = open_webdataset(write(tmp_path / "x.tar", {name: image(), "b.png": image()}, kind))
    assert everything(source).keys == (f"x.tar/{name}", "x.tar/b.png")


def test_links_folders_and_sparse_files_are_no_images(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for name, kind in (("a.png", tarfile.SYMTYPE), ("b.png", tarfile.DIRTYPE), ("c.png", tarfile.LNKTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "d.png"
            archive.addfile(member)
        member, content = tarfile.TarInfo("d.png"), image()
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    assert everything(open_webdataset(tmp_path / "x.tar")).keys == ("x.tar/d.png",)


def test_truncated_shard_gives_what_is_whole_and_says_what_is_not(tmp_path: Path) -> None:
    members = {f"{number}.png": image() for number in range(4)}
    whole = write(tmp_path / "whole.tar", members).read_bytes()
    last = whole.rindex(members["3.png"])
    for cut, count, reason in (
        (last + 100, 3, "cut off in 3.png"),
        (last - 512 + 100, 3, "damaged"),
        (last, 3, "cut off in 3.png"),
        (last + len(members["3.png"]), 4, "damaged: unexpected end"),
        (len(whole), 4, ""),
    ):
        (tmp_path / "cut.tar").write_bytes(whole[:cut])
        source = open_webdataset(tmp_path / "cut.tar")
        assert len(source) == count
        assert [bad.path for bad in source.bad] == ["cut.tar"] * bool(reason)
        assert all(reason in bad.reason for bad in source.bad)
        assert [content.tobytes() for content in everything(source).encoded] == list(members.values())[:count]


@pytest.mark.parametrize("claimed", [2**40, 2**62, 2**70])
@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.XHDTYPE, tarfile.GNUTYPE_SPARSE, b"V"])
def test_member_of_more_bytes_than_any_file_has_costs_itself_alone(kind: bytes, claimed: int, tmp_path: Path) -> None:
    whole = write(tmp_path / "x.tar", {"0.png": image()}).read_bytes().rstrip(b"\0")
    member = tarfile.TarInfo("1.png")
    member.size, member.type = claimed, kind
    header = member.tobuf(tarfile.GNU_FORMAT)
    (tmp_path / "x.tar").write_bytes(whole + b"\0" * (-len(whole) % 512) + header + image())
    source = open_webdataset(tmp_path / "x.tar")
    assert len(source) == 1
    (bad,) = source.bad
    assert bad.reason.startswith(
        ("cut off in 1.png", "damaged: a header of more bytes", "damaged at byte")
    )  # by Python's version
    assert bad.reason.endswith("; what stands before it is used")
    (tmp_path / "x.tar").write_bytes(header + image())
    with pytest.raises(ValueError, match=r"no image of .* cut off in|is no tar file \((a header of more bytes|invalid header)"):
        open_webdataset(tmp_path / "x.tar")


def test_members_with_a_name_that_came_before_are_said(tmp_path: Path) -> None:
    file = write(tmp_path / "x.tar", {"0.png": image(), "0.cls": "0"})
    with tarfile.open(file, "a") as archive:
        for name, content in (("0.png", image()), ("0.cls", b"1")):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    source = open_webdataset(file)
    assert (len(source), len(source.bad)) == (1, 1)
    assert "2 members of it are not read, such as 0.png: another of that name comes before" in source.bad[0].reason


def test_more_behind_the_end_of_a_shard_is_said(tmp_path: Path) -> None:
    first, second = (write(tmp_path / f"{name}.tar", {f"{name}.png": image()}) for name in "ab")
    (tmp_path / "both.tar").write_bytes(first.read_bytes() + second.read_bytes())
    source = open_webdataset(tmp_path / "both.tar")
    assert len(source) == 1
    assert "more follows its end there" in source.bad[0].reason
    assert not open_webdataset(first).bad


def test_damage_in_the_middle_is_said(tmp_path: Path) -> None:
    members = {f"{number}.png": image() for number in range(4)}
    content = bytearray(write(tmp_path / "x.tar", members).read_bytes())
    header = content.index(members["2.png"]) - 512
    content[header : header + 512] = b"?" * 512
    (tmp_path / "x.tar").write_bytes(content)
    source = open_webdataset(tmp_path / "x.tar")
    assert len(source) == 2
    assert source.bad[0].reason.startswith(f"damaged at byte {header}")


def test_bad_members_are_listed_with_the_reason(tmp_path: Path) -> None:
    members = {"a.png": image(), "b.png": b"<html>", "c.gif": image(kind="GIF"), "d.jpg": image(kind="GIF"), "e.png": b""}
    source = open_webdataset(write(tmp_path / "x.tar", members))
    assert everything(source).keys == ("x.tar/a.png",)
    reasons = {bad.path: bad.reason for bad in source.bad}
    assert reasons.keys() == {f"x.tar/{name}" for name in ("b.png", "c", "d.jpg", "e.png")}
    assert "GIF" in reasons["x.tar/d.jpg"]
    with pytest.raises(ValueError, match="can be used; the first"):
        open_webdataset(tmp_path / "x.tar", max_pixels=10)


@pytest.mark.parametrize("mode", ["w:gz", "text"])
def test_compressed_shard_is_refused(mode: str, tmp_path: Path) -> None:
    if mode == "text":
        (tmp_path / "x.tar").write_text("no tar" * 1000)
    else:
        tarfile.open(tmp_path / "x.tar", mode).close()
    with pytest.raises(ValueError, match=r"plain \.tar, not compressed"):
        open_webdataset(tmp_path / "x.tar")


def test_header_at_the_end_of_a_large_member_is_found(tmp_path: Path) -> None:
    content = io.BytesIO()
    Image.fromarray(CHANCE.integers(0, 255, (300, 300, 3), dtype=np.uint8)).save(content, "TIFF")
    tiff = bytearray(content.getvalue())
    directory = int.from_bytes(tiff[4:8], "little")
    moved = len(tiff)  # the directory of tags goes behind the pixels
    tiff += tiff[directory : directory + 4000]
    tiff[4:8] = moved.to_bytes(4, "little")
    tiff[directory : directory + 2] = b"\0\0"
    source = open_webdataset(write(tmp_path / "x.tar", {"a.tif": bytes(tiff)}))
    assert len(tiff) > webdataset.HEAD
    assert everything(source).sizes.tolist() == [[300, 300]]


def test_index_is_built_once_and_again_for_a_changed_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path / "x.tar", {"a.png": image(), "b.png": image()})
    built: list[object] = []
    real = webdataset.read_members
    monkeypatch.setattr(webdataset, "read_members", lambda path: (built.append(path), real(path))[1])
    first, again = open_webdataset(file), open_webdataset(file)
    assert built == [file]
    assert everything(first).keys == everything(again).keys
    write(file, {"a.png": image(50, 60)})
    changed = open_webdataset(file)
    assert everything(changed).sizes.tolist() == [[50, 60]]
    assert changed.fingerprint() != first.fingerprint() == again.fingerprint()


def test_source_travels_closes_and_survives_a_vanished_shard(tmp_path: Path) -> None:
    file = write(tmp_path / "x.tar", {"a.png": image()})
    source = open_webdataset(file)
    expected = everything(source).encoded[0]
    source.close()
    np.testing.assert_array_equal(everything(source).encoded[0], expected)  # opened again
    np.testing.assert_array_equal(everything(pickle.loads(pickle.dumps(source))).encoded[0], expected)
    assert np.asarray(open_image(everything(source).encoded, 0)).shape == (30, 40, 3)
    file.write_bytes(file.read_bytes()[:600])
    assert "ends in it" in everything(source).failures[0]
    source.close()
    assert "it was changed" in everything(source).failures[0]
    file.unlink()
    assert "No such file" in everything(source).failures[0]


def test_shard_that_another_took_the_place_of_is_not_read_by_the_places_of_the_first(tmp_path: Path) -> None:
    """Its members may lie at the same places, and be other images with other labels."""
    file = write(tmp_path / "x.tar", {"a.png": image(), "a.cls": b"1"})
    source, unread = open_webdataset(file), open_webdataset(file)
    expected = everything(source)
    os.utime(file)
    source.close()
    assert everything(source).failures == {}  # only touched
    os.replace(write(tmp_path / "new.tar", {"a.png": image(), "a.cls": b"2"}), file)
    np.testing.assert_array_equal(everything(source).encoded[0], expected.encoded[0])  # the handle is still the old file's
    source.close()
    for each in (source, unread):
        assert everything(each).failures == {0: f"{file}: it was changed while it was in use; open the source anew"}


def test_script_that_leaves_its_shards_open_ends_without_a_word(tmp_path: Path) -> None:
    """A script's names are cleared late, when the modules that closing would need are gone already."""
    script, shard = tmp_path / "script.py", write(tmp_path / "x.tar", {"a.png": image()})
    script.write_text(f"import hjepa\nsource = hjepa.open_source({str(shard)!r})\n")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, timeout=180)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_shards_of_one_name_are_told_apart_in_keys_and_in_what_is_bad(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder / "0.tar", {"1.png": image(), "2.png": b""})
    source = open_webdataset(tmp_path / "{a,b}" / "0.tar")
    assert everything(source).keys == ("a/0.tar/1.png", "b/0.tar/1.png")
    assert [one.path for one in source.bad] == ["a/0.tar/2.png", "b/0.tar/2.png"]


def test_shards_of_several_splits_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("x-train-0.tar", "x-train-1.tar", "x-validation-0.tar"):
        write(tmp_path / name, {"1.png": image()})
    open_webdataset(tmp_path / "x-train-*.tar")
    assert not caplog.text
    assert len(open_webdataset(tmp_path)) == 3
    assert "its files look like splits (train, validation), and all are used" in caplog.text


def test_there_may_be_more_shards_than_files_that_can_be_open(tmp_path: Path) -> None:
    for number in range(100):
        write(tmp_path / f"{number:03d}.tar", {"a.png": image(10 + number)})
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    with handles_below(highest + handles.KEPT + 20), open_webdataset(tmp_path) as source:
        order = np.random.default_rng(0).permutation(100)
        for _ in range(2):
            samples = source.fetch(order)
            assert samples.failures == {}
            assert [open_image(samples.encoded, place).height for place in range(100)] == (order + 10).tolist()
        assert len(source._handles) == handles.KEPT
        source.close()
        assert len(source._handles) == 0


def test_handle_that_went_stale_is_opened_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a network's disk after its server was started again: the shard is there, and only the handle is not."""
    source = open_webdataset(write(tmp_path / "x.tar", {"a.png": image()}))
    expected = everything(source).encoded[0]
    ((_, stale),) = source._handles._opened.items()
    read = os.pread

    def read_or_fail(handle: int, length: int, offset: int) -> bytes:
        if handle == stale:
            monkeypatch.setattr(handles.os, "pread", read)  # the next handle may have the same number
            raise OSError(errno.ESTALE, "Stale file handle")
        return read(handle, length, offset)

    monkeypatch.setattr(handles.os, "pread", read_or_fail)
    samples = everything(source)
    assert handles.os.pread is read
    assert samples.failures == {}
    np.testing.assert_array_equal(samples.encoded[0], expected)


def test_files_that_cannot_be_opened_for_lack_of_handles_are_no_bad_images(tmp_path: Path) -> None:
    source = open_webdataset(write(tmp_path / "x.tar", {"a.png": image()}))
    travelled = pickle.loads(pickle.dumps(source))
    with handles_below(0), pytest.raises(OSError, match="Too many open files: raise the limit"):
        everything(travelled)
    assert everything(travelled).failures == {}


def test_hard_links_are_what_they_link_to_and_others_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(image(20))
    os.link(tmp_path / "a.png", tmp_path / "b.png")
    (tmp_path / "c.png").symlink_to("a.png")
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for name in ("a.png", "b.png", "c.png"):
            archive.add(tmp_path / name, name)
    with open_webdataset(tmp_path / "x.tar") as source:
        samples = everything(source)
        assert samples.keys == ("x.tar/a.png", "x.tar/b.png")
        assert np.array_equal(samples.encoded[0], samples.encoded[1])
        assert ["c.png is a link" in reason.reason for reason in source.bad] == [True]


@pytest.mark.parametrize(("written", "label"), [("2.0", 2), ("3", 3), ("null", -1)])
def test_labels_of_json_members_may_be_floats(written: str, label: int, tmp_path: Path) -> None:
    members = {"a.png": image(), "a.json": f'{{"label": {written}}}', "b.png": image(), "b.json": '{"label": 0}'}
    with open_webdataset(write(tmp_path / "x.tar", members)) as source:
        assert everything(source).labels.tolist() == [label, 0]


def test_shard_that_could_not_be_read_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, read = write(tmp_path / "x.tar", {"a.png": image(), "b.png": image()}), webdataset._read_header

    def fail(shard: Path, member: Member) -> Header:
        return refused(OSError(errno.EIO, "Input/output error")) if member.name == "b.png" else read(shard, member)

    monkeypatch.setattr(webdataset, "_read_header", fail)
    with open_webdataset(file) as source:
        assert len(source) == 1
    monkeypatch.undo()
    with open_webdataset(file) as source:
        assert len(source) == 2


def test_images_that_share_a_name_up_to_its_first_dot_are_one_sample_and_the_rest_is_named(tmp_path: Path) -> None:
    members = {f"day/2024.01.0{day}.jpg": image(kind="JPEG") for day in (1, 2, 3)}
    members |= {"5.jpg": image(kind="JPEG"), "5.seg.png": image(), "5.png": image(), "5.1.jpg": image(kind="JPEG")}
    source = open_webdataset(write(tmp_path / "days.tar", members))
    assert everything(source).keys == ("days.tar/day/2024.01.01.jpg", "days.tar/5.jpg")
    (said,) = source.bad
    assert said.path == "days.tar"
    assert said.reason.startswith("2 images of it are not read, such as day/2024.01.02.jpg: ")
