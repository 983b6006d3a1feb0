"""The sample data set: mixed photo-like files, the same ones on every call, whose classes colour does not tell."""

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hjepa import sample_data
from hjepa.sample_data import TEXTURES, default_folder, make, render

COUNT = 40


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.jpg"))}


def headers(folder: Path) -> list[tuple[str | None, str, tuple[int, int]]]:
    found = []
    for path in folder.rglob("*.jpg"):
        with Image.open(path) as image:
            found.append((image.format, image.mode, image.size))
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("cache") / "deep" / "sample", count=COUNT)


def fail_after(number: int, error: BaseException) -> Callable[[int], None]:
    def progress(made: int) -> None:
        if made == number:
            raise error

    return progress


def test_every_class_has_equally_many_files(folder: Path) -> None:
    counts = {name: len(list((folder / name).glob("*.jpg"))) for name in TEXTURES}
    assert len(counts) == 10
    assert set(counts.values()) == {COUNT // 10}
    assert sorted(path.name for path in folder.iterdir()) == sorted([*counts, "complete.json"])


def test_sizes_are_mixed_and_lie_in_both_orientations(folder: Path) -> None:
    sizes = [size for _, _, size in headers(folder)]
    assert all(300 <= side <= 800 for size in sizes for side in size)
    assert len(set(sizes)) > COUNT // 2
    assert {width > height for width, height in sizes} == {True, False}


def test_folder_may_be_named_by_a_string(folder: Path) -> None:
    assert make(str(folder), count=COUNT) == folder


def test_some_files_are_gray_jpegs_and_most_are_colour(folder: Path) -> None:
    assert {form for form, _, _ in headers(folder)} == {"JPEG"}
    modes = [mode for _, mode, _ in headers(folder)]
    assert 1 <= modes.count("L") <= COUNT // 4
    assert modes.count("L") + modes.count("RGB") == COUNT


def test_the_same_seed_makes_the_same_bytes_whatever_the_count(folder: Path, tmp_path: Path) -> None:
    again, first = make(tmp_path / "again", count=COUNT), make(tmp_path / "first", count=COUNT // 2)
    assert files(again) == files(folder)
    assert files(first).items() <= files(folder).items()


def test_another_seed_makes_other_pictures(folder: Path, tmp_path: Path) -> None:
    other = files(make(tmp_path / "other", count=10, seed=1))
    assert all(other[name] != content for name, content in files(folder).items() if name in other)


def test_a_finished_set_is_not_made_again(folder: Path) -> None:
    def stamps() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in [folder, *folder.rglob("*")]}

    before = stamps()
    assert make(folder, count=COUNT, progress=fail_after(1, AssertionError("an image was made"))) == folder
    assert stamps() == before


def test_progress_counts_every_image_once(tmp_path: Path) -> None:
    seen: list[int] = []
    make(tmp_path / "sample", count=12, progress=seen.append)
    assert seen == list(range(1, 13))


@pytest.mark.parametrize("error", [RuntimeError("stop"), KeyboardInterrupt()], ids=["error", "ctrl-c"])
def test_an_interrupted_run_leaves_nothing(tmp_path: Path, error: BaseException) -> None:
    with pytest.raises(type(error)):
        make(tmp_path / "sample", count=COUNT, progress=fail_after(3, error))
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_run_left_is_removed_by_the_next_one_of_another_day(tmp_path: Path) -> None:
    for end, days in (("0123abcd", 2), ("4567abcd", 0), ("mine", 2)):
        (tmp_path / f"sample.partial-{end}" / "bricks").mkdir(parents=True)
        os.utime(tmp_path / f"sample.partial-{end}", (time.time() - days * 86_400,) * 2)
    make(tmp_path / "sample", count=10)
    assert {path.name for path in tmp_path.iterdir()} == {"sample", "sample.partial-4567abcd", "sample.partial-mine"}


def test_a_full_disk_is_named_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match=r"No space left on device; free some space.*HJEPA_CACHE.*sample") as caught:
        make(tmp_path / "sample", count=COUNT)
    assert caught.value.errno == errno.ENOSPC
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way_is_an_error_that_names_the_folder(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("not a folder")
    with pytest.raises(NotADirectoryError, match=r"HJEPA_CACHE.*sample"):
        make(tmp_path / "cache" / "sample", count=10)


def test_a_file_of_that_name_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "sample").write_text("not a folder")
    with pytest.raises(NotADirectoryError, match=r"cannot write the sample data set.*sample"):
        make(tmp_path / "sample", count=10, progress=fail_after(1, AssertionError("an image was made")))


def test_a_folder_with_something_else_in_it_is_refused(folder: Path, tmp_path: Path) -> None:
    before = files(folder)
    with pytest.raises(ValueError, match=r"'seed': 0.*'seed': 1"):
        make(folder, count=COUNT, seed=1)
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(ValueError, match="not a sample data set"):
        make(tmp_path, count=10)
    assert files(folder) == before
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_a_set_that_another_process_finished_meanwhile_is_used(tmp_path: Path) -> None:
    target = tmp_path / "sample"

    def race(made: int) -> None:
        if made == 1:
            make(target, count=10)

    assert make(target, count=10, progress=race) == target
    assert [path.name for path in tmp_path.iterdir()] == ["sample"]


def test_no_images_at_all_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="count=0"):
        make(tmp_path / "sample", count=0)


def test_the_cache_folder_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"sample-{sample_data.COUNT}-v{sample_data.VERSION}"
    monkeypatch.setenv("HJEPA_CACHE", str(tmp_path / "own"))
    assert default_folder() == tmp_path / "own" / name
    monkeypatch.delenv("HJEPA_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "hjepa" / name
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert default_folder() == Path.home() / ".cache" / "hjepa" / name


def test_mean_colour_does_not_tell_the_class() -> None:
    labels = np.arange(120) % len(TEXTURES)
    pictures = [np.asarray(render(number).convert("RGB")) for number in range(len(labels))]
    colours = np.stack([picture.mean((0, 1)) for picture in pictures])
    distances = np.linalg.norm(colours[:, None] - colours, axis=-1)
    np.fill_diagonal(distances, np.inf)
    assert (labels[distances.argmin(1)] == labels).mean() < 0.25  # chance is 0.1
