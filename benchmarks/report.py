"""Writes the measured tables and pictures of the documentation from the JSON files in results/, so that no figure is typed.

    python benchmarks/report.py [--check]

In Markdown, what stands between `<!-- results: NAME -->` and `<!-- end of results -->` becomes the table of
results/NAME.json, and docs/images/NAME.png is drawn where there is a picture. NAME begins with that of the benchmark. --check
changes nothing, and ends with 1 where a table is another.
"""

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

import decoding
import fused_gpu
import masks_gpu
import memory
import resume
import scaling_table
import soak
import throughput_table
import training

ROOT = Path(__file__).parents[1]
RESULTS, IMAGES = ROOT / "benchmarks" / "results", ROOT / "docs" / "images"
MARKDOWN = {
    "decoding": decoding.markdown,
    "fused_gpu": fused_gpu.markdown,
    "masks_gpu": masks_gpu.markdown,
    "memory": memory.markdown,
    "resume": resume.markdown,
    "soak": soak.markdown,
    "scaling": scaling_table.markdown,
    "throughput": throughput_table.markdown,
    "training": training.markdown,
}
CHARTS = {"scaling": scaling_table.chart, "soak": soak.chart, "throughput": throughput_table.chart}
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
                if chart := CHARTS.get(benchmark(name)):
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
    return "\n".join(MARKDOWN[benchmark(name)](result) for result in load(name))


def benchmark(name: str) -> str:
    """The script that wrote the results of this name."""
    return name.split("-")[0]


if __name__ == "__main__":
    main()
