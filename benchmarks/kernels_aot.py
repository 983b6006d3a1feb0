"""Compiles every Triton kernel for GPUs that need not be there, and shows registers, spills and shared memory.

    python benchmarks/kernels_aot.py [--capability 80 --capability 90]

Sizes are those of the defaults: 14 x 14 patches (tubes: 8 x 16 x 16), 4 targets, ViT-B/16 tokens. ptxas, which Triton carries,
reports what it used.
"""

import argparse
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import torch
import triton
from rich.console import Console
from rich.table import Table
from triton.backends import nvidia
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia import compiler
from triton.compiler import ASTSource

from hjepa.kernels import (
    block_masks_triton,
    blockwise_masks_triton,
    chance_triton,
    exact_blocks_triton,
    folded_keys_triton,
    fused_blur_triton,
    fused_colour_triton,
    fused_crops_triton,
    fused_resize_triton,
    mask_indices_triton,
    nested_blocks_triton,
    shared_blocks_triton,
    simple_masks_triton,
    token_gather_triton,
    weighted_blocks_triton,
)
from hjepa.kernels.fused_crops import STORES
from hjepa.kernels.weighted_blocks import ARRANGEMENTS
from hjepa.kernels.weighted_blocks_triton import of_program

PAINT = {"ROWS": simple_masks_triton.PAINTED, "CHUNK": block_masks_triton.CHUNK}
EXACT, REFERENCE = exact_blocks_triton.constants(4), block_masks_triton.constants(4, 10)
WEIGHTED_EXACT = of_program(weighted_blocks_triton.EXACT, ARRANGEMENTS, EXACT["TP"] ** 2)
WEIGHTED_REFERENCE = of_program(weighted_blocks_triton.REFERENCE, ARRANGEMENTS, REFERENCE["AP"] * REFERENCE["TP"])
PATCHES = {"NP": 256, "ROWS": 1}
INTEGERS = ["num_rows", "num_levels", "num_samples", "num_sums", "H", "W", "min_keep", "last_rows", "last_columns"]
INTEGERS += ["N", "K", "D", "G", "F", "f", "h", "w", "T", "min_patches", "most", "rounds", "min_outside"]
INTEGERS += ["context_length", "target_length", "context_height", "context_width", "context_frames", *chance_triton.PARTS]
TYPES = {
    **dict.fromkeys(INTEGERS, "i32"),
    **dict.fromkeys(
        ("keys", "chosen", "folded", "sums", "counts", "index", "context_index", "target_index", "slots", "rectangles"), "*i64"
    ),
    **dict.fromkeys(("contexts", "targets", "masks", "unions", "valid", "context_valid", "target_valid"), "*i8"),
    **dict.fromkeys(("tokens", "gathered", "parts", "combined"), "*bf16"),
    "laws": "*fp32",
    "log_aspect": "fp32",
}
INDEX = {"KP": 128, **mask_indices_triton.of_program(14 * 14)}
CROPS = {
    **dict.fromkeys(("places", "sums"), "*i64"),
    **dict.fromkeys(("numbers", "ends", "firsts", "bells"), "*i32"),
    **dict.fromkeys(("factors", "colours"), "*fp32"),
    **dict.fromkeys(("num_crops", "num_items", "most_groups", "bell_length", "slot_columns"), "i32"),
    **dict.fromkeys(("slots", "pictures"), "*u8"),
    "weights": "*i16",
}
LIMITS = ("num_warps", "maxnreg")
STORE = {"STORE": STORES[torch.bfloat16]}
KERNELS: dict[str, tuple[Any, dict[str, str], dict[str, int]]] = {
    "folded keys": (folded_keys_triton.fold_kernel, TYPES, {**folded_keys_triton.FOLD, "PARTS": 4}),
    "reference masks": (block_masks_triton.reference_kernel, TYPES, {**REFERENCE, **block_masks_triton.LAUNCH}),
    "exact masks": (exact_blocks_triton.exact_kernel, TYPES, {**EXACT, **exact_blocks_triton.LAUNCH}),
    "nested masks": (nested_blocks_triton.nested_kernel, TYPES, {**EXACT, **nested_blocks_triton.LAUNCH}),
    "weighted reference": (weighted_blocks_triton.weighted_reference_kernel, TYPES, {**REFERENCE, **WEIGHTED_REFERENCE}),
    "weighted exact": (weighted_blocks_triton.weighted_exact_kernel, TYPES, {**EXACT, **WEIGHTED_EXACT}),
    "blockwise masks": (blockwise_masks_triton.blockwise_kernel, TYPES, PATCHES),
    "shared blocks": (shared_blocks_triton.shared_kernel, TYPES, {**PATCHES, "AXES": 2}),
    "tubes": (shared_blocks_triton.shared_kernel, TYPES, {"NP": 2048, "ROWS": 1, "AXES": 3}),
    "random masks": (simple_masks_triton.random_kernel, TYPES, PATCHES),
    "given rectangles": (simple_masks_triton.rectangle_kernel, TYPES, PAINT),
    "mask indices": (mask_indices_triton.index_kernel, TYPES, {**INDEX, "CONTEXT": 0}),
    "context indices": (mask_indices_triton.index_kernel, TYPES, {**INDEX, "CONTEXT": 1}),
    "block indices": (mask_indices_triton.block_index_kernel, TYPES, {**INDEX, "T": 4, "CP": 128, "TP": 64}),
    "gather tokens": (token_gather_triton.gather_kernel, {**TYPES, "slots": "i32"}, {"WIDTH": 1024}),
    "combine tokens": (token_gather_triton.combine_kernel, TYPES, {"WIDTH": 1024}),
    "crop weights": (fused_resize_triton.weights_kernel, CROPS, fused_crops_triton.WEIGHTS),
    "crop resize": (
        fused_resize_triton.resize_kernel,
        {**CROPS, "weights": "*i64", "slots": "*u32"},
        {**STORE, **fused_crops_triton.RESIZE},
    ),
    "crop contrast": (fused_colour_triton.contrast_kernel, CROPS, {**STORE, **fused_crops_triton.CONTRAST}),
    "crop blur": (
        fused_blur_triton.blur_kernel,
        {**CROPS, "weights": "*i64", "slots": "*i16"},
        {**STORE, **fused_crops_triton.BLUR},
    ),
}
"""Kernel, types of its arguments, constants and warps."""


def report(name: str, capability: int) -> dict[str, int]:
    """Registers, spilled bytes and shared memory of a kernel compiled for sm_<capability>."""
    kernel, types, constants = KERNELS[name]
    signature = {argument: "constexpr" if argument in constants else types[argument] for argument in kernel.arg_names}
    aligned = {(place,): [["tt.divisibility", 16]] for place, kind in enumerate(signature.values()) if kind.startswith("*")}
    source = ASTSource(kernel, signature, {name: constants[name] for name in constants if name in signature}, aligned)
    options = {"num_warps": 4, "enable_fp_fusion": False, **{name: constants[name] for name in constants if name in LIMITS}}
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    with tempfile.TemporaryDirectory() as folder:
        assembly = Path(folder, "kernel.ptx")
        assembly.write_text(compiled.asm["ptx"], encoding="utf-8")
        target = re.search(r"\.target (sm_\w+)", compiled.asm["ptx"])
        assert target is not None
        command = [
            assembler(capability),
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


def assembler(capability: int) -> str:
    """The ptxas that Triton takes; releases before 3.6 have one, and ask for it in several ways."""
    if tuple(map(int, triton.__version__.split(".")[:2])) < (3, 6):
        return str(Path(nvidia.__file__).parent / "bin" / "ptxas")
    path: str = compiler.get_ptxas(capability).path
    return path


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
