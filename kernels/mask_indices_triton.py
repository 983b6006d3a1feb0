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


@triton.jit
def write(index, valid, rows, within, key, mask, kind, count, N, K, NP: tl.constexpr, KP: tl.constexpr):
    """Into these rows [ROWS] the index of the `count` [ROWS] patches lowest in order, of masks and their kinds [ROWS, NP]."""
    patches = tl.arange(0, NP)[None, :]
    inside = within[:, None] & (patches < N)
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


@triton.jit
def load(masks, rows, within, N, NP: tl.constexpr):
    """Masks [ROWS, NP] of these rows."""
    patches = tl.arange(0, NP)[None, :]
    return tl.load(masks + rows[:, None] * N + patches, mask=within[:, None] & (patches < N), other=0) != 0


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
    mask = load(masks, rows, within, N, NP)
    count = tl.sum(mask.to(tl.int32), axis=1)
    if CONTEXT:
        kind = tl.where(mask, 0, tl.where(load(unions, rows, within, N, NP), 2, 1))
        count = tl.maximum(count, min_keep)
    else:
        kind = tl.where(mask, 0, 3)
    write(index, valid, rows, within, key, mask, kind, count, N, K, NP, KP)


@triton.jit(**ANY)
def block_index_kernel(
    contexts,  # int8 [R, N]
    targets,  # int8 [R, T, N]
    keys,  # int64 [R]
    context_index,  # int64 [R, context_length]
    context_valid,  # int8 [R, context_length]
    target_index,  # int64 [R, T, target_length]
    target_valid,  # int8 [R, T, target_length]
    num_rows, N, context_length, target_length, min_keep,
    T: tl.constexpr,
    NP: tl.constexpr,
    CP: tl.constexpr,  # context_length and target_length, to powers of 2
    TP: tl.constexpr,
    ROWS: tl.constexpr,
):  # fmt: skip
    """`mask_indices.block_indices` of the contexts of ROWS rows, or of one target of each."""
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    part = tl.program_id(1)
    within = rows < num_rows
    key = tl.load(keys + rows, mask=within, other=0).to(tl.uint64, bitcast=True)
    if part == 0:
        mask = load(contexts, rows, within, N, NP)
        union = mask & ~mask
        for target in range(T):
            union = union | load(targets, rows * T + target, within, N, NP)
        count = tl.maximum(tl.sum(mask.to(tl.int32), axis=1), min_keep)
        kind = tl.where(mask, 0, tl.where(union, 2, 1))
        write(context_index, context_valid, rows, within, key, mask, kind, count, N, context_length, NP, CP)
    else:
        rows = rows * T + part - 1
        mask = load(targets, rows, within, N, NP)
        count = tl.sum(mask.to(tl.int32), axis=1)
        write(target_index, target_valid, rows, within, key, mask, tl.where(mask, 0, 3), count, N, target_length, NP, TP)


@on_its_device
def indices(masks: Tensor, unions: Tensor | None, length: int, min_keep: int, keys: Tensor) -> tuple[Tensor, Tensor]:
    """`mask_indices.mask_indices`, or with unions `context_indices`, on a GPU, or anywhere under TRITON_INTERPRET=1."""
    index, valid = _empty(masks, length)
    if index.numel():
        num_rows, flat = masks.numel() // masks.shape[-1], masks.contiguous().view(torch.int8)
        index_kernel[(triton.cdiv(num_rows, LAUNCH["ROWS"]),)](
            flat, flat if unions is None else unions.contiguous().view(torch.int8),
            keys.expand(masks.shape[:-1]).contiguous(), index, valid.view(torch.int8),
            num_rows, masks.shape[-1], length, min_keep, CONTEXT=unions is not None,
            KP=triton.next_power_of_2(length), **of_program(masks.shape[-1]), enable_fp_fusion=False,
        )  # fmt: skip
    return index, valid


@on_its_device
def block_indices(
    contexts: Tensor, targets: Tensor, context_length: int, target_length: int, min_keep: int, keys: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`mask_indices.block_indices` on a GPU, or anywhere under TRITON_INTERPRET=1."""
    found = *_empty(contexts, context_length), *_empty(targets, target_length)
    patches, num_targets = contexts.shape[-1], targets.shape[-2]
    num_rows = contexts.numel() // patches
    if num_rows:
        block_index_kernel[(triton.cdiv(num_rows, LAUNCH["ROWS"]), num_targets + 1)](
            contexts.contiguous().view(torch.int8), targets.contiguous().view(torch.int8),
            keys.expand(contexts.shape[:-1]).contiguous(),
            found[0], found[1].view(torch.int8), found[2], found[3].view(torch.int8),
            num_rows, patches, context_length, target_length, min_keep, T=num_targets,
            CP=triton.next_power_of_2(max(1, context_length)), TP=triton.next_power_of_2(max(1, target_length)),
            **of_program(patches), enable_fp_fusion=False,
        )  # fmt: skip
    return found


def of_program(num_patches: int) -> dict[str, int]:
    """Constants and warps of a program."""
    NP = triton.next_power_of_2(num_patches)
    warps = min(MOST_WARPS, max(1, LAUNCH["ROWS"] * NP // LAUNCH["PER_WARP"]))
    return {"NP": NP, "ROWS": LAUNCH["ROWS"], "num_warps": warps}


def _empty(masks: Tensor, length: int) -> tuple[Tensor, Tensor]:
    index = torch.empty(*masks.shape[:-1], length, dtype=torch.int64, device=masks.device)
    return index, torch.empty_like(index, dtype=torch.bool)
