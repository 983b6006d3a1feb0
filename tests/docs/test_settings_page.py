"""The page of all settings is what the settings are."""

import subprocess
import sys
from pathlib import Path

from hjepa.configs.schema import Settings
from hjepa.configs.section import subsection, walk

DOCS = Path(__file__).parents[2] / "docs"


def test_page_of_settings_is_of_these_settings(tmp_path: Path) -> None:
    written = tmp_path / "settings.md"
    subprocess.run([sys.executable, DOCS / "make_settings_page.py", "--output", written], check=True)
    assert written.read_text() == (DOCS / "settings.md").read_text(), "run python docs/make_settings_page.py"


def test_page_of_settings_has_them_all() -> None:
    page = (DOCS / "settings.md").read_text()
    for path, field in walk(Settings):
        assert subsection(field) is not None or f"| `{path}` |" in page
