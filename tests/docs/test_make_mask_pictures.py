"""The script of the documentation's pictures of masks runs, and writes the same ones from the same seed."""

import runpy
import sys
from pathlib import Path

import pytest
from PIL import Image

DOCS = Path(__file__).parents[2] / "docs"
SCRIPT = str(DOCS / "make_mask_pictures.py")


def sizes(folder: Path) -> dict[str, tuple[int, int]]:
    """Width and height of each picture; a file that is no whole PNG is an error."""
    found = {}
    for path in folder.glob("masks-*"):
        with Image.open(path) as image:
            image.load()
            assert image.format == "PNG"
            found[path.name] = image.size
    return found


def test_script_writes_the_pictures_of_the_documentation(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "argv", [SCRIPT, "--output", str(tmp_path), "--samples", "20"])
    runpy.run_path(SCRIPT, run_name="__main__")
    assert sizes(tmp_path) == sizes(DOCS / "images")
    assert [path.name for path in (*tmp_path.iterdir(), *(DOCS / "images").iterdir()) if path.stat().st_size > 300_000] == []


def test_a_seed_is_one_picture(tmp_path: Path) -> None:
    write = runpy.run_path(SCRIPT)["write_samples"]
    for folder, seed in (("one", 3), ("same", 3), ("other", 4)):
        write(tmp_path / folder, seed)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "same" / path.name).read_bytes()
        assert path.read_bytes() != (tmp_path / "other" / path.name).read_bytes()
