"""Recipes in YAML: what was written is read back, and a slip is told where it stands, with what was meant."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from hjepa.configs.recipe_file import load_recipe, recipe_to_yaml
from hjepa.configs.yaml_file import SettingsError
from hjepa.pipeline.presets import PRESETS, preset


def written(folder: Path, text: str) -> Path:
    file = folder / "mine.yaml"
    file.write_text(text, encoding="utf-8")
    return file


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_survives_the_way_through_yaml(name: str, tmp_path: Path) -> None:
    assert load_recipe(written(tmp_path, recipe_to_yaml(preset(name)))) == preset(name)


def test_names_that_look_like_numbers_survive(tmp_path: Path) -> None:
    recipe = replace(preset("ijepa"), name="1e3", source="null")
    assert load_recipe(written(tmp_path, recipe_to_yaml(recipe))) == recipe


def test_what_is_left_out_has_its_default(tmp_path: Path) -> None:
    text = "name: mine\nsource: me\nviews:\n- {name: global, count: 2, size: 64, area: [0.4, 1]}\n"
    (view,) = load_recipe(written(tmp_path, text)).views
    assert (view.flip, view.interpolation, view.jitter, view.area) == (0.5, "bicubic", None, (0.4, 1.0))


def edited(path: tuple[str | int, ...], value: object) -> str:
    content = yaml.safe_load(recipe_to_yaml(preset("dino")))
    place = content
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return yaml.safe_dump(content)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("vews",), 1, "there is no vews; did you mean views?"),
        (("views", 1, "flp"), 0.5, "there is no views[1].flp; did you mean flip?"),
        (("views", 1, "same_boxes_as"), "global", "did you mean same_box_as?"),
        (("views", 2, "jitter", "hew"), 0.5, "there is no views[2].jitter.hew; did you mean hue?"),
        (("views", 2, "zzz"), 0.5, "there is no views[2].zzz; use one of name, count, size"),
        (("views", 0, "size"), "224", 'views[0].size="224" should be a valid integer'),
        (("views", 0, "size"), 224.5, "views[0].size=224.5 should be a valid integer"),
        (("views", 0, "flip"), True, "views[0].flip=true should be a valid number"),
        (("views", 0, "flip"), 1.5, "views[0]: global: flip=1.5 is not a probability"),
        (("views", 0, "area"), [0.5, 0.2], "views[0]: global: area=(0.5, 0.2) is not a range"),
        (("views", 0, "area"), [0.5, 0.6, 0.7], "views[0].area=[0.5, 0.6, 0.7] should have at most 2 items, not 3"),
        (("views", 0, "area"), 0.5, "views[0].area=0.5 should be a list"),
        (("views", 0, "interpolation"), "nearest", "should be 'bicubic' or 'bilinear'"),
        (("views", 0, "jitter", "hue"), 3, "views[0].jitter: Jitter.hue=3.0 is outside"),
        (("views", 2, "same_box_as"), "globl", "same_box_as='globl' names no view that is rendered; did you mean global?"),
        (("views", 0), {"name": "global"}, "views[0].count is missing; set it"),
        (("views",), [], "no view has a count above 0"),
        (("views", 0), 3, "views[0]=3 should be a mapping"),
        (("views",), {"a": 1}, "should be a list"),
        (("mean",), [0.5], "mean[1] is missing"),
        (("mean",), [float("nan"), 0.5, 0.5], "finite"),
    ],
    ids=str,
)
def test_slip_is_told_where_it_stands(path: tuple[str | int, ...], value: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as error:
        load_recipe(written(tmp_path, edited(path, value)))
    assert message in str(error.value)
    assert all(line.startswith(f"{tmp_path}") for line in str(error.value).splitlines())
    assert "pydantic" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [("- 1", "holds a list, not a recipe"), ("name: a\nname: b", "line 2: name is written twice"), ("", "name is missing")],
)
def test_file_that_is_no_recipe_is_refused(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=message):
        load_recipe(written(tmp_path, text))


def test_missing_file_is_refused_with_the_way_to_one() -> None:
    with pytest.raises(SettingsError, match=r"there is no file no/mine.yaml; `hjepa recipes dino --yaml > mine.yaml`"):
        load_recipe("no/mine.yaml")
