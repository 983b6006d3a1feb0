"""`folded_keys` in one Triton kernel, whose torch text is a dozen launches for each part."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, import-untyped, untyped-decorator"
# The arguments of a Triton kernel have types of its own language, and Triton carries no annotations.

# B samples, P parts, C0 to CP-1 numbers of each

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from hjepa.kernels.chance_triton import ANY, bits, on_its_device
from hjepa.kernels.folded_keys import MOST_PARTS

FOLD = {"KEYS": 128, "num_warps": 4}
"""Keys that one program makes, and its warps."""


@triton.jit(**ANY)
def fold_kernel(
    keys,  # int64 [B]
    folded,  # int64 [C3, C2, C1, C0, B]: here the last part is number 0
    num_rows, num_samples,
    first_3, first_2, first_1, first_0,
    count_2, count_1, count_0,
    PARTS: tl.constexpr,
    KEYS: tl.constexpr,
):  # fmt: skip
    """`folded_keys.fold_ranges` of KEYS of the keys."""
    numbers = tl.program_id(0).to(tl.int64) * KEYS + tl.arange(0, KEYS)
    within = numbers < num_rows
    key = tl.load(keys + numbers % num_samples, mask=within, other=0).to(tl.uint64, bitcast=True)
    place_0 = numbers // num_samples
    place_1 = place_0 // count_0
    place_2 = place_1 // count_1
    if PARTS > 3:
        key = bits(key, first_3 + place_2 // count_2)
    if PARTS > 2:
        key = bits(key, first_2 + place_2 % count_2)
    if PARTS > 1:
        key = bits(key, first_1 + place_1 % count_1)
    key = bits(key, first_0 + place_0 % count_0)
    tl.store(folded + numbers, key.to(tl.int64, bitcast=True), mask=within)


@on_its_device
def fold_ranges(keys: Tensor, *parts: range) -> Tensor:
    """`folded_keys.fold_ranges` on a GPU, or anywhere under TRITON_INTERPRET=1."""
    counts = [len(part) for part in parts]
    folded = torch.empty(*counts, *keys.shape, dtype=torch.int64, device=keys.device)
    absent = [1] * (MOST_PARTS - len(parts))
    if folded.numel():
        fold_kernel[(triton.cdiv(folded.numel(), FOLD["KEYS"]),)](
            keys.contiguous(), folded, math.prod(folded.shape), len(keys),
            *absent, *(part.start for part in parts), *[*absent, *counts][1:],
            PARTS=len(parts), **FOLD, enable_fp_fusion=False,
        )  # fmt: skip
    return folded
