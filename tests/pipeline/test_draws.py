"""The draws: torchvision's laws, keyed by sample, identity where not applied."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torchvision.transforms import RandomResizedCrop

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


def test_draws_do_not_depend_on_the_batch() -> None:
    chance = np.random.default_rng(0)
    sizes = chance.integers(1, 700, (64, 2)).astype(np.int32)
    indices = chance.permutation(10_000)[:64]
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
    box = draw(evaluation(224), 0, 7, np.arange(2), np.array([[448, 600], [512, 255]], dtype=np.int32)).views["global"].box
    assert box[:, 0].tolist() == [[27, 103, 394, 394], [144, 15, 224, 224]]


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
