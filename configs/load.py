"""Makes the settings of a run from defaults, a YAML file, overrides and command-line flags, each winning over those before.

Every mistake of the user is one SettingsError of plain lines: where, what came, what to do.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from hjepa.configs.names import DESCRIPTIONS, LEAVES, SECTIONS, canonical
from hjepa.configs.schema import Settings
from hjepa.configs.section import Section, item_section, subsection
from hjepa.configs.unread import unread_problems
from hjepa.configs.yaml_file import Reader, SettingsError, Writer, read_mapping

NO_FLAGS: Mapping[str, object] = MappingProxyType({})


def load_settings(
    config: Path | None = None, overrides: Sequence[str] = (), flags: Mapping[str, object] = NO_FLAGS
) -> Settings:
    """Settings from a YAML file (a path, or the bare name of a shipped one), `a.b=c` overrides and flags by dotted path.

    A flag whose value is None was not given. What nothing names keeps its default.
    """
    settings = _validated(_merged([(str(config), _read(config))] if config is not None else [], overrides, flags))
    if problems := unread_problems(settings):  # here: a checkpoint may be older than the rules
        raise SettingsError("\n".join(problems))
    return settings


def asked(overrides: Sequence[str], flags: Mapping[str, object]) -> dict[str, object]:
    """What overrides and flags alone say, by dotted path, under whatever name they say it. Raises SettingsError."""
    return _merged([], overrides, flags)


def settings_from_plain(plain: Mapping[str, Any], changes: Mapping[str, object] = NO_FLAGS) -> Settings:
    """Settings from the tree that a checkpoint carries, with changes by dotted path; None was not given."""
    return _validated(dict(flatten(plain)) | {path: value for path, value in changes.items() if value is not None})


def with_changes(settings: Settings, changes: Mapping[str, object]) -> Settings:
    """The settings with other values at some dotted paths, checked anew. Raises SettingsError."""
    return settings_from_plain(settings.model_dump(mode="json"), changes)


def changes_to_yaml(settings: Settings) -> str:
    """What differs from the defaults as YAML, from which `load_settings` makes the same settings."""
    default, own = (dict(flatten(each.model_dump(mode="json"))) for each in (Settings(), settings))
    flat = {path: value for path, value in own.items() if value != default.get(path)}
    read = dict(flatten(settings_from_plain(_tree(flat)).model_dump(mode="json")))
    flat |= {path: value for path, value in own.items() if value != read[path]}  # a default that another setting moves
    return yaml.dump(_tree(flat), Dumper=Writer, sort_keys=False, allow_unicode=True)


def to_yaml(settings: Settings) -> str:
    """All settings as YAML, from which `load_settings` makes the same settings."""
    return yaml.dump(settings.model_dump(mode="json"), Dumper=Writer, sort_keys=False, allow_unicode=True)


def flatten(tree: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Every value of a tree of settings, with its dotted path."""
    for key, value in tree.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{path}.")
        elif path not in SECTIONS or value not in (None, {}):  # a section with nothing in it is no mistake
            yield path, value


def shipped() -> list[str]:
    """Names of the YAML files that come with hjepa."""
    files = resources.files("hjepa.configs").iterdir()
    return sorted(file.name.removesuffix(".yaml") for file in files if file.name.endswith(".yaml"))


def _merged(
    layers: list[tuple[str, Mapping[Any, Any]]], overrides: Sequence[str], flags: Mapping[str, object]
) -> dict[str, object]:
    """The values by dotted path, of the layers (what each is called, and its tree), then of overrides, then of flags."""
    given = {path: _plain(value) for path, value in flags.items() if value is not None}
    merged: dict[str, object] = {}
    problems: list[str] = []
    for source, layer in [*layers, ("override", _parse_overrides(overrides)), ("flag", given)]:
        renamed, wrong = canonical(flatten(layer), source)
        merged |= renamed
        problems += wrong
    if problems:
        raise SettingsError("\n".join(problems))
    return merged


def _validated(flat: Mapping[str, object]) -> Settings:
    try:
        return Settings.model_validate(_tree(flat))
    except ValidationError as error:
        raise SettingsError("\n".join(_explain(error))) from None


def _read(config: Path) -> Mapping[Any, Any]:
    known = ", ".join(shipped())
    if config.suffix or len(config.parts) > 1:
        file: Any = config
        missing = f"there is no file {config}; give the path of a YAML file or the name of a shipped one: {known}"
    else:
        file = resources.files("hjepa.configs") / f"{config}.yaml"
        missing = f"there are no shipped settings named {config}; use one of {known}, or the path of a YAML file"
    if not file.is_file():
        raise SettingsError(missing)
    content = read_mapping(file, str(config), "settings; write lines such as `seed: 42`")
    if "views" in content:
        raise SettingsError(
            f"{config} is a recipe, and --config takes settings, whose crops are data.multicrop; a recipe is for hjepa view "
            "--recipe, and for hjepa.Loader"
        )
    return content


def _parse_overrides(overrides: Sequence[str]) -> dict[str, object]:
    parsed: dict[str, object] = {}
    for override in overrides:
        path, equals, text = override.partition("=")
        if not equals or not path.strip():
            wanted = f"--data-path {override}" if os.path.exists(override) else "for example data.batch_size=32"
            raise SettingsError(f"override {override!r} is not of the form name=value; write {wanted}")
        try:
            value = yaml.load(text, Loader=Reader) if text.strip() else ""
        except (yaml.YAMLError, ValueError):  # ValueError: of a day that no calendar has
            is_torn = text.lstrip().startswith("[") and "]" not in text  # by the shell, at a space
            quoted = f"quote the list for the shell, as in '{path}=[1, 2]'" if is_torn else f"quote it, as in {path}='\"...\"'"
            raise SettingsError(f"override {override!r}: the value is not YAML; {quoted}") from None
        # flat, so that a later override wins over an earlier one of any depth
        parsed |= dict(flatten({path.strip(): value}))
    return parsed


def _plain(value: object) -> object:
    return str(value) if isinstance(value, Path) else value


def _tree(flat: Mapping[str, object]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path, value in flat.items():
        *sections, leaf = path.split(".")
        place = tree
        for section in sections:
            place = place.setdefault(section, {})
        place[leaf] = value
    return tree


def _explain(error: ValidationError) -> Iterator[str]:
    expected: dict[str, list[str]] = {}
    for detail in error.errors(include_url=False):
        path = _setting(detail["loc"])
        name = path.partition("[")[0]
        if detail["type"] == "missing":
            yield f"{path} is missing; set it: {DESCRIPTIONS[name]}"
        elif detail["type"] == "extra_forbidden":  # of an item of a list: other names were looked at before
            yield f"{path}.{detail['loc'][-1]}: there is no such setting. What {name} is: {DESCRIPTIONS[name]}"
        elif detail["type"] == "value_error":
            reason = str(detail["ctx"]["error"])
            yield f"{path}={_show(detail['input'])}: {reason}" if name in LEAVES else reason
        else:
            # the members of a union complain one by one
            expected.setdefault(f"{path}={_show(detail['input'])}", []).append(_requirement(detail))
    for what, requirements in expected.items():
        name = what.partition("=")[0].partition("[")[0]
        yield f"{what} should {' or '.join(requirements)}. What it is: {DESCRIPTIONS[name]}"


def _requirement(detail: ErrorDetails) -> str:
    if detail["type"] == "string_pattern_mismatch":
        return "be one of the choices below"
    return detail["msg"].partition(" should ")[2].replace(" after validation", "").replace("tuple", "list")


def _setting(place: tuple[int | str, ...]) -> str:
    path = ""
    section: type[Section] | None = Settings
    for part in place:
        if isinstance(part, int):
            path += f"[{part}]"
        elif section is not None and part in section.model_fields:  # else the name of a member of a union
            path += f".{part}" if path else part
            field = section.model_fields[part]
            section = subsection(field) or item_section(field)
    return path


def _show(value: object) -> str:
    return json.dumps(value, default=str)
