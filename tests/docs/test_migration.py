"""The page for who comes from the documents names what there is: classes, recipes, adapters, every alias of a setting."""

import re
from pathlib import Path

import hjepa
from hjepa.configs.names import ALIASES, REFUSED
from hjepa.pipeline.adapters import ADAPTERS
from hjepa.pipeline.presets import PRESETS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "migration.md").read_text(encoding="utf-8")


def test_every_alias_of_a_setting_is_told_of() -> None:
    told = dict(re.findall(r"^\| `([a-z_.]+)` \| `([a-z_.]+)` \|$", PAGE, re.MULTILINE))
    assert told == ALIASES
    assert [name for name in REFUSED if f"* `{name}`: " not in PAGE] == []


def test_what_stands_for_a_documents_name_is_there() -> None:
    rows = re.findall(r"^\| ([A-E, ]+) \| (.+?) \| (.+) \|$", PAGE, re.MULTILINE)
    assert len(rows) >= 15
    for _, theirs, ours in rows:
        kept = re.findall(r"`(\w+)`", theirs) if "the same in `hjepa`" in ours else []
        assert [name for name in kept if not hasattr(hjepa, name)] == []
        assert [name for name in re.findall(r'preset\("([\w-]+)"\)', ours) if name not in PRESETS] == []
        assert [name for name in re.findall(r'adapter="([\w-]+)"', ours) if name not in ADAPTERS] == []
    for place in re.findall(r"`((?:hjepa|pipeline|examples|configs)/[\w./]+)`", PAGE.split("## Files")[1]):
        assert (ROOT / place).exists() or "_example" in place, place
