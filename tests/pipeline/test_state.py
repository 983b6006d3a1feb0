"""A loader's place, as samplers alone have it: the same over any number of ranks, and refused where orders differ."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

import pytest

from hjepa.pipeline import state
from hjepa.pipeline.curriculum import Curriculum, Ramp
from hjepa.pipeline.mixture import MixtureOrder, Stretch
from hjepa.pipeline.presets.jepa import multicrop
from hjepa.pipeline.recipe import Recipe
from hjepa.pipeline.sampler import Sampler

RECIPE = multicrop(num_global_crops=1, num_local_crops=0, global_crop_size=8)


def grown(recipe: Recipe) -> Curriculum:
    return Curriculum(recipe=recipe, ramps={"global.size": Ramp(start=8, end=16, epochs=2, step=8)})


class Twelve:
    """A source whose images nobody asks for."""

    name, classes, bad = "twelve", ("one",), ()

    def __len__(self) -> int:
        return 12

    def fingerprint(self) -> str:
        return "twelve"


def resume(saved: Mapping[str, object], sampler: Sampler) -> tuple[int, int]:
    place = state.load(saved, sampler, Twelve(), RECIPE)
    return place.epoch, place.number


def test_place_that_two_ranks_saved_is_the_same_for_one_and_for_four() -> None:
    ranks = [Sampler(num_samples=12, batch_size=2, rank=rank, world_size=2) for rank in range(2)]
    one, other = (state.save(rank, Twelve(), RECIPE, 4, 1) for rank in ranks)
    assert one == other
    assert one["position"] == 4
    assert resume(one, Sampler(num_samples=12, batch_size=2)) == (4, 2)
    assert resume(one, Sampler(num_samples=12, batch_size=4)) == (4, 1)
    saved = state.save(ranks[1], Twelve(), RECIPE, 4, 2)
    assert resume(saved, Sampler(num_samples=12, batch_size=1, rank=2, world_size=4)) == (4, 2)


def test_place_after_which_no_larger_batch_fits_is_the_next_epochs_start() -> None:
    saved = state.save(Sampler(num_samples=12, batch_size=2), Twelve(), RECIPE, 4, 4)
    assert resume(saved, Sampler(num_samples=12, batch_size=8)) == (5, 0)
    assert resume(saved, Sampler(num_samples=12, batch_size=4)) == (4, 2)


def test_state_is_the_one_that_earlier_runs_saved() -> None:
    sampler = Sampler(num_samples=12, batch_size=2, seed=7, shuffle="blocks", tail="wrap")
    assert state.save(sampler, Twelve(), RECIPE, 4, 3) == {
        "version": 3,
        "seed": 7,
        "shuffle": "blocks",
        "tail": "wrap",
        "epoch": 4,
        "position": 6,
        "epoch_length": 12,
        "source": {"images": 12, "classes": 1, "fingerprint": "twelve"},
        "mixture": None,
        "recipe": json.loads(json.dumps(RECIPE.to_dict())),
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 1}, "has version 1, this hjepa reads 3"),
        ({"version": 4}, "has version 4, this hjepa reads 3"),
        ({"seed": 1}, "seed was 1, now 0"),
        ({"shuffle": False}, "shuffle was False, now True"),
        ({"tail": "wrap"}, "tail was 'wrap', now 'drop'"),
        ({"source": {"images": 12, "classes": 1, "fingerprint": "other"}}, "source.fingerprint was 'other', now 'twelve'"),
        ({"recipe": None}, "recipe was None, now {"),
        ({"position": 3}, "stands at image 3, which no batch of 2 images"),
    ],
    ids=str,
)
def test_state_of_another_run_is_refused_by_what_differs(changes: dict[str, object], message: str) -> None:
    sampler = Sampler(num_samples=12, batch_size=2)
    with pytest.raises(ValueError, match=message):
        resume({**state.save(sampler, Twelve(), RECIPE, 1, 1), **changes}, sampler)


def test_what_is_no_state_is_refused_by_what_it_lacks() -> None:
    sampler = Sampler(num_samples=12, batch_size=2)
    saved = state.save(sampler, Twelve(), RECIPE, 1, 1)
    assert resume(MappingProxyType(saved), sampler) == (1, 1)
    with pytest.raises(ValueError, match="of type list; give what state_dict"):
        resume([saved], sampler)
    del saved["position"]
    with pytest.raises(ValueError, match="the state lacks position; give what state_dict"):
        resume({**saved, "by": "an extension of a trainer's"}, sampler)


def test_epochs_of_another_length_are_refused() -> None:
    saved = state.save(Sampler(num_samples=12, batch_size=2), Twelve(), RECIPE, 1, 1)
    with pytest.raises(ValueError, match="epoch_length was 12, now 10"):
        resume(saved, Sampler(num_samples=10, batch_size=2))


@pytest.mark.parametrize("as_plan", [lambda recipe: recipe, grown], ids=["recipe", "curriculum"])
def test_words_of_a_recipe_may_be_corrected_and_its_numbers_not(as_plan: Callable[[Recipe], Recipe | Curriculum]) -> None:
    sampler = Sampler(num_samples=12, batch_size=2)
    saved = json.loads(json.dumps(state.save(sampler, Twelve(), as_plan(RECIPE), 1, 1)))
    said = replace(RECIPE, name="mine", source="the paper's appendix, not its section 3")
    assert state.load(saved, sampler, Twelve(), as_plan(said)).number == 1
    other = replace(said, views=(replace(RECIPE.views[0], gray=0.1), *RECIPE.views[1:]))
    with pytest.raises(ValueError, match=r"another run: recipe\S+\.gray was 0\.0, now 0\.1\. Use"):
        state.load(saved, sampler, Twelve(), as_plan(other))


def test_changes_of_a_recipe_are_said_one_by_one() -> None:
    sampler = Sampler(num_samples=12, batch_size=2)
    view, *others = RECIPE.views
    larger, fewer = replace(RECIPE, views=(replace(view, area=(0.5, 1.0)), *others)), replace(RECIPE, views=(view,))
    for was, now, changes in (
        (larger, RECIPE, r"recipe\.views\[0\]\.area was \[0\.5, 1\.0\], now \[\S+, 1\.0\]\. Use"),
        (RECIPE, fewer, r"recipe\.views was \[{.*}, {.*}\], now \[{.*}\]\. Use"),
        (grown(RECIPE), replace(grown(RECIPE), ramps={}), r"recipe\.ramps\.global\.size was {.*}, now None\. Use"),
        (replace(grown(RECIPE), ramps={}), grown(RECIPE), r"recipe\.ramps\.global\.size was None, now {.*}\. Use"),
    ):
        with pytest.raises(ValueError, match=f"another run: {changes}"):
            state.load(state.save(sampler, Twelve(), was, 1, 1), sampler, Twelve(), now)


def test_state_of_a_mixture_is_none_of_a_single_source() -> None:
    plain = Sampler(num_samples=12, batch_size=2)
    stretch = Stretch(start=0, counts=(0, 0), weights=(0.5, 0.5))
    mixed = replace(plain, mixture=MixtureOrder(lengths=(6, 6), seed=0, stretches=(stretch,)))
    for one, other in ((plain, mixed), (mixed, plain)):
        saved = state.save(one, Twelve(), RECIPE, 0, 1)
        assert resume(saved, one) == (0, 1)
        with pytest.raises(ValueError, match="only one of the two reads a Mixture"):
            resume(saved, other)
