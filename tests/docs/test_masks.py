"""The tables of docs/masks.md say what the exact law does."""

from pathlib import Path

import numpy as np
import pytest

from hjepa.kernels import chance
from hjepa.pipeline.masks import HierarchicalMaskGenerator, MultiBlockMaskGenerator

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("size", [14, 24, 6])
def test_the_table_of_the_exact_law_is_right(size: int) -> None:
    lines = (ROOT / "docs" / "masks.md").read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith(f"| {size}x{size}, ")]
    exact = [cells for cells in rows if cells[1] == "exact"]
    assert [cells[0].partition(", ")[2] for cells in exact] == ["multi-block", "level 0", "level 1", "level 2"]
    keys = chance.key_tensor(chance.key(3, np.arange(1500)))
    single = MultiBlockMaskGenerator(16 * size, min_keep=4).sample(keys)
    levels = HierarchicalMaskGenerator(16 * size, min_keep=4).sample(keys)
    for cells, context, targets in zip(
        exact, [single.context[0, 0], *levels.context[0]], [single.targets[0, 0], *levels.targets[0]], strict=True
    ):
        areas = (100 * targets.float().mean((0, 2))).tolist()
        assert [float(area) for area in cells[2].split("/")] == pytest.approx(areas, abs=0.5)
        assert float(cells[3]) == pytest.approx(100 * targets.any(1).float().mean().item(), abs=1)
        assert float(cells[4]) == pytest.approx(100 * context.float().mean().item(), abs=1)
        assert float(cells[6]) == 100 * (targets.sum(1) > 1).any(-1).float().mean().item() == 0
