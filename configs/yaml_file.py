"""YAML as every file of hjepa is read and written: no key twice, and numbers such as 1e-4 are numbers."""

import re
from collections.abc import Hashable
from typing import Any

import yaml

# YAML 1.2's floats: PyYAML reads 1e-4, without a point, as a text
FLOAT = re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$")


class SettingsError(ValueError):
    """The settings that were asked for cannot be used; the text says why and what to do."""


class Reader(yaml.SafeLoader):
    """Refuses a key that is written twice, of which YAML silently keeps the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        for place, key in enumerate(keys):
            if key in keys[:place]:
                mark = node.value[place][0].start_mark
                raise yaml.MarkedYAMLError(problem=f"{key} is written twice in one section; keep one", problem_mark=mark)
        return super().construct_mapping(node, deep)


class Writer(yaml.SafeDumper):
    """Quotes the texts that Reader would take for numbers."""


for _side in (Reader, Writer):
    _side.add_implicit_resolver("tag:yaml.org,2002:float", FLOAT, list("-+.0123456789"))


def read_mapping(file: Any, name: str, wanted: str) -> dict[Any, Any]:
    """What a file (a Path, or one of importlib.resources) holds, {} for nothing; `name` and `wanted` are for SettingsErrors."""
    try:
        content = yaml.load(file.read_text(encoding="utf-8"), Loader=Reader)
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark is not None else ""
        raise SettingsError(f"{name}{line}: {error.problem or 'not YAML'}") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingsError(f"{name} cannot be read as YAML in UTF-8: {error}") from None
    if content is not None and not isinstance(content, dict):
        raise SettingsError(f"{name} holds a {type(content).__name__}, not {wanted}")
    return content or {}
