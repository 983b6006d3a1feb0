"""Recipes in YAML: a file that `hjepa recipes NAME --yaml` wrote, edited, is a recipe again."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from hjepa.configs.yaml_file import SettingsError, Writer, read_mapping
from hjepa.pipeline.presets import preset
from hjepa.pipeline.recipe import Jitter, Recipe, View
from hjepa.pipeline.spelling import suggest

_RECIPE = TypeAdapter(Recipe)
_WORDS = {" after validation": "", "tuple": "list", "a valid array": "a list", "an object": "a mapping"}
"""Words of pydantic's that are none of YAML's."""


def load_recipe(path: str | Path) -> Recipe:
    """The recipe in a YAML file; what it leaves out has its default. Raises SettingsError, a ValueError with all mistakes."""
    file = Path(path)
    if not file.is_file():
        raise SettingsError(f"there is no file {path}; `hjepa recipes dino --yaml > {file.name}` makes one to edit")
    content = read_mapping(file, str(path), "a recipe, which has a name, a source and views")
    if problems := list(_unknown_keys(content)):
        raise SettingsError("\n".join(f"{path}: {problem}" for problem in problems))
    try:
        # Strict, so that no text is read as a number; as JSON, so that a list may be a tuple.
        return _RECIPE.validate_json(json.dumps(content, default=str), strict=True)
    except ValidationError as error:
        raise SettingsError("\n".join(f"{path}: {problem}" for problem in _explain(error))) from None


def find_recipe(name: str) -> Recipe:
    """The preset of that name, or the recipe in that YAML file. Raises ValueError."""
    return load_recipe(name) if Path(name).suffix in (".yaml", ".yml") else preset(name)


def recipe_to_yaml(recipe: Recipe) -> str:
    """The whole recipe as YAML, from which `load_recipe` makes the same recipe."""
    plain = json.loads(json.dumps(recipe.to_dict()))  # tuples as lists
    # default_flow_style=None: ranges and jitter on one line each; the width keeps a source on one line
    return yaml.dump(plain, Dumper=Writer, sort_keys=False, allow_unicode=True, default_flow_style=None, width=200)


def _unknown_keys(content: Mapping[Any, Any]) -> Iterator[str]:
    yield from _unknown_in(content, Recipe, "")
    views = content.get("views")
    for number, view in enumerate(views if isinstance(views, list) else []):
        if isinstance(view, dict):
            yield from _unknown_in(view, View, f"views[{number}].")
            if isinstance(view.get("jitter"), dict):
                yield from _unknown_in(view["jitter"], Jitter, f"views[{number}].jitter.")


def _unknown_in(content: Mapping[Any, Any], kind: type[Recipe | View | Jitter], place: str) -> Iterator[str]:
    known = [field.name for field in fields(kind)]
    yield from (f"there is no {place}{key}; {suggest(str(key), known)}" for key in content if key not in known)


def _explain(error: ValidationError) -> Iterator[str]:
    for detail in error.errors(include_url=False):
        place = _place(detail)
        if detail["type"] == "value_error":  # one of the checks in recipe.py, which name the view and the field
            yield f"{place}: {detail['ctx']['error']}" if place else f"{detail['ctx']['error']}"
        elif detail["type"] == "missing":
            yield f"{place} is missing; set it"
        else:
            requirement = detail["msg"].partition(" should ")[2]
            for theirs, ours in _WORDS.items():
                requirement = requirement.replace(theirs, ours)
            yield f"{place}={json.dumps(detail['input'])} should {requirement}"


def _place(detail: ErrorDetails) -> str:
    parts = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in detail["loc"]]
    return "".join(parts).removeprefix(".")
