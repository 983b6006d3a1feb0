"""`weighted_blocks` in Triton, bit for bit: a program draws all arrangements of its rows at once, beside each other.

In turn they would wait for each other: one arrangement is a long chain of steps, and far too little work for a warp.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, import-untyped, untyped-decorator"
# The arguments of a Triton kernel have types of its own language, and Triton carries no annotations.

# R rows (crops, levels, samples), T targets, M arrangements, MP the next power of 2, D = ROWS * MP draws, H x W grid

import torch
import triton
import triton.language as tl
from torch import Tensor

from hjepa.kernels import block_masks_triton, exact_blocks, exact_blocks_triton, weighted_blocks
from hjepa.kernels.block_masks_triton import pick
from hjepa.kernels.chance_triton import ANY, bits, on_its_device, uniform
from hjepa.kernels.rectangles import Grid

EXACT = {"ROWS": 1, "PER_WARP": 128}
REFERENCE = {"ROWS": 1, "PER_WARP": 256}
"""Rows whose keys are chosen by one program, and how many values of its largest tensor a warp holds."""
MOST_WARPS = 8
CHOICE = tl.constexpr(weighted_blocks.CHOICE)
SHARES = tl.constexpr(weighted_blocks.SHARES)
LEAST = tl.constexpr(weighted_blocks.LEAST)


@triton.jit
def arrangement_key(key, number):
    """The keys of the arrangements with these numbers, of rows with these keys."""
    return tl.where(number == 0, key, bits(key, number + CHOICE))


@triton.jit
def draws(keys, num_rows, num_levels, num_samples, ROWS: tl.constexpr, MP: tl.constexpr):
    """For each draw [D] its row, whether there is one, its level, and the key of its arrangement."""
    number = tl.arange(0, ROWS * MP)
    rows = tl.program_id(0).to(tl.int64) * ROWS + number // MP
    within = rows < num_rows
    key = tl.load(keys + rows, mask=within, other=0).to(tl.uint64, bitcast=True)
    return rows, within, (rows // num_samples) % num_levels, arrangement_key(key, number % MP)


@triton.jit
def sums_of(sums, rows, num_levels, num_samples, num_sums, H, W):
    """Where the sums of each row begin."""
    crop = tl.where(num_sums > 1, rows // num_samples // num_levels, 0)
    return sums + (crop * num_samples + rows % num_samples) * (H + 1) * (W + 1)


@triton.jit
def product_of(sums, within, number, top, bottom, left, right, W, T: tl.constexpr):
    """Products [D] of the mean weights under the targets; sums [D]: where each row's begin; number: as in `paint`."""
    real = within[:, None] & (number < T)
    stride = W + 1
    corner = sums[:, None]
    under = tl.load(corner + (bottom.to(tl.int32) * stride + right.to(tl.int32)), mask=real, other=1)
    under += tl.load(corner + (top.to(tl.int32) * stride + left.to(tl.int32)), mask=real, other=0)
    under -= tl.load(corner + (top.to(tl.int32) * stride + right.to(tl.int32)), mask=real, other=0)
    under -= tl.load(corner + (bottom.to(tl.int32) * stride + left.to(tl.int32)), mask=real, other=0)
    area = tl.where(real, (bottom - top) * (right - left), 1.0)
    means = tl.div_rn(under.to(tl.float32), area) * (1.0 / 256)
    product = tl.sum(means * 0.0, axis=1) + 1.0
    for target in range(T):
        wanted = tl.zeros_like(product).to(tl.int32) + target
        product = tl.maximum(product * pick(means, number, wanted), LEAST)
    return product


@triton.jit
def take(keys, chosen, num_rows, products, ROWS: tl.constexpr, M: tl.constexpr, MP: tl.constexpr):
    """`weighted_blocks._take` of products [D]: the keys that are taken, written."""
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    within = rows < num_rows
    key = tl.load(keys + rows, mask=within, other=0).to(tl.uint64, bitcast=True)
    products = tl.reshape(products, (ROWS, MP))
    numbers = tl.arange(0, MP)[None, :]
    real = numbers < M
    greatest = tl.max(tl.where(real, products, 0.0), axis=1)[:, None]
    shares = tl.maximum((tl.div_rn(products, greatest) * SHARES).to(tl.int32), 1)
    shares = tl.where(real, shares, 0)
    drawn = uniform(bits(key, tl.zeros_like(key).to(tl.int32) + CHOICE), tl.zeros_like(key).to(tl.int32))
    turn = (drawn * M).to(tl.int32)
    hit = (drawn * tl.sum(shares, axis=1).to(tl.float32)).to(tl.int32)
    place = (numbers + turn[:, None]) % M
    before = (place[:, None, :] <= place[:, :, None]) & real[:, None, :]
    ends = tl.sum(tl.where(before, shares[:, None, :], 0), axis=2)
    place = tl.where(real, place, M)
    found = tl.min(tl.where((ends > hit[:, None]) & real, place, M - 1), axis=1)
    taken = arrangement_key(key, tl.sum(tl.where(place == found[:, None], numbers, 0), axis=1))
    tl.store(chosen + rows, taken.to(tl.int64, bitcast=True), mask=within)


@triton.jit(**ANY)
def weighted_exact_kernel(
    keys,  # int64 [R]
    laws,  # float32 [L, 7]
    sums,  # int64 [G or 1, B, (H + 1) * (W + 1)]
    chosen,  # int64 [R]
    num_rows, num_levels, num_samples, num_sums,
    H, W, min_keep, last_rows, last_columns,
    T: tl.constexpr,
    TP: tl.constexpr,
    PROPOSALS: tl.constexpr,
    MAX_ROWS: tl.constexpr,
    M: tl.constexpr,
    MP: tl.constexpr,  # M, to a power of 2
    ROWS: tl.constexpr,
):  # fmt: skip
    """`weighted_blocks.weighted_exact` of ROWS rows."""
    rows, within, level, key = draws(keys, num_rows, num_levels, num_samples, ROWS, MP)
    low, high, _, _, together, aspect, growth = exact_blocks_triton.load_law(laws, level, within)
    rank, top, bottom, left, right = exact_blocks_triton.draw_targets(
        key, low, high, together, aspect, growth, H, W, min_keep, last_rows, last_columns, T, TP, PROPOSALS, MAX_ROWS
    )
    own = sums_of(sums, rows, num_levels, num_samples, num_sums, H, W)
    take(keys, chosen, num_rows, product_of(own, within, rank, top, bottom, left, right, W, T), ROWS, M, MP)


@triton.jit(**ANY)
def weighted_reference_kernel(
    keys,  # int64 [R]
    laws,  # float32 [L, 8]
    sums,  # int64 [G or 1, B, (H + 1) * (W + 1)]
    chosen,  # int64 [R]
    num_rows, num_levels, num_samples, num_sums,
    H, W,
    T: tl.constexpr,
    TP: tl.constexpr,
    A: tl.constexpr,
    AP: tl.constexpr,
    M: tl.constexpr,
    MP: tl.constexpr,
    ROWS: tl.constexpr,
):  # fmt: skip
    """`weighted_blocks.weighted_reference` of ROWS rows."""
    rows, within, level, key = draws(keys, num_rows, num_levels, num_samples, ROWS, MP)
    low, high, _, _, aspect_low, aspect_high, tall, wide = block_masks_triton.load_law(laws, level, within, H, W)
    top, bottom, left, right = block_masks_triton.draw_targets(
        key, low, high, aspect_low, aspect_high, tall, wide, H, W, T, TP, A, AP
    )
    own = sums_of(sums, rows, num_levels, num_samples, num_sums, H, W)
    slots = tl.arange(0, TP)[None, :] + tl.zeros((ROWS * MP, 1), tl.int32)
    take(keys, chosen, num_rows, product_of(own, within, slots, top, bottom, left, right, W, T), ROWS, M, MP)


@on_its_device
def weighted_exact(
    keys: Tensor, laws: Tensor, sums: Tensor, grid: Grid, *, num_targets: int, min_keep: int, arrangements: int
) -> Tensor:
    """`weighted_blocks.weighted_exact` on a GPU, or anywhere under TRITON_INTERPRET=1."""
    chosen = torch.empty_like(keys, memory_format=torch.contiguous_format)
    if keys.numel():
        constants = exact_blocks_triton.constants(num_targets)
        weighted_exact_kernel[(triton.cdiv(keys.numel(), EXACT["ROWS"]),)](
            keys.contiguous(), laws, sums.contiguous(), chosen, keys.numel(), *keys.shape[1:], len(sums), *grid,
            min_keep, *exact_blocks.last_layout(num_targets, grid), **constants,
            **of_program(EXACT, arrangements, constants["TP"] ** 2), enable_fp_fusion=False,
        )  # fmt: skip
    return chosen


@on_its_device
def weighted_reference(
    keys: Tensor, laws: Tensor, sums: Tensor, grid: Grid, *, num_targets: int, max_attempts: int, arrangements: int
) -> Tensor:
    """`weighted_blocks.weighted_reference` on a GPU, or anywhere under TRITON_INTERPRET=1."""
    chosen = torch.empty_like(keys, memory_format=torch.contiguous_format)
    if keys.numel():
        constants = block_masks_triton.constants(num_targets, max_attempts)
        weighted_reference_kernel[(triton.cdiv(keys.numel(), REFERENCE["ROWS"]),)](
            keys.contiguous(), laws, sums.contiguous(), chosen, keys.numel(), *keys.shape[1:], len(sums), *grid,
            **constants, **of_program(REFERENCE, arrangements, constants["AP"] * constants["TP"]), enable_fp_fusion=False,
        )  # fmt: skip
    return chosen


def of_program(launch: dict[str, int], arrangements: int, values: int) -> dict[str, int]:
    """Constants and warps of a program whose largest tensor has this many values for each draw."""
    MP = triton.next_power_of_2(arrangements)
    warps = min(MOST_WARPS, max(1, launch["ROWS"] * MP * values // launch["PER_WARP"]))
    return {"M": arrangements, "MP": MP, "ROWS": launch["ROWS"], "num_warps": warps}
