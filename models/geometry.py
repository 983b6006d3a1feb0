"""Where the patches of a local crop lie in the global crops of its image, and what the teacher's map of a global says there.

A place is (row, column) in patches of a global crop, from its upper left corner: patch (r, c) covers r to r + 1 and c to c + 1,
and its centre is (r + 0.5, c + 0.5). sincos_positions counts from the centre of the first patch instead: give it place - 0.5.
A crop is a box of the source image, resized and then perhaps mirrored left to right, as the data pipeline makes it.
"""

# B images, G global crops, V local crops, N patches of a local crop and P of a global one in raster order, D channels

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hjepa.models.targets import box_mean


@dataclass(frozen=True, kw_only=True, slots=True)
class PatchPlaces:
    """The patches of each local crop in the grid of each global crop of the same image."""

    centre: Float[Tensor, "G V B N 2"]
    """Place of each patch's centre, float32; it may lie outside of the grid."""
    footprint: Float[Tensor, "G V B N 4"]
    """Top, left, bottom and right of the rectangle that each patch covers, float32."""
    inside: Bool[Tensor, "G V B N"]
    """Whether the centre lies inside the global crop; on its border it does not."""

    @property
    def log_size(self) -> Float[Tensor, "G V B 2"]:
        """Logarithm of the height and width of each local crop's patches, float32."""
        first = self.footprint[..., 0, :]
        return (first[..., 2:] - first[..., :2]).log()

    def of(self, crops: slice) -> "PatchPlaces":
        """The places of some of the local crops."""
        return PatchPlaces(centre=self.centre[:, crops], footprint=self.footprint[:, crops], inside=self.inside[:, crops])


def place_patches(
    local_box: Int[Tensor, "B V 4"],
    local_flip: Bool[Tensor, "B V"],
    global_box: Int[Tensor, "B G 4"],
    global_flip: Bool[Tensor, "B G"],
    local_grid: tuple[int, int],
    global_grid: tuple[int, int],
) -> PatchPlaces:
    """Maps patches through boxes (top, left, height, width in pixels of the source) and flips; grids are (rows, columns)."""
    inner, mirrored = local_box.long().transpose(0, 1).unsqueeze(0), local_flip.T.unsqueeze(0).unsqueeze(-1)  # [1, V, B, .]
    outer, turned = global_box.long().transpose(0, 1).unsqueeze(1), global_flip.T.unsqueeze(1).unsqueeze(-1)  # [G, 1, B, .]
    rows = _along_axis(0, inner, None, outer, None, local_grid[0], global_grid[0])
    columns = _along_axis(1, inner, mirrored, outer, turned, local_grid[1], global_grid[1])
    centre, first, last, inside = (_pairs(*parts) for parts in zip(rows, columns, strict=True))
    return PatchPlaces(centre=centre, footprint=torch.cat([first, last], dim=-1), inside=inside.all(-1))


def touches(
    footprint: Float[Tensor, "... N 4"], patches: Bool[Tensor, "... P"], grid: tuple[int, int]
) -> Bool[Tensor, "... N"]:
    """Whether each rectangle covers a part of a marked patch of the grid of (rows, columns); an edge in common is no part."""
    top, left, bottom, right = footprint.unsqueeze(-1).unbind(-2)
    rows, columns = (torch.arange(count, device=footprint.device) for count in grid)
    in_row = ((top < rows + 1) & (bottom > rows)).float()  # [..., N, rows]
    in_column = (left < columns + 1) & (right > columns)
    # Counts of marked patches in the rows covered, for each column; as a product of matrices, for it is large.
    counts = in_row @ patches.view(*patches.shape[:-1], *grid).float()
    return ((counts > 0) & in_column).any(-1)


@torch.no_grad()
def sampled_targets(
    teacher_tokens: Float[Tensor, "G B P D"],
    grid: tuple[int, int],
    windows: Sequence[int],
    centre: Float[Tensor, "G V B N 2"],
) -> list[Float[Tensor, "G V B N D"]]:
    """`level_targets` between the patches of the grid of (rows, columns): interpolated bilinearly, then layer-normalised.

    Float32, without gradient. Beyond the centres of the outermost patches their values go on, and places outside of the
    grid get those too, though they mean nothing there.
    """
    # -1 and 1 are the outer edges of the grid, x comes before y
    where = torch.stack([centre[..., 1] * (2 / grid[1]) - 1, centre[..., 0] * (2 / grid[0]) - 1], dim=-1)
    where = where.transpose(1, 2).flatten(0, 1)  # [GB, V, N, 2]
    tokens = teacher_tokens.float().flatten(0, 1)
    targets = []
    for window in windows:
        maps = box_mean(tokens, grid, window).view(len(tokens), *grid, -1).permute(0, 3, 1, 2)
        sampled = F.grid_sample(maps, where, mode="bilinear", padding_mode="border", align_corners=False)
        sampled = sampled.permute(0, 2, 3, 1).view(*teacher_tokens.shape[:2], *where.shape[1:3], -1).transpose(1, 2)
        targets.append(F.layer_norm(sampled, sampled.shape[-1:]))
    return targets


def _along_axis(
    axis: int,
    local_box: Int[Tensor, "1 V B 4"],
    local_flip: Bool[Tensor, "1 V B 1"] | None,
    global_box: Int[Tensor, "G 1 B 4"],
    global_flip: Bool[Tensor, "G 1 B 1"] | None,
    count: int,
    global_count: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Centre, first and last edge of `count` patches, and whether the centre is inside; each [G, V, B, count]."""
    steps = torch.arange(2 * count + 1, device=local_box.device)  # half patches: edges are even, centres odd
    if local_flip is not None:
        steps = torch.where(local_flip, 2 * count - steps, steps)
    # Pixels of the source times 2 * count are whole numbers: what lies on a border lies on it exactly, mirrored or not.
    start, length = (local_box[..., number, None] for number in (axis, axis + 2))
    global_start, global_length = (global_box[..., number, None] for number in (axis, axis + 2))
    place, end = 2 * count * (start - global_start) + steps * length, 2 * count * global_length
    if global_flip is not None:
        place = torch.where(global_flip, end - place, place)
    inside = ((place > 0) & (place < end))[..., 1::2]
    places = place * global_count / end
    one, other = places[..., 0:-1:2], places[..., 2::2]
    return places[..., 1::2], torch.minimum(one, other), torch.maximum(one, other), inside


def _pairs(rows: Tensor, columns: Tensor) -> Tensor:
    """[..., N, 2] of [..., rows] and [..., columns], in raster order."""
    sizes = (*rows.shape, columns.shape[-1])
    return torch.stack([rows.unsqueeze(-1).expand(sizes), columns.unsqueeze(-2).expand(sizes)], dim=-1).flatten(-3, -2)
