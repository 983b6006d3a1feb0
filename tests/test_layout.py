"""The tree: links and the package map agree, imports run one way, files stay small; a wheel needs no link and no compiler."""

import ast
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ["configs", "kernels", "models", "pipeline"]
MAY_IMPORT = {
    "kernels": set(),
    "models": {"kernels"},
    "pipeline": {"kernels"},
    "configs": {"kernels", "models", "pipeline"},
}
SOURCES = [path for folder in (*FOLDERS, "hjepa", "benchmarks") for path in sorted((ROOT / folder).rglob("*.py"))]
SOURCES = list(dict.fromkeys(path.resolve() for path in SOURCES))


def test_links_and_package_map_agree() -> None:
    links = sorted(path.name for path in (ROOT / "hjepa").iterdir() if path.is_symlink())
    assert links == FOLDERS
    assert all((ROOT / "hjepa" / name).resolve() == ROOT / name for name in FOLDERS)
    assert (ROOT / "src" / "hjepa").resolve() == ROOT / "hjepa"
    assert f"FOLDERS = {FOLDERS}".replace("'", '"') in (ROOT / "setup.py").read_text()


@pytest.mark.parametrize("folder", FOLDERS)
def test_imports_run_one_way(folder: str) -> None:
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}: imports are absolute"
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for module in modules:
                part = re.match(r"hjepa(?:\.(\w+))?", module)
                if part:
                    assert part[1] in MAY_IMPORT[folder] | {folder}, f"{path.relative_to(ROOT)} imports {module}"


def test_no_file_is_longer_than_300_lines() -> None:
    long = {str(path.relative_to(ROOT)): count for path in SOURCES if (count := len(path.read_text().splitlines())) > 300}
    assert long == {}


def test_every_file_opens_with_what_it_is_for() -> None:
    assert [path for path in SOURCES if not ast.get_docstring(ast.parse(path.read_text()))] == []


def test_no_native_file_calls_what_gcc_9_has_not() -> None:
    """setup.py promises that compiler. These are Intel's names that GCC has had since 10 or 11."""
    newer = re.compile(r"_mm\d*_(?:zext\w+|cvtsi256_si32|(?:loadu|storeu)_(?:si16|si32|epi\d+))\b")
    calls = {path.name: newer.findall(path.read_text()) for path in (ROOT / "kernels" / "csrc").rglob("*.[ch]*")}
    assert len(calls) > 20
    assert {name: found for name, found in calls.items() if found} == {}


def copy_tree(to: Path, *, links: bool) -> None:
    """What git tracks, as it is now."""
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if tracked.returncode:
        pytest.skip("not a git checkout")
    for name in tracked.stdout.rstrip("\0").split("\0"):
        if (links or not (ROOT / name).is_symlink()) and (ROOT / name).exists():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, to / name, follow_symlinks=False)


def run(*arguments: str | Path, at: Path) -> str:
    """What Python prints, in a folder and without a compiler."""
    environment = os.environ | {"CC": "none", "CXX": "none", "PYTHONPATH": ""}
    done = subprocess.run([sys.executable, *arguments], cwd=at, env=environment, check=True, capture_output=True, text=True)
    return done.stdout + done.stderr


def test_wheel_holds_every_module_without_the_links_or_a_compiler(tmp_path: Path) -> None:
    pytest.importorskip("build")
    copy_tree(tmp_path / "tree", links=False)
    printed = run("-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, at=tmp_path / "tree")
    for kernel in ("_fused_crops", "_jpeg", "_masks"):
        assert f"warning: hjepa.kernels.{kernel} was not built" in printed
    names = zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist()
    assert len(names) == len(set(names))
    for wanted in (
        "hjepa/cli.py",
        "hjepa/pipeline/backends/dali_ops.py",
        "hjepa/configs/small.yaml",
        "hjepa/pipeline/presets/dino.py",
        "hjepa/py.typed",  # without it every name is Any to a user's mypy
    ):
        assert wanted in names
    assert not [name for name in names if name.startswith(("tests", "benchmarks", "pipeline/"))]
    assert not [name for name in names if name.endswith((".cpp", ".h"))]


def test_a_script_beside_the_clone_finds_the_package_and_not_the_clone(tmp_path: Path) -> None:
    clone, installed = tmp_path / "hjepa", tmp_path / "installed"
    copy_tree(clone, links=True)
    run("-c", f"from setuptools import build_meta as b; b.build_editable({str(tmp_path)!r})", at=clone)
    zipfile.ZipFile(next(tmp_path.glob("*.whl"))).extractall(installed)
    found = f"import site; site.addsitedir({str(installed)!r}); import hjepa; print(hjepa.__file__)"
    assert run("-S", "-c", found, at=tmp_path).strip() == str(clone / "src" / "hjepa" / "__init__.py")
