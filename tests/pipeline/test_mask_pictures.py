"""Pictures show exactly the masks they were given, say what is missing, and are written as PNGs of the size asked for."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image
from torch import Tensor

from hjepa.pipeline.mask_panel import BOTH, CONTEXT, FIRST_TARGET, NEITHER, SEVERAL, roles
from hjepa.pipeline.mask_pictures import DPI, plot_marginal_maps, plot_masks
from hjepa.pipeline.mask_statistics import estimate_marginal_maps
from hjepa.pipeline.masks import HierarchicalMaskGenerator, MultiBlockMaskGenerator
from hjepa.pipeline.multicrop_masks import MultiCropMaskGenerator

STRATEGIES = ["global_only", "global_with_local_context", "cross_crop_prediction"]


def shown(axis: Axes) -> np.ndarray:
    """The roles in a panel, read back from the topmost image of its axis, [H, W]."""
    return np.asarray(axis.images[-1].get_array())


def panels(figure: Figure) -> list[Axes]:
    return [axis for axis in figure.axes if axis.images]


def titles(figure: Figure) -> list[str]:
    return [axis.get_title() for axis in figure.axes]


def words(figure: Figure) -> list[str]:
    """What stands in each cell that has no squares."""
    return [axis.texts[0].get_text() for axis in figure.axes if axis.texts]


def labels(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def check(axes: tuple[Axes, Axes], context: Tensor, targets: Tensor, grid: tuple[int, int] = (14, 14)) -> None:
    """The panels of context [N] and of targets [T, N] show these masks and nothing else."""
    seen, asked = map(shown, axes)
    assert seen.shape == asked.shape == grid
    assert np.array_equal(seen, np.where(context.view(grid).numpy(), CONTEXT, NEITHER))
    counts = targets.sum(0).view(grid).numpy()
    assert np.array_equal(asked != NEITHER, counts > 0)
    assert np.array_equal(asked == SEVERAL, counts > 1)
    for number, target in enumerate(targets.view(-1, *grid).numpy()):
        assert np.array_equal(asked == FIRST_TARGET + number, target & (counts == 1))


def test_every_patch_has_the_role_that_its_masks_give_it() -> None:
    context = torch.tensor([0, 1, 1, 1, 0, 0], dtype=torch.bool)
    targets = torch.tensor([[0, 0, 1, 1, 1, 0], [0, 0, 0, 1, 1, 1]], dtype=torch.bool)
    expected = [[NEITHER, CONTEXT, BOTH], [BOTH, SEVERAL, FIRST_TARGET + 1]]
    assert roles(context, targets, (2, 3)).tolist() == expected


def test_masks_shown_are_masks_given() -> None:
    generator = MultiBlockMaskGenerator(seed=5)
    drawn = generator(3)
    overlapping = torch.rand(3, 4, 196, generator=torch.Generator().manual_seed(0)) < 0.3
    for context, targets in (drawn, (drawn[0] & ~overlapping.any(1), overlapping)):
        for sample in range(3):
            figure = generator.visualize_masks(context, targets, sample)
            assert len(figure.axes) == 3
            seen, asked, both = figure.axes
            check((seen, asked), context[sample], targets[sample])
            assert np.array_equal(shown(both), shown(seen) + shown(asked))  # they share no patch, and neither is 0
            counts = context[sample].sum().item(), targets[sample].any(0).sum().item()
            assert titles(figure) == [
                f"Context\n{counts[0]} of 196 patches",
                f"Targets (4 blocks)\n{counts[1]} of 196 patches",
                "Context and targets",
            ]


def test_oblong_grids_and_one_target_are_shown() -> None:
    generator = MultiBlockMaskGenerator((100, 239), num_target_masks=1)
    context, targets = generator(3)
    figure = generator.visualize_masks(context, targets, 2)
    check((figure.axes[0], figure.axes[1]), context[2], targets[2], (6, 14))


def test_more_targets_than_colours_keep_their_numbers() -> None:
    targets = torch.eye(16, dtype=torch.bool).view(1, 16, 16)
    figure = plot_masks(torch.zeros(1, 16, dtype=torch.bool), targets, (4, 4))
    check((figure.axes[0], figure.axes[1]), torch.zeros(16, dtype=torch.bool), targets[0], (4, 4))
    assert labels(figure) == ["neither", *(f"target {number}" for number in range(16))]


def test_levels_stand_side_by_side() -> None:
    generator = HierarchicalMaskGenerator(seed=2)
    masks = generator(3)
    apart, combined = generator.visualize_hierarchical_masks(masks, 1), generator.visualize_combined_view(masks, 1)
    assert (len(apart.axes), len(combined.axes)) == (6, 3)
    for number, level in enumerate(masks.values()):
        seen, asked, both = apart.axes[number], apart.axes[3 + number], combined.axes[number]
        check((seen, asked), level["context"][1], level["targets"][1])
        assert np.array_equal(shown(both), shown(seen) + shown(asked))
        assert seen.get_title().startswith(f"level {number}: context")
        assert asked.get_title().startswith(f"level {number}: 4 targets")
        share = level["context"][1].float().mean().item()
        assert both.get_title().startswith(f"level {number}\ncontext {share:.0%}")


def test_one_level_has_one_column() -> None:
    generator = HierarchicalMaskGenerator(num_hierarchies=1)
    assert len(generator.visualize_hierarchical_masks(generator(1)).axes) == 2
    assert len(generator.visualize_combined_view(generator(1)).axes) == 1


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_crops_are_columns_and_levels_are_rows(strategy: Any) -> None:
    generator = MultiCropMaskGenerator(masking_strategy=strategy, seed=4)
    masks = generator(2)
    figure = generator.visualize_multicrop_masks(masks, sample_idx=1)
    columns = 2 if strategy == "global_only" else 8
    assert len(figure.axes) == 6 * columns
    cells = np.array(figure.axes).reshape(6, columns)
    for crop in range(2):
        for level, own in enumerate(masks["global_masks"][f"crop_{crop}"].values()):
            check((cells[2 * level, crop], cells[2 * level + 1, crop]), own["context"][1], own["targets"][1])
    assert figure.get_suptitle().startswith(f"Masks of sample 1, strategy {strategy}")
    assert cells[0, 0].get_title() == "global crop 0\n14 x 14 patches"
    assert [axis.get_ylabel() for axis in cells[:, 0]] == [
        f"level {level}\n{kind}" for level in range(3) for kind in ("context", "targets")
    ]
    if strategy != "global_only":
        assert cells[0, 7].get_title() == "local crop 5\n6 x 6 patches"


def test_local_crops_say_what_they_lack() -> None:
    def draw(strategy: Any) -> tuple[Figure, Any]:
        generator = MultiCropMaskGenerator(masking_strategy=strategy)
        masks = generator(1)
        return generator.visualize_multicrop_masks(masks), masks["local_masks"]

    figure, _ = draw("global_only")
    assert words(figure) == []
    assert "6 local crops have no masks" in figure.get_suptitle()
    figure, _ = draw("global_with_local_context")
    assert words(figure) == ["No Targets"] * 18
    assert all((shown(axis) == CONTEXT).all() for axis in np.array(panels(figure)[:8])[2:])
    figure, masks = draw("cross_crop_prediction")
    assert words(figure) == ["No Targets"] * 3 + ["N/A"] * 12
    cells = np.array(figure.axes).reshape(6, 8)
    for crop in range(3):
        for level, own in enumerate(masks[f"crop_{crop}"].values()):
            check((cells[2 * level, 2 + crop], cells[2 * level + 1, 2 + crop]), own["context"][0], own["targets"][0], (6, 6))


def test_locals_may_have_more_levels_than_globals() -> None:
    generator = MultiCropMaskGenerator(
        num_hierarchies=1, num_local_hierarchies=2, masking_strategy="cross_crop_prediction", num_local_crops=2
    )
    masks: Any = generator(1)
    cells = np.array(generator.visualize_multicrop_masks(masks).axes).reshape(4, 4)
    own = masks["local_masks"]["crop_0"]["level_1"]
    check((cells[2, 2], cells[3, 2]), own["context"][0], own["targets"][0], (6, 6))
    assert [axis.texts[0].get_text() for axis in cells[2:, :2].ravel()] == ["N/A"] * 4


def test_the_legend_names_what_occurs() -> None:
    context = torch.tensor([[1, 0, 0, 0]], dtype=torch.bool)
    targets = torch.tensor([[[0, 1, 0, 0], [0, 1, 1, 0]]], dtype=torch.bool)
    assert labels(plot_masks(context, targets, (2, 2))) == ["neither", "context", "in several targets", "target 1"]
    figure = plot_masks(~context, targets, (2, 2))  # masks of the user's own may overlap; no generator's do
    assert "context and target" in labels(figure)


def test_an_image_lies_under_the_squares_and_shines_through() -> None:
    image = np.random.default_rng(0).integers(0, 256, (28, 42, 3), dtype=np.uint8)
    generator = MultiBlockMaskGenerator((28, 42), patch_size=7)
    context, targets = generator(1)
    figure = generator.visualize_masks(context, targets, image=image)
    for axis in figure.axes:
        under, over = axis.images
        assert np.array_equal(under.get_array(), image)
        assert under.get_extent() == over.get_extent()
        assert 0 < over.to_rgba(over.get_array())[..., 3].max() < 1
    check((figure.axes[0], figure.axes[1]), context[0], targets[0], (4, 6))
    with pytest.raises(ValueError, match="28 x 40 pixels does not divide into 4 x 6 squares"):
        generator.visualize_masks(context, targets, image=image[:, :40])
    for other in (image.transpose(2, 0, 1), image[None], image[0, 0]):  # as a crop's tensor has its axes, a batch, a pixel
        with pytest.raises(ValueError, match=r"cannot be shown; use \[H, W, 3\]"):
            generator.visualize_masks(context, targets, image=other)
    with pytest.raises(ValueError, match=r"context \[24\] and targets \[4, 24\] are no batch"):
        generator.visualize_masks(context[0], targets[0])


def test_each_crop_has_its_image() -> None:
    generator = MultiCropMaskGenerator(224, 96, num_local_crops=2, masking_strategy="global_with_local_context")
    images = [np.full((side, side, 3), shade, dtype=np.uint8) for side, shade in ((224, 9), (224, 80), (96, 160), (96, 240))]
    figure = generator.visualize_multicrop_masks(generator(1), images=images)
    assert [int(np.asarray(axis.images[0].get_array()).max()) for axis in figure.axes[:4]] == [9, 80, 160, 240]
    with pytest.raises(ValueError, match="3 images came for the 4 crops"):
        generator.visualize_multicrop_masks(generator(1), images=images[:3])


@pytest.mark.parametrize("kind", ["masks", "levels", "combined", "crops", "maps"])
def test_a_picture_is_a_png_of_the_size_asked_for(kind: str, tmp_path: Path) -> None:
    path, size = tmp_path / "new" / "picture.png", (6.0, 5.0)
    hierarchical, crops = HierarchicalMaskGenerator(), MultiCropMaskGenerator()
    multi_block = MultiBlockMaskGenerator()
    maps = estimate_marginal_maps(multi_block.sample, 10)
    draw = {
        "masks": lambda: multi_block.visualize_masks(*multi_block(2), 1, size, path),
        "levels": lambda: hierarchical.visualize_hierarchical_masks(hierarchical(2), 1, size, path),
        "combined": lambda: hierarchical.visualize_combined_view(hierarchical(2), 1, size, str(path)),
        "crops": lambda: crops.visualize_multicrop_masks(crops(2), 1, size, path),
        "maps": lambda: plot_marginal_maps(maps, (14, 14), row_names=["all"], title="maps", figsize=size, save_path=path),
    }
    figure = draw[kind]()
    assert tuple(figure.get_size_inches()) == size
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert image.size == (6 * DPI, 5 * DPI)


@pytest.mark.parametrize("size", [(5.5, 11), (7, 3.6), (9, 4), (12, 4.8), (15, 5)], ids=str)
@pytest.mark.parametrize("pixels", [224, (96, 384)], ids=str)
def test_no_words_are_cut_off_and_none_overlap(pixels: Any, size: tuple[float, float], tmp_path: Path) -> None:
    generator = HierarchicalMaskGenerator(pixels)
    figure = generator.visualize_combined_view(generator(1), 0, size, tmp_path / "picture.png")
    figure.set_dpi(DPI)
    FigureCanvasAgg(figure)  # measures, and lays nothing out: everything stands where it was when it was saved
    boxes = [text.get_window_extent() for text in figure.findobj(Text) if text.get_text() and text.get_visible()]
    assert len(boxes) >= 3 + 5  # titles and the legend
    for number, box in enumerate(boxes):
        assert min(box.x0, box.y0, figure.bbox.x1 - box.x1, figure.bbox.y1 - box.y1) >= 0
        assert not any(box.overlaps(other) for other in boxes[:number])


def test_maps_are_shown_level_by_level() -> None:
    maps = estimate_marginal_maps(HierarchicalMaskGenerator((64, 96)).sample, 50)
    names = ["fine", "middle", "coarse"]
    figure = plot_marginal_maps(maps, (4, 6), row_names=names, title="Where masks fall")
    cells = np.array(figure.axes[:9]).reshape(3, 3)  # after them come the colour bars
    assert len(figure.axes) == 12
    assert [axis.get_ylabel() for axis in cells[:, 0]] == names
    for column, values in enumerate((maps.context, maps.target, maps.union)):
        for row in range(3):
            assert np.array_equal(shown(cells[row, column]), values[row].view(4, 6).numpy())


def test_masks_are_drawn_and_counted_without_matplotlib() -> None:
    code = (
        "import sys; import hjepa; g = hjepa.MultiBlockMaskGenerator(); g.get_mask_statistics(*g(2)); "
        "sys.exit('matplotlib' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_masks_that_are_not_there_are_refused() -> None:
    generator = MultiBlockMaskGenerator()
    context, targets = generator(2)
    for sample in (-1, 2):
        with pytest.raises(ValueError, match=f"sample_idx={sample} is not in this batch of 2; use 0 to 1"):
            generator.visualize_masks(context, targets, sample)
    with pytest.raises(ValueError, match="196 patches do not fit a grid of 6 x 6"):
        MultiBlockMaskGenerator(96).visualize_masks(context, targets)
