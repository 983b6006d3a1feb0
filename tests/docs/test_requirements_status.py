"""What docs/requirements-status.md names is there: files, tests, links of hjepa, recipes and settings."""

import re
from pathlib import Path

import pytest

import hjepa
from hjepa.configs.names import DESCRIPTIONS

ROOT = Path(__file__).parents[2]
LINES = (ROOT / "docs" / "requirements-status.md").read_text(encoding="utf-8").splitlines()
ROWS = [line.strip("| ").split(" | ") for line in LINES if line.startswith("| ") and not line.startswith(("| asked", "| Δ |"))]
SECTIONS = "masking|dino|model|data|logging|training|evaluation|checkpoint|distributed|loss"


def test_every_line_has_a_state() -> None:
    states = [row[1] for row in ROWS if not re.fullmatch(r"[\d, ]+", row[0])]
    assert len(states) > 110
    assert set(states) <= {"yes", "partly", "no"}
    assert sorted(
        number for row in ROWS if re.fullmatch(r"[\d, ]+", row[0]) for number in map(int, row[0].split(", "))
    ) == list(range(1, 33))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:40])
def test_what_a_line_names_is_there(row: list[str]) -> None:
    there = " ".join(row[2:])
    for place, function in re.findall(r"`([\w./-]+/[\w.-]*)(?:::(\w+))?`", there):
        assert (ROOT / place).exists(), place
        assert not function or f"def {function}(" in (ROOT / place).read_text(encoding="utf-8"), function
    for name in re.findall(r"`hjepa\.(\w+)", there):
        assert hasattr(hjepa, name) or (ROOT / "hjepa" / f"{name}.py").exists() or (ROOT / name).exists(), name
    for setting in re.findall(rf"`((?:{SECTIONS})\.[\w.]+)", there):
        assert setting in DESCRIPTIONS, setting
