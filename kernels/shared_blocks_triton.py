"""`shared_blocks` in one Triton kernel: the sets of places are tried one after another, and the first that fits is painted."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, import-untyped, untyped-decorator"
# The arguments of a Triton kernel have types of its own language, and Triton carries no annotations.

# R samples, T blocks, F x H x W grid (F = 1 without frames), N patches, NP the next power of 2

import torch
import triton
import triton.language as tl
from torch import Tensor

from hjepa.kernels import shared_blocks
from hjepa.kernels.chance_triton import ANY, bits, on_its_device, uniform

ROWS = 1
"""Samples of one program."""
ATTEMPTS = tl.constexpr(shared_blocks.ATTEMPTS)
CONTEXT = tl.constexpr(shared_blocks.CONTEXT)


@triton.jit
def along(key, number, place, side, whole):
    """Whether places [1, NP] on an axis lie in a block [ROWS] put there by one uniform, at this number [ROWS]."""
    start = (uniform(key, number) * (whole + 1 - side).to(tl.float32)).to(tl.int32)[:, None]
    return (place >= start) & (place < start + side)


@triton.jit
def block_at(key, number, patches, f, h, w, F, H, W, AXES: tl.constexpr):
    """bool [ROWS, NP]: the block whose uniforms stand at this number [ROWS] of the keys."""
    inside = along(key, number + (AXES - 2), patches // W % H, h, H) & along(key, number + (AXES - 1), patches % W, w, W)
    if AXES == 3:
        inside = inside & along(key, number, patches // (H * W), f, F)
    return inside


@triton.jit(**ANY)
def shared_kernel(
    keys,  # int64 [R]
    contexts,  # int8 [R, N]
    targets,  # int8 [R, T, N], of tubes [R, N]
    num_rows, f, h, w, F, H, W,
    context_height, context_width, context_frames, min_outside, T,
    AXES: tl.constexpr,  # 3: tubes; 2: I-JEPA's blocks
    NP: tl.constexpr,
    ROWS: tl.constexpr,
):  # fmt: skip
    """`shared_blocks.tube_masks` or `shared_blocks.block_masks` of ROWS samples."""
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    within = rows < num_rows
    key = tl.load(keys + rows, mask=within, other=0).to(tl.uint64, bitcast=True)
    zeros = tl.zeros_like(key).to(tl.int32)
    patches = tl.arange(0, NP)[None, :]
    N = F * H * W
    inside = within[:, None] & (patches < N)
    seen = patches < context_frames * H * W
    taken = zeros + ATTEMPTS
    for attempt in range(ATTEMPTS):
        union = (patches + zeros[:, None]) < 0
        for target in range(T):
            union = union | block_at(key, zeros + (attempt * T + target) * AXES, patches, f, h, w, F, H, W, AXES)
        outside = tl.sum((seen & ~union).to(tl.int32), axis=1)
        taken = tl.where((taken == ATTEMPTS) & (outside >= min_outside), attempt, taken)
    union = (patches + zeros[:, None]) < 0
    for target in range(T):
        number = tl.where(taken == ATTEMPTS, 0, (taken * T + target) * AXES)  # in default of a set: all at one place
        hit = block_at(key, number, patches, f, h, w, F, H, W, AXES)
        union = union | hit
        if AXES == 2:
            tl.store(targets + (rows[:, None] * T + target) * N + patches, hit.to(tl.int8), mask=inside)
    free = seen & ~union
    if AXES == 2:
        corner = bits(key, zeros + CONTEXT)
        free = free & block_at(corner, zeros, patches, f, context_height, context_width, F, H, W, AXES)
    else:
        tl.store(targets + rows[:, None] * N + patches, (~free).to(tl.int8), mask=inside)
    tl.store(contexts + rows[:, None] * N + patches, free.to(tl.int8), mask=inside)


def block_masks(
    keys: Tensor,
    context: tuple[int, int],
    target: tuple[int, int],
    grid: tuple[int, int],
    *,
    num_targets: int,
    min_outside: int,
) -> tuple[Tensor, Tensor]:
    """`shared_blocks.block_masks` on a GPU, or anywhere under TRITON_INTERPRET=1."""
    contexts = torch.empty(len(keys), grid[0] * grid[1], dtype=torch.bool, device=keys.device)
    targets = torch.empty(len(keys), num_targets, grid[0] * grid[1], dtype=torch.bool, device=keys.device)
    _launch(keys, contexts, targets, (1, *target), (1, *grid), (*context, 1), min_outside, num_targets, axes=2)
    return contexts, targets


def tube_masks(
    keys: Tensor, block: tuple[int, int, int], grid: tuple[int, int, int], num_blocks: int, context_frames: int
) -> tuple[Tensor, Tensor]:
    """`shared_blocks.tube_masks` on a GPU, or anywhere under TRITON_INTERPRET=1."""
    contexts = torch.empty(len(keys), grid[0] * grid[1] * grid[2], dtype=torch.bool, device=keys.device)
    targets = torch.empty_like(contexts)
    _launch(keys, contexts, targets, block, grid, (1, 1, context_frames), 1, num_blocks, axes=3)
    return contexts, targets


@on_its_device
def _launch(
    keys: Tensor,
    contexts: Tensor,
    targets: Tensor,
    block: tuple[int, ...],
    grid: tuple[int, ...],
    context: tuple[int, int, int],
    min_outside: int,
    count: int,
    *,
    axes: int,
) -> None:
    if len(keys):
        shared_kernel[(triton.cdiv(len(keys), ROWS),)](
            keys.contiguous(), contexts.view(torch.int8), targets.view(torch.int8), len(keys), *block, *grid, *context,
            min_outside, count, AXES=axes, NP=triton.next_power_of_2(contexts.shape[1]), ROWS=ROWS,
            num_warps=4, enable_fp_fusion=False,
        )  # fmt: skip
