"""Writes the measured tables and pictures of the documentation from the JSON files in results/, so that no figure is typed.

    python benchmarks/report.py [--check]

In Markdown, what stands between `<!-- results: NAME -->` and `<!-- end of results -->` becomes the table of
results/NAME.json, and docs/images/NAME.png is drawn. --check changes nothing, and ends with 1 where a table is another.
"""

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

from throughput_table import chart, rows, title

ROOT = Path(__file__).parents[1]
RESULTS, IMAGES = ROOT / "benchmarks" / "results", ROOT / "docs" / "images"
BLOCK = re.compile(r"(<!-- results: (\S+) -->\n).*?(<!-- end of results -->)", re.DOTALL)


def main() -> None:
    """Goes through the README and the documentation."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing; end with 1 where something would change")
    arguments = parser.parse_args()
    stale = []
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))):
        text = page.read_text(encoding="utf-8")
        written = BLOCK.sub(lambda block: f"{block[1]}{block_of(block[2])}{block[3]}", text)
        if written != text:
            stale.append(page.name)
        if not arguments.check:
            page.write_text(written, encoding="utf-8")
            for name in dict.fromkeys(name for _, name, _ in BLOCK.findall(text)):
                chart(load(name), IMAGES / f"{name}.png")
    if stale:
        print(f"{'not of their results' if arguments.check else 'written'}: {', '.join(stale)}")
    sys.exit(bool(stale) and arguments.check)


def load(name: str) -> list[dict[str, Any]]:
    """The results of a file; a run over several sizes has several."""
    found = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return found if isinstance(found, list) else [found]


def block_of(name: str) -> str:
    """What stands between the markers."""
    return "\n".join(markdown(result) for result in load(name))


def markdown(result: dict[str, Any]) -> str:
    """The command, the machine and the table of medians."""
    versions = ", ".join(f"{name} {number}" for name, number in result["machine"]["versions"].items())
    lines = [
        f"`{result['command']}`, {result['date']}: {title(result)}. Python {result['machine']['python']}, {versions}.",
        "",
        "| engine | images/s (min - max) | x torchvision | of decoding | CPU ms per image | x in CPU time | memory, MiB |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows(result):
        low, high = row["range"]
        lines.append(
            f"| `{row['engine']}` | {row['rate']:.0f} ({low:.0f} - {high:.0f}) | {_number(row['ratio'], '.1f')} | "
            f"{_number(row['share'], '.0%')} | {row['cpu']:.2f} | {_number(row['cpu_ratio'], '.1f')} | "
            f"{row['memory_mib']:.0f} |"
        )
    lines += [f"| `{name}` | failed: {reason} | | | | | |" for name, reason in result["failed"].items()]
    return "\n".join([*lines, ""])


def _number(value: float | None, spec: str) -> str:
    return "" if value is None else format(value, spec)


if __name__ == "__main__":
    main()
