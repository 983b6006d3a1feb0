"""The GPU's crops in Triton's interpreter: the bits of the native kernel, and the definition to within a level.

    TRITON_INTERPRET=1 python tests/kernels/interpreted/crops.py

Run by `test_fused_crops_triton.py`; see equality.py. Sizes are small, because the interpreter is slow.
"""

import ctypes
import mmap
import sys
from dataclasses import replace

import numpy as np
import torch

from hjepa.kernels import fused_crops_triton
from hjepa.kernels.fused_crops import CropGroup, Threads
from tests.kernels.interpreted.quicker import hurry
from tests.kernels.test_fused_crops import (
    MEAN,
    ORDERS,
    STD,
    decoded,
    expected,
    levels_of,
    pictures,
    plain_group,
    random_group,
)

SMALL = [(1, 1), (1, 40), (33, 7), (40, 61)]
FENCED = [(9, 9), (10, 3), (13, 8), (2, 14), (11, 1), (12, 20)]
FENCES: list[tuple[mmap.mmap, object]] = []
"""Memory that must outlive the images in it."""


def compare(images: list[np.ndarray], *groups: CropGroup) -> int:
    """How many crops were rendered, together; raises AssertionError where they are not what they must be."""
    ours, native = ([replace(group, out=torch.full_like(group.out, torch.nan)) for group in groups] for _ in range(2))
    fused_crops_triton.render(decoded(images), ours, MEAN, STD)
    Threads(1).render(decoded(images), native, MEAN, STD)
    for found, wanted in zip(ours, native, strict=True):
        if found.out.dtype == torch.bfloat16:  # a GPU rounds (cvt.rn), and the interpreter cuts off
            exact = torch.full(wanted.out.shape, torch.nan)
            Threads(1).render(decoded(images), [replace(wanted, out=exact)], MEAN, STD)
            wanted.out.copy_((exact.view(torch.int32) & -65536).view(torch.float32))
        assert torch.equal(found.out, wanted.out)  # NaN, where nothing was written, is not
        if found.out.dtype == torch.float32:
            differences = np.abs(levels_of(found.out) - expected(images, found))
            assert differences.max() < 1.001
            assert differences.mean() < 0.001
    return sum(group.flip.size for group in groups)


def fenced(image: np.ndarray) -> np.ndarray:
    """A copy whose last byte is followed by a page that cannot be read: whoever reads beyond it is killed."""
    room = -(-image.nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
    memory = mmap.mmap(-1, room + mmap.PAGESIZE)
    first = ctypes.c_char.from_buffer(memory)
    FENCES.append((memory, first))
    fence = ctypes.c_void_p(ctypes.addressof(first) + room)
    assert ctypes.CDLL(None, use_errno=True).mprotect(fence, ctypes.c_size_t(mmap.PAGESIZE), 0) == 0
    copy = np.frombuffer(memory, np.uint8, image.nbytes, room - image.nbytes).reshape(image.shape)
    copy[:] = image
    return copy


def main() -> None:
    """Prints how many crops were equal; anything else is an error."""
    hurry()
    few = pictures([(40, 61)])
    total = compare(few, random_group(few, 1, 33, seed=4, sigma=np.full((1, 1), 1.5, np.float32)), random_group(few, 1, 9))
    # Whole images whose rows begin anywhere in a word, and are shorter than what is read of them.
    beside = [fenced(image) for image in pictures(FENCED)]
    total += compare(beside, plain_group(beside, 9), plain_group(beside, 3, flip=np.ones((len(beside), 1), bool)))
    fused_crops_triton.RESIZE |= {"Y": 32, "GROUPS": 16}  # the interpreter takes its time by the operation, not by the number
    fused_crops_triton.BLUR["Y"] = 32
    images, picture = pictures(SMALL), pictures([(120, 100)])
    for dtype in (torch.float32, torch.float16, torch.bfloat16):  # two names in the same launches
        some = images if dtype == torch.float32 else images[2:3]
        large, small = random_group(some, 2, 33, seed=1), random_group(some, 3, 7, seed=2, interpolation="bilinear")
        small = replace(small, blur_window=23, solarize_threshold=1)
        total += compare(some, *(replace(group, out=group.out.to(dtype)) for group in (large, small)))
    # Several tiles and pieces along either axis, more of them than programs, and 12 source pixels for one.
    total += compare(picture, random_group(picture, 2, 70, seed=3, sigma=np.full((1, 2), 1.5, np.float32)))
    total += compare(picture, plain_group(picture, 10), plain_group(picture, 9, interpolation="bilinear"))
    total += compare(images, plain_group(images, 1), plain_group(images, 4, sigma=np.full((len(images), 1), 6, np.float32)))
    strong = np.tile(np.array([1.5, 1.6, 1.7, 0.3], np.float32), (1, 24, 1))
    off = {name: np.zeros((1, 24), bool) for name in ("gray", "solarize")}
    total += compare(images[2:3], random_group(images[2:3], 24, 9, jitter=strong, order=ORDERS[None], **off))
    print(f"{total} crops equal")


if __name__ == "__main__":
    sys.exit(main())
