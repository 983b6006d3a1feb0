"""Recipes: bad numbers are refused by name, presets are the published ones."""

from dataclasses import replace

import pytest

from hjepa.pipeline.recipe import Jitter, Recipe, View, dino, multicrop, preset

VIEW = View(name="global", count=1, size=32, area=(0.2, 0.9))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"area": (0.5, 0.2)}, "area"),
        ({"area": (0.0, 1.0)}, "area"),
        ({"size": 0}, "size"),
        ({"count": -1}, "count"),
        ({"flip": 1.5}, "flip"),
        ({"blur_window": 8}, "use 9"),
        ({"sigma": (0.0, 1.0)}, "sigma"),
        ({"ratio": (2.0, 1.0)}, "ratio"),
        ({"solarize_threshold": 300}, "solarize_threshold"),
    ],
)
def test_bad_number_is_refused_by_name(changes: dict[str, object], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        replace(VIEW, **changes)


def test_views_of_one_name_must_have_one_size() -> None:
    with pytest.raises(ValueError, match="differ in \\['size'\\]"):
        Recipe(name="test", source="", views=(VIEW, replace(VIEW, size=64)))


def test_recipe_without_views_is_refused() -> None:
    with pytest.raises(ValueError, match="no view"):
        Recipe(name="test", source="", views=(replace(VIEW, count=0),))


def test_hjepa_jitter_is_the_strength_times_that_of_dino() -> None:
    globals_, locals_ = multicrop().views
    expected = Jitter(brightness=0.4 * 0.4, contrast=0.4 * 0.4, saturation=0.2 * 0.4, hue=0.1 * 0.4)
    assert globals_.jitter == locals_.jitter == expected
    assert (globals_.count, globals_.size, locals_.count, locals_.size) == (2, 224, 6, 96)
    assert dino().num_views == 10


def test_unknown_preset_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match="hjepa, dino, eval"):
        preset("dinov9")
