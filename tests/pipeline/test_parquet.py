"""Parquet files: columns of bytes and of pairs, labels, random access by groups of rows, and what is refused."""

import io
import os
import pickle
import sys
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hjepa.pipeline import parquet
from hjepa.pipeline.parquet import open_parquet
from hjepa.pipeline.source import Samples, Source, open_image

arrow = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
CHANCE = np.random.default_rng(0)


def image(height: int = 30) -> bytes:
    content = io.BytesIO()
    Image.fromarray(CHANCE.integers(0, 255, (height, 40, 3), dtype=np.uint8)).save(content, "PNG")
    return content.getvalue()


def write(path: Path, table: dict[str, list[Any]], group: int = 3) -> Path:
    pq.write_table(arrow.table(table), path, row_group_size=group)
    return path


def everything(source: Source) -> Samples:
    return source.fetch(np.arange(len(source)))


@pytest.mark.parametrize("pairs", [False, True], ids=["bytes", "pairs"])
def test_rows_are_read_at_random(pairs: bool, tmp_path: Path) -> None:
    images = [image(10 + number) for number in range(8)]
    held = [{"bytes": one, "path": "x"} for one in images] if pairs else images
    names = ["b", "a", None, "b", "a", "a", "b", "a"]
    write(tmp_path / "1.parquet", {"text": names[:5], "image": held[:5], "label": names[:5]})
    write(tmp_path / "2.parquet", {"text": names[5:], "image": held[5:], "label": names[5:]})
    with open_parquet(tmp_path) as source:
        order = np.array([7, 0, 4, 3, 7, 1])
        samples = source.fetch(order)
        assert [content.tobytes() for content in samples.encoded] == [images[number] for number in order]
        assert samples.sizes[:, 0].tolist() == (order + 10).tolist()
        assert samples.keys[:3] == ("2.parquet/0/2", "1.parquet/0/0", "1.parquet/1/1")
        assert everything(source).labels.tolist() == [1, 0, -1, 1, 0, 0, 1, 0]
        assert source.classes == ("a", "b")
        travelled = pickle.loads(pickle.dumps(source))
        source.close()
        assert travelled.fetch(order).encoded[0].tobytes() == images[7] == source.fetch(order).encoded[0].tobytes()


def test_file_that_another_took_the_place_of_is_not_read_by_the_rows_of_the_first(tmp_path: Path) -> None:
    file = write(tmp_path / "x.parquet", {"image": [image()], "label": [1]})
    source = open_parquet(file)
    assert everything(source).failures == {}
    os.replace(write(tmp_path / "new.parquet", {"image": [image(31)], "label": [2]}), file)
    source.close()
    assert everything(source).failures == {0: "it was changed while it was in use; open the source anew"}


def test_file_that_becomes_shorter_while_it_is_read_has_failures_and_kills_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "KEPT_BYTES", 0)
    file = write(tmp_path / "x.parquet", {"image": [image() for _ in range(40)]}, group=10)
    source = open_parquet(file)
    assert source.fetch(np.array([0])).failures == {}
    os.truncate(file, 5000)
    assert source.fetch(np.array([35])).failures.keys() == {0}


def test_hidden_files_of_a_folder_are_passed_over(tmp_path: Path) -> None:
    write(tmp_path / "x.parquet", {"image": [image()], "label": [1]})
    (tmp_path / "._x.parquet").write_bytes(b"of macOS")
    (tmp_path / ".cache").mkdir()
    write(tmp_path / ".cache" / "y.parquet", {"image": [image()], "label": [1]})
    assert open_parquet(tmp_path).files == (tmp_path / "x.parquet",)


def test_file_without_rows_is_refused(tmp_path: Path) -> None:
    rows = {"image": arrow.array([], arrow.binary()), "label": arrow.array([], arrow.int64())}
    with pytest.raises(ValueError, match=r"x\.parquet has no images"):
        open_parquet(write(tmp_path / "x.parquet", rows))


def test_files_of_several_splits_and_of_one_name_are_told_apart(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        write(tmp_path / split / "0000.parquet", {"image": [image()]})
    assert everything(open_parquet(tmp_path)).keys == ("test/0000.parquet/0/0", "train/0000.parquet/0/0")
    assert "its files look like splits (test, train), and all are used; give those of one" in caplog.text


def test_index_is_built_once_and_again_for_a_changed_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path / "x.parquet", {"image": [image()] * 4})
    built: list[object] = []
    real = parquet._build
    monkeypatch.setattr(parquet, "_build", lambda *args: (built.append(1), real(*args))[1])
    first, again = open_parquet(file), open_parquet(file)
    assert built == [1]
    assert first.fingerprint() == again.fingerprint()
    write(file, {"image": [image(99)] * 2})
    assert everything(open_parquet(file)).sizes[:, 0].tolist() == [99, 99]


def test_groups_that_are_kept_stay_within_their_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_parquet(write(tmp_path / "x.parquet", {"image": [image() for _ in range(12)]}))
    read: list[int] = []
    real = parquet._read_bytes
    monkeypatch.setattr(parquet, "_read_bytes", lambda file, group, name: (read.append(group), real(file, group, name))[1])
    everything(source)
    everything(source)
    assert read == [0, 1, 2, 3]
    monkeypatch.setattr(parquet, "KEPT_BYTES", 1)
    source.close()
    everything(source)
    assert len(source._groups) == 1
    assert [content.nbytes > 1000 for content in everything(source).encoded] == [True] * 12


def test_no_more_than_some_files_are_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(12):
        write(tmp_path / f"{number:02d}.parquet", {"image": [image(10 + number)]})
    monkeypatch.setattr(parquet, "KEPT", 3)
    monkeypatch.setattr(parquet, "KEPT_BYTES", 1)
    before, most = len(os.listdir("/proc/self/fd")), 0
    real = parquet._read_bytes

    def read(file: Any, group: int, name: str) -> Any:
        nonlocal most
        most = max(most, len(os.listdir("/proc/self/fd")))
        return real(file, group, name)

    monkeypatch.setattr(parquet, "_read_bytes", read)
    source = open_parquet(tmp_path)
    assert most <= before + 2
    for _ in range(2):
        assert everything(source).sizes[:, 0].tolist() == list(range(10, 22))
        assert [open_image(everything(source).encoded, place).height for place in range(12)] == list(range(10, 22))
    assert most <= before + 5


def test_hugging_face_names_of_classes_and_numbers_are_kept(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"img": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog", "owl"])})
    rows = {"img": [{"bytes": image(), "path": None}] * 2, "label": [1, 0]}
    datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "x.parquet")
    source = open_parquet(tmp_path / "*.parquet")
    assert (everything(source).labels.tolist(), source.classes) == ([1, 0], ("cat", "dog", "owl"))


def test_bad_rows_are_listed_and_left_out(tmp_path: Path) -> None:
    source = open_parquet(write(tmp_path / "x.parquet", {"image": [image(), b"<html>", None, image()]}))
    assert everything(source).keys == ("x.parquet/0/0", "x.parquet/1/0")
    assert [bad.path for bad in source.bad] == ["x.parquet/0/1", "x.parquet/0/2"]


def test_what_cannot_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path / "x.parquet", {"photo": [image()], "score": [1]})
    with pytest.raises(ValueError, match=r"has the columns photo, score, none of them image or"):
        open_parquet(file)
    assert len(open_parquet(file, image="photo")) == 1
    with pytest.raises(ValueError, match="holds int64, not encoded images"):
        open_parquet(file, image="score")
    with pytest.raises(ValueError, match="none of them kind"):
        open_parquet(file, image="photo", label="kind")
    with pytest.raises(ValueError, match="no parquet files at"):
        open_parquet(tmp_path / "y-*.parquet")
    (tmp_path / "cut.parquet").write_bytes(file.read_bytes()[:-20])
    with pytest.raises(ValueError, match="no whole parquet file"):
        open_parquet(tmp_path / "cut.parquet")
    content = bytearray(file.read_bytes())
    content[20:1000] = bytes(980)
    (tmp_path / "damaged.parquet").write_bytes(content)
    with pytest.raises(ValueError, match=r"damaged\.parquet"):
        open_parquet(tmp_path / "damaged.parquet", image="photo")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ValueError, match="pip install pyarrow"):
        open_parquet(file)


def test_large_groups_of_rows_are_said_once_with_what_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    one = image()
    open_parquet(write(tmp_path / "small.parquet", {"image": [one] * 600}, group=200))
    assert caplog.messages == []
    large = write(tmp_path / "large.parquet", {"image": [one] * 600}, group=300)
    open_parquet(large)
    assert len(caplog.messages) == 1
    assert "a group of 300 rows is read whole for any row of it; use a Loader's shuffle='blocks'" in caplog.messages[0]
    monkeypatch.setattr(parquet, "KEPT_BYTES", 300 * len(one))
    open_parquet(large)
    assert "write them with groups of 100 rows" in caplog.messages[1]


def test_whole_floats_are_numbers_and_what_is_missing_is_no_label(tmp_path: Path) -> None:
    """As pandas writes numbers of which one is missing."""
    labels = [0.0, 10.0, None, 2.0, float("nan")]
    with open_parquet(write(tmp_path / "x.parquet", {"image": [image() for _ in labels], "label": labels})) as source:
        assert everything(source).labels.tolist() == [0, 10, -1, 2, -1]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([b"b", b"a"], [1, 0]),
        ([True, False], [1, 0]),
        ([date(2026, 1, 2), date(2025, 1, 2)], [1, 0]),
        (["3.0", "10.0"], [3, 10]),
    ],
    ids=["bytes", "truth values", "dates", "floats as text"],
)
def test_labels_of_other_types_are_names(labels: list[Any], expected: list[int], tmp_path: Path) -> None:
    with open_parquet(write(tmp_path / "x.parquet", {"image": [image(), image()], "label": labels})) as source:
        assert everything(source).labels.tolist() == expected


def test_several_labels_of_an_image_are_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "x.parquet", {"image": [image()], "label": [[1, 2]]})
    with pytest.raises(ValueError, match=r"a label is \[1, 2\], and one number or name is wanted"):
        open_parquet(file)


@pytest.mark.parametrize("missing", ["image", "label"])
def test_files_of_different_columns_are_refused(missing: str, tmp_path: Path) -> None:
    whole = {"image": [image()], "label": ["a"]}
    write(tmp_path / "1.parquet", whole)
    write(tmp_path / "2.parquet", {name: column for name, column in whole.items() if name != missing} | {"other": ["b"]})
    with pytest.raises(ValueError, match=rf"2\.parquet has no column {missing}, which .*1\.parquet has"):
        open_parquet(tmp_path)


def test_a_file_is_opened_once_for_all_its_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened, real = [], parquet._open
    monkeypatch.setattr(parquet, "_open", lambda *given: opened.append(0) or real(*given))
    with open_parquet(write(tmp_path / "x.parquet", {"image": [image() for _ in range(12)]}, group=1)) as source:
        assert len(source) == 12
    assert len(opened) <= 3
