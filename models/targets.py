"""What is to be predicted at each level: the teacher's map, averaged over larger and larger windows.

Averaging has nothing to learn, so targets cannot collapse through it, and every level keeps one target per patch, so one mask
format serves all levels. Level targets without averaging, layer-normalised: I-JEPA, arXiv 2301.08243.
"""

# B images, N = rows * columns patches in raster order, D channels

from collections.abc import Sequence

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def box_mean(tokens: Float[Tensor, "B N D"], grid: tuple[int, int], window: int) -> Float[Tensor, "B N D"]:
    """Mean over the square window (odd) around each patch, of the patches of it that lie in the grid of (rows, columns)."""
    if window == 1:
        return tokens
    # The count of patches in a window is a product of rows and columns, so the mean of column means is the mean of the window.
    half = window // 2
    maps = tokens.view(len(tokens), *grid, -1).permute(0, 3, 1, 2)  # a channels-last view
    maps = F.avg_pool2d(maps, (window, 1), stride=1, padding=(half, 0), count_include_pad=False)
    maps = F.avg_pool2d(maps, (1, window), stride=1, padding=(0, half), count_include_pad=False)
    return maps.permute(0, 2, 3, 1).flatten(1, 2)


def level_targets(
    teacher_tokens: Float[Tensor, "B N D"], grid: tuple[int, int], windows: Sequence[int]
) -> list[Float[Tensor, "B N D"]]:
    """The targets of each level, float32: box means of the teacher's tokens, layer-normalised without parameters."""
    tokens = teacher_tokens.float()
    return [F.layer_norm(box_mean(tokens, grid, window), tokens.shape[-1:]) for window in windows]
