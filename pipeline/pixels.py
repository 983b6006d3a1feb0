"""How the pixels of any image become red, green and blue of 8 bits: one definition for PIL, which DALI meets.

Gray is repeated, a palette looked up, CMYK converted as PIL does, an alpha channel dropped (not blended with a background),
16 bits divided by 257; of an animation the first frame counts. Turning by the EXIF tag is the recipe's choice, not made here.
Two are exceptions, one level apart at most: of a PNG's colours of 16 bits PIL takes the upper byte and DALI the nearest, and of
CMYK with black DALI's levels may be one lower.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

# H, W pixels
MAX_16_BIT = 65535


def to_rgb(image: Image.Image) -> Image.Image:
    """A PIL image of any mode as RGB. Raises ValueError for pixels of 32 bits, which have no defined white."""
    if image.mode == "F":
        raise ValueError("its pixels are 32 bits deep, a range without a defined white; give 8 or 16 bits")
    if image.mode.startswith("I"):  # 16 bits of gray, which PIL would clip to white
        image = Image.fromarray(_to_8_bits(np.asarray(image)))
    return image.convert("RGB")


def array_to_rgb(pixels: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """uint8 or uint16 [H, W], [H, W, 1], [H, W, 2], [H, W, 3] or [H, W, 4] as uint8 [H, W, 3]. Raises ValueError for others."""
    if pixels.dtype not in (np.uint8, np.uint16) or pixels.ndim not in (2, 3) or not pixels.size:
        raise ValueError(f"an array {pixels.dtype} {list(pixels.shape)} is no image; give uint8 [height, width, 3]")
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.shape[-1] > 4:
        raise ValueError(f"an array {list(pixels.shape)} is no image; put the channels last: [height, width, 3]")
    if pixels.dtype == np.uint16:
        pixels = _to_8_bits(pixels)
    colours = pixels[..., :1] if pixels.shape[-1] < 3 else pixels[..., :3]  # without alpha
    return np.ascontiguousarray(np.broadcast_to(colours, (*pixels.shape[:2], 3)))


def _to_8_bits(pixels: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    if pixels.min() < 0 or pixels.max() > MAX_16_BIT:
        raise ValueError(f"its pixels range from {pixels.min()} to {pixels.max()}; give 8 or 16 bits")
    levels: npt.NDArray[np.uint8] = (pixels.astype(np.int64) / 257).round().astype(np.uint8)
    return levels
