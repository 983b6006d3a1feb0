"""`mask_indices` in one Triton kernel: the k-th lowest random order is found bit by bit, without sorting."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, import-untyped, untyped-decorator"
# The arguments of a Triton kernel have types of its own language, and Triton carries no annotations.

# R rows, N patches, NP the next power of 2, K = length of the index

import torch
import triton
import triton.language as tl
from torch import Tensor

from hjepa.kernels.chance_triton import ANY, bits, on_its_device

LAUNCH = {"ROWS": 1, "PER_WARP": 256}
"""Rows of one program, of which N values each are held at once, and how many of these a warp holds: with one warp to a row,
no count of its patches waits for another warp."""
MOST_WARPS = 8
BITS = tl.constexpr(50)
"""Of an order: 48, and 2 for its class."""


@triton.jit
def random_order(keys, patches):
    """`mask_indices.random_order`: int64 [ROWS, NP] of uint64 keys [ROWS] and patches [1, NP]."""
    word = bits(keys[:, None], patches) & tl.full((1, 1), 0xFFFFFFFF, tl.uint64)
    return (word.to(tl.int64) << 16) | patches.to(tl.int64)


@triton.jit
def lowest(order, count):
    """Of orders [ROWS, NP] below 2**BITS, whether each is among the `count` [ROWS] lowest."""
    bound = count.to(tl.int64) * 0
    for number in range(BITS):
        trial = bound + (tl.full((1,), 1, tl.int64) << (BITS - 1 - number))
        below = tl.sum((order < trial[:, None]).to(tl.int32), axis=1)
        bound = tl.where(below < count, trial, bound)
    return (order <= bound[:, None]) & (count > 0)[:, None]


@triton.jit(**ANY)
def index_kernel(
    masks,  # int8 [R, N]
    unions,  # int8 [R, N], where the index is a context's
    keys,  # int64 [R]
    index,  # int64 [R, K]
    valid,  # int8 [R, K]
    num_rows, N, K, min_keep,
    CONTEXT: tl.constexpr,
    NP: tl.constexpr,
    KP: tl.constexpr,  # K, to a power of 2
    ROWS: tl.constexpr,
):  # fmt: skip
    """`mask_indices.mask_indices`, or of a context `context_indices`, of ROWS rows."""
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    within = rows < num_rows
    key = tl.load(keys + rows, mask=within, other=0).to(tl.uint64, bitcast=True)
    patches = tl.arange(0, NP)[None, :]
    inside = within[:, None] & (patches < N)
    mask = tl.load(masks + rows[:, None] * N + patches, mask=inside, other=0) != 0
    count = tl.sum(mask.to(tl.int32), axis=1)
    if CONTEXT:
        union = tl.load(unions + rows[:, None] * N + patches, mask=inside, other=0) != 0
        kind = tl.where(mask, 0, tl.where(union, 2, 1))
        count = tl.maximum(count, min_keep)
    else:
        kind = tl.where(mask, 0, 3)
    count = tl.minimum(count, tl.minimum(K, N))
    kept = mask & inside
    if tl.max((count != tl.sum(kept.to(tl.int32), axis=1)).to(tl.int32), axis=0) != 0:  # else what is kept is the mask
        order = random_order(key, patches) + (kind.to(tl.int64) << 48)
        kept = lowest(tl.where(inside, order, tl.full((1, 1), 1, tl.int64) << 60), count)
    slot = tl.cumsum(kept.to(tl.int32), axis=1) - 1
    tl.store(index + rows[:, None] * K + slot, patches.to(tl.int64) + rows[:, None] * 0, mask=kept & inside)
    slots = tl.arange(0, KP)[None, :]
    used = slots < count[:, None]
    of_row = within[:, None] & (slots < K)
    tl.store(valid + rows[:, None] * K + slots, used.to(tl.int8), mask=of_row)
    tl.store(index + rows[:, None] * K + slots, (slots + rows[:, None]) * 0, mask=of_row & ~used)


@on_its_device
def indices(masks: Tensor, unions: Tensor | None, length: int, min_keep: int, keys: Tensor) -> tuple[Tensor, Tensor]:
    """`mask_indices.mask_indices`, or with unions `context_indices`, on a GPU, or anywhere under TRITON_INTERPRET=1."""
    patches = masks.shape[-1]
    index = torch.empty(*masks.shape[:-1], length, dtype=torch.int64, device=masks.device)
    valid = torch.empty_like(index, dtype=torch.bool)
    num_rows, rows, NP = masks.numel() // patches, LAUNCH["ROWS"], triton.next_power_of_2(patches)
    if index.numel():
        flat = masks.contiguous().view(torch.int8)
        index_kernel[(triton.cdiv(num_rows, rows),)](
            flat, flat if unions is None else unions.contiguous().view(torch.int8),
            keys.expand(masks.shape[:-1]).contiguous(), index, valid.view(torch.int8), num_rows, patches, length, min_keep,
            CONTEXT=unions is not None, NP=NP, KP=triton.next_power_of_2(length), ROWS=rows,
            num_warps=min(MOST_WARPS, max(1, rows * NP // LAUNCH["PER_WARP"])), enable_fp_fusion=False,
        )  # fmt: skip
    return index, valid
