"""Document D's configuration object, whatever it is: a Hydra one, a namespace, a mapping, or hjepa's own settings."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hjepa.configs.names import ALIASES


def data_section(config: Any) -> dict[str, Any]:
    """What config.data holds, by the last part of its names in hjepa's settings: global_crops_number is num_global_crops.

    Raises ValueError where there is no `data`, or two names of one setting have two values.
    """
    sections = _entries(config, "config")
    if "data" not in sections:
        raise ValueError(f"config has no data section, but {', '.join(map(str, sections)) or 'nothing'}; put one there")
    found: dict[str, Any] = {}
    for path, value in _flat(_entries(sections["data"], "config.data")):
        name = ALIASES.get(path, path).rpartition(".")[2]
        value = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else value  # Hydra's lists, too
        if name in found and found[name] != value:
            raise ValueError(f"config.{path}={value!r} is given a second time as {found[name]!r}; keep one of the two")
        found[name] = value
    return found


def _flat(data: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in data.items():
        if key == "multicrop":
            for inner, its in _entries(value, "config.data.multicrop").items():
                yield f"data.multicrop.{inner}", its
        else:
            yield f"data.{key}", value


def _entries(section: Any, place: str) -> Mapping[str, Any]:
    if isinstance(section, Mapping):
        return section
    if hasattr(section, "__dict__"):
        held: dict[str, Any] = vars(section)
        return held
    raise ValueError(f"{place} is {section!r}; give a mapping, or an object with attributes")
