"""The law "reference" of `block_masks` in one Triton kernel: from keys to painted masks, with the bits of the torch text."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, import-untyped, untyped-decorator"
# The arguments of a Triton kernel have types of its own language, and Triton carries no annotations.

# R rows (crops, levels, samples), T targets, A attempts, H x W grid, N = H * W patches

import torch
import triton
import triton.language as tl
from torch import Tensor

from hjepa.kernels.chance_triton import ANY, clamp, on_its_device, rounded, uniform
from hjepa.kernels.rectangles import Grid

CHUNK = 256
"""Patches painted at a time."""
LAUNCH = {"ROWS": 1, "CHUNK": CHUNK, "num_warps": 1}
"""Rows of masks made by one program, patches painted at a time, and warps: on an H200 the best of some."""


@triton.jit
def pick(values, numbers, wanted):
    """Of values [R, K], [R]: the one whose number [1, K] or [R, K] is wanted [R]."""
    return tl.sum(tl.where(numbers == wanted[:, None], values, 0.0), axis=1)


@triton.jit
def block(keys, first, low, high, aspect_low, aspect_high, H, W):
    """`block_masks._candidates`: edges from the four uniforms at number first (int32) of the keys."""
    area = (low + uniform(keys, first) * (high - low)) * (H * W).to(tl.float32)
    ratio = aspect_low + uniform(keys, first + 1) * (aspect_high - aspect_low)
    height = rounded(tl.sqrt_rn(tl.div_rn(area, ratio)))
    width = rounded(height * ratio)
    return place(keys, first + 2, clamp(height, 1.0, H.to(tl.float32)), clamp(width, 1.0, W.to(tl.float32)), H, W)


@triton.jit
def place(keys, first, height, width, H, W):
    """`rectangles.place`: edges from the two uniforms at number first of the keys."""
    top = tl.floor(uniform(keys, first) * ((H + 1).to(tl.float32) - height))
    left = tl.floor(uniform(keys, first + 1) * ((W + 1).to(tl.float32) - width))
    return top, top + height, left, left + width


@triton.jit
def paint(
    contexts,  # int8 [R, N]
    targets,  # int8 [R, T, N]
    rows,  # int64 [ROWS]
    num_rows,
    number,  # [1 or ROWS, TP]: which target the edges in a column are
    top, bottom, left, right,  # float32 [ROWS, TP]
    context_top, context_bottom, context_left, context_right,  # float32 [ROWS]
    H, W,
    T: tl.constexpr,
    CHUNK: tl.constexpr,
):  # fmt: skip
    """Writes masks of rectangles, the context's without the targets'."""
    N = H * W
    for start in range(0, N, CHUNK):
        patches = start + tl.arange(0, CHUNK)
        row = (patches // W).to(tl.float32)[None, :]
        column = (patches % W).to(tl.float32)[None, :]
        inside = (rows < num_rows)[:, None] & (patches < N)[None, :]
        free = (row >= context_top[:, None]) & (row < context_bottom[:, None])
        free = free & (column >= context_left[:, None]) & (column < context_right[:, None])
        for target in range(T):
            wanted = tl.zeros_like(rows).to(tl.int32) + target
            hit = (row >= pick(top, number, wanted)[:, None]) & (row < pick(bottom, number, wanted)[:, None])
            hit = hit & (column >= pick(left, number, wanted)[:, None]) & (column < pick(right, number, wanted)[:, None])
            tl.store(targets + (rows[:, None] * T + target) * N + patches[None, :], hit.to(tl.int8), mask=inside)
            free = free & ~hit
        tl.store(contexts + rows[:, None] * N + patches[None, :], free.to(tl.int8), mask=inside)


@triton.jit
def draw_targets(
    key, low, high, aspect_low, aspect_high, small_height, small_width,  # [ROWS]
    H, W,
    T: tl.constexpr,
    TP: tl.constexpr,  # T and A, to powers of 2
    A: tl.constexpr,
    AP: tl.constexpr,
):  # fmt: skip
    """Edges [ROWS, TP] of the targets."""
    slots = tl.arange(0, TP)[None, :]
    attempts = tl.arange(0, AP)[None, :]
    top = low[:, None] * 0.0 + slots * 0.0
    bottom, left, right = top, top, top
    for target in range(T):
        first = 4 * (target * (A + 1) + attempts)
        a, b, c, d = block(key[:, None], first, low[:, None], high[:, None], aspect_low[:, None], aspect_high[:, None], H, W)
        meets = (a[:, :, None] < bottom[:, None, :]) & (b[:, :, None] > top[:, None, :])
        meets = meets & (c[:, :, None] < right[:, None, :]) & (d[:, :, None] > left[:, None, :])
        blocked = tl.max((meets & (slots < target)[:, None, :]).to(tl.int32), axis=2) > 0
        chosen = tl.min(tl.where(blocked | (attempts >= A), A, attempts), axis=1)
        last = 4 * (target * (A + 1) + A) + 2
        e, f, g, h = place(key, last, small_height, small_width, H, W)
        here = slots == target
        top = tl.where(here, tl.where(chosen == A, e, pick(a, attempts, chosen))[:, None], top)
        bottom = tl.where(here, tl.where(chosen == A, f, pick(b, attempts, chosen))[:, None], bottom)
        left = tl.where(here, tl.where(chosen == A, g, pick(c, attempts, chosen))[:, None], left)
        right = tl.where(here, tl.where(chosen == A, h, pick(d, attempts, chosen))[:, None], right)
    return top, bottom, left, right


@triton.jit
def load_law(laws, level, within, H, W):
    """The eight numbers of each row's law: areas of targets and of context, aspects, height and width of the fallback."""
    law = laws + level * 8
    low, high = tl.load(law, mask=within, other=0.5), tl.load(law + 1, mask=within, other=0.5)
    context_low, context_high = tl.load(law + 2, mask=within, other=0.5), tl.load(law + 3, mask=within, other=0.5)
    aspect_low, aspect_high = tl.load(law + 4, mask=within, other=1.0), tl.load(law + 5, mask=within, other=1.0)
    small_height = tl.minimum(tl.load(law + 6, mask=within, other=1.0), H.to(tl.float32))
    small_width = tl.minimum(tl.load(law + 7, mask=within, other=1.0), W.to(tl.float32))
    return low, high, context_low, context_high, aspect_low, aspect_high, small_height, small_width


@triton.jit(**ANY)
def reference_kernel(
    keys,  # int64 [R]
    laws,  # float32 [L, 8]
    contexts,  # int8 [R, N]
    targets,  # int8 [R, T, N]
    num_rows,
    num_levels,
    num_samples,
    H, W,
    T: tl.constexpr,
    TP: tl.constexpr,
    A: tl.constexpr,
    AP: tl.constexpr,
    ROWS: tl.constexpr,
    CHUNK: tl.constexpr,
):  # fmt: skip
    """`block_masks.block_masks` of ROWS rows."""
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    within = rows < num_rows
    key = tl.load(keys + rows, mask=within, other=0).to(tl.uint64, bitcast=True)
    level = (rows // num_samples) % num_levels
    low, high, context_low, context_high, aspect_low, aspect_high, tall, wide = load_law(laws, level, within, H, W)
    top, bottom, left, right = draw_targets(key, low, high, aspect_low, aspect_high, tall, wide, H, W, T, TP, A, AP)
    a, b, c, d = block(
        key, tl.full((ROWS,), 4 * T * (A + 1), tl.int32), context_low, context_high, aspect_low, aspect_high, H, W
    )
    slots = tl.arange(0, TP)[None, :]
    paint(contexts, targets, rows, num_rows, slots, top, bottom, left, right, a, b, c, d, H, W, T, CHUNK)


@on_its_device
def reference_masks(keys: Tensor, laws: Tensor, grid: Grid, *, num_targets: int, max_attempts: int) -> tuple[Tensor, Tensor]:
    """`block_masks.block_masks` on a GPU, or anywhere under TRITON_INTERPRET=1."""
    contexts, targets = empty_masks(keys, grid, num_targets)
    if keys.numel():
        reference_kernel[(triton.cdiv(keys.numel(), LAUNCH["ROWS"]),)](
            keys.contiguous(), laws, contexts.view(torch.int8), targets.view(torch.int8),
            keys.numel(), keys.shape[-2], keys.shape[-1], *grid,
            **constants(num_targets, max_attempts), **LAUNCH, enable_fp_fusion=False,
        )  # fmt: skip
    return contexts, targets


def constants(num_targets: int, max_attempts: int) -> dict[str, int]:
    """What `draw_targets` is compiled for."""
    rounded_up = {"TP": triton.next_power_of_2(num_targets), "AP": triton.next_power_of_2(max_attempts)}
    return {"T": num_targets, "A": max_attempts, **rounded_up}


def empty_masks(keys: Tensor, grid: Grid, num_targets: int) -> tuple[Tensor, Tensor]:
    """Contexts bool [..., L, B, N] and targets bool [..., L, B, T, N] to be written."""
    patches = grid[0] * grid[1]
    contexts = torch.empty(*keys.shape, patches, dtype=torch.bool, device=keys.device)
    return contexts, torch.empty(*keys.shape, num_targets, patches, dtype=torch.bool, device=keys.device)
