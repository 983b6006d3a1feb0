"""`chance.bits_tensor` and the float32 arithmetic of the block masks once more, in Triton: the same bits.

Triton's `/` and `sqrt` round as they like; `div_rn` and `sqrt_rn` round as torch does. Launch with `enable_fp_fusion=False`, or
a multiplication and an addition become one operation that rounds once. Only this file's importers need Triton.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, import-untyped, untyped-decorator"
# The arguments of a Triton kernel have types of its own language, and Triton carries no annotations.

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

import torch
import triton
import triton.language as tl
from torch import Tensor

Others = ParamSpec("Others")
Result = TypeVar("Result")

GOLDEN = tl.constexpr(0x9E3779B97F4A7C15)
FIRST = tl.constexpr(0xBF58476D1CE4E5B9)
SECOND = tl.constexpr(0x94D049BB133111EB)
ROWS = ["num_rows", "num_levels", "num_samples", "num_sums"]
GRIDS = ["H", "W", "min_keep", "min_patches", "min_outside", "most", "rounds", "last_rows", "last_columns"]
BLOCKS = ["f", "h", "w", "F", "context_height", "context_width", "context_frames"]
LENGTHS = ["context_length", "target_length"]
PARTS = ["first_3", "first_2", "first_1", "first_0", "count_2", "count_1", "count_0"]
ANY = {"do_not_specialize": [*ROWS, *GRIDS, *BLOCKS, *PARTS, *LENGTHS]}
"""Numbers for which no kernel is compiled anew. Of its own accord Triton makes a constant of each that is 1, which a kernel
cannot convert (`min_keep.to(...)`), and compiles again for multiples of 16: for most batches, and for an epoch's last one."""


def on_its_device(launch: Callable[Concatenate[Tensor, Others], Result]) -> Callable[Concatenate[Tensor, Others], Result]:
    """The device of its first argument is the current one meanwhile: on that, and on its stream, Triton starts a kernel."""

    @wraps(launch)
    def there(first: Tensor, /, *others: Others.args, **named: Others.kwargs) -> Result:
        with torch.cuda.device(first.get_device()):  # -1, for the CPU, changes nothing
            return launch(first, *others, **named)

    return there


@triton.jit
def bits(keys, counters):
    """64 random bits, uint64, of uint64 keys and counters (they broadcast)."""
    golden = tl.full((1,), GOLDEN, tl.uint64)
    first = tl.full((1,), FIRST, tl.uint64)
    second = tl.full((1,), SECOND, tl.uint64)
    state = keys + (counters.to(tl.uint64) + tl.full((1,), 1, tl.uint64)) * golden
    state = (state ^ (state >> 30)) * first
    state = (state ^ (state >> 27)) * second
    return state ^ (state >> 31)


@triton.jit
def uniform(keys, numbers):
    """`rectangles.uniforms`: these numbers (int32) of uint64 keys, float32 in [0, 1)."""
    word = bits(keys, numbers // 4)
    quarter = (word >> (48 - 16 * (numbers % 4)).to(tl.uint64)) & tl.full((1,), 0xFFFF, tl.uint64)
    return quarter.to(tl.int32).to(tl.float32) * (1.0 / 65536)


@triton.jit
def rounded(values):
    """To the nearest whole number, half to even, for |values| < 2**22: beyond 2**23 float32 has no fractions."""
    return (values + 12582912.0) - 12582912.0


@triton.jit
def exponential(power):
    """`rectangles.exponential`."""
    small = power * (1.0 / 64)
    result = ((small * (1.0 / 6) + 0.5) * small + 1.0) * small + 1.0
    for _ in tl.static_range(6):
        result = result * result
    return result


@triton.jit
def clamp(values, low, high):
    """values, not below low nor above high; as torch.clamp, high wins."""
    return tl.minimum(tl.maximum(values, low), high)
