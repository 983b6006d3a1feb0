"""The law "exact": blocks that never overlap, of the areas that were asked for, for every sample, crop and level at once.

1. Areas: uniform between the least and the greatest scale, alike for all T targets. Where they add up to more than the budget
   (`budget`: 85 % of the grid, or what T least areas take if that is more), one factor brings all of them nearer to the least.
2. Shapes: PROPOSALS times T aspect ratios, log-uniform. The height is rounded; the width follows from it and the area.
3. Layouts: the blocks stand in 1 to MAX_ROWS rows, or in columns. Of all layouts and proposals of shapes that fit, one is
   taken, each with the same chance. If none fits, shapes give way, not areas: rows share the grid's height, and blocks
   their row's width, in proportion to their areas, which then change by rounding only.
4. Places: what the rows do not need is cut at random places into parts, one for each row, and so within a row. Each block then
   has a cell to itself, and a place in it that leans to the cell's ends: edges would seldom be hit without that. The layout is
   mirrored, each way with chance 1/2, and the targets take its blocks in random order: all targets are alike.
5. Context: one block, its area and place uniform, its aspect log-uniform, less the targets. Where that leaves fewer than
   min_keep patches, it is the whole grid less the targets, which is enough.

There is no loop that ends by chance and no step that looks at a value. Numbers are whole, or 64ths, and so have exact sums in
any order, or come from single operations that round correctly: a kernel can give the same bits.
"""

# T targets, as many slots of a layout; P proposals, R rows of a layout, L levels, B samples, ... leading axes, H x W grid

import math
from collections.abc import Sequence
from functools import cache, reduce

import torch
from torch import Tensor

from hjepa.kernels import native_masks
from hjepa.kernels.block_masks import BlockLaw
from hjepa.kernels.rectangles import Blocks, Grid, common_area, exponential, has_kernel, masks_of, place, uniforms

PROPOSALS = 4
MAX_ROWS = 8
BUDGET = 0.85
"""Share of the grid that the targets may take together; the more, the fewer shapes fit."""
SORTED = 4096
"""More than any cut: what is added for each row sorts cuts within their rows."""
NO_LAYOUT = 2.0**24
"""Above the priority of any layout."""


def budget(least: float, grid: Grid, num_targets: int, min_keep: int) -> float:
    """Patches that targets with this least area, in patches, take together at most; negative where they do not fit."""
    most = grid[0] * grid[1] - min_keep
    together = max(num_targets * least, min(BUDGET * grid[0] * grid[1], most))
    return together if together <= most else -1.0


def exact_law_tensor(laws: Sequence[BlockLaw], grid: Grid, num_targets: int, min_keep: int) -> Tensor:
    """The laws of L levels as float32 [L, 7] on the CPU, areas in 64ths of a patch. Copy it to the device once.

    Raises ValueError where a level's least areas do not fit beside each other and min_keep patches of context.
    """
    patches, rows = grid[0] * grid[1], []
    for level, law in enumerate(laws):
        areas = [int(max(1.0, scale * patches) * 64 + 1e-6) / 64 for scale in (*law.target_scale, *law.context_scale)]
        together = budget(areas[0], grid, num_targets, min_keep)
        if together < 0:
            blocks = int(max(0, patches - min_keep) / areas[0])
            fewer = f"at most {blocks} blocks, " if blocks else "a larger grid, "
            raise ValueError(
                f"{num_targets} target blocks of at least {max(1, law.target_scale[0] * patches):.1f} of {grid[0]}x{grid[1]} "
                f"patches ({law.target_scale[0]:.0%}) cannot be disjoint and leave {min_keep} for the context (level {level}); "
                f"use {fewer}smaller scales, fewer levels or a smaller min_keep"
            )
        low, high = law.aspect_ratio
        rows.append([*areas, int(together * 64) / 64, low, math.log(high / low)])
    return torch.tensor(rows, dtype=torch.float32, device="cpu")


def exact_masks(keys: Tensor, laws: Tensor, grid: Grid, *, num_targets: int, min_keep: int) -> tuple[Tensor, Tensor]:
    """Context bool [..., L, B, N] and targets bool [..., L, B, T, N], True = use, all disjoint, on the device of the keys.

    keys: int64 [..., L, B], one for each sample, crop and level; laws: `exact_law_tensor`, on the same device. A context has
    min_keep patches or more.
    """
    if has_kernel(keys, num_targets):
        from hjepa.kernels import exact_blocks_triton  # here: Triton may not be installed

        return exact_blocks_triton.exact_masks(keys, laws, grid, num_targets=num_targets, min_keep=min_keep)
    if native_masks.has_native(keys, num_targets):
        return native_masks.block_masks(keys, laws, grid, "exact", num_targets=num_targets, min_keep=min_keep)
    return masks_of(draw_exact(keys, laws, grid, num_targets=num_targets, min_keep=min_keep), grid)


def draw_exact(keys: Tensor, laws: Tensor, grid: Grid, *, num_targets: int, min_keep: int) -> Blocks:
    """The rectangles behind `exact_masks`, and the layout of each row; the last one, `num_layouts`, is the last resort."""
    layouts = num_layouts(num_targets)
    counts = [num_targets, PROPOSALS * num_targets, layouts, *[num_targets] * 5, 2, 4]
    share, shape, priority, *places, mirror, context = torch.split(uniforms(keys, sum(counts)), counts)
    low, high, _, _, together, aspect, growth = laws.unsqueeze(-1).unbind(-2)  # each [L, 1]
    areas = draw_areas(share, low, high, together)
    ratios = aspect * exponential(shape.view(num_targets, PROPOSALS, *keys.shape) * growth)
    most = grid[0] * grid[1] - min_keep
    height, width = _sides(areas.unsqueeze(1), ratios, grid)
    choice = _choose(height, width, priority, grid, most)
    targets = _spread(*_chosen(height, width, choice, areas, grid, most), places, mirror, grid)
    block = context_block(context, laws, targets, grid, min_keep)
    return Blocks(targets=targets, context=block, choice=choice)


def context_block(numbers: Tensor, laws: Tensor, targets: Tensor, grid: Grid, min_keep: int) -> Tensor:
    """Edges [4, ...] of a context, from four uniforms [4, ...], with min_keep patches or more beside targets [4, T, ...]."""
    _, _, low, high, _, aspect, growth = laws.unsqueeze(-1).unbind(-2)
    area = low + numbers[0] * (high - low)
    block = place(numbers[2:], *_sides(area, aspect * exponential(numbers[1] * growth), grid), grid)
    free = common_area(block, block) - common_area(block.unsqueeze(1), targets).sum(0)
    ends = (0, grid[0], 0, grid[1])
    return torch.stack([torch.where(free < min_keep, end, edge) for end, edge in zip(ends, block.unbind(0), strict=True)])


def num_layouts(num_targets: int) -> int:
    """Layouts to choose from: numbers of rows, as rows or as columns, with each proposal of shapes."""
    return PROPOSALS * 2 * min(num_targets, MAX_ROWS)


def draw_areas(share: Tensor, low: Tensor, high: Tensor, together: Tensor) -> Tensor:
    """Areas [T, ...] from uniforms, in 64ths of a patch, whose sum is `together` at most."""
    extra = ((share * (high - low)) * 64).floor_().mul_(1 / 64)
    room, wanted = together - low * len(share), extra.sum(0)
    factor = torch.where(wanted > room, room / wanted, 1.0)
    return low + (extra * factor * 64).floor_().mul_(1 / 64)


def _sides(area: Tensor, ratio: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """Whole heights and widths that fit the grid: the height rounded, half to even, the width what the area then needs."""
    height = (area / ratio).sqrt_().round_().clamp_(1, grid[0])
    height = torch.maximum(height, (area / grid[1]).ceil_())  # no wider than the grid, or area would be lost
    return height, (area / height).round_().clamp_(1, grid[1])


def _row_sizes(num_targets: int, num_rows: int) -> list[int]:
    """Slots in each row of a layout; the first rows have one more where it does not divide."""
    quotient, rest = divmod(num_targets, num_rows)
    return [quotient + 1] * rest + [quotient] * (num_rows - rest)


def _choose(height: Tensor, width: Tensor, priority: Tensor, grid: Grid, most: int) -> Tensor:
    """Number int64 [...] of the layout that fits blocks of sides [T, P, ...] and has the least priority [Y, ...].

    Layout (r * 2 + columns) * P + p has r + 1 rows, or columns, and the shapes of proposal p.
    """
    layouts = len(priority)
    allowed = (height * width).sum(0) <= most
    fitting = []
    for num_rows in range(1, min(len(height), MAX_ROWS) + 1):
        sizes = _row_sizes(len(height), num_rows)
        fitting.append(_fits(torch.split(height, sizes), torch.split(width, sizes), grid) & allowed)
        fitting.append(_fits(torch.split(width, sizes), torch.split(height, sizes), (grid[1], grid[0])) & allowed)
    order = priority * (65536 * layouts) + torch.arange(layouts, device=priority.device).view(-1, *[1] * (priority.ndim - 1))
    least = -_greatest(torch.where(torch.stack(fitting).flatten(0, 1), -order, -NO_LAYOUT))
    return torch.where(least < NO_LAYOUT, least % layouts, layouts).to(torch.int64)


def _fits(heights: Sequence[Tensor], widths: Sequence[Tensor], grid: Grid) -> Tensor:
    """Whether rows of blocks [slots, ...] with these sides fit below each other, bool [...]."""
    total, fitting = torch.zeros_like(heights[0][0]), torch.ones_like(heights[0][0], dtype=torch.bool)
    for row_heights, row_widths in zip(heights, widths, strict=True):
        total += _greatest(row_heights)
        fitting &= row_widths.sum(0) <= grid[1]
    return fitting & (total <= grid[0])


def _greatest(values: Tensor) -> Tensor:
    """`values.amax(0)`, which on a CPU is ten times slower."""
    return reduce(torch.maximum, values.unbind(0))


def _chosen(
    height: Tensor, width: Tensor, choice: Tensor, areas: Tensor, grid: Grid, most: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Sides [T, ...] of the blocks of the chosen layout, its rows, float32 [...], and whether they are columns, bool [...]."""
    layouts = num_layouts(len(areas))
    last_rows, last_columns = last_layout(len(areas), grid)
    last_height, last_width = _last_resort(areas, last_rows, last_columns, grid, most)
    last = choice == layouts
    proposal = (choice % PROPOSALS).expand(len(areas), 1, *choice.shape)
    height = torch.where(last, last_height, height.gather(1, proposal).squeeze(1))
    width = torch.where(last, last_width, width.gather(1, proposal).squeeze(1))
    rows = torch.where(last, last_rows, choice // (2 * PROPOSALS) + 1).to(torch.float32)
    return height, width, rows, torch.where(last, last_columns, choice // PROPOSALS % 2) == 1


@cache
def last_layout(num_targets: int, grid: Grid) -> tuple[int, int]:
    """Rows, and 1 for columns, of the layout whose cells are most nearly square; it has room for all blocks."""
    found = []
    for columns, (height, width) in enumerate((grid, grid[::-1])):
        for rows in range(1, min(num_targets, height) + 1):
            across = -(-num_targets // rows)
            if across <= width:
                found.append((abs(math.log(height / rows * across / width)), rows, columns))
    return min(found)[1:]


def _last_resort(areas: Tensor, num_rows: int, columns: int, grid: Grid, most: int) -> tuple[Tensor, Tensor]:
    """Sides [T, ...] of blocks that fit into rows which share the grid in proportion to their areas."""
    height, width = grid[::-1] if columns else grid
    nearest = areas.round()
    whole = torch.where(nearest.sum(0) <= most, nearest, areas.floor())
    sizes = _row_sizes(len(areas), num_rows)
    rows = torch.split(whole, sizes)
    heights = _shares(torch.stack([row.sum(0) for row in rows]), height)
    tall = torch.stack([heights[row] for row, size in enumerate(sizes) for _ in range(size)])
    wide = torch.cat([_shares(row, width) for row in rows])
    tall = torch.minimum(tall, (whole / wide).ceil_())
    rounded = torch.minimum(wide, (whole / tall).round_()).clamp_min_(1)
    cut = torch.minimum(wide, (whole / tall).floor_()).clamp_min_(1)  # never more than its area
    wide = torch.where((tall * rounded).sum(0) <= most, rounded, cut)
    return (wide, tall) if columns else (tall, wide)


def _shares(areas: Tensor, side: int) -> Tensor:
    """Whole lengths [K, ...] in proportion to areas [K, ...], 1 or more each, which add up to the side."""
    numbers = torch.arange(len(areas), device=areas.device).view(-1, *[1] * (areas.ndim - 1))
    ends = (areas.cumsum(0) * side / areas.sum(0)).round_() - numbers
    ends = ends.clamp_(1, side - len(areas) + 1).cummax(0).values + numbers
    return torch.diff(ends, dim=0, prepend=torch.zeros_like(ends[:1]))


def _spread(
    height: Tensor,
    width: Tensor,
    rows: Tensor,
    columns: Tensor,
    places: Sequence[Tensor],
    mirror: Tensor,
    grid: Grid,
) -> Tensor:
    """Edges [4, T, ...] of the blocks of a layout at random places, in random order."""
    row_cut, slot_cut, down, across, order = places
    height, width = torch.where(columns, width, height), torch.where(columns, height, width)
    full_height, full_width = torch.where(columns, grid[1], grid[0]), torch.where(columns, grid[0], grid[1])
    slots = torch.arange(len(height), device=height.device, dtype=torch.float32).view(-1, *[1] * rows.ndim)
    quotient = (len(height) / rows).floor()
    rest = len(height) - quotient * rows
    longer = rest * (quotient + 1)  # slots in rows that have one more
    row = torch.where(slots < longer, (slots / (quotient + 1)).floor(), rest + ((slots - longer) / quotient).floor())
    tallest = _greatest(
        torch.where(row.unsqueeze(1) == slots, height.unsqueeze(1), 0)
    )  # of each row [T, ...]; 0 beyond the last one
    spare = full_height - tallest.sum(0)
    cuts = torch.where(slots < rows - 1, (row_cut * (spare + 1)).floor_(), spare).sort(0).values
    bottoms = tallest.cumsum(0) + cuts
    of_row = row.to(torch.int64)
    bottom = bottoms.gather(0, of_row)
    top = torch.where(row > 0, bottoms.gather(0, (of_row - 1).clamp_min_(0)), 0)
    same = row == row.unsqueeze(1)  # [T, T, ...]
    spare = full_width - torch.where(same, width, 0).sum(1)
    following = torch.cat([row[:-1] == row[1:], torch.zeros_like(columns).unsqueeze(0)])
    cuts = torch.where(following, (slot_cut * (spare + 1)).floor_(), spare)
    cuts = (row * SORTED + cuts).sort(0).values - row * SORTED  # within each row
    right = torch.where(same & (slots <= slots.unsqueeze(1)), width, 0).sum(1) + cuts
    left = torch.where(torch.cat([following[-1:], following[:-1]]), right.roll(1, 0), 0)
    down_edge = _inside_cell(down, top, bottom, height)
    across_edge = _inside_cell(across, left, right, width)
    down_edge = torch.where(mirror[0] < 0.5, down_edge, full_height - height - down_edge)
    across_edge = torch.where(mirror[1] < 0.5, across_edge, full_width - width - across_edge)
    vertical, horizontal = (down_edge, down_edge + height), (across_edge, across_edge + width)
    edges = torch.stack([torch.where(columns, b, a) for a, b in zip(vertical + horizontal, horizontal + vertical, strict=True)])
    drawn = (order * (65536 * len(height)) + slots).argsort(0)  # distinct numbers
    return edges.gather(1, drawn.expand_as(edges))


def _inside_cell(uniform: Tensor, start: Tensor, end: Tensor, length: Tensor) -> Tensor:
    """Where a block of this length begins in a cell from start to end: more often near the ends, 3 u^2 - 2 u^3 of the way."""
    spare = end - start - length
    way = uniform * uniform * (3 - 2 * uniform)
    return start + torch.minimum((way * (spare + 1)).floor_(), spare)
