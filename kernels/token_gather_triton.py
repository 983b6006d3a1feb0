"""`token_gather` in Triton: a program copies, or adds up, the channels of one token."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, import-untyped, untyped-decorator"
# The arguments of a Triton kernel have types of its own language, and Triton carries no annotations.
# R rows, G groups of indices of a row, K slots of a group, N patches, D channels

import torch
import triton
import triton.language as tl
from torch import Tensor

from hjepa.kernels.chance_triton import on_its_device


@triton.jit
def gather_kernel(
    tokens,  # floating [R, N, D]
    index,  # int64 [R, G * K]
    valid,  # int8 [R, G * K]
    gathered,  # as tokens [R, G * K, D]
    N, D, slots,
    WIDTH: tl.constexpr,  # D, to a power of 2
):  # fmt: skip
    """One slot of a row."""
    slot = tl.program_id(0).to(tl.int64)
    channels = tl.arange(0, WIDTH)
    read = tl.where(tl.load(valid + slot) != 0, D, 0)  # channels
    row = slot // slots
    patch = tl.load(index + slot)
    found = tl.load(tokens + (row * N + patch) * D + channels, mask=channels < read, other=0.0)
    tl.store(gathered + slot * D + channels, found, mask=channels < D)


@triton.jit
def combine_kernel(
    parts,  # floating [R, G, K, D]
    slots,  # int64 [R, G, N]
    combined,  # as parts [R, N, D]
    G, K, N, D,
    WIDTH: tl.constexpr,  # D, to a power of 2
):  # fmt: skip
    """One patch of a row; the groups in order, rounded to the type of the tokens after each, as torch does."""
    place = tl.program_id(0).to(tl.int64)
    row, patch = place // N, place % N
    channels = tl.arange(0, WIDTH)
    total = tl.zeros((WIDTH,), combined.dtype.element_ty)
    for group in range(G):
        slot = tl.load(slots + (row * G + group) * N + patch)
        part = parts + ((row * G + group) * K + slot) * D
        read = tl.where(slot < K, D, 0)  # channels
        total = (total + tl.load(part + channels, mask=channels < read, other=0.0)).to(combined.dtype.element_ty)
    tl.store(combined + place * D + channels, total, mask=channels < D)


@on_its_device
def gather(tokens: Tensor, index: Tensor, valid: Tensor) -> Tensor:
    """`token_gather.gather_reference`."""
    rows, groups, slots = index.shape
    gathered = tokens.new_empty(rows, groups, slots, tokens.shape[-1])
    if gathered.numel():
        gather_kernel[(rows * groups * slots,)](
            tokens.contiguous(), index.contiguous(), valid.contiguous().view(torch.int8), gathered,
            tokens.shape[1], tokens.shape[2], groups * slots,
            WIDTH=triton.next_power_of_2(tokens.shape[-1]), num_warps=4, enable_fp_fusion=False,
        )  # fmt: skip
    return gathered


@on_its_device
def combine(parts: Tensor, slots: Tensor) -> Tensor:
    """`token_gather.combine_reference`."""
    rows, groups, length, width = parts.shape
    combined = parts.new_empty(rows, slots.shape[-1], width)
    if combined.numel():
        combine_kernel[(rows * slots.shape[-1],)](
            parts.contiguous(), slots.contiguous(), combined, groups, length, slots.shape[-1], width,
            WIDTH=triton.next_power_of_2(width), num_warps=4, enable_fp_fusion=False,
        )  # fmt: skip
    return combined
