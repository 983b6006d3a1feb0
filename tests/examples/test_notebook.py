"""The notebook runs from its first cell to its last, and the outputs that are stored in it are those of a run."""

from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[2] / "examples" / "multicrop_analysis.ipynb"


def printed(notebook: object) -> list[str]:
    return [output["text"] for cell in notebook.cells for output in cell.get("outputs", []) if output.get("name") == "stdout"]


@pytest.mark.dali
@pytest.mark.filterwarnings("ignore")  # the Jupyter client's own
def test_notebook_runs_and_prints_what_is_stored(tmp_path: Path) -> None:
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    stored, run = (nbformat.read(NOTEBOOK, as_version=4) for _ in range(2))
    client = nbclient.NotebookClient(run, timeout=300, resources={"metadata": {"path": str(NOTEBOOK.parents[1])}})
    client.execute()
    assert printed(run) == printed(stored)
    assert [list(output) for cell in run.cells for output in cell.get("outputs", []) if "ename" in output] == []


def test_notebook_is_small_and_names_no_machine() -> None:
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert len(text) < 200_000
    assert [word for word in ("/tmp", "/home", "/root", "Warning") if word in text] == []
