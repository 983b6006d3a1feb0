"""The list of bad images: written once, shared by ranks and runs, and the same stand-ins whoever looks."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hjepa.pipeline.index import cache_folder
from hjepa.pipeline.lists import open_list
from hjepa.pipeline.mixture import Mixture
from hjepa.pipeline.quarantine import Quarantine, TooManyBadImagesError, open_quarantine
from hjepa.pipeline.source import BadImage


def test_stand_ins_are_good_and_do_not_depend_on_when_an_image_was_found_to_be_bad(tmp_path: Path) -> None:
    bad = [3, 4, 17, 40, 41, 42]
    one, other = (Quarantine([50], "source", tmp_path / name, max_bad=1.0) for name in ("one", "other"))
    for index in bad:
        one.add(index, "path", "reason")
    for index in reversed(bad):
        other.add(index, "path", "reason")
    everything = np.arange(50)
    replaced = one.replace(everything)
    assert not set(replaced.tolist()) & set(bad)
    good = np.setdiff1d(everything, bad)
    np.testing.assert_array_equal(replaced[good], good)
    np.testing.assert_array_equal(replaced, other.replace(everything))
    assert len(set(replaced[bad].tolist())) > 1  # not the same neighbour for all


def test_walk_of_stand_ins_is_the_one_that_earlier_runs_took(tmp_path: Path) -> None:
    quarantine = Quarantine([10], "source", tmp_path / "bad.jsonl", max_bad=1.0)
    for index in range(7):
        quarantine.add(index, "path", "reason")
    assert quarantine.replace(np.arange(10)).tolist() == [9, 9, 8, 9, 8, 7, 8, 7, 8, 9]
    for index in (7, 9):
        quarantine.add(index, "path", "reason")
    assert quarantine.replace(np.arange(10)).tolist() == [8] * 10  # the last good one for all


def test_images_of_a_mixture_are_stood_in_for_by_their_own_source(tmp_path: Path) -> None:
    image = Image.new("RGB", (8, 8))
    mixture = Mixture([[image] * 5, [image] * 50, [image] * 5], weights=[1, 0, 1])
    found = open_quarantine(mixture, "replace", 1.0, tmp_path / "bad.jsonl", is_first=True)
    assert found is not None
    found.add(55, "path", "reason")
    assert found.replace(np.array([55])).tolist() != [55]
    for index in (1, 2, 4, 58):
        found.add(index, "path", "reason")
    read = open_quarantine(mixture, "replace", 1.0, tmp_path / "bad.jsonl", is_first=True)
    assert read is not None
    replaced = found.replace(np.arange(60))
    assert set(replaced[:5].tolist()) == {0, 3}
    assert set(replaced[55:].tolist()) == {56, 57, 59}
    np.testing.assert_array_equal(replaced, read.replace(np.arange(60)))
    for index in (0, 3):
        found.add(index, "path", "reason")
    with pytest.raises(TooManyBadImagesError, match="all 5 images of a source are bad"):
        found.replace(np.array([2]))


def test_list_is_read_again_and_nothing_is_written_twice(tmp_path: Path) -> None:
    file = tmp_path / "folder" / "inside" / "bad.jsonl"
    Quarantine([10], "source", file, max_bad=1.0).note([])
    assert not file.parent.exists()
    for _ in range(2):
        quarantine = Quarantine([10], "source", file, max_bad=1.0)
        for _ in range(2):
            quarantine.note([BadImage(path="left/out.jpg", reason="a header")])
        quarantine.add(7, "ü.jpg", "broken\nin two lines")
        quarantine.add(7, "ü.jpg", "again")
    entries = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert entries == [
        {"id": None, "path": "left/out.jpg", "reason": "a header", "source": "source"},
        {"id": 7, "path": "ü.jpg", "reason": "broken\nin two lines", "lasting": True, "source": "source"},
    ]
    assert 7 in Quarantine([10], "source", file, max_bad=1.0)
    file.write_text(file.read_text().rstrip("\n"))  # as some editors leave a list that was shortened by hand
    assert 7 in Quarantine([10], "source", file, max_bad=1.0)


def test_a_share_allows_no_more_but_one_bad_image_is_always_allowed_if_not_with_zero(tmp_path: Path) -> None:
    few = Quarantine([10], "source", tmp_path / "few", max_bad=0.01)
    few.add(0, "a.jpg", "reason")
    with pytest.raises(TooManyBadImagesError, match=r"2 of 10 images.*b\.jpg"):
        few.add(1, "b.jpg", "reason")
    for length, allowed in ((10, 2), (100, 29)):
        share = Quarantine([length], "source", tmp_path / f"share of {length}", max_bad=0.29)
        for index in range(allowed):
            share.add(index, "a.jpg", "reason")
        with pytest.raises(TooManyBadImagesError, match=f"{allowed + 1} of {length}"):
            share.add(allowed, "a.jpg", "reason")
    with pytest.raises(TooManyBadImagesError, match="1 of 10"):
        Quarantine([10], "source", tmp_path / "none", max_bad=0).add(0, "a.jpg", "reason")


def test_bad_images_of_earlier_runs_count(tmp_path: Path) -> None:
    earlier = Quarantine([10], "source", tmp_path / "bad.jsonl", max_bad=1.0)
    for index, lasting in enumerate([True, True, False, False]):
        earlier.add(index, f"{index}.jpg", "reason", lasting=lasting)
    later = Quarantine([10], "source", tmp_path / "bad.jsonl", max_bad=0.2)
    assert [index for index in range(10) if index in later] == [0, 1]
    with pytest.raises(TooManyBadImagesError, match=r"2 of 10 images .* as an earlier run found"):
        Quarantine([10], "source", tmp_path / "bad.jsonl", max_bad=0.1)


def test_image_that_a_source_no_longer_has_is_none_of_its_bad_ones(tmp_path: Path) -> None:
    Quarantine([10], "source", tmp_path / "bad.jsonl", max_bad=1.0).add(7, "a.jpg", "reason")
    for length in (5, 7):
        assert len(Quarantine([length], "source", tmp_path / "bad.jsonl", max_bad=0)) == 0


def test_sources_with_one_list_have_their_own_bad_images(tmp_path: Path) -> None:
    file, left_out = tmp_path / "bad.jsonl", [BadImage(path="left/out.jpg", reason="a header")]
    one = Quarantine([10], "one", file, max_bad=1.0)
    one.add(3, "a.jpg", "reason")
    one.note(left_out)
    other = Quarantine([10], "other", file, max_bad=0)
    assert len(other) == 0
    other.note(left_out)
    noted = [json.loads(line)["source"] for line in file.read_text().splitlines() if "left/out.jpg" in line]
    assert noted == ["one", "other"]


def test_damaged_list_and_impossible_limit_are_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text('{"id": null, "path": "x", "reason": "y", "source": "z"}\nnonsense\n')
    with pytest.raises(ValueError, match="line 2"):
        Quarantine([10], "source", tmp_path / "bad.jsonl", max_bad=0.5)
    (tmp_path / "bad.jsonl").write_text('{"id": 3, "path": "x", "reason": "y", "source": "source"}\n')
    with pytest.raises(ValueError, match=r"line 1: not an entry of bad images .*lasting"):
        Quarantine([10], "source", tmp_path / "bad.jsonl", max_bad=0.5)
    (tmp_path / "bad.jsonl").write_text("7\n")
    with pytest.raises(ValueError, match="line 1: not an entry of bad images"):
        Quarantine([10], "source", tmp_path / "bad.jsonl", max_bad=0.5)
    with pytest.raises(ValueError, match="is a folder; give a file"):
        Quarantine([10], "source", tmp_path, max_bad=0.5)
    for share in (3, -0.1, "few"):
        with pytest.raises(ValueError, match=f"max_bad={share!r}"):
            Quarantine([10], "source", tmp_path / "other", max_bad=share)
    with pytest.raises(ValueError, match="on_error='skip' is unknown"):
        open_quarantine(open_list([Image.new("RGB", (8, 8))]), "skip", 0.5, None, is_first=True)
    with pytest.raises(ValueError, match=r"list of bad images \. is a folder"):
        open_quarantine(open_list([Image.new("RGB", (8, 8))]), "replace", 0.5, "", is_first=True)


def test_line_that_was_torn_costs_itself_alone(tmp_path: Path) -> None:
    file = tmp_path / "bad.jsonl"
    Quarantine([10], "source", file, max_bad=1.0).add(3, "a.jpg", "reason")
    with open(file, "ab") as opened:
        opened.write(b'\n{"id": 4, "path": "b.jp')
    Quarantine([10], "source", file, max_bad=1.0).add(5, "c.jpg", "reason")
    again = Quarantine([10], "source", file, max_bad=1.0)
    assert [index for index in range(10) if index in again] == [3, 5]
    with open(file, "ab") as opened:
        opened.write(b'{"id": 6, "path": "{d}')  # no entry without its end, whatever it ends with
    assert len(Quarantine([10], "source", file, max_bad=1.0)) == 2
    Quarantine([10], "source", file, max_bad=1.0).add(7, "e.jpg", "reason")
    # as older versions put an entry behind one that was torn, and as disks fill what is not there
    with open(file, "ab") as opened:
        opened.write(b'{"id": 8, "path": "f{"id": 9, "path": "g", "reason": "", "lasting": true, "source": "source"}\n')
        opened.write(b"\0" * 40 + b"\n")
        opened.write(b'\0\0\0{"id": 9, "path": "g", "reason": "", "lasting": true, "source": "source"}\n')
    again = Quarantine([10], "source", file, max_bad=1.0)
    assert [index for index in range(10) if index in again] == [3, 5, 7]


def test_list_that_cannot_be_written_is_said_and_survived(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    quarantine = Quarantine([10], "source", tmp_path / "file" / "bad.jsonl", max_bad=1.0)
    quarantine.add(3, "a.jpg", "reason")
    assert 3 in quarantine
    assert "cannot write the list" in caplog.text
    assert "a.jpg" in caplog.text


def test_sources_have_lists_of_their_own_by_default() -> None:
    images = [Image.new("RGB", (8, side)) for side in (8, 9)]
    lists = [open_quarantine(open_list([image]), "replace", 1.0, None, is_first=True) for image in images]
    assert lists[0].file != lists[1].file
    assert lists[0].file.parent == lists[1].file.parent == cache_folder() / "bad_images"


def test_list_may_lie_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    Image.new("RGB", (8, 8)).save(tmp_path / "x.png")
    quarantine = open_quarantine(open_list([tmp_path / "x.png"]), "replace", 1.0, "~/bad.jsonl", is_first=True)
    assert quarantine.file == tmp_path / "bad.jsonl"
