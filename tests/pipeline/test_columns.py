"""Files of arrays: what is written is mapped back, and a damaged file is never taken for a whole one."""

import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hjepa.pipeline import columns
from hjepa.pipeline.columns import Columns, texts

ARRAYS = {
    "bytes": np.arange(7, dtype=np.uint8),
    "none": np.empty(0, dtype=np.int64),
    "pairs": np.arange(6, dtype=np.int32).reshape(3, 2),
    "strided": np.arange(10, dtype=np.int64)[::3],
}


def test_arrays_are_mapped_back_aligned_and_read_only(tmp_path: Path) -> None:
    about = {"classes": ["ü", "\udcff"], "number": 3}
    for back in (
        columns.save(tmp_path / "x.columns", Columns(arrays=ARRAYS, about=about)),
        columns.load(tmp_path / "x.columns"),
    ):
        assert back is not None
        assert back.about == about
        for name, array in ARRAYS.items():
            np.testing.assert_array_equal(back.arrays[name], array)
            assert back.arrays[name].dtype == array.dtype
            assert back.arrays[name].ctypes.data % 64 == 0
            assert not back.arrays[name].flags.writeable
    assert [path.name for path in tmp_path.iterdir()] == ["x.columns"]


def test_what_was_saved_is_given_back_also_where_another_took_its_place_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, replace = tmp_path / "x.columns", os.replace
    columns.save(tmp_path / "other.columns", Columns(arrays=ARRAYS, about={"number": 2}))

    def overtaken(written: Path, place: Path) -> None:
        replace(written, place)
        replace(tmp_path / "other.columns", place)

    monkeypatch.setattr(os, "replace", overtaken)
    assert columns.save(file, Columns(arrays=ARRAYS, about={"number": 1})).about == {"number": 1}
    found = columns.load(file)
    assert found is not None
    assert found.about == {"number": 2}


def test_file_reaches_the_disk_before_it_takes_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a machine that loses power may leave one whose arrays are zeros."""
    done, real = list[str](), {"fsync": os.fsync, "replace": os.replace}

    def noted(name: str, *arguments: Any) -> None:
        done.append(name)
        real[name](*arguments)

    for name in real:
        monkeypatch.setattr(os, name, partial(noted, name))
    columns.save(tmp_path / "x.columns", Columns(arrays=ARRAYS, about={}))
    assert done == ["fsync", "replace"]


def test_damaged_file_is_said_and_not_read(tmp_path: Path) -> None:
    file = tmp_path / "x.columns"
    columns.save(file, Columns(arrays=ARRAYS, about={"classes": ["a"]}))
    whole = file.read_bytes()
    flipped = bytearray(whole)
    flipped[whole.index(b"classes")] ^= 1
    for content in (b"", whole[:10], whole[:-1], whole + b"x", b"x" + whole, bytes(flipped)):
        file.write_bytes(content)
        with pytest.warns(UserWarning, match="unreadable .* made anew"):
            assert columns.load(file) is None
    file.write_bytes(whole.replace(columns.MAGIC, b"hjepa columns 0\n"))  # an older hjepa's, as after every update
    assert columns.load(file) is None
    assert columns.load(tmp_path / "none") is None


@pytest.mark.parametrize("items", [[], [b""], [b"", b"a", b"", b"bcd", b""], [b"\0\xff", b"x" * 1000]], ids=len)
def test_texts_come_back_whole_and_by_number(items: list[bytes]) -> None:
    kept = texts(items)
    assert len(kept) == len(items)
    assert kept.all() == items
    order = np.arange(len(items))[::-1]
    assert kept.take(order) == items[::-1]
