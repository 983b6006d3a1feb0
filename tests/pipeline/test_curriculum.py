"""Curricula: straight lines from start to end, whole numbers in steps, and no epoch whose recipe does not work."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hjepa.pipeline.curriculum import Curriculum, Ramp, Steps, as_plan
from hjepa.pipeline.presets import preset
from hjepa.pipeline.recipe import Recipe, View

HJEPA = preset("hjepa")


def moved(recipe: Recipe, **ramps: Ramp | Steps) -> Curriculum:
    return Curriculum(recipe=recipe, ramps={path.replace("__", "."): ramp for path, ramp in ramps.items()})


def local(curriculum: Curriculum, epoch: int) -> View:
    return curriculum.at(epoch).views[-1]


@pytest.mark.parametrize(("start", "end"), [(2, 10), (10, 2), (3, 3), (0, 7), (0, 22)])
@pytest.mark.parametrize("epochs", [1, 3, 7, 22, 30])
def test_count_runs_from_start_to_end_rounded_down(start: int, end: int, epochs: int) -> None:
    curriculum = moved(HJEPA, local__count=Ramp(start=start, end=end, epochs=epochs))
    counts = [local(curriculum, epoch).count for epoch in range(epochs + 5)]
    assert counts[0] == start
    assert set(counts[epochs:]) == {end}
    assert sorted(counts, reverse=end < start) == counts
    for epoch, count in enumerate(counts[:epochs]):
        assert count * epochs <= start * epochs + (end - start) * epoch < (count + 1) * epochs


def test_delay_keeps_the_start_and_no_epochs_jump_to_the_end() -> None:
    late = moved(HJEPA, local__count=Ramp(start=2, end=4, epochs=2, delay=3))
    assert [local(late, epoch).count for epoch in range(7)] == [2, 2, 2, 2, 3, 4, 4]
    assert late.last == 5
    jump = moved(HJEPA, local__count=Ramp(start=2, end=4, epochs=0, delay=2))
    assert [local(jump, epoch).count for epoch in range(4)] == [2, 2, 4, 4]
    assert local(moved(HJEPA, local__count=Ramp(start=2, end=4, epochs=0)), 0).count == 4


def test_steps_jump_in_their_epochs_and_stay() -> None:
    sizes = Steps(epochs=(0, 2, 3), values=(96, 128, 112))
    curriculum = moved(HJEPA, local__size=sizes, local__count=Ramp(start=2, end=4, epochs=2))
    assert [local(curriculum, epoch).size for epoch in range(6)] == [96, 96, 128, 112, 112, 112]
    assert [local(curriculum, epoch).count for epoch in range(4)] == [2, 3, 4, 4]
    assert (curriculum.last, curriculum.landmarks) == (3, [2, 3])
    assert moved(HJEPA, local__size=sizes).landmarks == [2, 3]
    areas = moved(HJEPA, local__area=Steps(epochs=(0, 1), values=([0.05, 0.4], (0.1, 0.3))))
    assert [local(areas, epoch).area for epoch in range(2)] == [(0.05, 0.4), (0.1, 0.3)]


@pytest.mark.parametrize(
    ("epochs", "values", "message"),
    [
        ((1, 2), (96, 112), "do not ascend from 0"),
        ((0, 2, 2), (96, 112, 128), "do not ascend from 0"),
        ((), (), "do not ascend from 0"),
        ((0, 2), (96,), "are not in pairs"),
        ((0, 2), (96, 112.5), r"values\[0\]=96 and values\[1\]=112.5 must be whole numbers"),
        ((0, 2), (96, (96, 112)), r"values\[1\]=\(96, 112\) is a range"),
        ((0, 2), (96, -5), "epoch 2 of the curriculum"),
    ],
)
def test_steps_that_mean_nothing_are_refused(epochs: tuple[int, ...], values: tuple[float, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        moved(HJEPA, local__size=Steps(epochs=epochs, values=values))


def test_size_moves_in_steps_of_the_patch() -> None:
    curriculum = moved(HJEPA, local__size=Ramp(start=96, end=128, epochs=10, step=16))
    sizes = [local(curriculum, epoch).size for epoch in range(11)]
    assert sizes == [96] * 5 + [112] * 5 + [128]
    odd = moved(HJEPA, local__size=Ramp(start=100, end=132, epochs=4, step=16))
    assert [local(odd, epoch).size for epoch in range(5)] == [100, 100, 116, 116, 132]


def test_both_ends_of_a_range_move() -> None:
    curriculum = Curriculum(recipe=preset("dino"), ramps={"global.area": Ramp(start=(0.4, 1.0), end=(0.2, 0.8), epochs=2)})
    assert [view.area for view in curriculum.at(1).views[:2]] == [pytest.approx((0.3, 0.9))] * 2
    assert curriculum.at(2).views[0].area == (0.2, 0.8)
    assert curriculum.at(1).views[2] == preset("dino").views[2]
    narrower = Ramp(start=(0.5, 2), end=(1, 1), epochs=2)
    view = local(moved(HJEPA, local__ratio=narrower, local__sigma=narrower), 1)
    assert view.ratio == view.sigma == (0.75, 1.5)


def test_probabilities_and_jitter_move_and_may_be_written_as_whole_numbers() -> None:
    curriculum = Curriculum(
        recipe=HJEPA,
        ramps={"local.gray": Ramp(start=0, end=1, epochs=4), "local.jitter.hue": Ramp(start=0.0, end=0.1, epochs=4)},
    )
    view = local(curriculum, 1)
    assert view.gray == 0.25
    assert view.jitter is not None
    assert view.jitter.hue == pytest.approx(0.025)


def test_followers_of_boxes_must_move_along() -> None:
    recipe = preset("dinov3-gram")
    area = Ramp(start=(0.32, 1.0), end=(0.2, 1.0), epochs=3)
    with pytest.raises(ValueError, match="epoch 1 of the curriculum: recipe dinov3-gram: gram: area"):
        Curriculum(recipe=recipe, ramps={"global.area": area})
    assert Curriculum(recipe=recipe, ramps={"global.area": area, "gram.area": area}).at(3).views[-1].area == (0.2, 1.0)


def test_curriculum_without_ramps_is_its_recipe() -> None:
    assert moved(HJEPA).at(5) == HJEPA
    assert moved(HJEPA).last == 0


def test_curriculum_is_plain_data() -> None:
    curriculum = moved(HJEPA, local__count=Ramp(start=2, end=10, epochs=30))
    plain = json.loads(json.dumps(curriculum.to_dict()))
    assert plain["ramps"] == {"local.count": {"start": 2, "end": 10, "epochs": 30, "delay": 0, "step": 1}}
    assert plain["recipe"]["name"] == "hjepa"


@pytest.mark.parametrize(
    ("path", "options", "message"),
    [
        ("locl.count", {"start": 2, "end": 4}, "no view 'locl'; did you mean local?"),
        ("local.cont", {"start": 2, "end": 4}, "no number 'cont' in a view; did you mean count?"),
        ("local.jitter.hew", {"start": 0.0, "end": 0.1}, "did you mean jitter.hue?"),
        ("local.name", {"start": 2, "end": 4}, "no number 'name'"),
        ("local", {"start": 2, "end": 4}, "no number ''"),
        ("local.count", {"start": 2.0, "end": 4.0}, "must be whole numbers"),
        ("local.count", {"start": (2, 3), "end": (4, 5)}, "use one number"),
        ("local.area", {"start": 0.1, "end": 0.2}, "is no range"),
        ("local.size", {"start": 96, "end": 100, "step": 16}, "no multiple of step=16"),
        ("local.gray", {"start": 0.0, "end": 1.0, "step": 2}, "step=2 is for whole numbers"),
        ("local.flip", {"start": 0.5, "end": 1.5}, "epoch 3 of the curriculum: local: flip=1.1"),
        ("local.area", {"start": (0.4, 1.0), "end": (0.4, 0.2)}, "epoch 4 of the curriculum: local: area"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_move_is_refused(path: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Curriculum(recipe=HJEPA, ramps={path: Ramp(epochs=5, **options)})


def test_views_that_share_a_name_have_no_common_count_and_plain_views_no_jitter() -> None:
    with pytest.raises(ValueError, match="2 views are named 'global'"):
        Curriculum(recipe=preset("dino"), ramps={"global.count": Ramp(start=1, end=2, epochs=3)})
    with pytest.raises(ValueError, match="has no jitter"):
        Curriculum(recipe=preset("ijepa"), ramps={"global.jitter.hue": Ramp(start=0.0, end=0.1, epochs=3)})
    dino = preset("dino")
    plain = replace(dino, views=(dino.views[0], replace(dino.views[1], jitter=None), dino.views[2]))
    with pytest.raises(ValueError, match="has no jitter"):
        Curriculum(recipe=plain, ramps={"global.jitter.hue": Ramp(start=0.0, end=0.1, epochs=3)})


@pytest.mark.parametrize(
    "changes",
    [
        {"epochs": -1},
        {"delay": -1},
        {"step": 0},
        {"end": (1, 2)},
        {"start": (1, 2), "end": (1, 2, 3)},
        {"end": (2,), "start": (1,)},
        {"end": (1, None)},
    ],
    ids=str,
)
def test_bad_ramp_is_refused_by_name(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=f"Ramp: .*{list(changes)[-1]}="):
        replace(Ramp(start=1, end=2, epochs=3), **changes)


def test_ramps_may_be_of_numpys_numbers() -> None:
    ramp = Ramp(start=np.int64(2), end=np.int64(10), epochs=np.int64(30))
    assert moved(HJEPA, local__count=ramp) == moved(HJEPA, local__count=Ramp(start=2, end=10, epochs=30))
    json.dumps(moved(HJEPA, local__count=ramp).to_dict())
    steps = Steps(epochs=np.array([0, 5]), values=np.array([96, 128]))
    assert moved(HJEPA, local__size=steps) == moved(HJEPA, local__size=Steps(epochs=(0, 5), values=(96, 128)))
    json.dumps(moved(HJEPA, local__size=steps).to_dict())


def test_ramp_of_lists_is_a_ramp_of_ranges() -> None:
    listed = Ramp(start=[0.3, 1.0], end=[0.1, 1.0], epochs=2)
    assert listed == Ramp(start=(0.3, 1.0), end=(0.1, 1.0), epochs=2)
    assert moved(HJEPA, local__area=listed).at(1).views[-1].area == (0.2, 1.0)


@pytest.mark.parametrize("file", ["mine.yaml", "recipes/mine.yml", Path("mine.yaml")], ids=str)
def test_file_for_a_recipe_is_refused_with_what_reads_it(file: Any) -> None:
    with pytest.raises(ValueError, match=rf"is a file; give what it holds, hjepa\.load_recipe\('{file}'\)"):
        as_plan(file)


def test_recipe_of_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="recipe is of type int; give a name"):
        as_plan(3)
