"""A recipe that changes with the epochs: more crops, larger ones, or any other number, along a straight line or in steps.

Curriculum(recipe=preset("hjepa"), ramps={"local.count": Ramp(start=2, end=10, epochs=30)}).at(epoch)
"""

import dataclasses
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from numbers import Integral
from pathlib import Path
from typing import Any, TypeAlias

from hjepa.pipeline.presets import preset
from hjepa.pipeline.recipe import Jitter, Recipe, View, is_number, require, require_recipe, whole
from hjepa.pipeline.spelling import suggest

Value: TypeAlias = float | tuple[float, float]
"""A number, or a range, both ends of which move."""

NUMBERS = {field.name for field in fields(View) if field.type in (int, float)}
WHOLE = {field.name for field in fields(View) if field.type is int}
RANGES = {"area", "ratio", "sigma"}
JITTER = {f"jitter.{field.name}" for field in fields(Jitter)}


@dataclass(frozen=True, kw_only=True, slots=True)
class Ramp:
    """A straight line from `start` to `end` over some epochs."""

    start: Value
    """Value until the line begins."""
    end: Value
    """Value once the line has ended."""
    epochs: int
    """Length of the line; 0 jumps to the end."""
    delay: int = 0
    """Epochs before the line begins."""
    step: int = 1
    """Whole numbers move by multiples of this, as a size must by the patch."""

    def __post_init__(self) -> None:
        for option, least in (("epochs", 0), ("delay", 0), ("step", 1)):
            object.__setattr__(self, option, whole(f"Ramp: {option}", getattr(self, option), least))
        for name, value in (("start", self.start), ("end", self.end)):
            object.__setattr__(self, name, _numbers(f"Ramp: {name}", value))
        alike = isinstance(self.start, tuple) == isinstance(self.end, tuple)
        require(alike, f"Ramp: start={self.start} and end={self.end} are a number and a range; use two of a kind")
        for name, value in (("start", self.start), ("end", self.end)):
            pair = not isinstance(value, tuple) or len(value) == 2
            require(pair, f"Ramp: {name}={value} is no range; use (low, high)")

    @property
    def last(self) -> int:
        """The first epoch of the last value."""
        return self.delay + self.epochs

    @property
    def named(self) -> dict[str, Value]:
        """What was given, by its name."""
        return {"start": self.start, "end": self.end}

    def at(self, epoch: int) -> Value:
        """The value in an epoch, counted from 0."""
        if epoch >= self.last:
            return self.end
        if isinstance(self.start, tuple) and isinstance(self.end, tuple):
            return self._between(self.start[0], self.end[0], epoch), self._between(self.start[1], self.end[1], epoch)
        assert not isinstance(self.start, tuple)
        assert not isinstance(self.end, tuple)
        return self._between(self.start, self.end, epoch)

    def whole_at(self, epoch: int) -> int:
        """The whole number in an epoch: rounded down to the start and some steps."""
        assert isinstance(self.start, int)
        value = self.at(epoch)
        assert not isinstance(value, tuple)
        return self.start + int((value - self.start) // self.step) * self.step

    def _between(self, start: float, end: float, epoch: int) -> float:
        # multiplied before it is divided, so that whole numbers on the line are met exactly
        return start + (end - start) * max(0, epoch - self.delay) / max(1, self.epochs)


@dataclass(frozen=True, kw_only=True, slots=True)
class Steps:
    """A value that jumps: another one from each of some epochs on."""

    epochs: tuple[int, ...]
    """The first epoch of each value, ascending from 0."""
    values: tuple[Value, ...]

    def __post_init__(self) -> None:
        values = tuple(_numbers(f"Steps: values[{number}]", value) for number, value in enumerate(self.values))
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "epochs", tuple(whole("Steps: epochs", epoch, 0) for epoch in self.epochs))
        require(len(self.epochs) == len(self.values), f"Steps: epochs={self.epochs} and values={self.values} are not in pairs")
        ascending = self.epochs[:1] == (0,) and sorted(set(self.epochs)) == list(self.epochs)
        require(ascending, f"Steps: epochs={self.epochs} do not ascend from 0; give the first epoch of each value")

    @property
    def last(self) -> int:
        """The first epoch of the last value."""
        return self.epochs[-1]

    @property
    def named(self) -> dict[str, Value]:
        """What was given, by its name."""
        return {f"values[{number}]": value for number, value in enumerate(self.values)}

    @property
    def step(self) -> int:
        """Values are taken as they are."""
        return 1

    def at(self, epoch: int) -> Value:
        """The value in an epoch, counted from 0."""
        return self.values[bisect_right(self.epochs, epoch) - 1]

    def whole_at(self, epoch: int) -> int:
        """The whole number in an epoch."""
        value = self.at(epoch)
        assert isinstance(value, int)
        return value


@dataclass(frozen=True, kw_only=True, slots=True)
class Curriculum:
    """A recipe and what of it moves. Every epoch's recipe is made, and thereby checked, when the curriculum is."""

    recipe: Recipe
    ramps: Mapping[str, Ramp | Steps]
    """Name of the view and of its field -> how it moves: "local.count", "global.area", "global.jitter.hue"."""

    def __post_init__(self) -> None:
        require_recipe(self.recipe)
        for path, ramp in self.ramps.items():
            _check(self.recipe, path, ramp)
        for epoch in range(self.last + 1):
            try:
                self.at(epoch)
            except ValueError as error:
                raise ValueError(f"epoch {epoch} of the curriculum: {error}") from error

    @property
    def last(self) -> int:
        """The epoch from which on the recipe stays as it is."""
        return max((ramp.last for ramp in self.ramps.values()), default=0)

    @property
    def landmarks(self) -> list[int]:
        """The epochs after the first in which a value jumps or a line ends."""
        jumps = (ramp.epochs if isinstance(ramp, Steps) else (ramp.last,) for ramp in self.ramps.values())
        return sorted({epoch for epochs in jumps for epoch in epochs} - {0})

    def at(self, epoch: int) -> Recipe:
        """The recipe of an epoch, counted from 0."""
        views = self.recipe.views
        for path, ramp in self.ramps.items():
            name, _, place = path.partition(".")
            value = ramp.whole_at(epoch) if place in WHOLE else ramp.at(epoch)
            views = tuple(_set(view, place, value) if view.name == name else view for view in views)
        return replace(self.recipe, views=views)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, lists and strings, for JSON and YAML."""
        ramps = {path: dataclasses.asdict(ramp) for path, ramp in self.ramps.items()}
        return {"recipe": self.recipe.to_dict(), "ramps": ramps}


def recipe_at(plan: Recipe | Curriculum, epoch: int) -> Recipe:
    """The recipe of an epoch, of what may be a Curriculum or one recipe for all."""
    return plan.at(epoch) if isinstance(plan, Curriculum) else plan


def as_plan(recipe: str | Recipe | Curriculum) -> Recipe | Curriculum:
    """What a Loader's `recipe` means: a recipe, a curriculum, or the preset of that name. Raises ValueError for others."""
    if isinstance(recipe, Recipe | Curriculum):
        return recipe
    if isinstance(recipe, Path) or (isinstance(recipe, str) and recipe.endswith((".yaml", ".yml"))):
        raise ValueError(f"recipe={str(recipe)!r} is a file; give what it holds, hjepa.load_recipe({str(recipe)!r})")
    if not isinstance(recipe, str):
        raise ValueError(f"recipe is of type {type(recipe).__name__}; give a name such as 'dino', a Recipe or a Curriculum")
    return preset(recipe)


def _numbers(name: str, value: Value) -> Value:
    """A number, or several as a tuple; whole ones as Python's, whatever numpy's they were. Raises ValueError for others."""
    numbers = tuple(value) if isinstance(value, list | tuple) else (value,)
    require(all(map(is_number, numbers)), f"{name}={value!r} is no number and no range; use 2 or (0.1, 0.4)")
    kept: tuple[Any, ...] = tuple(int(one) if isinstance(one, Integral) else one for one in numbers)
    as_given: Value = kept if isinstance(value, list | tuple) else kept[0]
    return as_given


def _set(view: View, place: str, value: Value) -> View:
    change: dict[str, Any] = {place.removeprefix("jitter."): value}
    if place not in JITTER:
        return replace(view, **change)
    assert view.jitter is not None
    return replace(view, jitter=replace(view.jitter, **change))


def _check(recipe: Recipe, path: str, ramp: Ramp | Steps) -> None:
    """Raises ValueError for a path that names no number of the recipe, or for a ramp that cannot be the number's."""
    is_ramp = isinstance(ramp, Ramp | Steps)
    require(is_ramp, f"ramp {path!r} is {ramp!r}; use Ramp(start=..., end=..., epochs=...) or Steps(epochs=..., values=...)")
    name, _, place = path.partition(".")
    views = [view for view in recipe.views if view.name == name]
    known = NUMBERS | RANGES | JITTER
    require(bool(views), f"ramp {path!r}: there is no view {name!r}; {suggest(name, (view.name for view in recipe.views))}")
    require(place in known, f"ramp {path!r}: there is no number {place!r} in a view; {suggest(place, sorted(known))}")
    require(
        place != "count" or len(views) == 1,
        f"ramp {path!r}: {len(views)} views are named {name!r}, each with its own count; give them different names",
    )
    require(
        place not in JITTER or all(view.jitter is not None for view in views),
        f"ramp {path!r}: a view {name!r} has no jitter; give it one, of strengths 0 where it starts without",
    )
    for given, value in ramp.named.items():
        if place in RANGES:
            require(isinstance(value, tuple), f"ramp {path!r}: {given}={value} is no range; use {given}=(low, high)")
        else:
            require(not isinstance(value, tuple), f"ramp {path!r}: {given}={value} is a range; use one number")
    if place in WHOLE:
        given = " and ".join(f"{name}={value}" for name, value in ramp.named.items())
        require(all(isinstance(value, int) for value in ramp.named.values()), f"ramp {path!r}: {given} must be whole numbers")
        if isinstance(ramp, Ramp):
            _check_steps(path, ramp)
    else:
        require(ramp.step == 1, f"ramp {path!r}: step={ramp.step} is for whole numbers; leave it out")


def _check_steps(path: str, ramp: Ramp) -> None:
    assert isinstance(ramp.start, int)
    assert isinstance(ramp.end, int)
    fits = (ramp.end - ramp.start) % ramp.step == 0
    require(fits, f"ramp {path!r}: from {ramp.start} to {ramp.end} is no multiple of step={ramp.step}; change one of them")
