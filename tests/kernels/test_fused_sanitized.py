"""The native kernel is clean under AddressSanitizer and UndefinedBehaviorSanitizer on odd sizes, in every build."""

import os
import shlex
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "kernels" / "csrc"
FLAGS = ["-std=c++17", "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-Wno-psabi", f"-I{SOURCES}"]


def builds() -> tuple[list[str], dict[str, list[str]]]:
    """The flags of every file, and those of every build, as setup.py has them."""
    text = (ROOT / "setup.py").read_text()
    names: dict[str, object] = {}
    start, end = text.index("FLAGS = ["), text.index("class BuildKernel")
    exec(compile("import platform\n" + text[start:end], "setup.py", "exec"), names)
    return names["FLAGS"], names["BUILDS"]  # type: ignore[return-value]


def test_no_byte_is_touched_that_is_not_the_kernels(tmp_path: Path) -> None:
    compiler = shlex.split(os.environ.get("CXX", "")) or [shutil.which("g++") or shutil.which("clang++") or ""]
    if not compiler[0]:
        pytest.skip("needs a C++ compiler")
    flags, isas = builds()
    common = [flag for flag in flags if flag not in ("-O3", "-std=c++17")] + FLAGS + (["-DHJEPA_X86"] if "avx2" in isas else [])
    jobs = [(path, "", []) for path in (*SOURCES.glob("*.cpp"), Path(__file__).with_name("fused_sanitized.cpp"))]
    jobs = [job for job in jobs if job[0].name != "module.cpp"]
    jobs += [(path, isa, [f"-DHJEPA_ISA={isa}", *own]) for isa, own in isas.items() for path in (SOURCES / "isa").glob("*.cpp")]

    def compiled(job: tuple[Path, str, list[str]]) -> str:
        path, isa, own = job
        target = str(tmp_path / f"{path.stem}-{isa}.o")
        done = subprocess.run([*compiler, *common, *own, "-c", path, "-o", target], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return target

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(compiled, jobs))
    program = str(tmp_path / "sanitized")
    linked = subprocess.run(
        [*compiler, *common, *objects, "-o", program, "-pthread"], capture_output=True, text=True, check=False
    )
    if linked.returncode and "asan" in linked.stderr:
        pytest.skip("needs the libraries of the sanitizers")
    assert linked.returncode == 0, linked.stderr
    done = subprocess.run([program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-2:] == ["plain", "clean"]
