"""Compiles every Triton kernel for GPUs that need not be there, and shows registers, spills and shared memory.

    python benchmarks/kernels_aot.py [--capability 80 --capability 90]

Sizes are those of the defaults: 14 x 14 patches, 4 targets, ViT-B/16 tokens. ptxas, which Triton carries, reports what it used.
"""

import argparse
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import triton
from rich.console import Console
from rich.table import Table
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia.compiler import get_ptxas
from triton.compiler import ASTSource

from hjepa.kernels import block_masks_triton, exact_blocks, exact_blocks_triton, token_gather_triton

LAUNCH = {"ROWS": 4, "CHUNK": 256, "T": 4, "TP": 4}
INTEGERS = ["num_rows", "num_levels", "num_samples", "H", "W", "min_keep", "last_rows", "last_columns"]
MASKS = {"keys": "*i64", "laws": "*fp32", "contexts": "*i8", "targets": "*i8", **dict.fromkeys(INTEGERS, "i32")}
TOKENS = {
    **dict.fromkeys(("tokens", "gathered", "parts", "combined"), "*bf16"),
    **dict.fromkeys(("index", "slots"), "*i64"),
    **{"valid": "*i8", "N": "i32", "D": "i32", "K": "i32", "G": "i32"},
}
KERNELS: dict[str, tuple[Any, dict[str, str], dict[str, int]]] = {
    "reference masks": (block_masks_triton.reference_kernel, MASKS, {**LAUNCH, "A": 10, "AP": 16}),
    "exact masks": (
        exact_blocks_triton.exact_kernel,
        MASKS,
        {**LAUNCH, "PROPOSALS": exact_blocks.PROPOSALS, "MAX_ROWS": 4},
    ),
    "gather tokens": (token_gather_triton.gather_kernel, {**TOKENS, "slots": "i32"}, {"WIDTH": 1024}),
    "combine tokens": (token_gather_triton.combine_kernel, TOKENS, {"WIDTH": 1024}),
}
"""Kernel, types of its arguments, constants."""


def report(name: str, capability: int) -> dict[str, int]:
    """Registers, spilled bytes and shared memory of a kernel compiled for sm_<capability>."""
    kernel, types, constants = KERNELS[name]
    signature = {argument: types.get(argument, "constexpr") for argument in kernel.arg_names}
    source = ASTSource(kernel, signature, {argument: constants[argument] for argument in constants})
    compiled = triton.compile(
        source, target=GPUTarget("cuda", capability, 32), options={"num_warps": 4, "enable_fp_fusion": False}
    )
    with tempfile.TemporaryDirectory() as folder:
        assembly = Path(folder, "kernel.ptx")
        assembly.write_text(compiled.asm["ptx"], encoding="utf-8")
        target = re.search(r"\.target (sm_\w+)", compiled.asm["ptx"])
        assert target is not None
        command = [
            get_ptxas(capability).path,
            "-v",
            f"-arch={target[1]}",
            str(assembly),
            "-o",
            str(Path(folder, "kernel.cubin")),
        ]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    numbers = {
        what: int(found[1]) if (found := re.search(pattern, said)) else 0
        for what, pattern in {
            "registers": r"Used (\d+) registers",
            "spilled bytes": r"(\d+) bytes spill stores",
            "stack bytes": r"(\d+) bytes stack frame",
        }.items()
    }
    return {**numbers, "shared bytes": compiled.metadata.shared, "fused multiply-adds": compiled.asm["ptx"].count("fma.rn.f32")}


def main() -> None:
    """A table of all kernels."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--capability", type=int, action="append", help="compute capability, such as 90; repeatable")
    table = Table("kernel", "GPU")
    columns: list[str] = []
    for name in KERNELS:
        for capability in parser.parse_args().capability or [80, 90]:
            found = report(name, capability)
            for column in found if not columns else ():
                table.add_column(column)
            columns = columns or list(found)
            table.add_row(name, f"sm_{capability}", *map(str, found.values()))
    Console().print(table)


if __name__ == "__main__":
    main()
