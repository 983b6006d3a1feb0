"""Presets: the published numbers; both backends render whatever kinds of views a recipe has."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hjepa.pipeline.loader import Loader
from hjepa.pipeline.presets import PRESETS, preset
from hjepa.pipeline.recipe import Jitter, Recipe

ISSUED = (
    "hjepa dino dinov2 dinov2-paper dinov3 dinov3-256 dinov3-gram ijepa vjepa-image simclr byol swav ibot crop-only cifar10 "
    "eval asymmetric"
)
SHAPES = {
    "hjepa": "2x224 6x96",
    "eval": "1x224",
    "ijepa": "1x224",
    "vjepa-image": "1x256",
    "dino": "2x224 8x96",
    "dinov2": "2x224 8x96",
    "dinov2-paper": "2x224 8x96",
    "dinov3": "2x224 8x96",
    "dinov3-256": "2x256 8x112",
    "dinov3-gram": "2x256 8x112 2x512",
    "dinov3-highres-512-112-768": "2x512 8x112 2x768",
    "dinov3-highres-768-112-1152": "2x768 8x112 2x1152",
    "dinov3-highres-768-168-1152": "2x768 8x168 2x1152",
    "dinov3-highres-768-224-1152": "2x768 8x224 2x1152",
    "dinov3-highres-768-336-1152": "2x768 8x336 2x1152",
    "ibot": "2x224 10x96",
    "crop-only": "2x224 8x96",
    "cifar10": "2x32 6x16",
    "asymmetric": "1x224 1x224 1x224",
    "simple": "2x224 4x96",
    "simclr": "2x224",
    "byol": "2x224",
    "swav": "2x224 6x96",
}


def test_every_preset_has_the_published_counts_and_sizes() -> None:
    found = {
        name: " ".join(f"{sum(view.count for view in group)}x{group[0].size}" for group in preset(name).groups())
        for name in PRESETS
    }
    assert found == SHAPES
    assert set(ISSUED.split()) <= set(PRESETS)


@pytest.mark.parametrize("name", PRESETS)
def test_preset_is_called_by_its_name_and_cites_its_source(name: str) -> None:
    assert preset(name).name == name
    assert len(preset(name).source) > 20


def blurs(name: str) -> list[float]:
    return [view.blur for view in preset(name).views]


def test_dinov2_blurs_as_it_ran_and_the_paper_as_it_was_written() -> None:
    assert blurs("dino") == blurs("dinov2-paper") == blurs("ibot") == [1.0, 0.1, 0.5]
    assert blurs("dinov2") == blurs("dinov3") == blurs("dinov3-256") == [0.0, 0.9, 0.5]
    assert replace(preset("dinov2"), name="", source="") == replace(preset("dinov3"), name="", source="")


def test_only_the_second_global_crop_is_solarized() -> None:
    for name in PRESETS:
        shares = [view.solarize for view in preset(name).views]
        if name in ("dino", "dinov2", "dinov2-paper", "dinov3", "dinov3-256", "ibot", "cifar10"):
            assert shares == [0.0, 0.2, 0.0], name
        elif name == "byol":
            assert shares == [0.0, 0.2]
        elif not name.startswith(("dinov3", "asymmetric")):
            assert not any(shares), name


def test_predictive_recipes_keep_the_colours() -> None:
    for name in ("eval", "ijepa", "vjepa-image", "crop-only", "simple"):
        for view in preset(name).views:
            assert (view.jitter, view.gray, view.blur, view.solarize) == (None, 0, 0, 0), name
    assert {name for name in PRESETS if not any(view.flip for view in preset(name).views)} == {
        "eval", "ijepa", "crop-only", *(name for name in PRESETS if name.startswith("dinov3-"))
    }  # fmt: skip


def test_filters_and_statistics_are_those_of_the_code() -> None:
    bilinear = {name for name in PRESETS if preset(name).views[0].interpolation == "bilinear"}
    assert bilinear == {"ijepa", "vjepa-image", "simclr", "byol", "swav"}
    assert preset("swav").std == (0.228, 0.224, 0.225)
    assert preset("cifar10").mean == (0.4914, 0.4822, 0.4465)
    assert {name for name in PRESETS if preset(name).std != preset("dino").std} == {"swav", "cifar10"}


def test_hjepa_jitter_is_the_strength_times_that_of_dino() -> None:
    globals_, locals_ = preset("hjepa").views
    expected = Jitter(brightness=0.16, contrast=0.16, saturation=0.08, hue=0.04)
    assert globals_.jitter == locals_.jitter == expected


@pytest.mark.parametrize(
    ("written", "meant"), [("dinov9", "dinov"), ("simclear", "simclr"), ("DINO", "dino"), ("i-jepa", "ijepa")]
)
def test_unknown_preset_names_the_nearest(written: str, meant: str) -> None:
    with pytest.raises(ValueError, match=f"recipe='{written}' is unknown; did you mean {meant}"):
        preset(written)


def test_preset_like_no_other_names_them_all() -> None:
    with pytest.raises(ValueError, match=r"use one of hjepa, eval, .*, swav \("):
        preset("xxx")


def rendered(recipe: Recipe, folder: Path, backend: str) -> tuple[dict[str, torch.Tensor], dict[str, np.ndarray]]:
    workers = 0 if backend == "torchvision" else 1
    with Loader(folder, recipe, batch_size=8, backend=backend, device="cpu", num_workers=workers, epochs=1) as loader:
        batch = next(iter(loader))
    return batch.crops, {name: drawn.box for name, drawn in batch.draws.views.items()}


@pytest.mark.parametrize(
    "backend", ["torchvision", pytest.param("dali-ops", marks=pytest.mark.dali), pytest.param("fused", marks=pytest.mark.fused)]
)
def test_any_number_of_kinds_of_views_is_rendered(backend: str, photographs: Path) -> None:
    views = [replace(view, size=32) for view in preset("asymmetric").views]
    recipe = replace(
        preset("asymmetric"), views=(*views, replace(views[0], name="tiny", count=3, size=8, interpolation="bilinear"))
    )
    crops, _ = rendered(recipe, photographs, backend)
    shapes = {name: tuple(tensor.shape) for name, tensor in crops.items()}
    whole = (1, 8, 3, 32, 32)
    assert shapes == {"strong": whole, "medium": whole, "light": whole, "tiny": (3, 8, 3, 8, 8)}
    assert all(torch.isfinite(tensor).all() for tensor in crops.values())


@pytest.mark.parametrize(
    "backend", ["torchvision", pytest.param("dali-ops", marks=pytest.mark.dali), pytest.param("fused", marks=pytest.mark.fused)]
)
def test_gram_views_show_what_the_global_crops_show(backend: str, photographs: Path) -> None:
    large, gram = preset("dinov3-gram").views[0], preset("dinov3-gram").views[-1]
    plain = replace(large, count=2, size=32, flip=0.5, jitter=None, gray=0, blur=0)
    recipe = replace(preset("dinov3-gram"), views=(plain, replace(gram, size=64, flip=0.5)))
    crops, boxes = rendered(recipe, photographs, backend)
    np.testing.assert_array_equal(boxes["gram"], boxes["global"])
    smaller = torch.nn.functional.avg_pool2d(crops["gram"].flatten(0, 1), 2).unflatten(0, (2, 8))
    assert (smaller - crops["global"]).abs().mean() < 0.1  # of the standard deviation, which is 1
    assert (smaller - crops["global"].flip(-1)).abs().mean() > 0.3
