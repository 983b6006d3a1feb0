"""Schedules: where they start and end, and what a resumed run would see."""

import pytest

from hjepa.configs.load import load_settings
from hjepa.schedules import early_end, schedule

STEPS = 10


def test_learning_rate_rises_then_falls_to_its_minimum() -> None:
    settings = load_settings(None, ["training.epochs=5", "training.warmup_epochs=2", "training.lr=1.0", "training.min_lr=0.1"])
    rates = [schedule(settings, step, STEPS).learning_rate for step in range(5 * STEPS)]
    assert rates[0] == pytest.approx(0.05)  # the first update already learns
    assert rates[2 * STEPS - 1] == pytest.approx(1.0)
    assert rates[-1] == pytest.approx(0.1)
    assert rates[: 2 * STEPS] == sorted(rates[: 2 * STEPS])
    assert rates[2 * STEPS :] == sorted(rates[2 * STEPS :], reverse=True)


def test_linear_schedule_is_half_way_in_the_middle() -> None:
    options = ["training.epochs=2", "training.warmup_epochs=0", "training.lr=1.0", "training.min_lr=0.0"]
    settings = load_settings(None, [*options, "training.lr_schedule=linear"])
    assert schedule(settings, 9, STEPS).learning_rate == pytest.approx(10 / 19)


def test_momentum_reaches_its_end_over_all_steps_or_its_own_epochs() -> None:
    whole = load_settings(None, ["training.epochs=4", "training.warmup_epochs=0"])
    assert schedule(whole, 0, STEPS).momentum == 0.996
    assert schedule(whole, 4 * STEPS - 1, STEPS).momentum == 1.0
    short = load_settings(None, ["training.epochs=4", "training.warmup_epochs=0", "model.ema.momentum_warmup_epochs=2"])
    assert schedule(short, 2 * STEPS - 1, STEPS).momentum == 1.0
    assert schedule(short, 3 * STEPS, STEPS).momentum == 1.0


@pytest.mark.parametrize(
    ("overrides", "stops"),
    [
        (["model.ema.momentum_warmup_epochs=30"], True),
        (["model.ema.momentum_warmup_epochs=99"], True),
        (["model.ema.momentum_warmup_epochs=100"], False),
        (["model.ema.momentum_warmup_epochs=30", "model.ema.momentum_end=0.9999"], False),
        ([], False),
    ],
)
def test_a_teacher_that_stops_before_the_run_is_said(overrides: list[str], stops: bool) -> None:
    settings = load_settings(None, overrides)
    momenta = [schedule(settings, step, STEPS).momentum for step in range(100 * STEPS - 1)]
    assert (max(momenta) == 1) == stops
    assert (early_end(settings) is not None) == stops


def test_weight_decay_is_constant_or_follows_a_cosine() -> None:
    constant = load_settings(None, ["training.epochs=2", "training.warmup_epochs=0", "training.weight_decay=0.04"])
    assert {schedule(constant, step, STEPS).weight_decay for step in range(20)} == {0.04}
    rising = load_settings(None, ["training.epochs=2", "training.warmup_epochs=0", "training.weight_decay_end=0.4"])
    decays = [schedule(rising, step, STEPS).weight_decay for step in range(20)]
    assert decays == sorted(decays)
    assert decays[-1] == pytest.approx(0.4)


def test_the_teachers_temperature_rises_and_stays() -> None:
    ramp = [f"dino.teacher_temperature{name}" for name in ("=0.04", "_end=0.07", "_warmup_epochs=2")]
    settings = load_settings(None, ["objective=dino", "training.epochs=4", "training.warmup_epochs=0", *ramp])
    found = [schedule(settings, step, STEPS).teacher_temperature for step in (0, STEPS, 2 * STEPS, 4 * STEPS - 1)]
    assert found == pytest.approx([0.04, 0.055, 0.07, 0.07])


def test_prototypes_are_held_for_their_epochs_and_then_learn() -> None:
    options = ["objective=dino", "training.epochs=4", "training.warmup_epochs=0", "dino.held_prototypes_epochs=2"]
    settings = load_settings(None, options)
    held = [schedule(settings, step, STEPS).prototypes_held for step in range(4 * STEPS)]
    assert held == [True] * (2 * STEPS) + [False] * (2 * STEPS)
