"""Compiles native code with AddressSanitizer and UndefinedBehaviorSanitizer, all instruction sets of setup.py in one."""

import os
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FLAGS = ["-std=c++17", "-O1", "-g1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-Wno-psabi"]


def builds() -> tuple[list[str], dict[str, list[str]]]:
    """The flags of every file, and those of every build, as setup.py has them."""
    text = (ROOT / "setup.py").read_text()
    names: dict[str, object] = {}
    start, end = text.index("FLAGS = ["), text.index("class BuildKernel")
    exec(compile("import platform\n" + text[start:end], "setup.py", "exec"), names)
    return names["FLAGS"], names["BUILDS"]  # type: ignore[return-value]


def compiler() -> list[str]:
    """The command of the C++ compiler; skips where there is none."""
    command = shlex.split(os.environ.get("CXX", "")) or [shutil.which("g++") or shutil.which("clang++") or ""]
    if not command[0]:
        pytest.skip("needs a C++ compiler")
    return command


def compile_program(sources: Path, main: Path, into: Path, *, without: Sequence[str]) -> Path:
    """The program of `main` and a folder's files, but those named in `without`; skips where there is no compiler."""
    command = compiler()
    flags, isas = builds()
    common = [flag for flag in flags if flag not in ("-O3", "-std=c++17")] + FLAGS + [f"-I{sources}"]
    common += ["-DHJEPA_X86"] if "avx2" in isas else []
    jobs = [(path, "", []) for path in (*sources.glob("*.cpp"), main) if path.name not in without]
    jobs += [(path, isa, [f"-DHJEPA_ISA={isa}", *own]) for isa, own in isas.items() for path in (sources / "isa").glob("*.cpp")]

    def compiled(job: tuple[Path, str, list[str]]) -> str:
        path, isa, own = job
        target = str(into / f"{path.stem}-{isa}.o")
        done = subprocess.run([*command, *common, *own, "-c", path, "-o", target], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return target

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(compiled, jobs))
    program = into / "sanitized"
    linked = subprocess.run(
        [*command, *common, *objects, "-o", program, "-pthread"], capture_output=True, text=True, check=False
    )
    if linked.returncode and "asan" in linked.stderr:
        pytest.skip("needs the libraries of the sanitizers")
    assert linked.returncode == 0, linked.stderr
    return program


def run(program: Path, *arguments: str) -> list[str]:
    """The words that the program ends with; fails where a sanitizer found something."""
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()
