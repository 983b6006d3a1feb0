"""The tree: links and the package map agree, imports run one way, files stay small; a wheel needs no link and no compiler."""

import ast
import os
import re
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


def test_wheel_holds_every_module_without_the_links_or_a_compiler(tmp_path: Path) -> None:
    pytest.importorskip("build")
    tree = tmp_path / "tree"
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if tracked.returncode:
        pytest.skip("not a git checkout")
    for name in tracked.stdout.rstrip("\0").split("\0"):
        source = ROOT / name
        if not source.is_symlink() and source.exists():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).write_bytes(source.read_bytes())
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(tree)]
    done = subprocess.run(command, env=os.environ | {"CC": "none", "CXX": "none"}, check=True, capture_output=True, text=True)
    for kernel in ("_fused_crops", "_jpeg", "_masks"):
        assert f"warning: hjepa.kernels.{kernel} was not built" in done.stderr + done.stdout
    names = zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist()
    assert len(names) == len(set(names))
    for wanted in (
        "hjepa/cli.py",
        "hjepa/pipeline/backends/dali_ops.py",
        "hjepa/configs/small.yaml",
        "hjepa/pipeline/presets/dino.py",
    ):
        assert wanted in names
    assert not [name for name in names if name.startswith(("tests", "benchmarks", "pipeline/"))]
