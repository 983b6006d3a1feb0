"""Files that hold images in a form that is not read are said, and only those."""

import io
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from hjepa.command_data import say_left_out
from hjepa.data_check import look_at_data
from hjepa.display import Display
from hjepa.findings import judge_data
from hjepa.pipeline.folder import open_folder
from hjepa.pipeline.presets import preset
from hjepa.pipeline.source import spread
from hjepa.unread_files import what_to_do


def test_files_of_other_forms_are_counted_and_said(labelled: Path, tmp_path: Path) -> None:
    shutil.copytree(labelled, tmp_path / "photos")
    for name in ("a.HEIC", "dark/b.heic", "dark/c.gif", "d.tar", "notes.txt", "list.csv", "complete.json", "README"):
        (tmp_path / "photos" / name).touch()
    source, text = open_folder(tmp_path / "photos"), io.StringIO()
    with Display(Console(file=text, width=400)) as display:
        say_left_out(source, display)
    assert text.getvalue() == f"note: 2 .heic, 1 .gif and 1 .tar in {source.name} are not read\n"
    (finding,) = [each for each in judge_data(look_at_data(source), preset("hjepa"), 8) if each.subject == "other files"]
    assert (finding.level, finding.text) == ("note", "2 .heic, 1 .gif and 1 .tar are not read")


@pytest.mark.parametrize(
    ("unread", "advice"),
    [
        ({".gif": 2}, "make JPEGs of them"),
        ({".tar": 1, ".zip": 1}, "unpack them"),
        ({".tar": 1, ".gif": 1}, "unpack them, or make JPEGs of them"),
    ],
)
def test_only_archives_are_to_be_unpacked(unread: dict[str, int], advice: str) -> None:
    assert what_to_do(unread) == advice


def test_nothing_is_said_where_nothing_else_is(labelled: Path) -> None:
    text = io.StringIO()
    with Display(Console(file=text)) as display:
        say_left_out(open_folder(labelled), display)
        say_left_out(spread(open_folder(labelled), 3), display)  # of another source nobody knows
    assert text.getvalue() == ""
    assert "other files" not in [each.subject for each in judge_data(look_at_data(open_folder(labelled)), preset("hjepa"), 8)]
