"""The scripts of the pictures of recipes and of the data path write what the documentation shows."""

import re
import runpy
import sys
from pathlib import Path

import pytest
from PIL import Image

from hjepa.pipeline.presets import PRESETS

DOCS = Path(__file__).parents[2] / "docs"


def run(script: str, *arguments: object) -> None:
    pytest.importorskip("skimage")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [script, *map(str, arguments)])
        runpy.run_path(str(DOCS / script), run_name="__main__")


def size(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        image.load()
        return image.size


@pytest.mark.parametrize("recipe", ["hjepa", "asymmetric", "cifar10"])
def test_recipe_picture_is_the_one_that_is_shown(recipe: str, tmp_path: Path) -> None:
    run("make_recipe_pictures.py", "--recipes", recipe, "--output", tmp_path)
    assert size(tmp_path / f"{recipe}.jpg") == size(DOCS / "recipe-pictures" / f"{recipe}.jpg")


def test_data_path_is_the_one_that_is_shown(tmp_path: Path) -> None:
    run("make_data_path_picture.py", "--output", tmp_path / "path.jpg")
    assert size(tmp_path / "path.jpg") == size(DOCS / "data-path.jpg")


def test_every_recipe_has_its_picture_and_pictures_are_small() -> None:
    page = (DOCS / "recipe-pictures.md").read_text(encoding="utf-8")
    assert [
        name
        for name in PRESETS
        if not re.search(rf"^## {name}$|`{name}`|`-{name.removeprefix('dinov3-highres-')}`", page, re.M)
    ] == []
    shown = {path.name for path in (DOCS / "recipe-pictures").iterdir()}
    assert shown == {f"{name}.jpg" for name in re.findall(r"^## (\S+)$", page, re.M)}
    assert [path for path in (DOCS / "recipe-pictures").iterdir() if path.stat().st_size > 80_000] == []
