"""The troubleshooting page quotes messages that the code has, settings that there are, and arithmetic that is right."""

import re
from pathlib import Path

from hjepa.configs.names import DESCRIPTIONS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")


def test_messages_are_those_of_the_code() -> None:
    folders = ("hjepa", "configs", "kernels", "models", "pipeline")
    source = "".join(path.read_text(encoding="utf-8") for folder in folders for path in sorted((ROOT / folder).rglob("*.py")))
    joined = re.sub(r'"\s*f?"', "", source)  # texts that are continued on the next line
    quoted = [
        words
        for row in re.findall(r"^\| (`.*?) \| ", PAGE.split("## Messages")[1], re.M)
        for words in re.findall(r"`(.*?)`", row)
    ]
    assert len(quoted) >= 8
    assert [words for words in quoted if words not in joined] == []


def test_settings_are_there() -> None:
    named = re.findall(
        r"\b((?:data|model|training|loss|masking|dino|evaluation|logging|distributed)\.[a-z_.]+?)(?==|`|,)", PAGE
    )
    assert len(named) >= 15
    assert [name for name in named if name not in DESCRIPTIONS] == []


def test_memory_is_the_arithmetic_of_the_crops() -> None:
    rows = re.findall(r"^\| (\d+ x \d+.*?) \| ([\d.]+) MB \| ([\d.]+) MB \| ([\d.]+)", PAGE, re.M)
    assert len(rows) == 4
    for crops, image, batch, ratio in rows:
        sides = [(int(count), int(side)) for count, side in re.findall(r"(\d+) x (\d+)", crops)]
        pixels = sum(count * side**2 for count, side in sides)
        assert abs(12 * pixels / 1e6 - float(image)) < 0.006
        assert abs(32 * 12 * pixels / 1e6 - float(batch)) < 0.06
        assert abs(pixels / max(side for _, side in sides) ** 2 - float(ratio)) < 0.006
