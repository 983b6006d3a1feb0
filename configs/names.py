"""The names that settings go by: their dotted paths, the other names that are accepted, and the nearest right one.

Other names are those of DINO, I-JEPA and the documents this system was described in. They are mapped to the one canonical
name when settings are loaded; nothing behind the loader knows them.
"""

from collections.abc import Iterable
from difflib import SequenceMatcher

from hjepa.configs.schema import Settings
from hjepa.configs.section import subsection, walk

SECTIONS = frozenset(path for path, field in walk(Settings) if subsection(field) is not None)
DESCRIPTIONS = {path: field.description or "" for path, field in walk(Settings)}
LEAVES = frozenset(DESCRIPTIONS) - SECTIONS

_CROPS = {
    "global_crops_number": "num_global_crops",
    "local_crops_number": "num_local_crops",
    "global_crops_scale": "global_crop_scale",
    "local_crops_scale": "local_crop_scale",
    "global_crops_size": "global_crop_size",
    "local_crops_size": "local_crop_size",
}
_CROPS_IN_PLACE = (
    "num_global_crops",
    "num_local_crops",
    "global_crop_size",
    "local_crop_size",
    "global_crop_scale",
    "local_crop_scale",
)
_MASKS = {
    "masking_strategy": "strategy",
    "num_target_masks": "num_masks",
    "num_masks_per_level": "num_masks",
    "num_pred_masks": "num_masks",
    "target_scale": "mask_scale",
    "base_scale": "mask_scale",
    "pred_mask_scale": "mask_scale",
    "aspect_ratio_range": "aspect_ratio",
}
ALIASES: dict[str, str] = {
    "masking_strategy": "masking.strategy",
    "data.multicrop.masking_strategy": "masking.strategy",
    "masking.num_hierarchies": "model.num_hierarchies",
    "data.dataset_name": "data.dataset",
    "training.batch_size_per_gpu": "data.batch_size",
    "experiment.name": "logging.experiment_name",
    "dino.freeze_last_layer": "dino.held_prototypes_epochs",
    "dino.koleo_loss_weight": "dino.koleo_weight",
    **{f"masking.{alias}": f"masking.{name}" for alias, name in _MASKS.items()},
    **{f"data.multicrop.{alias}": f"data.multicrop.{name}" for alias, name in _CROPS.items()},
    **{f"data.{alias}": f"data.multicrop.{name}" for alias, name in _CROPS.items()},
    **{f"data.{name}": f"data.multicrop.{name}" for name in _CROPS_IN_PLACE},
}

_CONTEXT = "the context block's size follows from the level (60 to 75 % of the crop at level 0, up to 90 to 100 %)"
REFUSED: dict[str, str] = {
    "masking.context_scale": f"{_CONTEXT}; leave it out",
    "masking.enc_mask_scale": f"{_CONTEXT}; leave it out",
    "masking.num_context_masks": "there is always one context block; leave it out",
    "masking.num_enc_masks": "there is always one context block; leave it out",
    "masking.allow_overlap": "context and targets never overlap; leave it out",
}
MASK_TYPES = {
    "hierarchical": "",
    "multi_block": "its context block (85 to 100 % of the crop) is none of the levels' here; the nearest is "
    "model.num_hierarchies=1 with masking.mask_scale=[0.15, 0.2], loss.hierarchy_weights=[1.0] and model.level_windows=[1]",
}


def canonical(settings: Iterable[tuple[str, object]], source: str) -> tuple[dict[str, object], list[str]]:
    """Renames the aliases among (dotted path, value) of one source. Also gives what is wrong with the names, one line each."""
    renamed: dict[str, object] = {}
    written_as: dict[str, str] = {}
    problems = []
    for path, value in settings:
        name = ALIASES.get(path, path)
        if path == "masking.type":
            problems += _mask_type_problems(value, source)
        elif path in REFUSED:
            problems.append(f"{source}: {path} is not a setting: {REFUSED[path]}")
        elif name not in LEAVES:
            problems.append(f"{source}: {_unknown(path)}")
        elif name in renamed and renamed[name] != value:
            problems.append(
                f"{source}: {written_as[name]}={renamed[name]!r} and {path}={value!r} are the same setting, {name}; keep one"
            )
        else:
            renamed[name], written_as[name] = value, path
    return renamed, problems


def nearest(path: str) -> str | None:
    """The setting or section whose name is most like a misspelt one, wherever in the tree it is."""
    parent, _, leaf = path.rpartition(".")

    def likeness(candidate: str) -> float:
        its_parent, _, its_leaf = candidate.rpartition(".")
        alike = SequenceMatcher(None, leaf, its_leaf).ratio()
        if alike < 0.7:
            return 0.0
        # the name decides, then the section it was looked for in, then the shallower place
        return alike + 0.3 * SequenceMatcher(None, parent, its_parent).ratio() - 0.01 * candidate.count(".")

    candidates = {candidate: ALIASES.get(candidate, candidate) for candidate in [*DESCRIPTIONS, *ALIASES]}
    best = max(candidates, key=likeness)
    return candidates[best] if likeness(best) > 0 else None


def _unknown(path: str) -> str:
    if path in SECTIONS:
        return f"{path} is a section, not a single setting; write its settings below it, such as {_members(path)[0]}"
    parent, _, leaf = path.rpartition(".")
    if parent in LEAVES:
        return f"{parent} is a single setting and has no {leaf} below it; give it a value: {DESCRIPTIONS[parent]}"
    if (near := nearest(path)) is not None:
        return f"there is no setting {path}; did you mean {near}?"
    while parent and parent not in SECTIONS:
        parent = parent.rpartition(".")[0]
    return f"there is no setting {path}; {parent or 'the top level'} has {', '.join(_members(parent))}"


def _members(section: str) -> list[str]:
    return [path for path in DESCRIPTIONS if path.rpartition(".")[0] == section]


def _mask_type_problems(value: object, source: str) -> list[str]:
    why = MASK_TYPES.get(str(value), f"known types: {', '.join(MASK_TYPES)}")
    return [f"{source}: masking.type={value!r} is not available: {why}"] if why else []
