"""The documentation is a site: every page in its place, every link leads somewhere, every public name in the reference."""

import re
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import hjepa

ROOT = Path(__file__).parents[2]
HOOK = runpy.run_path(str(ROOT / "docs" / "site_links.py"))["on_page_markdown"]


def rewritten(markdown: str, page: str = "training.md") -> str:
    place = SimpleNamespace(file=SimpleNamespace(src_uri=page))
    return HOOK(markdown, page=place, config=SimpleNamespace(docs_dir=str(ROOT / "docs")), files=None)


def test_site_builds_strictly_and_names_everything_public(tmp_path: Path) -> None:
    pytest.importorskip("mkdocstrings_handlers.python")
    pytest.importorskip("material")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    reference = (tmp_path / "api" / "index.html").read_text(encoding="utf-8")
    named = set(re.findall(r'id="hjepa\.(?:[a-z_]+\.)?(\w+)"', reference))
    assert [name for name in hjepa.__all__ if name not in named] == []
    for page in tmp_path.rglob("*.html"):
        fetched = re.findall(
            r'<(?:script|img)[^>]*src="(https?://[^"]+)"|<link rel="stylesheet" href="(https?://[^"]+)"', page.read_text()
        )
        assert fetched == [], page
    assert list(tmp_path.rglob("*.py")) == []


def test_links_out_of_the_documentation_are_names_in_the_site() -> None:
    assert rewritten("[hjepa/step.py](../hjepa/step.py)") == "hjepa/step.py"
    assert rewritten("[the step](../hjepa/step.py#L3)") == "the step (`hjepa/step.py`)"
    assert rewritten("[recipes](../recipes.md)", "drop-in/lightly.md") == "[recipes](../recipes.md)"
    with pytest.raises(ValueError, match=r"there is no hjepa/stop_.py"):
        rewritten("[x](../hjepa/stop_.py)")
