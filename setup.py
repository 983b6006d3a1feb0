"""Maps the folders at the root into the package `hjepa`, so that a wheel does not depend on the links in hjepa/, and builds the
native kernels. Without a compiler everything else is installed all the same: masks are made by torch then, and backend="fused"
says what is missing."""

import platform
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

FOLDERS = ["configs", "kernels", "models", "pipeline"]
LINKED = "editable_wheel" in sys.argv and Path("src", "hjepa", "kernels").is_dir()
"""Whether this is `pip install -e`, of a tree with its links. Then src/ goes on Python's path, where only a link to the
package lies: so a script beside a clone called hjepa finds the package, and not the clone's folder."""

SOURCES = Path("kernels/csrc")
CROPS, JPEG = "hjepa.kernels._fused_crops", "hjepa.kernels._jpeg"
FLAGS = ["-std=c++17", "-O3", "-fno-math-errno", "-fno-trapping-math", "-ffinite-math-only", "-fno-signed-zeros"]
FLAGS += ["-ffp-contract=off", "-fvisibility=hidden", "-Wno-psabi", "-g0"]
"""Levels are finite; but no -ffast-math: every sum is rounded as it is written, so that all builds give the same bits."""
AVX2 = ["-mavx2", "-mfma", "-mbmi2"]
AVX512 = [*AVX2, *(f"-mavx512{part}" for part in ("f", "bw", "dq", "vl", "vnni", "vbmi")), "-mprefer-vector-width=512"]
X86 = platform.machine() in ("x86_64", "AMD64")
BUILDS = {"plain": [], "avx2": AVX2, "avx512": AVX512} if X86 else {"plain": []}
"""Instruction sets, each with its flags, that the folders isa/ are compiled for; one is chosen among them at run time."""


class BuildKernel(build_ext):
    """Compiles isa/ once per instruction set, and the rest once."""

    def build_extension(self, ext: Extension) -> None:
        """One clear warning in place of an error: the kernel is optional."""
        try:
            import pybind11

            ext.include_dirs.append(pybind11.get_include())
            if ext.name == JPEG:
                ext.include_dirs += [str(SOURCES / "jpeg" / "cuda"), nvimgcodec_include()]
            isa = Path(ext.sources[0]).parent / "isa"
            for name, flags in BUILDS.items() if isa.is_dir() else ():
                ext.extra_objects += self.compiler.compile(
                    sorted(str(path) for path in isa.glob("*.cpp")),
                    output_dir=str(Path(self.build_temp, name)),
                    macros=[("HJEPA_ISA", name)],
                    extra_postargs=[*FLAGS, *flags],
                    depends=ext.depends,
                )
            super().build_extension(ext)
        except Exception as error:  # no compiler, an old one, no headers of Python: whatever it is, hjepa works without
            print(
                f"warning: {ext.name} was not built ({error}); without hjepa's native kernels backend='fused' is missing, and "
                "masks and JPEGs take longer on a CPU. They need a C++17 compiler (GCC 9, Clang 12 or later) and the "
                "headers of Python: apt install g++ python3-dev",
                file=sys.stderr,
            )


def nvimgcodec_include() -> str:
    """Where the wheel that DALI decodes with has its header. It is a requirement of the build, too."""
    spec = find_spec("nvidia.nvimgcodec")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("the package nvidia-nvimgcodec-cu12 is not installed")
    return str(Path(spec.submodule_search_locations[0], "include"))


def kernel(name: str, folder: Path) -> Extension:
    """An extension module; its objects of isa/, where it has them, are added when it is built."""
    options: dict[str, Any] = {"language": "c++", "extra_link_args": ["-pthread"], "optional": True}
    return Extension(
        name,
        sorted(str(path) for path in folder.glob("*.cpp")),
        depends=sorted(str(path) for kind in ("*.h", "isa/*.cpp") for path in folder.rglob(kind)),
        define_macros=[("HJEPA_X86", None)] if X86 else [],
        extra_compile_args=FLAGS,
        **options,
    )


setup(
    package_dir={"": "src"} if LINKED else {f"hjepa.{folder}": folder for folder in FOLDERS},
    packages=["hjepa"] + [f"hjepa.{name}" for folder in FOLDERS for name in find_packages(include=[folder, f"{folder}.*"])],
    include_package_data=False,  # it would add the C++ to a wheel
    package_data={"hjepa": ["contact_page.css", "contact_page.js", "py.typed"], "hjepa.configs": ["*.yaml"]},
    ext_modules=[kernel(CROPS, SOURCES), kernel(JPEG, SOURCES / "jpeg"), kernel("hjepa.kernels._masks", SOURCES / "masks")],
    cmdclass={"build_ext": BuildKernel},
)
