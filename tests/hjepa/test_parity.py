"""Every backend stays within its bounds on real photographs, and a wrong operator would not."""

import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from hjepa import parity
from hjepa.parity import BOUNDS, OPERATORS, Bound
from hjepa.pipeline.presets import preset
from hjepa.pipeline.recipe import Recipe

DALI = pytest.mark.dali


@pytest.fixture(scope="module")
def few(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two cuts of each photograph."""
    folder = tmp_path_factory.mktemp("few")
    for path in sorted(photographs.iterdir())[:8]:
        shutil.copy(path, folder)
    return folder


@DALI
@pytest.mark.parametrize("name", OPERATORS)
def test_operator_is_within_its_bound(name: str, few: Path) -> None:
    difference = parity.operator(name, few, "dali-ops", "cpu")
    print(f"\n{name}: mean {difference.mean:.3f}, p99 {difference.p99:.1f}, max {difference.max:.0f} levels")
    assert difference.within, difference
    assert 0 < difference.mean <= difference.p99 <= difference.max


@pytest.mark.fused
@pytest.mark.parametrize("name", OPERATORS)
def test_fused_operator_is_torchvisions(name: str, few: Path) -> None:
    difference = parity.operator(name, few, "fused", "cpu")
    print(f"\n{name}: mean {difference.mean:.3f}, p99 {difference.p99:.1f}, max {difference.max:.0f} levels")
    assert difference.within, difference


@DALI
def test_hue_is_as_different_as_the_documentation_says(few: Path) -> None:
    assert parity.operator("hue", few, "dali-ops", "cpu").mean > 3


@DALI
def test_whole_recipe_but_for_hue_is_within_two_levels(few: Path) -> None:
    views = tuple(replace(view, jitter=replace(view.jitter, hue=0.0)) for view in preset("dino").views)
    for difference in parity.end_to_end(replace(preset("dino"), views=views), few, "dali-ops", "cpu"):
        assert difference.mean < 2, difference


@DALI
def test_contrast_around_another_level_would_be_found(few: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hjepa.pipeline.backends.dali_ops.LUMA", (0.0, 0.0, 0.0))
    assert not parity.operator("contrast", few, "dali-ops", "cpu").within


@DALI
def test_recipe_without_photometry_is_held_to_the_crop_alone(few: Path) -> None:
    views = tuple(replace(view, count=1) for view in preset("crop-only").views[1:])
    found = list(parity.end_to_end(replace(preset("crop-only"), views=views), few, "dali-ops", "cpu"))
    assert [difference.part for difference in found] == ["crop-only: global", "crop-only: local"]
    for difference in found:
        assert difference.within
        assert difference.bound == BOUNDS["dali-ops"]["crop, bicubic"]


@DALI
@pytest.mark.parametrize("size", [8, 16, 32])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_small_crop_is_held_to_a_bound_as_wide_as_its_share_of_border(size: int, interpolation: str, few: Path) -> None:
    view = replace(preset("crop-only").views[-1], size=size, interpolation=interpolation)
    (difference,) = parity.end_to_end(replace(preset("crop-only"), views=(view,)), few, "dali-ops", "cpu")
    assert difference.within
    assert difference.bound.mean == pytest.approx(BOUNDS["dali-ops"]["crop to 96"].mean * 96 / size)


@DALI
def test_weaker_hue_is_held_to_a_narrower_bound(few: Path) -> None:
    bounds = []
    for name in ("hjepa", "dino"):
        views = tuple(replace(view, count=1, size=32) for view in preset(name).views[-1:])
        (difference,) = parity.end_to_end(replace(preset(name), views=views), few, "dali-ops", "cpu")
        assert difference.within
        assert difference.bound.reason == BOUNDS["dali-ops"]["hue"].reason
        bounds.append(difference.bound.mean)
    assert bounds[0] < bounds[1]


def test_backend_that_is_the_reference_differs_by_nothing(few: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exact = Bound(mean=0, p99=0, reason="")
    monkeypatch.setitem(BOUNDS, "torchvision", dict.fromkeys(OPERATORS, exact))
    difference = parity.operator("jitter order", few, "torchvision", "cpu")  # type: ignore[arg-type]
    assert (difference.mean, difference.p99, difference.max, difference.within) == (0, 0, 0, True)


def test_every_backend_has_a_bound_with_its_reason_for_every_operator() -> None:
    assert set(BOUNDS) == {"dali-ops", "fused"}
    for bounds in BOUNDS.values():
        assert set(bounds) == set(OPERATORS)
        assert all(bound.mean <= bound.p99 and bound.reason for bound in bounds.values())


def test_figures_are_those_of_the_differences() -> None:
    chance = np.random.default_rng(0)
    levels = chance.exponential(3, (4, 1, 3, 10, 10)).clip(max=255)
    recipe = Recipe(name="test", source="", views=preset("ijepa").views, std=(0.5, 0.25, 0.125))
    scaled = torch.from_numpy(levels / 255 / np.array(recipe.std).reshape(3, 1, 1))
    difference = parity._difference("dali-ops", "test", parity._count(scaled, recipe), Bound(mean=5, p99=1, reason=""))
    assert difference.mean == pytest.approx(levels.mean(), abs=0.01)
    assert difference.p99 == pytest.approx(np.quantile(levels, 0.99), rel=0.05)
    assert difference.max == pytest.approx(levels.max(), abs=0.01)
    assert not difference.within


def test_pixel_that_is_no_number_is_as_wrong_as_can_be() -> None:
    counts = parity._count(torch.full((1, 1, 3, 1, 1), torch.nan), preset("dino"))
    assert parity._difference("dali-ops", "test", counts, Bound(mean=1, p99=1, reason="")).mean == 255


def test_missing_libraries_are_named_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("nvidia.dali", "hjepa.kernels._fused_crops", "skimage.data", "sklearn.datasets"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ValueError, match=r"pip install scikit-image or scikit-learn, or give a folder with --images"):
        parity.photographs()
    with pytest.raises(ValueError, match=r"no backend to compare .*nvidia.dali.*pip install"):
        parity.available()


@pytest.mark.parametrize(("device", "found"), [("cpu", ["dali-ops"]), ("cuda", ["dali-ops", "fused"])])
def test_native_kernel_is_needed_on_the_cpu_alone(device: str, found: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parity, "resolve_device", torch.device)
    monkeypatch.setattr("hjepa.pipeline.backend.lacking", lambda _: "")
    monkeypatch.setitem(sys.modules, "nvidia.dali", ModuleType("nvidia.dali"))
    monkeypatch.setitem(sys.modules, "hjepa.kernels._fused_crops", None)
    monkeypatch.delattr("hjepa.kernels._fused_crops", raising=False)
    assert parity.available(device) == found


def test_photographs_are_written_once() -> None:
    pytest.importorskip("skimage.data")
    folder = parity.photographs()
    written = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert {"astronaut.jpg", "chelsea.jpg", "coffee.jpg", "rocket.jpg"} <= set(written)
    assert parity.photographs() == folder
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == written
