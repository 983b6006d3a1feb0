"""Settings that nothing reads beside the others: they are refused, where they are not what they are by default.

What is as by default was not asked for, or is no other for it.
"""

import json
from collections.abc import Iterator

from hjepa.configs.schema import Settings
from hjepa.configs.section import changed

TARGETS = ("masking", "loss", "model.predictor", "model.num_hierarchies", "model.level_windows")
TERMS = ("model.view_weight", "model.spread_weight", "model.cross_weight")
"""With those above, what is H-JEPA's alone."""


def unread_problems(settings: Settings) -> list[str]:
    """One line for each setting that has no effect: which, beside what, and what to set."""
    problems: dict[str, str] = {}
    for beside, paths in _unread(settings):
        for name, value, default in changed(settings):
            if name.startswith(tuple(f"{path}." for path in paths)) or name in paths:
                problem = f"{name}={_word(value)} has no effect with {beside}; leave it out, or set it to {_word(default)}"
                problems.setdefault(name, problem)
    return list(problems.values())


def _unread(settings: Settings) -> Iterator[tuple[str, tuple[str, ...]]]:
    """What makes settings unread, and the paths of these or of their sections."""
    masking, crops, dino = settings.masking, settings.data.multicrop, settings.dino
    if settings.objective == "dino":
        yield "objective=dino", TARGETS + TERMS
    else:
        yield "objective=hjepa", ("dino",)
    if not dino.teacher_temperature_warmup_epochs and dino.teacher_temperature != dino.teacher_temperature_end:
        at_once = "dino.teacher_temperature_warmup_epochs=0, which is dino.teacher_temperature_end at once"
        yield at_once, ("dino.teacher_temperature",)
    if masking.strategy == "global_only":
        yield "masking.strategy=global_only, which shows no local crops", ("masking.exclude_leaks",)
    if masking.strategy != "cross_crop_prediction":
        yield f"masking.strategy={masking.strategy}, which masks no local crops", ("model.cross_weight",)
    if masking.law == "exact":
        yield "masking.law=exact, which places every block at once", ("masking.max_attempts",)
    if settings.model.num_hierarchies == 1:
        yield "model.num_hierarchies=1, whose blocks lie in none of a coarser level", ("masking.nested",)
    if crops.adaptive:
        yield "data.multicrop.adaptive=true, which counts local crops itself", ("data.multicrop.num_local_crops",)
    if not settings.data.use_multicrop or not max(_numbers_of_locals(settings)):
        yield "crops of which none is local", ("dino.local_weight",)


def _numbers_of_locals(settings: Settings) -> list[int]:
    crops = settings.data.multicrop
    return [crops.adaptive_config.max_local_crops] if crops.adaptive else [each.num_local_crops for _, each in crops.phases]


def _word(value: object) -> str:
    """As it is written in YAML."""
    return value if isinstance(value, str) else json.dumps(value)
