"""What the settings say of crops, masks and data reaches the recipe, the generator and the loader, in every epoch."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hjepa import assembly
from hjepa.assembly import build_loader, build_masks, build_recipe
from hjepa.configs.load import load_settings
from hjepa.kernels import chance
from hjepa.pipeline.curriculum import Curriculum, recipe_at
from hjepa.pipeline.presets.jepa import evaluation, multicrop

RAMP = [
    "masking.mask_scale=[0.02, 0.1]",
    "masking.mask_scale_end=[0.06, 0.14]",
    "training.epochs=9",
    "training.warmup_epochs=1",
]


def scales(overrides: list[str], epochs: int) -> list[tuple[float, float]]:
    """Of a block at level 0, in each epoch."""
    settings = load_settings(None, overrides)
    return [build_masks(settings, epoch).global_sampler.laws[0].target_scale for epoch in range(epochs)]


def test_the_scale_runs_along_a_line_and_stays_at_its_end() -> None:
    found = scales([*RAMP, "masking.mask_scale_warmup_epochs=4"], 9)
    line = [(0.02 + 0.01 * step, 0.1 + 0.01 * step) for step in (0, 1, 2, 3, 4, 4, 4, 4, 4)]
    assert np.array(found) == pytest.approx(np.array(line))


def test_without_a_length_the_last_epoch_has_the_last_scale() -> None:
    found = scales(RAMP, 9)
    assert (found[0], found[8]) == ((0.02, 0.1), (0.06, 0.14))
    assert found[4] == pytest.approx((0.04, 0.12))
    assert scales([*RAMP, "training.epochs=1"], 1) == [(0.06, 0.14)]


def test_without_a_ramp_every_epoch_has_the_same_masks() -> None:
    assert len(set(scales([], 5))) == 1


def test_an_epoch_of_a_ramp_has_the_masks_of_a_run_with_its_scale() -> None:
    keys = chance.key_tensor(chance.key(1, np.arange(20)))
    ramp = build_masks(load_settings(None, [*RAMP, "masking.mask_scale_warmup_epochs=4"]), 2)
    low, high = ramp.global_sampler.laws[0].target_scale
    constant = build_masks(load_settings(None, [f"masking.mask_scale=[{low}, {high}]"]))
    assert (ramp.sample(keys).targets == constant.sample(keys).targets).all()


def test_nested_levels_reach_the_generator() -> None:
    keys = chance.key_tensor(chance.key(1, np.arange(20)))
    for nested in (True, False):
        settings: Any = load_settings(None, [f"masking.nested={str(nested).lower()}"])
        targets = build_masks(settings).sample(keys).targets
        assert bool((targets[:, :-1] & ~targets[:, 1:]).any()) != nested


PHASES = (
    "data.multicrop.curriculum=[{from_epoch: 2, global_crop_size: 160, local_crop_scale: [0.1, 0.3]}, "
    "{from_epoch: 5, local_crop_size: 64, global_crop_size: 192, num_local_crops: 2}]"
)


@pytest.mark.parametrize("objective", ["hjepa", "dino"])
def test_every_phase_has_its_crops_and_masks_of_their_grid(objective: str) -> None:
    settings = load_settings(None, [PHASES, f"objective={objective}"])
    plan = build_recipe(settings)
    for epoch, side, small, count, area in (
        (0, 224, 96, 6, 0.05),
        (1, 224, 96, 6, 0.05),
        (2, 160, 96, 6, 0.1),
        (9, 192, 64, 2, 0.1),
    ):
        views = recipe_at(plan, epoch).views
        assert {view.size for view in views if view.name == "global"} == {side}
        assert (views[-1].size, views[-1].count, views[-1].area[0]) == (small, count, area)
        masks = build_masks(settings, epoch)
        assert masks.global_sampler.grid == (side // 16, side // 16)
        assert masks.local_grid == (small // 16, small // 16)
        assert masks.num_local_crops == count
    assert plan.last == 5


def test_sizes_may_jump_while_the_number_of_crops_follows_a_line() -> None:
    adaptive = ["data.multicrop.adaptive=true", "data.multicrop.adaptive_config.warmup_epochs=4"]
    plan = build_recipe(load_settings(None, [PHASES.replace(", num_local_crops: 2", ""), *adaptive]))
    assert isinstance(plan, Curriculum)
    assert [plan.at(epoch).views[-1].count for epoch in (0, 2, 4)] == [2, 6, 10]
    assert [plan.at(epoch).views[-1].size for epoch in (0, 4, 5)] == [96, 96, 64]


def test_every_setting_of_the_crops_reaches_the_recipe() -> None:
    asked: dict[str, Any] = {
        "num_global_crops": 3,
        "num_local_crops": 5,
        "global_crop_size": 192,
        "local_crop_size": 80,
        "global_crop_scale": (0.5, 0.9),
        "local_crop_scale": (0.1, 0.5),
        "global_color_jitter": 0.7,
        "local_color_jitter": 0.9,
        "horizontal_flip_prob": 0.3,
    }
    crops = [f"data.multicrop.{name}={list(value) if isinstance(value, tuple) else value}" for name, value in asked.items()]
    others = ["data.image_size=192", "data.orientation=exif", "data.decoding=reduced", "data.mean=[0.1, 0.2, 0.3]"]
    settings = load_settings(None, [*crops, *others, "data.std=[0.4, 0.5, 0.6]"])
    expected = multicrop(**asked, orientation="exif")
    assert build_recipe(settings) == replace(expected, decoding="reduced", mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))


def test_crops_of_dino_have_its_colours_and_the_blur_that_is_asked_for() -> None:
    views = recipe_at(build_recipe(load_settings(None, ["objective=dino", "dino.blur_sigma=[0.2, 1.5]"])), 0).views
    assert [(view.sigma, view.gray, view.blur, view.solarize) for view in views] == [
        ((0.2, 1.5), 0.2, 1.0, 0.0),
        ((0.2, 1.5), 0.2, 0.1, 0.2),
        ((0.2, 1.5), 0.2, 0.5, 0.0),
    ]


def test_an_evaluation_reads_the_centre_of_every_image_as_the_run_does(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = ["data.image_size=192", "data.multicrop.global_crop_size=192", "data.orientation=exif", "data.mean=[0.1, 0.2, 0.3]"]
    monkeypatch.setattr(assembly, "Loader", lambda _source, recipe, **options: options | {"recipe": recipe})
    made: Any = build_loader(load_settings(None, sizes), Any, "evaluate")
    assert made["recipe"] == replace(evaluation(192, "exif"), mean=(0.1, 0.2, 0.3))
    assert (made["shuffle"], made["tail"], made["epochs"], made["rank"], made["world_size"]) == (False, "keep", 1, 0, 1)


def test_every_setting_of_the_masks_reaches_the_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    masking = [
        "strategy=cross_crop_prediction",
        "num_masks=3",
        "mask_scale=[0.04, 0.1]",
        "aspect_ratio=[0.6, 1.8]",
        "min_keep=7",
    ]
    masking += ["law=reference", "max_attempts=6", "scale_progression=linear"]
    others = ["model.num_hierarchies=2", "loss.hierarchy_weights=[1, 1]", "model.level_windows=[1, 3]", "seed=9"]
    settings = load_settings(Path("small"), [*(f"masking.{each}" for each in masking), *others])
    monkeypatch.setattr(assembly, "MultiCropMaskGenerator", dict)
    assert build_masks(settings) == {
        "global_crop_size": 48,
        "local_crop_size": 24,
        "num_global_crops": 2,
        "num_local_crops": 4,
        "patch_size": 8,
        "num_hierarchies": 2,
        "num_target_masks": 3,
        "masking_strategy": "cross_crop_prediction",
        "base_scale": (0.04, 0.1),
        "aspect_ratio_range": (0.6, 1.8),
        "max_attempts": 6,
        "scale_progression": "linear",
        "num_local_hierarchies": 1,
        "law": "reference",
        "min_keep": 7,
        "nested": False,
        "seed": 9,
    }


def test_every_setting_of_the_data_reaches_the_loader(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {
        "batch_size": 5,
        "prefetch": 3,
        "pin_memory": False,
        "decoder": "cpu",
        "hw_decoder_load": 0.5,
        "on_error": "raise",
        "max_bad": 0.2,
        "num_workers": 3,
    }
    written = [f"data.{name}={str(value).lower()}" for name, value in given.items()]
    settings = load_settings(None, [*written, "data.pipeline=dali-ops", "seed=9", "device=cuda:1", "training.epochs=11"])
    monkeypatch.setattr(assembly, "Loader", lambda _source, recipe, **options: options | {"recipe": recipe})
    made: Any = build_loader(settings, Any, "train")
    expected = given | {"backend": "dali-ops", "seed": 9, "device": "cuda:1", "epochs": 11, "recipe": build_recipe(settings)}
    assert {name: made[name] for name in expected} == expected
    assert (made["shuffle"], made["tail"], made["bad_images"]) == (True, "drop", settings.bad_images_file)
