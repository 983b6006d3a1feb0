"""Where a loader stands, as a small JSON-able dictionary, and what must be the same for another loader to go on from it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from hjepa.pipeline.curriculum import Curriculum
from hjepa.pipeline.mixture import stretches_from_state
from hjepa.pipeline.recipe import Recipe
from hjepa.pipeline.sampler import Sampler
from hjepa.pipeline.source import Source

VERSION = 3
"""2 had other orders by blocks; all else is the same."""

WORDS = ("name", "source")
"""Of a recipe; they change no pixel. (The names of its views are those of a batch's crops.)"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where to go on."""

    sampler: Sampler
    """With the weights that a mixture had."""
    epoch: int
    number: int
    """Of the batch that comes next in the epoch."""


def save(sampler: Sampler, source: Source, recipe: Recipe | Curriculum, epoch: int, number: int) -> dict[str, Any]:
    """The state before batch `number` of `epoch`. Position counts images over all ranks, so it holds for any number of them."""
    mixture = None if sampler.mixture is None else [asdict(stretch) for stretch in sampler.mixture.stretches]
    state: dict[str, Any] = _plain(
        {
            "version": VERSION,
            "seed": sampler.seed,
            "shuffle": sampler.shuffle,
            "tail": sampler.tail,
            "epoch": epoch,
            "position": number * sampler.global_batch_size,
            "epoch_length": sampler.num_samples,
            "source": {"images": len(source), "classes": len(source.classes), "fingerprint": source.fingerprint()},
            "mixture": mixture,
            "recipe": recipe.to_dict(),
        }
    )
    return state


def load(saved: Mapping[str, Any], sampler: Sampler, source: Source, recipe: Recipe | Curriculum) -> Place:
    """The place in `saved` for a loader with these parts. Raises ValueError, which says what differs, where it is another's."""
    if not isinstance(saved, Mapping):
        raise ValueError(f"the state is of type {type(saved).__name__}; give what state_dict() returned")
    if saved.get("version") != VERSION and not (saved.get("version") == 2 and saved.get("shuffle") != "blocks"):
        raise ValueError(
            f"the state has version {saved.get('version')!r}, this hjepa reads {VERSION}; use the hjepa that saved it"
        )
    own = save(sampler, source, recipe, 0, 0)
    if missing := own.keys() - saved.keys():
        raise ValueError(f"the state lacks {', '.join(sorted(missing))}; give what state_dict() returned")
    for name in ("seed", "shuffle", "tail", "source", "epoch_length", "recipe"):
        was, now = (_without_words(parts[name]) if name == "recipe" else parts[name] for parts in (saved, own))
        if was != now:
            changes = ", ".join(_differences(name, was, now))
            raise ValueError(f"the state belongs to another run: {changes}. Use what it was saved with, or start anew")
    if (saved["mixture"] is None) != (sampler.mixture is None):
        raise ValueError("the state belongs to another run: only one of the two reads a Mixture. Use what it was saved with")
    if sampler.mixture is not None:
        stretches = stretches_from_state(saved["mixture"])
        if stretches[0] != sampler.mixture.stretches[0]:
            raise ValueError(
                f"the state belongs to another run: weights were {list(stretches[0].weights)}, now "
                f"{list(sampler.mixture.stretches[0].weights)}. Use what it was saved with, then set_weights for others"
            )
        sampler = replace(sampler, mixture=replace(sampler.mixture, stretches=stretches))
    number, rest = divmod(saved["position"], sampler.global_batch_size)
    if rest:
        raise ValueError(
            f"the state stands at image {saved['position']}, which no batch of {sampler.global_batch_size} images "
            "(over all ranks) ends at; use the global batch size it was saved with"
        )
    if number >= len(sampler):  # of larger batches than it was saved with there is none left in this epoch
        return Place(sampler=sampler, epoch=saved["epoch"] + 1, number=0)
    return Place(sampler=sampler, epoch=saved["epoch"], number=number)


def _without_words(recipe: Any) -> Any:
    """Of a recipe, or a curriculum's, what makes pixels: where its numbers come from may be said otherwise than before."""
    if not isinstance(recipe, dict):
        return recipe
    without = {key: _without_words(value) if key == "recipe" else value for key, value in recipe.items() if key not in WORDS}
    return {"decoding": "full", **without} if "views" in without else without  # as Recipe.to_dict leaves it out


def _differences(name: str, saved: Any, own: Any) -> list[str]:
    """What has changed, setting by setting, in words."""
    if isinstance(saved, dict) and isinstance(own, dict):
        keys = [key for key in {**saved, **own} if saved.get(key) != own.get(key)]
        return [change for key in keys for change in _differences(f"{name}.{key}", saved.get(key), own.get(key))]
    if isinstance(saved, list) and isinstance(own, list) and len(saved) == len(own) and any(isinstance(it, dict) for it in own):
        pairs = enumerate(zip(saved, own, strict=True))
        return [change for place, (was, now) in pairs if was != now for change in _differences(f"{name}[{place}]", was, now)]
    return [f"{name} was {saved!r}, now {own!r}"]


def _plain(value: Any) -> Any:
    """The value as JSON gives it back: tuples become lists, and numbers of numpy, which recipes may have, Python's."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value
