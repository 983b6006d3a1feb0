"""What the settings say of masks reaches the generator: the scale of every epoch, and levels inside each other."""

from typing import Any

import numpy as np
import pytest

from hjepa.assembly import build_masks, build_recipe
from hjepa.configs.load import load_settings
from hjepa.kernels import chance
from hjepa.pipeline.curriculum import Curriculum, recipe_at

RAMP = [
    "masking.mask_scale=[0.02, 0.1]",
    "masking.mask_scale_end=[0.06, 0.14]",
    "training.epochs=9",
    "training.warmup_epochs=1",
]


def scales(overrides: list[str], epochs: int) -> list[tuple[float, float]]:
    """Of a block at level 0, in each epoch."""
    settings = load_settings(None, overrides)
    return [build_masks(settings, epoch).global_sampler.laws[0].target_scale for epoch in range(epochs)]


def test_the_scale_runs_along_a_line_and_stays_at_its_end() -> None:
    found = scales([*RAMP, "masking.mask_scale_warmup_epochs=4"], 9)
    line = [(0.02 + 0.01 * step, 0.1 + 0.01 * step) for step in (0, 1, 2, 3, 4, 4, 4, 4, 4)]
    assert np.array(found) == pytest.approx(np.array(line))


def test_without_a_length_the_last_epoch_has_the_last_scale() -> None:
    found = scales(RAMP, 9)
    assert (found[0], found[8]) == ((0.02, 0.1), (0.06, 0.14))
    assert found[4] == pytest.approx((0.04, 0.12))
    assert scales([*RAMP, "training.epochs=1"], 1) == [(0.06, 0.14)]


def test_without_a_ramp_every_epoch_has_the_same_masks() -> None:
    assert len(set(scales([], 5))) == 1


def test_an_epoch_of_a_ramp_has_the_masks_of_a_run_with_its_scale() -> None:
    keys = chance.key_tensor(chance.key(1, np.arange(20)))
    ramp = build_masks(load_settings(None, [*RAMP, "masking.mask_scale_warmup_epochs=4"]), 2)
    low, high = ramp.global_sampler.laws[0].target_scale
    constant = build_masks(load_settings(None, [f"masking.mask_scale=[{low}, {high}]"]))
    assert (ramp.sample(keys).targets == constant.sample(keys).targets).all()


def test_nested_levels_reach_the_generator() -> None:
    keys = chance.key_tensor(chance.key(1, np.arange(20)))
    for nested in (True, False):
        settings: Any = load_settings(None, [f"masking.nested={str(nested).lower()}"])
        targets = build_masks(settings).sample(keys).targets
        assert bool((targets[:, :-1] & ~targets[:, 1:]).any()) != nested


PHASES = (
    "data.multicrop.curriculum=[{from_epoch: 2, global_crop_size: 160, local_crop_scale: [0.1, 0.3]}, "
    "{from_epoch: 5, local_crop_size: 64, global_crop_size: 192, num_local_crops: 2}]"
)


@pytest.mark.parametrize("objective", ["hjepa", "dino"])
def test_every_phase_has_its_crops_and_masks_of_their_grid(objective: str) -> None:
    settings = load_settings(None, [PHASES, f"objective={objective}"])
    plan = build_recipe(settings)
    for epoch, side, small, count, area in (
        (0, 224, 96, 6, 0.05),
        (1, 224, 96, 6, 0.05),
        (2, 160, 96, 6, 0.1),
        (9, 192, 64, 2, 0.1),
    ):
        views = recipe_at(plan, epoch).views
        assert {view.size for view in views if view.name == "global"} == {side}
        assert (views[-1].size, views[-1].count, views[-1].area[0]) == (small, count, area)
        masks = build_masks(settings, epoch)
        assert masks.global_sampler.grid == (side // 16, side // 16)
        assert masks.local_grid == (small // 16, small // 16)
        assert masks.num_local_crops == count
    assert plan.last == 5


def test_sizes_may_jump_while_the_number_of_crops_follows_a_line() -> None:
    adaptive = ["data.multicrop.adaptive=true", "data.multicrop.adaptive_config.warmup_epochs=4"]
    plan = build_recipe(load_settings(None, [PHASES.replace(", num_local_crops: 2", ""), *adaptive]))
    assert isinstance(plan, Curriculum)
    assert [plan.at(epoch).views[-1].count for epoch in (0, 2, 4)] == [2, 6, 10]
    assert [plan.at(epoch).views[-1].size for epoch in (0, 4, 5)] == [96, 96, 64]
