"""Writes settings.md: every setting of a run, its default and what it is, as they stand in hjepa/configs.

python docs/make_settings_page.py [--output FILE.md]
"""

import argparse
import json
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from hjepa.configs.schema import Settings
from hjepa.configs.section import Section, item_section, subsection

PAGE = Path(__file__).parent / "settings.md"
HEAD = """# Every setting

Written by `python docs/make_settings_page.py`. In a YAML file they are nested mappings, as in
[configs/multicrop_training.yaml](../configs/multicrop_training.yaml); on the command line `data.batch_size=128` is one.
A misspelt name is refused with the nearest right one, and a setting that has no effect with the reason.
"""


def main() -> None:
    """Writes the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, default=PAGE)
    parser.parse_args().output.write_text(page(), encoding="utf-8")


def page() -> str:
    """The whole page: settings of no section first, then a table for each section."""
    return HEAD + "".join(_tables(Settings, "", "The run", "What belongs to no section."))


def _tables(section: type[Section], prefix: str, title: str, text: str) -> list[str]:
    tables = [f"\n## {title}\n\n{text}\n\n| setting | default | what it is |\n|---|---|---|\n"]
    tables += [_row(f"{prefix}{name}", field) for name, field in section.model_fields.items() if subsection(field) is None]
    for name, field in section.model_fields.items():
        path, words = f"{prefix}{name}", field.description or ""
        if (inner := subsection(field)) is not None:
            tables += _tables(inner, f"{path}.", path, words)
        elif (items := item_section(field)) is not None:
            tables += _tables(items, "", f"Each of {path}", words)
    return tables


def _row(name: str, field: FieldInfo) -> str:
    choices = _choices(field.annotation)
    text = " ".join((field.description or "").split()).replace("|", r"\|")
    if len(choices) > 1 and not all(choice in text for choice in choices):
        text += f" One of {', '.join(choices)}."
    return f"| `{name}` | {_default(field)} | {text} |\n"


def _choices(annotation: Any) -> list[str]:
    """The words that a setting may be, where it may be only some."""
    if get_origin(annotation) is Literal:
        return [str(choice) for choice in get_args(annotation)]
    return [choice for part in get_args(annotation) for choice in _choices(part)]


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    return f"`{json.dumps(value, default=_plain)}`"


def _plain(value: object) -> object:
    return value.model_dump() if isinstance(value, BaseModel) else str(value)


if __name__ == "__main__":
    main()
