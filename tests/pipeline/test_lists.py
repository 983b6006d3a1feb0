"""Lists of images: paths in Python, in CSV and in text files, and images in memory."""

import errno
import io
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hjepa.pipeline import lists
from hjepa.pipeline.header import refused
from hjepa.pipeline.lists import open_csv, open_list
from hjepa.pipeline.source import Samples, Source, open_image

CHANCE = np.random.default_rng(0)


def write(path: Path, height: int = 30, width: int = 40) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(CHANCE.integers(0, 255, (height, width, 3), dtype=np.uint8)).save(path)
    return path


def everything(source: Source) -> Samples:
    return source.fetch(np.arange(len(source)))


def test_list_keeps_its_order_and_its_repeats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    paths = [write(tmp_path / f"{name}.png", height) for name, height in (("b", 10), ("a", 20), ("c", 30))]
    source = open_list([paths[0], "a.png", str(paths[2]), paths[0]])
    samples = everything(source)
    assert samples.sizes[:, 0].tolist() == [10, 20, 30, 10]
    assert [os.fsdecode(path) for path in samples.encoded] == [str(paths[place]) for place in (0, 1, 2, 0)]
    assert samples.keys[1] == "a.png"
    assert samples.labels.tolist() == [-1] * 4


def test_labels_are_numbers_or_names(tmp_path: Path) -> None:
    path = write(tmp_path / "x.png")
    numbered = open_list([(path, 4), (path, -1), (path, np.int64(0)), (path, None)])
    assert (everything(numbered).labels.tolist(), numbered.classes) == ([4, -1, 0, -1], ("0", "1", "2", "3", "4"))
    whole = open_list([(path, 4.0), (path, float("nan")), {"image": path, "label": 1}, {"image": path}])
    assert everything(whole).labels.tolist() == [4, -1, 1, -1]
    picture = Image.new("RGB", (8, 8))
    assert everything(open_list([{"image": picture, "label": 0}, {"image": picture, "label": 1}])).labels.tolist() == [0, 1]
    named = open_list([(path, "dog"), (path, None), (path, "cat"), (path, 3)])
    assert (everything(named).labels.tolist(), named.classes) == ([2, -1, 1, 0], ("3", "cat", "dog"))
    partly = open_list([(path, "dog"), (path, "-1"), (path, float("nan"))])
    assert (everything(partly).labels.tolist(), partly.classes) == ([0, -1, -1], ("dog",))
    triples = open_list([(path, 1, "x"), (path, 0, "y"), (path,)])
    assert everything(triples).labels.tolist() == [1, 0, -1]  # as of a data set, what follows the label is left alone
    titled = open_list([(path, 1), (path, None)], classes=["cat", "dog"])
    assert (everything(titled).labels.tolist(), titled.classes) == ([1, -1], ("cat", "dog"))
    with pytest.raises(ValueError, match="labels go up to 2, and there are only 1 classes"):
        open_list([(path, 2)], classes=["cat"])
    with pytest.raises(ValueError, match="labels are names"):
        open_list([(path, "cat")], classes=["cat"])
    with pytest.raises(ValueError, match=r"item 1 of the list has the label 1\.5"):
        open_list([path, (path, 1.5)])


def test_images_in_memory_go_the_same_way() -> None:
    pixels = CHANCE.integers(0, 255, (20, 30, 3), dtype=np.uint8)
    png = io.BytesIO()
    Image.fromarray(pixels).save(png, "PNG")
    source = open_list([(png.getvalue(), "b"), (Image.fromarray(pixels), "a"), (pixels, None)])
    samples = everything(source)
    assert (samples.labels.tolist(), source.classes) == ([1, 0, -1], ("a", "b"))
    assert samples.sizes.tolist() == [[20, 30]] * 3
    for place in range(3):
        np.testing.assert_array_equal(np.asarray(open_image(samples.encoded, place)), pixels)


def test_csv_with_and_without_names_and_text_file_say_the_same(tmp_path: Path) -> None:
    names = ["plain.png", "with, comma.png", 'with "quotes".png', "with space.png", "ü.png"]
    for number, name in enumerate(names):
        write(tmp_path / "data" / name, 10 + number)
    outside = write(tmp_path / "outside.png", 50)
    quoted = [f'"data/{name.replace(chr(34), chr(34) * 2)}"' for name in names] + [str(outside)]
    labels = ["cat", "dog", "cat", "", "dog", "cat"]
    pairs = list(zip(quoted, labels, strict=True))
    (tmp_path / "plain.csv").write_text("\n".join(f"{path},{label}" for path, label in pairs) + "\n\n")
    (tmp_path / "named.csv").write_text("id,Label,PATH\r\n" + "\r\n".join(f"7, {label},{path}" for path, label in pairs))
    (tmp_path / "mark.csv").write_bytes(b"\xef\xbb\xbf" + b"path,label\n" + (tmp_path / "plain.csv").read_bytes())
    lines = [f"data/{name}\t{label}".strip() for name, label in zip(names, labels, strict=False)] + [f"{outside}\tcat"]
    (tmp_path / "tabs.txt").write_text("\n".join(lines) + "\n")
    sources = [open_csv(tmp_path / name) for name in ("plain.csv", "named.csv", "mark.csv", "tabs.txt")]
    for source in sources:
        samples = everything(source)
        assert samples.sizes[:, 0].tolist() == [10, 11, 12, 13, 14, 50]
        assert (samples.labels.tolist(), source.classes) == ([0, 1, 0, -1, 1, 0], ("cat", "dog"))
    assert len({source.fingerprint() for source in sources}) == 1


@pytest.mark.parametrize(
    "lines", [["path,label", "a.png,3", "a.png,"], ["label,path", "3,a.png", ",a.png"]], ids=["behind", "in front"]
)
def test_an_empty_label_is_none_wherever_its_column_stands(lines: list[str], tmp_path: Path) -> None:
    write(tmp_path / "a.png")
    (tmp_path / "x.csv").write_text("\n".join(lines))
    assert everything(open_csv(tmp_path / "x.csv")).labels.tolist() == [3, -1]


@pytest.mark.parametrize(
    ("header", "path", "label"),
    [
        ("bild,art", 0, 1),
        ("img,lbl", 0, 1),
        ("path,species", 0, 1),
        ("species,path", 1, 0),
        ("bild,label", 0, 1),
        ("Class,photo", 1, 0),
        ("image,source,Label", 0, 2),
        ("bild", 0, None),
    ],
)
@pytest.mark.parametrize("ending", [".png", ""], ids=["endings", "no endings"])
def test_columns_may_have_any_names(header: str, path: int, label: int | None, ending: str, tmp_path: Path) -> None:
    if label is None and not ending:
        header = "path"  # neither endings nor numbers show that another word is a name
    write(tmp_path / "x.png").rename(tmp_path / f"x{ending}")
    rows = [["7"] * len(header.split(",")) for _ in range(12)]
    for number, row in enumerate(rows):
        row[path] = f"x{ending}"
        if label is not None:
            row[label] = str(number)
    (tmp_path / "x.csv").write_text("\n".join([header, *map(",".join, rows)]))
    source = open_csv(tmp_path / "x.csv")
    assert source.bad == ()
    assert everything(source).labels.tolist() == ([-1] * 12 if label is None else list(range(12)))


def test_line_that_is_an_image_is_none_of_names(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "label.png"):
        write(tmp_path / name)
    write(tmp_path / "folder" / "c.png").rename(tmp_path / "folder" / "c")
    write(tmp_path / "c.png").rename(tmp_path / "c")
    (tmp_path / "names.csv").write_text("a.png,label\nb.png,cat\n")
    assert everything(open_csv(tmp_path / "names.csv")).labels.tolist() == [1, 0]
    (tmp_path / "bare.csv").write_text("folder/c\na.png\n")
    assert len(open_csv(tmp_path / "bare.csv")) == 2
    (tmp_path / "there.csv").write_text("c,cat\na.png,dog\n")
    assert everything(open_csv(tmp_path / "there.csv")).labels.tolist() == [0, 1]
    (tmp_path / "numbered.csv").write_text("gone,0\na.png,1\n")
    assert [bad.path for bad in open_csv(tmp_path / "numbered.csv").bad] == ["gone"]
    (tmp_path / "odd_names.csv").write_text("photograph,breed\na.png,dog\nc,cat\n")
    with pytest.raises(ValueError, match="line 1: photograph is no file; write path,label there if the line names the columns"):
        open_csv(tmp_path / "odd_names.csv")
    (tmp_path / "spaced.csv").write_text('"a.png", "cat"\nb.png, dog\n')
    assert open_csv(tmp_path / "spaced.csv").classes == ("cat", "dog")
    (tmp_path / "numbers.csv").write_text("a.png,cat\nb.png,1\nb.png,2\n")
    with pytest.raises(ValueError, match=r"line 1: the label 'cat' of a\.png is no number, and all others are"):
        open_csv(tmp_path / "numbers.csv")
    (tmp_path / "many.csv").write_text("path,height,width\na.png,1,2\n")
    with pytest.raises(ValueError, match="of the columns path, height, width none is called label"):
        open_csv(tmp_path / "many.csv")


def test_first_line_with_fewer_names_than_columns_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "x.png")
    (tmp_path / "list.csv").write_text("# made by hand\nx.png,3\n")
    with pytest.raises(ValueError, match="'# made by hand' names one column, and other lines have more"):
        open_csv(tmp_path / "list.csv")
    (tmp_path / "list.csv").write_text("x.png\nx.png,3\n")  # without a refusal, no line would have a label
    with pytest.raises(ValueError, match=r"line 1: \['x.png'\] has no column 2; write path,label on each line"):
        open_csv(tmp_path / "list.csv")
    (tmp_path / "list.csv").write_text("x.png\nx.png,\n")
    assert everything(open_csv(tmp_path / "list.csv")).labels.tolist() == [-1, -1]


def test_path_with_a_nul_is_refused_by_its_number(tmp_path: Path) -> None:
    path = write(tmp_path / "a.png")
    (tmp_path / "x.csv").write_bytes(b"a.png,1\nb\0.png,2\n")
    with pytest.raises(ValueError, match=r"line 2: .*NUL"):
        open_csv(tmp_path / "x.csv")
    with pytest.raises(ValueError, match=r"item 1 of the list, 'b\\x00\.png', holds a NUL"):
        open_list([path, "b\0.png"])


def test_text_file_is_a_list_of_paths_with_or_without_numbers(tmp_path: Path) -> None:
    for name in ("a.png", "b 2.png"):
        write(tmp_path / name)
    (tmp_path / "dali.lst").write_text("a.png 3\nb 2.png 1\n")
    (tmp_path / "plain.txt").write_text("a.png\n\nb 2.png")
    assert everything(open_csv(tmp_path / "dali.lst")).labels.tolist() == [3, 1]
    assert everything(open_csv(tmp_path / "plain.txt")).labels.tolist() == [-1, -1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "names no images"),
        ("path,label\n", "names no images"),
        ("path,label\na.png,1\na.png\n", "line 3: .* has no column 2"),
        ("a.png,1\n,2\n", "line 2: .* names no image"),
        ("label,path\n1,a.png\n2,\n", "line 3: .* names no image"),
        ('a.png,1\n\n"a.png,2\n', r"line \d: .*double quotes"),
        ("gone.png,1\n", "no image of .*No such file"),
    ],
    ids=["empty", "only names", "no label", "no path", "no path behind a label", "open quote", "missing file"],
)
def test_mistake_in_a_csv_file_is_said_with_its_line(text: str, message: str, tmp_path: Path) -> None:
    write(tmp_path / "a.png")
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        open_csv(tmp_path / "x.csv")


def test_missing_csv_file_and_empty_list_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no file"):
        open_csv(tmp_path / "x.csv")
    with pytest.raises(ValueError, match="list of images is empty"):
        open_list([])


def test_headers_are_scanned_once_and_again_for_changed_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [write(tmp_path / f"{number}.png") for number in range(4)]
    (tmp_path / "2.png").write_text("<html>")
    paths.append(tmp_path / "gone.png")
    first = open_list(paths)
    assert [Path(bad.path).name for bad in first.bad] == ["2.png", "gone.png"]
    scanned: list[bytes] = []
    real = lists.read_file_header
    monkeypatch.setattr(lists, "read_file_header", lambda path: (scanned.append(path), real(path))[1])
    assert everything(open_list(paths)).keys == everything(first).keys
    assert scanned == []
    write(paths[1], 99)
    again = open_list(paths)
    assert scanned == [os.fsencode(paths[1])]
    assert everything(again).sizes[:, 0].tolist() == [30, 99, 30]
    assert again.bad == first.bad
    monkeypatch.setattr(lists, "CHECKED_FILES", 0)
    write(paths[1], 88)
    assert everything(open_list(paths)).sizes[:, 0].tolist() == [30, 99, 30]
    assert everything(open_list(paths, verify=True)).sizes[:, 0].tolist() == [30, 88, 30]


def test_csv_file_is_read_again_when_it_changes_and_its_old_headers_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        write(tmp_path / f"{number}.png", 10 + number)
    (tmp_path / "x.csv").write_text("0.png,a\n1.png,b\n2.png,a\n")
    first = open_csv(tmp_path / "x.csv")
    monkeypatch.setattr(lists, "CHECKED_FILES", 0)
    read: list[Path] = []
    real = lists._read_lines
    monkeypatch.setattr(lists, "_read_lines", lambda path: (read.append(path), real(path))[1])
    scanned: list[bytes] = []
    scan = lists.read_file_header
    monkeypatch.setattr(lists, "read_file_header", lambda path: (scanned.append(path), scan(path))[1])
    assert open_csv(tmp_path / "x.csv").fingerprint() == first.fingerprint()
    assert (read, scanned) == ([], [])
    (tmp_path / "x.csv").write_text("3.png,a\n2.png,c\n0.png,a\n")
    samples = everything(open_csv(tmp_path / "x.csv"))
    assert scanned == [os.fsencode(tmp_path / "3.png")]
    assert samples.sizes[:, 0].tolist() == [13, 12, 10]
    assert samples.labels.tolist() == [0, 1, 0]


def test_csv_file_of_the_same_length_and_time_is_told_by_its_lines(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        write(tmp_path / name)
    for text, labels in (("a.png,0\nb.png,1\n", [0, 1]), ("a.png,1\nb.png,0\n", [1, 0])):
        (tmp_path / "x.csv").write_text(text)
        os.utime(tmp_path / "x.csv", (1e9, 1e9))
        assert everything(open_csv(tmp_path / "x.csv")).labels.tolist() == labels


def test_nan_in_a_csv_file_is_no_label(tmp_path: Path) -> None:
    for name in "abc":
        write(tmp_path / f"{name}.png")
    (tmp_path / "x.csv").write_text("path,label\na.png,2\nb.png,nan\nc.png,10\n")
    assert everything(open_csv(tmp_path / "x.csv")).labels.tolist() == [2, -1, 10]


def test_fingerprint_of_a_csv_file_does_not_know_where_it_lies(tmp_path: Path) -> None:
    write(tmp_path / "one" / "x.png")
    (tmp_path / "one" / "x.csv").write_text("x.png\n")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    sources = [open_csv(tmp_path / place / "x.csv") for place in ("one", "two")]
    assert sources[0].fingerprint() == sources[1].fingerprint()
    assert everything(sources[1]).encoded[0] == os.fsencode(tmp_path / "two" / "x.png")


def test_limit_of_pixels_holds_for_paths_and_for_images_in_memory(tmp_path: Path) -> None:
    path = write(tmp_path / "x.png", 20, 30)
    assert len(open_list([path], max_pixels=600)) == 1
    with pytest.raises(ValueError, match="20 x 30 pixels are more than max_pixels=599"):
        open_list([path], max_pixels=599)
    assert "more than max_pixels=599" in everything(open_list([path.read_bytes()], max_pixels=599)).failures[0]


@pytest.mark.parametrize("kind", ["list", "csv"])
def test_image_of_a_long_list_that_could_not_be_read_is_tried_again(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network disk that was away does not change the file, and files of long lists are not looked at."""
    monkeypatch.setattr(lists, "CHECKED_FILES", 0)
    paths = [write(tmp_path / f"{number}.png") for number in range(3)]
    (tmp_path / "x.csv").write_text("".join(f"{path}\n" for path in paths))
    opener, data = (open_list, paths) if kind == "list" else (open_csv, tmp_path / "x.csv")
    with monkeypatch.context() as patched:
        patched.setattr(lists, "read_file_header", lambda _: refused(OSError(errno.ESTALE, "Stale file handle")))
        with pytest.raises(ValueError, match="can be used; the first"):
            opener(data)
    assert len(opener(data)) == 3
    monkeypatch.setattr(lists, "read_file_header", None)
    assert len(opener(data)) == 3  # and is not read once more
