"""`import hjepa` is quick, and has every name that is promised."""

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import hjepa
from hjepa import public

ROOT = Path(public.__file__).resolve().parents[1]


def test_import_loads_torch_when_the_first_name_is_asked_for() -> None:
    code = (
        "import sys, hjepa; print('torch' in sys.modules); hjepa.Loader; print('torch' in sys.modules, 'timm' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\nTrue False\n"


def test_every_promised_name_is_there_in_every_way_to_ask() -> None:
    names: dict[str, object] = {}
    exec("from hjepa import *", names)
    assert set(public.__all__) <= names.keys()
    assert set(public.__all__) <= set(dir(hjepa))
    assert all(hasattr(hjepa, name) for name in public.__all__)
    assert hjepa.pipeline.loader.Loader is hjepa.Loader  # type: ignore[attr-defined]  # modules are no promise, but are there


def test_version_is_that_of_what_is_installed() -> None:
    assert hjepa.__version__ == metadata.version("hjepa")
    assert "__version__" in dir(hjepa)


def test_checkout_that_is_not_installed_has_no_version_as_other_modules_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    assert getattr(hjepa, "__version__", None) is None


def test_other_names_are_refused() -> None:
    with pytest.raises(AttributeError, match="module 'hjepa' has no attribute 'Laoder'"):
        hjepa.Laoder  # type: ignore[attr-defined]  # noqa: B018  # a slip
