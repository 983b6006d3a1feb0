"""Scans that take long: what is kept of one that is broken off, and what is heard of it meanwhile."""

import errno
import io
import tarfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hjepa.pipeline import columns, folder, lists, scan, webdataset
from hjepa.pipeline.columns import Columns
from hjepa.pipeline.folder import open_folder
from hjepa.pipeline.header import Header
from hjepa.pipeline.lists import open_csv
from hjepa.pipeline.open_source import open_source
from hjepa.pipeline.source import Source
from hjepa.pipeline.webdataset import open_webdataset

COUNT, READ = 20, 12


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder of images, one of which is damaged, and beside it a CSV file that names them."""
    (tmp_path / "images").mkdir()
    for number in range(COUNT):
        Image.new("RGB", (10 + number, 30)).save(tmp_path / "images" / f"{number:02d}.jpg")
    (tmp_path / "images" / "03.jpg").write_bytes(b"no image")
    (tmp_path / "list.csv").write_text("".join(f"images/{number:02d}.jpg\n" for number in range(COUNT)))
    return tmp_path


def counted(monkeypatch: pytest.MonkeyPatch, end: int | None = None) -> list[bytes]:
    """The files whose headers are read from now on; Ctrl-C comes at the header with the number `end`."""
    read, real = list[bytes](), scan_header

    def count(path: bytes) -> Header:
        if len(read) == end:
            raise KeyboardInterrupt
        read.append(path)
        return real(path)

    monkeypatch.setattr(folder, "read_file_header", count)
    monkeypatch.setattr(lists, "read_file_header", count)
    return read


scan_header = folder.read_file_header
OPENERS: dict[str, Callable[[Path], Source]] = {
    "folder": lambda images: open_folder(images / "images", num_workers=1),
    "list": lambda images: open_csv(images / "list.csv", num_workers=1),
}


@pytest.mark.parametrize("opened", OPENERS.values(), ids=OPENERS)
def test_scan_that_was_broken_off_goes_on_where_it_was(
    images: Path, opened: Callable[[Path], Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan, "AT_ONCE", 1)
    monkeypatch.setattr(scan, "KEEP_SECONDS", 0.0)
    monkeypatch.setattr(scan, "KEEP_SHARE", 0)
    monkeypatch.setenv("HJEPA_CACHE", str(images / "whole"))
    whole = opened(images)
    monkeypatch.setenv("HJEPA_CACHE", str(images / "broken off"))
    first = counted(monkeypatch, READ)
    with pytest.raises(KeyboardInterrupt):
        opened(images)
    rest = counted(monkeypatch)
    source = opened(images)
    assert len(first) == READ
    assert sorted(first + rest) == sorted(set(first + rest))  # none was read twice
    assert len(first + rest) == COUNT
    assert source.fingerprint() == whole.fingerprint()
    assert [image.path for image in source.bad] == [image.path for image in whole.bad]
    assert np.array_equal(source.fetch(np.arange(COUNT - 1)).sizes, whole.fetch(np.arange(COUNT - 1)).sizes)


def test_scan_that_takes_long_to_keep_is_kept_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "AT_ONCE", 1)
    monkeypatch.setattr(scan, "KEEP_SECONDS", 0.0)
    kept: list[None] = []

    def keep() -> None:
        time.sleep(0.1)
        kept.append(None)

    rows = np.arange(20)
    scan.scan_headers(scan.empty_scan(20), rows, lambda _: Header(height=1, width=1), num_workers=1, progress=None, keep=keep)
    assert 1 <= len(kept) <= 3  # 20 headers take no two seconds


def test_scan_that_is_broken_off_while_it_is_handed_out_does_not_read_first_what_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "AT_ONCE", 1)
    read, handed_out, submit = list[int](), list[int](), ThreadPoolExecutor.submit

    def slowly(row: int) -> Header:
        time.sleep(0.01)
        read.append(row)
        return Header(height=1, width=1)

    def hand_out(*work: Any) -> Any:
        if len(handed_out) == 100:
            raise KeyboardInterrupt
        handed_out.append(len(handed_out))
        return submit(*work)

    monkeypatch.setattr(ThreadPoolExecutor, "submit", hand_out)
    with pytest.raises(KeyboardInterrupt):
        scan.scan_headers(scan.empty_scan(200), np.arange(200), slowly, num_workers=1, progress=None)
    assert len(read) < len(handed_out) == 100


def test_cache_that_cannot_be_written_is_said_alike_however_often_a_scan_is_to_be_kept(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan, "AT_ONCE", 1)
    monkeypatch.setattr(scan, "KEEP_SECONDS", 0.0)
    monkeypatch.setattr(scan, "KEEP_SHARE", 0)

    def write(partial: Path, _: Columns) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(partial))

    monkeypatch.setattr(columns, "_write", write)
    with pytest.warns(UserWarning, match="is not cached") as warned:
        assert len(open_folder(images / "images")) == COUNT - 1
    assert len(warned) == COUNT + 1
    assert len({str(warning.message) for warning in warned}) == 1  # which Python says once


def test_long_scan_is_heard_of_in_the_log_where_nobody_else_is_told(
    images: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(scan, "SAY_SECONDS", 0.0)
    open_source(images / "images")
    assert f"reading the headers of {images / 'images'}, which is done once: 20 of 20" in caplog.text


def test_short_scan_and_one_whose_progress_is_asked_for_leave_the_log_alone(
    images: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    open_source(images / "list.csv")
    monkeypatch.setattr(scan, "SAY_SECONDS", 0.0)
    told: list[tuple[int, int]] = []
    open_source(images / "images", progress=lambda done, total: told.append((done, total)))
    assert told == [(20, 20)]
    assert not caplog.text


def write_shards(folder: Path, *counts: int) -> tuple[Path, ...]:
    """Shards with so many images each."""
    for shard, count in enumerate(counts):
        with tarfile.open(folder / f"{shard}.tar", "w", format=tarfile.USTAR_FORMAT) as archive:
            for number in range(count):
                content = io.BytesIO()
                Image.new("RGB", (10, 30)).save(content, "JPEG")
                member = tarfile.TarInfo(f"{number}.jpg")
                member.size = content.tell()
                archive.addfile(member, io.BytesIO(content.getvalue()))
    return tuple(folder / f"{shard}.tar" for shard in range(len(counts)))


def test_progress_over_shards_is_told_from_the_first_on_and_ends_at_their_images(tmp_path: Path) -> None:
    write_shards(tmp_path, 4, 2, 6)
    told: list[tuple[int, int]] = []
    source = open_webdataset(tmp_path, progress=lambda done, total: told.append((done, total)))
    assert [done for done, _ in told] == [4, 6, 12]
    assert told[-1] == (12, len(source))
    assert all(done <= total for done, total in told)


def test_progress_over_shards_holds_where_images_times_bytes_exceed_64_bits_and_the_first_is_empty(tmp_path: Path) -> None:
    files = write_shards(tmp_path, 0, 4, 2)
    told: list[tuple[int, int]] = []
    sizes = [[str(file), 2**60, 0] for file in files]  # ImageNet-21k: 14 million times 1.3 TB
    webdataset._build(files, sizes, 1, lambda done, total: told.append((done, total)))
    assert told == [(4, 6), (6, 6)]
