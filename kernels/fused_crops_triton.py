"""`fused_crops` on a GPU: every crop of every image of a batch in at most four launches, on the current stream.

The definition is fused_reference.py, and the arithmetic that of the native kernel, so that the bits are its. The launches:
weights of both axes; resize, and the colours up to the contrast, whose mean is that of the whole crop; the contrast and what
follows it; and the blur. A crop is stored by the first of them that completes it. On the way it is a picture of 8-bit levels.
"""

# mypy: disable-error-code="no-untyped-call"
# Triton carries no annotations.

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
import triton
from torch import Tensor

from hjepa.kernels.fused_blur_triton import blur_kernel
from hjepa.kernels.fused_colour_triton import contrast_kernel
from hjepa.kernels.fused_crops import MAX_SIDE, STORES, Colours, CropGroup, Decoded, check_groups
from hjepa.kernels.fused_plan import Plan, make_plan, pieces, rows_of_tile
from hjepa.kernels.fused_resize_triton import resize_kernel, weights_kernel

# B images, V crops of one name, S pixels, I pieces of work
WEIGHTS = {"X": 128}
RESIZE = {"X": 64, "Y": 32, "ROWS": 16}
CONTRAST = {"N": 1024}
BLUR = {"X": 64, "Y": 32}
"""Sizes of a program's work."""
PROGRAMS_PER_PROCESSOR = 4
"""Of those that have memory of their own."""
SCRATCH_BYTES = 1 << 28
"""That they have together, at most: where boxes are so long that it is not enough, fewer of them run."""
OPTIONS = {"num_warps": 4, "enable_fp_fusion": False}


def render(decoded: Decoded, groups: Sequence[CropGroup], mean: Colours, std: Colours) -> None:
    """Enqueues what writes all crops into the groups' tensors; under TRITON_INTERPRET=1 they may be on the CPU.

    `decoded` points to the GPU's memory, which must stay as it is until the current stream has come so far. Raises ValueError
    for what cannot be rendered, before anything is enqueued.
    """
    dtype = check_groups(decoded, groups)
    for group in groups:
        _check_values(decoded, group)
    out = groups[0].out
    if not len(decoded.sizes):
        return
    with torch.cuda.device_of(out):
        _launch(make_plan(decoded, groups, mean, std), STORES[dtype], out.device)


def upload(arrays: Sequence[npt.NDArray[np.generic]], device: torch.device) -> list[Tensor]:
    """The arrays on the device, in one copy that is not waited for; torch keeps the page-locked memory until it has ended."""
    starts = np.cumsum([0, *((array.nbytes + 15) // 16 * 16 for array in arrays)]).tolist()
    packed = torch.empty(starts[-1], dtype=torch.uint8, pin_memory=device.type == "cuda")
    for start, array in zip(starts, arrays, strict=False):
        packed.numpy()[start : start + array.nbytes] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    moved = packed.to(device, non_blocking=True)
    return [
        moved[start : start + array.nbytes].view(torch.from_numpy(array[:0]).dtype).view(array.shape)
        for start, array in zip(starts, arrays, strict=False)
    ]


def _launch(plan: Plan, store: int, device: torch.device) -> None:
    size, contrast, radius = plan.column("size"), plan.column("contrast"), plan.column("radius")
    tiles = pieces(size > 0, -(-size // RESIZE["X"]) * -(-size // RESIZE["Y"]))
    areas = pieces(contrast < plan.column("num_parts"), -(-size * size // CONTRAST["N"]))
    bands = pieces(radius > 0, 3 * -(-size // BLUR["Y"]))
    arrays = [plan.places, plan.numbers, plan.factors, plan.bells, plan.colours, tiles, areas, bands]
    places, numbers, factors, bells, colours, tiles_there, areas_there, bands_there = upload(arrays, device)

    def empty(count: int, dtype: torch.dtype) -> Tensor:
        return torch.empty(count, dtype=dtype, device=device)

    weights, firsts = empty(plan.num_weights, torch.int16), empty(plan.num_firsts, torch.int32)
    pictures, sums = empty(plan.num_levels, torch.uint8), empty(len(size), torch.int64)
    blocks = triton.cdiv(int(size.max()), WEIGHTS["X"])
    weights_kernel[(len(size), 2, blocks)](places, numbers, weights, firsts, sums, **WEIGHTS, **OPTIONS)
    rows = rows_of_tile(plan, RESIZE["Y"])
    programs = _programs(len(tiles), rows * 3 * RESIZE["X"], device)
    slots = empty(programs * rows * 3 * RESIZE["X"], torch.uint8)
    resize_kernel[(programs,)](
        places, numbers, factors, colours, tiles_there, weights, firsts, slots, pictures, sums, len(tiles), rows,
        STORE=store, **RESIZE, **OPTIONS,
    )  # fmt: skip
    if len(areas):
        contrast_kernel[(len(areas),)](
            places, numbers, factors, colours, areas_there, pictures, sums, STORE=store, **CONTRAST, **OPTIONS
        )
    if len(bands):
        floats = BLUR["Y"] * int(size.max())
        programs = _programs(len(bands), 4 * floats, device)
        blur_kernel[(programs,)](
            places, numbers, bells, colours, bands_there, empty(programs * floats, torch.float32), pictures,
            len(bands), plan.bells.shape[1], floats, STORE=store, **BLUR, **OPTIONS,
        )  # fmt: skip


def _programs(num_items: int, slot_bytes: int, device: torch.device) -> int:
    """How many run at once."""
    processors = torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1
    return max(1, min(num_items, PROGRAMS_PER_PROCESSOR * processors, SCRATCH_BYTES // slot_bytes))


def _check_values(decoded: Decoded, group: CropGroup) -> None:
    """As csrc/checks.cpp."""
    box, sizes = group.box.astype(np.int64), decoded.sizes[:, None].astype(np.int64)
    first, sides = box[..., :2], box[..., 2:]
    if ((first < 0) | (sides < 1) | (sides > MAX_SIDE) | (first + sides > sizes)).any():
        raise ValueError(f"a box is not within its image, or longer than {MAX_SIDE} pixels")
    if (np.sort(group.order, axis=-1) != np.arange(4)).any():
        raise ValueError("order must hold 0, 1, 2 and 3 for every crop")
    factors, turns = group.jitter[..., :3], group.jitter[..., 3]
    if not ((factors >= 0) & (factors <= 1e6)).all():
        raise ValueError("jitter's factors must be between 0 and 1e6")
    if not (np.abs(turns) <= 0.5).all():
        raise ValueError("jitter's hue must be between -0.5 and 0.5 turns")
    if not (np.isfinite(group.sigma) & (group.sigma >= 0)).all():
        raise ValueError("sigma must be finite, and 0 or more")
