"""The draws: torchvision's laws, keyed by sample, identity where not applied."""

import zlib
from collections.abc import Callable
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
import torch
from torchvision.transforms import RandomResizedCrop

from hjepa.kernels import chance
from hjepa.pipeline.draws import draw
from hjepa.pipeline.presets.dino import dino
from hjepa.pipeline.presets.jepa import evaluation, multicrop
from hjepa.pipeline.recipe import Jitter, Recipe, View

SHAPES = [(300, 500), (500, 300), (64, 640), (640, 40), (7, 7), (1, 1), (1, 33)]


def one_view(**options: object) -> Recipe:
    view = replace(View(name="global", count=1, size=32, area=(0.2, 0.9)), **options)
    return Recipe(name="test", source="", views=(view,))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_boxes_lie_inside_the_image(shape: tuple[int, int]) -> None:
    sizes = np.tile(np.array(shape, dtype=np.int32), (500, 1))
    for view in draw(dino(), 0, 0, np.arange(500), sizes).views.values():
        top, left, height, width = np.moveaxis(view.box, -1, 0)
        assert min(top.min(), left.min()) >= 0
        assert min(height.min(), width.min()) >= 1
        assert (top + height).max() <= shape[0]
        assert (left + width).max() <= shape[1]


@pytest.mark.parametrize("shape", [(300, 500), (500, 300), (64, 640), (200, 40)], ids=str)
def test_boxes_follow_the_law_of_torchvision(shape: tuple[int, int]) -> None:
    count = 4000
    sizes = np.tile(np.array(shape, dtype=np.int32), (count, 1))
    ours = draw(one_view(), 0, 0, np.arange(count), sizes).views["global"].box[:, 0]
    torch.manual_seed(0)
    image = torch.empty(3, *shape)
    theirs = np.array([RandomResizedCrop.get_params(image, [0.2, 0.9], [3 / 4, 4 / 3]) for _ in range(count)])
    for statistic in (lambda box: box[:, 0], lambda box: box[:, 1], lambda box: box[:, 2] * box[:, 3], lambda box: box[:, 3]):
        assert largest_gap(statistic(ours), statistic(theirs)) < 1.95 * np.sqrt(2 / count)  # Kolmogorov-Smirnov, p = 0.001


def largest_gap(first: np.ndarray, second: np.ndarray) -> float:
    places = np.union1d(first, second)
    shares = [np.searchsorted(np.sort(values), places, side="right") / len(values) for values in (first, second)]
    return float(np.abs(shares[0] - shares[1]).max())


def torchvisions_box(number: Callable[[int], float], view: View, height: int, width: int) -> list[int]:
    """RandomResizedCrop.get_params, with the numbers of a crop's key in place of its generator."""
    least, greatest = view.ratio
    for attempt in range(10):
        area = height * width * (view.area[0] + (view.area[1] - view.area[0]) * number(16 + 2 * attempt))
        aspect = np.exp(np.log(least) + (np.log(greatest) - np.log(least)) * number(17 + 2 * attempt))
        rows, columns = round(np.sqrt(area / aspect)), round(np.sqrt(area * aspect))
        if 0 < rows <= height and 0 < columns <= width:
            return [int(number(11) * (height - rows + 1)), int(number(12) * (width - columns + 1)), rows, columns]
    rows = max(1, round(width / least)) if width / height < least else height
    columns = max(1, round(height * greatest)) if width / height > greatest else width
    return [(height - rows) // 2, (width - columns) // 2, rows, columns]


@pytest.mark.parametrize("largest", [5, 20, 700])
def test_every_draw_is_made_of_the_numbers_of_its_counters(largest: int) -> None:
    """Another counter, or another number of attempts, would change every experiment and still follow the same laws."""
    count = 400
    sizes = np.random.default_rng(0).integers(1, largest + 1, (count, 2)).astype(np.int32)
    jitter = Jitter(brightness=0.4, contrast=0.3, saturation=1.5, hue=0.1, probability=0.8)
    views = tuple(
        View(
            name=name, count=2, size=32, area=area, flip=0.3, jitter=jitter, gray=0.2, blur=0.6, sigma=(0.5, 2.0), solarize=0.1
        )
        for name, area in (("global", (0.2, 1.0)), ("local", (0.05, 0.2)))
    )
    batch = draw(Recipe(name="test", source="", views=views), 3, 5, np.arange(count), sizes)
    np.testing.assert_array_equal(batch.keys, chance.key(3, 5, np.arange(count)))  # masks go on from them
    np.testing.assert_array_equal(batch.sizes, sizes)
    drawn, orders = batch.views, list(permutations(range(4)))
    for index, view, crop in ((index, view, crop) for index in range(count) for view in views for crop in range(2)):
        key = chance.key(0, chance.key(3, 5, np.array(index)), zlib.crc32(view.name.encode()), crop)
        numbers = chance.uniform(key, np.arange(36)).tolist()
        own = {field: getattr(drawn[view.name], field)[index, crop] for field in drawn[view.name].__slots__}
        assert own["box"].tolist() == torchvisions_box(numbers.__getitem__, view, *sizes[index].tolist())
        assert (own["flip"], own["gray"], own["solarize"]) == (numbers[0] < 0.3, numbers[7] < 0.2, numbers[10] < 0.1)
        lows, highs = np.array([0.6, 0.7, 0.0, -0.1]), np.array([1.4, 1.3, 2.5, 0.1])
        factors = lows + (highs - lows) * numbers[2:6] if numbers[1] < 0.8 else [1, 1, 1, 0]
        np.testing.assert_allclose(own["jitter"], factors, atol=1e-6)
        assert tuple(own["order"]) == orders[int(numbers[6] * 24)]
        assert own["sigma"] == pytest.approx(0.5 + 1.5 * numbers[9] if numbers[8] < 0.6 else 0)


def test_every_place_is_drawn_and_the_last_as_often_as_the_first() -> None:
    """Boxes of 2 x 3 pixels; 4000 images, so that a place of four is drawn 1000 times, and +-30 is one deviation."""
    for height, width in ((2, 3), (3, 6), (5, 4)):
        view = {"area": (6 / (height * width),) * 2, "ratio": (1.5, 1.5)}
        sizes = np.tile(np.array([height, width], dtype=np.int32), (4000, 1))
        box = draw(one_view(**view), 0, 0, np.arange(4000), sizes).views["global"].box[:, 0]
        assert np.unique(box[:, 2:], axis=0).tolist() == [[2, 3]]
        for starts, free in ((box[:, 0], height - 2), (box[:, 1], width - 3)):
            counts = np.bincount(starts)
            assert len(counts) == free + 1
            assert np.abs(counts - 4000 / (free + 1)).max() < 5 * np.sqrt(4000 / (free + 1))


def test_where_no_attempt_fits_the_largest_box_of_the_range_is_cut_from_the_centre() -> None:
    sizes = np.array([[11, 40], [40, 11], [1, 3], [3, 1]], dtype=np.int32)  # 11 * 4/3 = 14.67 pixels
    box = draw(one_view(area=(1, 1)), 0, 0, np.arange(4), sizes).views["global"].box[:, 0]
    assert box.tolist() == [[0, 12, 11, 15], [12, 0, 15, 11], [0, 1, 1, 1], [1, 0, 1, 1]]
    for ratio, shape, expected in (((0.2, 0.4), (1, 5), [0, 2, 1, 1]), ((3, 4), (5, 1), [2, 0, 1, 1])):
        narrow = draw(one_view(area=(1, 1), ratio=ratio), 0, 0, np.arange(1), np.array([shape], dtype=np.int32))
        assert narrow.views["global"].box[0, 0].tolist() == expected  # of a third of a pixel there is a whole one


def test_draws_do_not_depend_on_the_batch() -> None:
    generator = np.random.default_rng(0)
    sizes = generator.integers(1, 700, (64, 2)).astype(np.int32)
    indices = generator.permutation(10_000)[:64]
    whole = draw(dino(), 3, 5, indices, sizes)
    parts = [draw(dino(), 3, 5, indices[part], sizes[part]) for part in (slice(0, 1), slice(1, 40), slice(40, 64))]
    for name, view in whole.views.items():
        for field in view.__slots__:
            joined = np.concatenate([getattr(part.views[name], field) for part in parts])
            np.testing.assert_array_equal(getattr(view, field), joined)


def test_more_local_crops_change_no_other_crop() -> None:
    sizes = np.full((8, 2), 400, dtype=np.int32)
    few, many = (draw(dino(count), 0, 0, np.arange(8), sizes).views for count in (2, 8))
    np.testing.assert_array_equal(few["global"].box, many["global"].box)
    np.testing.assert_array_equal(few["local"].jitter, many["local"].jitter[:, :2])


@pytest.mark.parametrize("changed", ["seed", "epoch", "sample"])
def test_every_part_of_the_key_changes_the_draws(changed: str) -> None:
    sizes = np.full((64, 2), 400, dtype=np.int32)
    key = {"seed": 0, "epoch": 0, "sample": 0}
    boxes = []
    for value in (0, 1):
        key[changed] = value
        boxes.append(draw(multicrop(), key["seed"], key["epoch"], np.arange(64) + 64 * key["sample"], sizes).views["local"].box)
    assert (boxes[0] == boxes[1]).all(axis=-1).mean() < 0.01


def test_probabilities_and_ranges_are_those_of_the_recipe() -> None:
    jitter = Jitter(brightness=0.4, contrast=0.3, saturation=1.5, hue=0.1, probability=0.8)
    recipe = one_view(jitter=jitter, flip=0.3, gray=0.2, blur=0.6, sigma=(0.5, 2.0), solarize=0.1)
    count = 20_000
    view = draw(recipe, 0, 0, np.arange(count), np.full((count, 2), 100, dtype=np.int32)).views["global"]
    applied = (view.jitter != np.array([1, 1, 1, 0], np.float32)).any(axis=-1)
    shares = {0.3: view.flip, 0.2: view.gray, 0.6: view.sigma > 0, 0.1: view.solarize, 0.8: applied}
    for probability, happened in shares.items():
        assert abs(happened.mean() - probability) < 4 * np.sqrt(probability * (1 - probability) / count)
    factors = view.jitter[applied]
    np.testing.assert_allclose(factors.min(axis=0), [0.6, 0.7, 0.0, -0.1], atol=2e-3)
    np.testing.assert_allclose(factors.max(axis=0), [1.4, 1.3, 2.5, 0.1], atol=2e-3)
    sigmas = view.sigma[view.sigma > 0]
    assert 0.5 <= sigmas.min() < 0.51 < 1.99 < sigmas.max() <= 2.0
    orders = np.unique(view.order[:, 0], axis=0, return_counts=True)[1]
    assert len(orders) == 24
    assert orders.min() > 0.8 * count / 24


def test_evaluation_takes_the_central_square_every_time() -> None:
    sizes = np.array([[448, 600], [512, 255], [255, 512]], dtype=np.int32)
    box = draw(evaluation(224), 0, 7, np.arange(3), sizes).views["global"].box
    assert box[:, 0].tolist() == [[27, 103, 394, 394], [144, 15, 224, 224], [15, 144, 224, 224]]
    tiny = draw(one_view(crop="center", area=(0.1, 0.1)), 0, 0, np.arange(2), np.array([[1, 1], [9, 1]], dtype=np.int32))
    assert tiny.views["global"].box[:, 0].tolist() == [[0, 0, 1, 1], [4, 0, 1, 1]]


def test_central_and_random_crops_of_one_recipe_are_what_they_are_alone() -> None:
    central, random = evaluation(224).views[0], View(name="local", count=2, size=32, area=(0.2, 0.9))
    sizes = np.full((8, 2), 400, dtype=np.int32)
    both = draw(Recipe(name="test", source="", views=(random, central)), 0, 0, np.arange(8), sizes).views
    for view in (central, random):
        alone = draw(Recipe(name="test", source="", views=(view,)), 0, 0, np.arange(8), sizes).views
        np.testing.assert_array_equal(both[view.name].box, alone[view.name].box)


def test_arrays_of_draws_are_contiguous() -> None:
    drawn = draw(dino(), 0, 0, np.arange(8), np.full((8, 2), 400, dtype=np.int32)).views
    assert all(getattr(view, field).flags.c_contiguous for view in drawn.values() for field in view.__slots__)


def test_shared_boxes_and_flips_are_those_of_the_leader_and_colours_are_not() -> None:
    leader = View(
        name="global", count=2, size=32, area=(0.2, 0.9), jitter=Jitter(brightness=0.4, contrast=0, saturation=0, hue=0)
    )
    follower = replace(leader, name="gram", count=1, size=64, same_box_as="global")
    count, sizes = 100, np.full((100, 2), 300, dtype=np.int32)
    for views in ((leader, follower), (follower, leader)):
        drawn = draw(Recipe(name="test", source="", views=views), 0, 0, np.arange(count), sizes).views
        np.testing.assert_array_equal(drawn["gram"].box, drawn["global"].box[:, :1])
        np.testing.assert_array_equal(drawn["gram"].flip, drawn["global"].flip[:, :1])
        assert drawn["gram"].box.flags.c_contiguous
        assert 0 < drawn["gram"].flip.mean() < 1
        assert (drawn["gram"].jitter != drawn["global"].jitter[:, :1]).any()
    alone = draw(Recipe(name="test", source="", views=(leader,)), 0, 0, np.arange(count), sizes).views
    np.testing.assert_array_equal(alone["global"].box, drawn["global"].box)


def test_boxes_of_an_image_of_more_than_2_31_pixels_follow_the_same_law() -> None:
    """Height times width does not fit into the int32 in which sizes come."""
    sizes = np.full((200, 2), 50_000, dtype=np.int32)
    boxes = draw(one_view(area=(0.2, 0.3)), 0, 0, np.arange(200), sizes).views["global"].box[:, 0].astype(np.int64)
    shares = boxes[:, 2] * boxes[:, 3] / 50_000**2
    assert 0.19 < shares.min() < 0.22 < 0.28 < shares.max() < 0.31
    assert np.ptp(boxes[:, 0]) > 10_000
