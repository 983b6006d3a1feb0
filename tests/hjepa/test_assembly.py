"""What the settings say of masks reaches the generator: the scale of every epoch, and levels inside each other."""

from typing import Any

import numpy as np
import pytest

from hjepa.assembly import build_masks
from hjepa.configs.load import load_settings
from hjepa.kernels import chance

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
