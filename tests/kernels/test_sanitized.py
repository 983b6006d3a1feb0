"""The native kernels are clean under AddressSanitizer and UndefinedBehaviorSanitizer in every build, and compile for others."""

import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.kernels.jpegs import STALE_TABLES, damaged, encode, picture, random_jpeg
from tests.kernels.sanitizers import ROOT, builds, compile_program, compiler, run

CSRC = ROOT / "kernels" / "csrc"


def test_crops_of_odd_sizes_touch_no_byte_that_is_not_theirs(tmp_path: Path) -> None:
    program = compile_program(CSRC, Path(__file__).with_name("fused_sanitized.cpp"), tmp_path, without=["module.cpp"])
    assert run(program)[-2:] == ["plain", "clean"]


def test_jpegs_with_and_without_errors_touch_no_byte_that_is_not_theirs(tmp_path: Path) -> None:
    main = Path(__file__).with_name("jpeg_sanitized.cpp")
    program = compile_program(CSRC / "jpeg", main, tmp_path, without=["module.cpp", "extension.cpp"])
    chance = np.random.default_rng(0)
    files = [random_jpeg(chance)[0] for _ in range(40)]
    files += [encode(picture(chance, *size), subsampling=2) for size in ((1, 4000), (4000, 3), (1, 1), (3, 5))]
    files += [damaged(chance, file) for file in files for _ in range(20)]
    paths = [tmp_path / f"{number}.jpg" for number in range(len(files) + len(STALE_TABLES))]
    for path, file in zip(paths, [*files, *STALE_TABLES], strict=True):
        path.write_bytes(file)
    decoded, _, refused, *_, clean = run(program, *map(str, paths))
    assert int(decoded) > 8 * 360  # turns
    assert int(refused) > 1500
    assert clean == "clean"


def test_jpegs_compile_for_processors_with_a_part_of_avx512() -> None:
    if "avx512" not in builds()[1]:
        pytest.skip("needs an x86 processor")
    source = CSRC / "jpeg" / "isa" / "decode_scans.cpp"
    flags = [
        "-std=c++17",
        "-Wno-psabi",
        "-march=skylake-avx512",
        "-fsyntax-only",
    ]  # as CXXFLAGS=-march=native on such a machine
    done = subprocess.run([*compiler(), *flags, source], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
