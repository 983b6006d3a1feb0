"""`fused_crops` on a GPU: every crop of every image of a batch in at most four launches, on the current stream.

The definition is fused_reference.py, and the arithmetic that of the native kernel, so that the bits are its. The launches:
weights of both axes; resize, and the colours up to the contrast, whose mean is that of the whole crop; the contrast and what
follows it; and the blur. A crop is stored by the first of them that completes it. On the way it is a picture of 8-bit levels.
"""

# mypy: disable-error-code="import-untyped"
# Triton carries no annotations.

import math
from collections.abc import Sequence
from subprocess import CalledProcessError
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import triton
from torch import Tensor
from triton.runtime import driver

from hjepa.kernels.fused_blur_triton import blur_kernel
from hjepa.kernels.fused_colour_triton import contrast_kernel
from hjepa.kernels.fused_crops import STORES, Colours, CropGroup, Decoded, MissingKernelError, check_groups
from hjepa.kernels.fused_plan import Plan, columns_of_band, ends_of_pieces, groups_of_tile, make_plan, plane_bytes
from hjepa.kernels.fused_resize_triton import resize_kernel, weights_kernel

# B images, V crops of one name, S pixels
WEIGHTS = {"X": 128, "num_warps": 4}
RESIZE = {"X": 32, "Y": 16, "GROUPS": 1, "ROWS": 8, "num_warps": 1, "maxnreg": 80}
CONTRAST = {"N": 1024, "num_warps": 4}
BLUR = {"X": 32, "Y": 4, "num_warps": 1}
"""A program's work, its warps, and the registers of a thread, where more programs fit with fewer of them than it would take."""
RESIZES_PER_PROCESSOR, BLURS_PER_PROCESSOR = 24, 28
"""Programs that fit on a multiprocessor at once, by their registers; each has memory of its own."""
SCRATCH_BYTES = 1 << 28
"""That they have together, at most: where boxes are so long that it is not enough, fewer of them run."""


def render(decoded: Decoded, groups: Sequence[CropGroup], mean: Colours, std: Colours) -> None:
    """Enqueues what writes all crops into the groups' tensors; under TRITON_INTERPRET=1 they may be on the CPU.

    `decoded` points to the GPU's memory, which must stay as it is until the current stream has come so far. Raises ValueError
    for what cannot be rendered, before anything is enqueued.
    """
    dtype = check_groups(decoded, groups)
    out = groups[0].out
    if not len(decoded.sizes):
        return
    with torch.cuda.device(out.get_device()):  # -1, for the CPU, changes nothing
        _launch(make_plan(decoded, groups, mean, std), STORES[dtype], out.device)


def require_compiler() -> None:
    """Raises MissingKernelError where Triton cannot start kernels: on each machine it compiles first what starts them."""
    try:
        driver.active.utils  # noqa: B018  # made when it is first asked for
    except (RuntimeError, CalledProcessError, FileNotFoundError) as error:  # the last of a CC that is not there
        raise MissingKernelError(
            f"a C compiler and Python's headers, with which Triton compiles what starts its kernels ({error}): apt install gcc "
            "python3-dev"
        ) from error


def upload(arrays: Sequence[npt.NDArray[Any]], device: torch.device) -> list[Tensor]:
    """The arrays on the device, in one copy that is not waited for; torch keeps the page-locked memory until it has ended."""
    starts = np.cumsum([0, *((array.nbytes + 15) // 16 * 16 for array in arrays)]).tolist()
    packed = torch.empty(starts[-1], dtype=torch.uint8, device="cpu", pin_memory=device.type == "cuda")
    for start, array in zip(starts, arrays, strict=False):
        packed.numpy()[start : start + array.nbytes] = array.reshape(-1).view(np.uint8)
    moved = packed.to(device, non_blocking=True)
    return [
        moved[start : start + array.nbytes].view(torch.from_numpy(array).dtype).view(array.shape)
        for start, array in zip(starts, arrays, strict=False)
    ]


def _launch(plan: Plan, store: int, device: torch.device) -> None:
    size = plan.column("size")
    tiles = ends_of_pieces(size > 0, -(-size // RESIZE["X"]) * -(-size // RESIZE["Y"]))
    areas = ends_of_pieces(plan.column("contrast") < plan.column("num_parts"), -(-plane_bytes(size) // CONTRAST["N"]))
    bands = ends_of_pieces(plan.column("radius") > 0, 3 * -(-size // BLUR["Y"]))
    num_crops, num_tiles, num_areas, num_bands = len(size), *(int(ends[-1]) for ends in (tiles, areas, bands))
    arrays: list[npt.NDArray[Any]] = [plan.places, plan.numbers, plan.colours, plan.factors, plan.bells, tiles, areas, bands]
    places, numbers, colours, factors, bells, ends_of_tiles, ends_of_areas, ends_of_bands = upload(arrays, device)
    pictures = torch.empty(plan.num_levels, dtype=torch.uint8, device=device)
    sums = torch.empty(num_crops, dtype=torch.int64, device=device)
    weights, firsts = _weights(plan, places, numbers, bells, sums)
    groups = groups_of_tile(plan, RESIZE["Y"])
    slots, programs = _slots(num_tiles, RESIZES_PER_PROCESSOR, (groups, 3, RESIZE["X"]), torch.uint32, device)
    resize_kernel[(programs,)](
        places, numbers, factors, colours, ends_of_tiles, weights, firsts, slots, pictures, sums, num_crops, num_tiles, groups,
        STORE=store, **RESIZE, enable_fp_fusion=False,
    )  # fmt: skip
    if num_areas:
        contrast_kernel[(num_areas,)](
            places, numbers, factors, colours, ends_of_areas, pictures, sums, num_crops,
            STORE=store, **CONTRAST, enable_fp_fusion=False,
        )  # fmt: skip
    if num_bands:
        columns = columns_of_band(plan, BLUR["X"])
        slots, programs = _slots(num_bands, BLURS_PER_PROCESSOR, (BLUR["Y"], columns), torch.int16, device)
        blur_kernel[(programs,)](
            places, numbers, colours, ends_of_bands, weights, slots, pictures, num_crops, num_bands, columns,
            STORE=store, **BLUR, enable_fp_fusion=False,
        )  # fmt: skip


def _weights(plan: Plan, places: Tensor, numbers: Tensor, bells: Tensor, sums: Tensor) -> tuple[Tensor, Tensor]:
    """Weights, four to a number of 64 bits, and first taps of the resize; sums are zero then."""
    weights = torch.empty(plan.num_weights, dtype=torch.int16, device=sums.device)
    firsts = torch.empty(plan.num_firsts, dtype=torch.int32, device=sums.device)
    kinds = 3 if plan.column("radius").any() else 2
    grid = (len(sums), kinds, triton.cdiv(int(plan.column("size").max()), WEIGHTS["X"]))
    weights_kernel[grid](places, numbers, bells, weights, firsts, sums, bells.shape[1], **WEIGHTS, enable_fp_fusion=False)
    return weights.view(torch.int64), firsts


def _slots(
    num_items: int, per_processor: int, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, int]:
    """Memory of this shape for each of the programs that run at once [P, *shape], and how many those are."""
    processors = torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1
    programs = max(1, min(num_items, per_processor * processors, SCRATCH_BYTES // (math.prod(shape) * dtype.itemsize)))
    return torch.empty(programs, *shape, dtype=dtype, device=device), programs
