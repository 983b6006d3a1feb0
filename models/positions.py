"""Fixed sine and cosine positions of patches in two dimensions, for any grid and for places between its patches.

They are computed where they are needed: ten small kernels a pass, against a cache to key, to move between devices, to keep out
of checkpoints and of inference mode. Source: MAE, arXiv 2111.06377, and I-JEPA, arXiv 2301.08243.
"""

# N = rows * columns patches of a grid, in raster order; D channels; ... any leading axes

import torch
from jaxtyping import Float
from torch import Tensor

LONGEST_WAVE = 10000.0
"""Longest wavelength, in patches, divided by 2 pi."""


def sincos_positions(places: Float[Tensor, "... 2"], width: int) -> Float[Tensor, "... D"]:
    """Positions float32 of (row, column) in patches: D/4 sines and D/4 cosines of the row, then the same of the column."""
    if width % 4:
        raise ValueError(f"width={width} must divide by 4: sine and cosine of two axes; use {width - width % 4 or 4}")
    powers = torch.arange(width // 4, device=places.device, dtype=torch.float32) / (width // 4)
    # A product, not an einsum: autocast would compute the angles in bfloat16, off by whole patches.
    angles = places.float().unsqueeze(-1) * LONGEST_WAVE**-powers
    return torch.cat([angles.sin(), angles.cos()], dim=-1).flatten(-2)


def grid_positions(grid: tuple[int, int], width: int, device: torch.device) -> Float[Tensor, "N D"]:
    """Positions float32 of all patches of a grid of (rows, columns)."""
    rows = torch.arange(grid[0], device=device, dtype=torch.float32)
    columns = torch.arange(grid[1], device=device, dtype=torch.float32)
    places = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=-1)
    return sincos_positions(places.flatten(0, 1), width)
