"""Recipes: bad numbers are refused by name."""

from dataclasses import replace

import pytest

from hjepa.pipeline.recipe import Jitter, Recipe, View, area_gap

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
        ({"blur_window": -1}, "blur_window"),
        ({"sigma": (0.0, 1.0)}, "sigma"),
        ({"ratio": (2.0, 1.0)}, "ratio"),
        ({"solarize_threshold": 257}, "solarize_threshold"),
        ({"size": 32.0}, "size=32.0 is no whole number"),
        ({"count": True}, "count=True is no whole number"),
        ({"flip": "0.5"}, "flip='0.5' is not a probability"),
        ({"interpolation": "Bicubic"}, "interpolation='Bicubic' is unknown; did you mean bicubic"),
        ({"interpolation": "nearest"}, "use one of bicubic, bilinear"),
        ({"crop": "centre"}, "did you mean center"),
        ({"jitter": (0.4, 0.4, 0.2, 0.1)}, r"use Jitter\(brightness"),
        ({"name": ""}, "a view needs a name"),
        ({"name": 3}, "a view needs a name, such as 'global', not 3"),
    ],
)
def test_bad_number_is_refused_by_name(changes: dict[str, object], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        replace(VIEW, **changes)


@pytest.mark.parametrize("part", ["brightness", "contrast", "saturation", "hue"])
@pytest.mark.parametrize("value", ["0.4", (0.6, 1.4), None, -0.1])
def test_jitter_of_no_strength_is_refused(part: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"Jitter.{part}="):
        Jitter(**{"brightness": 0.4, "contrast": 0.4, "saturation": 0.2, "hue": 0.1, part: value})


def test_bounds_themselves_are_allowed() -> None:
    assert replace(VIEW, solarize_threshold=256).solarize_threshold == 256  # no level is inverted
    strongest = Jitter(brightness=0, contrast=0, saturation=0, hue=0.5)
    with pytest.raises(ValueError, match=r"Jitter.hue=0.51 is outside"):
        replace(strongest, hue=0.51)


def test_gap_is_between_the_least_global_and_the_largest_local_area() -> None:
    def gap(*areas: tuple[str, float, float]) -> str | None:
        views = tuple(View(name=name, count=1, size=32, area=(low, high)) for name, low, high in areas)
        return area_gap(Recipe(name="test", source="", views=views))

    smaller, larger = ("local", 0.05, 0.2), ("local", 0.1, 0.3)
    assert gap(("global", 0.3, 1.0), ("global", 0.4, 0.9), smaller, larger) is None
    assert "cover 0.4 of the image or more, local ones 0.3 or less" in str(gap(("global", 0.4, 1.0), smaller, larger))
    assert "unless the gap is meant" in str(gap(("global", 0.4, 1.0), larger))
    assert "unless the overlap is meant" in str(gap(("global", 0.25, 1.0), ("global", 0.4, 0.5), larger))
    assert gap(("global", 0.4, 1.0)) is None


def test_lists_become_tuples_so_that_a_recipe_hashes() -> None:
    listed = View(name="global", count=1, size=32, area=[0.2, 0.9], ratio=[3 / 4, 4 / 3], sigma=[0.1, 2.0])
    assert listed == VIEW
    whole = Recipe(name="test", source="", views=(VIEW,), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    of_lists = Recipe(name="test", source="", views=[listed], mean=[0.5] * 3, std=[0.5] * 3)
    assert of_lists == whole
    assert hash(of_lists) == hash(whole)


@pytest.mark.parametrize("area", [0.5, "0.2, 0.9", [0.2], [0.2, 0.5, 0.9], ["0.2", "0.9"], None])
def test_what_is_no_range_is_refused(area: object) -> None:
    with pytest.raises(ValueError, match=r"global: area=.* is not 2 numbers"):
        replace(VIEW, area=area)


def test_what_are_no_views_is_refused() -> None:
    for views in (VIEW, [{"name": "global"}], None):
        with pytest.raises(ValueError, match=r"are not views; use \(View"):
            Recipe(name="test", source="", views=views)
    with pytest.raises(ValueError, match=r"mean=.* is not 3 numbers"):
        Recipe(name="test", source="", views=(VIEW,), mean=(0.5,))
    with pytest.raises(ValueError, match=r"orientation='upright' is unknown; use one of ignore, exif"):
        Recipe(name="test", source="", views=(VIEW,), orientation="upright")  # type: ignore[arg-type]


def test_views_of_one_name_must_have_one_size() -> None:
    with pytest.raises(ValueError, match="differ in \\['size'\\]"):
        Recipe(name="test", source="", views=(VIEW, replace(VIEW, size=64)))


def test_recipe_without_views_is_refused() -> None:
    with pytest.raises(ValueError, match="no view"):
        Recipe(name="test", source="", views=(replace(VIEW, count=0),))


def followers(**changes: object) -> Recipe:
    leader = View(name="global", count=2, size=32, area=(0.2, 0.9))
    follower = replace(leader, name="gram", size=64, same_box_as="global", gray=0, blur=0)
    return Recipe(name="test", source="", views=(replace(follower, **changes), leader))


def test_views_that_share_boxes_may_be_fewer_and_come_first() -> None:
    assert [view.name for view in followers(count=1).views] == ["gram", "global"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"same_box_as": "globl"}, "did you mean global"),
        ({"same_box_as": "gram"}, "shares a box itself"),
        ({"count": 3}, "there are 2 of 'global'"),
        ({"area": (0.3, 0.9)}, r"area=\(0.3, 0.9\), but .* use \(0.2, 0.9\)"),
        ({"flip": 0.0}, "flip=0.0, but .* use 0.5"),
        ({"ratio": (1.0, 1.0)}, "ratio"),
        ({"crop": "center"}, "crop"),
    ],
)
def test_shared_box_that_cannot_be_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        followers(**changes)
