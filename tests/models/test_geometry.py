"""Places of local patches in global crops: against a slow loop in exact fractions, and by the laws they must obey."""

from fractions import Fraction

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from hjepa.models.geometry import PatchPlaces, place_patches, sampled_targets, touches
from hjepa.models.positions import grid_positions, sincos_positions
from hjepa.models.targets import level_targets
from hjepa.pipeline.backends.torchvision import render_image
from hjepa.pipeline.draws import draw
from hjepa.pipeline.presets.jepa import multicrop

GRIDS = [(1, 1), (3, 5), (6, 6), (14, 7)]


def _places(
    local: list[list[int]],
    flip: list[bool],
    outer: list[list[int]],
    turned: list[bool],
    grid: tuple[int, int],
    onto: tuple[int, int],
) -> PatchPlaces:
    """The places for one image with these boxes."""
    boxes = (torch.tensor([part], dtype=torch.int32) for part in (local, outer))
    flips = (torch.tensor([part]) for part in (flip, turned))
    (local_box, global_box), (local_flip, global_flip) = boxes, flips
    return place_patches(local_box, local_flip, global_box, global_flip, grid, onto)


def _centres(grid: tuple[int, int]) -> Tensor:
    """[N, 2]: the centres of a grid's own patches."""
    return torch.cartesian_prod(torch.arange(grid[0]) + 0.5, torch.arange(grid[1]) + 0.5).view(-1, 2)


def _place_of_pixel(
    row: Fraction, column: Fraction, local: list[int], flip: bool, outer: list[int], turned: bool, onto: tuple[int, int]
) -> tuple[Fraction, Fraction]:
    """Of a point of a local crop (as shares of its sides) the row and column in the global's grid, by the definition."""
    y = local[0] + row * local[2]
    x = local[1] + (1 - column if flip else column) * local[3]
    down, right = (y - outer[0]) / outer[2], (x - outer[1]) / outer[3]
    return down * onto[0], (1 - right if turned else right) * onto[1]


boxes = st.tuples(st.integers(0, 3000), st.integers(0, 3000), st.integers(1, 3000), st.integers(1, 3000)).map(list)
small_boxes = st.tuples(*[st.integers(0, 6)] * 2, *[st.integers(1, 6)] * 2).map(list)  # many of them share borders
crops = st.one_of(
    st.lists(st.tuples(boxes, st.booleans()), min_size=1, max_size=3),
    st.lists(st.tuples(small_boxes, st.booleans()), min_size=1, max_size=3),
)
grids = st.tuples(st.integers(1, 5), st.integers(1, 5))


@settings(deadline=None, max_examples=60)
@given(crops, crops, grids, grids)
def test_places_are_those_of_the_definition(
    local: list[tuple[list[int], bool]], outer: list[tuple[list[int], bool]], grid: tuple[int, int], onto: tuple[int, int]
) -> None:
    places = _places([b for b, _ in local], [f for _, f in local], [b for b, _ in outer], [f for _, f in outer], grid, onto)
    assert places.centre.shape == (len(outer), len(local), 1, grid[0] * grid[1], 2)
    for g, (outer_box, turned) in enumerate(outer):
        for v, (local_box, flip) in enumerate(local):
            for number in range(grid[0] * grid[1]):
                row, column = divmod(number, grid[1])
                middle, *corners = (
                    _place_of_pixel(
                        (row + half_row) / grid[0], (column + half_column) / grid[1], local_box, flip, outer_box, turned, onto
                    )
                    for half_row, half_column in ((Fraction(1, 2), Fraction(1, 2)), (Fraction(0),) * 2, (Fraction(1),) * 2)
                )
                inside = 0 < middle[0] < onto[0] and 0 < middle[1] < onto[1]
                assert places.inside[g, v, 0, number] == inside
                rectangle = [float(pick(axis)) for pick in (lambda axis: min(axis), max) for axis in zip(*corners, strict=True)]
                for actual, expected in (
                    (places.centre[g, v, 0, number], [float(part) for part in middle]),
                    (places.footprint[g, v, 0, number], rectangle),
                ):
                    torch.testing.assert_close(actual, torch.tensor(expected), rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("flip", [False, True])
def test_an_identical_crop_has_the_grid_itself(grid: tuple[int, int], flip: bool) -> None:
    box = [17, 5, 120, 333]
    places = _places([box], [flip], [box], [flip], grid, grid)
    torch.testing.assert_close(places.centre[0, 0, 0], _centres(grid))
    assert places.inside.all()
    corner = torch.cat([_centres(grid) - 0.5, _centres(grid) + 0.5], dim=-1)
    torch.testing.assert_close(places.footprint[0, 0, 0], corner)
    own = sincos_positions(places.centre[0, 0, 0] - 0.5, 16)
    torch.testing.assert_close(own, grid_positions(grid, 16, own.device), atol=1e-4, rtol=0)


def test_a_flip_mirrors_columns_and_twice_is_nothing() -> None:
    inner, outer = [10, 20, 30, 50], [0, 4, 77, 91]
    plain, local, globally, both = (
        _places([inner], [flip], [outer], [turned], (3, 4), (7, 5)).centre.view(3, 4, 2)
        for flip, turned in ((False, False), (True, False), (False, True), (True, True))
    )
    torch.testing.assert_close(local, plain.flip(1))  # the same places, found under mirrored columns
    torch.testing.assert_close(globally, torch.stack([plain[..., 0], 5 - plain[..., 1]], dim=-1))
    torch.testing.assert_close(both, globally.flip(1))
    assert not torch.allclose(local, plain)


@pytest.mark.parametrize(("down", "right"), [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_a_quarter_of_the_global_lies_in_that_quarter(down: int, right: int) -> None:
    places = _places([[8 + 50 * down, 3 + 40 * right, 50, 40]], [False], [[8, 3, 100, 80]], [False], (3, 3), (14, 6))
    low, high = torch.tensor([7.0 * down, 3.0 * right]), torch.tensor([7.0 * (down + 1), 3.0 * (right + 1)])
    assert places.inside.all()
    rectangle = places.footprint.view(9, 4)
    torch.testing.assert_close(rectangle[:, :2].amin(0), low)
    torch.testing.assert_close(rectangle[:, 2:].amax(0), high)
    torch.testing.assert_close((rectangle[:, 2:] - rectangle[:, :2]).prod(-1).sum(), (high - low).prod())


def test_a_centre_outside_or_on_the_border_is_not_inside() -> None:
    outer = [100, 100, 60, 60]
    for local, expected in (
        ([0, 0, 50, 50], [False] * 4),
        ([100, 70, 60, 60], [False, True, False, True]),  # its left half lies beyond the left side
        ([85, 100, 60, 60], [False, False, True, True]),  # the upper centres lie on the upper border
    ):
        for flip, turned in ((False, False), (True, True)):
            places = _places([local], [flip], [outer], [turned], (2, 2), (4, 4))
            wanted = torch.tensor(expected).view(2, 2)
            assert torch.equal(places.inside.view(2, 2), wanted.flip(1) if flip else wanted)


def test_places_hold_for_the_pixels_that_the_pipeline_makes() -> None:
    # Red rises with the row of the source and green with its column, so a patch's mean colour says where it was cut.
    ramp = np.stack([*np.indices((512, 640)) * 255 // np.array([511, 639])[:, None, None], np.zeros((512, 640))], axis=-1)
    recipe = multicrop(num_global_crops=2, num_local_crops=6, global_color_jitter=0, local_color_jitter=0)
    draws = draw(recipe, 3, 0, np.arange(4), np.tile(np.array([512, 640]), (4, 1)))
    images = [render_image(Image.fromarray(ramp.astype(np.uint8)), recipe, draws, number) for number in range(4)]
    local, outer = (
        torch.stack([F.avg_pool2d(image[name][:, :2], 16) for image in images], dim=1) for name in ("local", "global")
    )  # [V, B, 2, 6, 6] and [G, B, 2, 14, 14]
    boxes = [torch.from_numpy(part) for name in ("local", "global") for part in (draws.views[name].box, draws.views[name].flip)]
    assert all(flip.any() and not flip.all() for flip in boxes[1::2])
    places = place_patches(*boxes, (6, 6), (14, 14))
    well_inside = ((places.centre > 0.5) & (places.centre < 13.5)).all(-1)
    assert well_inside.sum() > 500
    for g in range(2):
        for v in range(6):
            where = places.centre[g, v].flip(-1).unsqueeze(1) / 7 - 1
            there = F.grid_sample(outer[g], where, align_corners=False).squeeze(2)  # [B, 2, N]
            error = (there - local[v].flatten(2)).abs().amax(1)[well_inside[g, v]]
            assert error.numel() == 0 or error.max() < 0.05  # of about 4.4, the whole ramp


def test_every_image_and_crop_has_its_own_places() -> None:
    chance = torch.Generator().manual_seed(0)
    local_box, global_box = (torch.randint(1, 200, (4, count, 4), generator=chance, dtype=torch.int32) for count in (3, 2))
    local_flip, global_flip = (torch.rand(4, count, generator=chance) < 0.5 for count in (3, 2))
    whole = place_patches(local_box, local_flip, global_box, global_flip, (2, 3), (5, 4))
    for image in range(4):
        alone = [part[image : image + 1] for part in (local_box, local_flip, global_box, global_flip)]
        single = place_patches(*alone, (2, 3), (5, 4))
        assert torch.equal(whole.centre[:, :, image], single.centre[:, :, 0])
        assert torch.equal(whole.inside[:, :, image], single.inside[:, :, 0])
        for g in range(2):
            for v in range(3):
                pair = [part[image].tolist() for part in (local_box, local_flip, global_box, global_flip)]
                one = _places([pair[0][v]], [pair[1][v]], [pair[2][g]], [pair[3][g]], (2, 3), (5, 4))
                assert torch.equal(whole.footprint[g, v, image], one.footprint[0, 0, 0])


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_at_the_centre_of_a_patch_stands_that_patchs_target(grid: tuple[int, int]) -> None:
    tokens = torch.randn(2, 3, grid[0] * grid[1], 8)
    centre = _centres(grid).expand(2, 4, 3, -1, -1)
    for window, sampled in zip((1, 3), sampled_targets(tokens, grid, (1, 3), centre), strict=True):
        (own,) = level_targets(tokens.flatten(0, 1), grid, (window,))
        torch.testing.assert_close(sampled, own.view(2, 1, 3, -1, 8).expand(-1, 4, -1, -1, -1), atol=1e-4, rtol=1e-4)


def test_a_map_that_is_linear_in_the_place_is_linear_between_patches_and_goes_on_at_the_border() -> None:
    grid, slopes, offset = (5, 7), torch.randn(2, 16), torch.randn(16)
    tokens = (_centres(grid) @ slopes + offset).expand(1, 1, -1, -1)
    centre = torch.rand(1, 3, 1, 50, 2) * torch.tensor([7.0, 9.0]) - 1  # some of them outside
    (sampled,) = sampled_targets(tokens, grid, (1,), centre)
    clamped = centre.clamp(torch.tensor(0.5), torch.tensor([4.5, 6.5]))
    assert (clamped != centre).any()
    torch.testing.assert_close(sampled, F.layer_norm(clamped @ slopes + offset, (16,)), atol=1e-4, rtol=1e-4)


def test_each_global_crop_is_sampled_at_its_own_places() -> None:
    tokens, centre = torch.randn(2, 3, 20, 8), torch.rand(2, 4, 3, 6, 2) * 4
    (whole,) = sampled_targets(tokens, (4, 5), (3,), centre)
    for g in range(2):
        for image in range(3):
            (single,) = sampled_targets(
                tokens[g, image].view(1, 1, 20, 8), (4, 5), (3,), centre[g, :, image].view(1, 4, 1, 6, 2)
            )
            torch.testing.assert_close(whole[g, :, image], single[0, :, 0])


def test_the_teacher_gets_no_gradient_and_bfloat16_becomes_float32() -> None:
    tokens = torch.randn(1, 2, 9, 8, requires_grad=True)
    for sampled in sampled_targets(tokens.bfloat16(), (3, 3), (1, 3), torch.rand(1, 2, 2, 4, 2)):
        assert not sampled.requires_grad
        assert sampled.dtype == torch.float32


def test_nothing_looks_at_a_value() -> None:
    # A meta tensor has no values: whatever would wait for a GPU fails here.
    box, flip = torch.empty(2, 3, 4, dtype=torch.int32, device="meta"), torch.empty(2, 3, dtype=torch.bool, device="meta")
    places = place_patches(box, flip, box[:, :1], flip[:, :1], (3, 3), (6, 6))
    (sampled,) = sampled_targets(torch.empty(1, 2, 36, 8, device="meta"), (6, 6), (3,), places.centre)
    assert sampled.shape == (1, 3, 2, 9, 8)


def test_a_rectangle_touches_the_patches_that_it_covers_a_part_of() -> None:
    generator = torch.Generator().manual_seed(0)
    corners = torch.randint(-2, 7, (2, 50, 4), generator=generator) / 2
    footprint = torch.cat(
        [torch.minimum(corners[..., :2], corners[..., 2:]), torch.maximum(corners[..., :2], corners[..., 2:])], -1
    )
    footprint[..., 2:] += 0.5
    marked = torch.rand(2, 12, generator=generator) < 0.3
    expected = torch.zeros(2, 50, dtype=torch.bool)
    for row, image in enumerate(footprint.tolist()):
        for number, (top, left, bottom, right) in enumerate(image):
            for patch in marked[row].nonzero().flatten().tolist():
                down, across = divmod(patch, 4)
                overlap = min(bottom, down + 1) > max(top, down) and min(right, across + 1) > max(left, across)
                expected[row, number] |= overlap
    assert 10 < expected.sum() < 90
    assert torch.equal(touches(footprint, marked, (3, 4)), expected)
