"""Documents C's and D's pictures and statistics: one sample, no locals, any normalisation, and scales from the boxes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from torchvision.transforms.functional import normalize

import hjepa
from hjepa import Loader, MultiCropTransform, MultiCropVisualizer, analyze_crop_statistics, denormalize_tensor, preset
from hjepa.configs.recipe_file import recipe_to_yaml
from hjepa.multicrop_dataset import CropBatches
from hjepa.pipeline.curriculum import Curriculum, Steps
from hjepa.pipeline.presets.jepa import evaluation, multicrop
from hjepa.pipeline.recipe import Recipe

SMALL = multicrop(global_crop_size=32, local_crop_size=16, num_local_crops=4, local_crop_scale=(0.1, 0.3))
CIFAR = preset("cifar10")


def load(folder: Path, recipe: Recipe | Curriculum = SMALL, batch_size: int = 8, **options: str) -> Loader:
    return Loader(folder, recipe, batch_size=batch_size, backend="torchvision", device="cpu", num_workers=0, **options)  # type: ignore[arg-type]


def shown(figure: Figure) -> list[np.ndarray]:
    """The pictures of the figure, in order."""
    return [np.asarray(axis.images[0].get_array()) for axis in figure.axes if axis.images]


def titles(figure: Figure) -> list[str]:
    return [axis.get_title() for axis in figure.axes if axis.images]


@pytest.mark.parametrize("shape", [(3, 5, 7), (2, 3, 5, 7), (4, 2, 3, 5, 7)])
def test_denormalised_is_what_was_normalised(shape: tuple[int, ...]) -> None:
    images = torch.rand(shape)
    assert torch.allclose(
        denormalize_tensor(normalize(images, CIFAR.mean, CIFAR.std), CIFAR.mean, CIFAR.std), images, atol=1e-6
    )
    there = normalize(images, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    assert torch.allclose(denormalize_tensor(there), images, atol=1e-6)


def test_what_is_no_image_is_not_denormalised() -> None:
    with pytest.raises(ValueError, match=r"\[3, H, W\]"):
        denormalize_tensor(torch.rand(5, 7))


def test_statistics_are_those_of_the_boxes(labelled: Path) -> None:
    with load(labelled) as loader:
        batches = list(loader)
    with load(labelled) as loader:
        found = analyze_crop_statistics(loader, n_batches=3)
    assert (found.images, found.crops_per_image, found.local_to_global) == (24, 6, 2.0)
    for name, view in found.views.items():
        boxes = np.concatenate([batch.boxes[name].numpy().transpose(1, 0, 2).reshape(-1, 4) for batch in batches[:3]])
        sizes = np.concatenate([np.repeat(batch.draws.sizes, view.per_image, axis=0) for batch in batches[:3]])
        assert view.scales == pytest.approx(boxes[:, 2:].prod(axis=1) / sizes.prod(axis=1))
        assert view.ratios == pytest.approx(boxes[:, 3] / boxes[:, 2])
        low, high = found.configured[name]
        assert low - 0.02 < view.scales.min() < view.scales.max() < high + 0.02
        assert np.ptp(view.scales) > 0.5 * (high - low)  # drawn over the range, not a constant of the crop's size
    assert {name: view.size for name, view in found.views.items()} == {"global": 32, "local": 16}
    assert found.configured == {"global": (0.4, 1.0), "local": (0.1, 0.3)}


def test_statistics_of_one_crop_and_of_a_short_epoch(labelled: Path) -> None:
    with load(labelled, evaluation(32), batch_size=20) as loader:
        found = analyze_crop_statistics(CropBatches(loader), n_batches=10)
    assert (found.images, list(found.views), found.local_to_global) == (40, ["global"], 0.0)
    assert found.views["global"].flipped == 0


def test_statistics_are_held_against_the_recipe_of_their_epoch(labelled: Path) -> None:
    areas = Steps(epochs=(0, 1), values=((0.1, 0.3), (0.6, 0.8)))
    with load(labelled, Curriculum(recipe=SMALL, ramps={"local.area": areas})) as loader:
        found = [analyze_crop_statistics(loader, n_batches=count) for count in (100, 2)]
    assert [each.configured["local"] for each in found] == [(0.1, 0.3), (0.6, 0.8)]


def test_loader_that_knows_no_boxes_is_refused(labelled: Path) -> None:
    with pytest.raises(ValueError, match="give a hjepa"):
        analyze_crop_statistics([torch.rand(2, 3, 8, 8)])  # type: ignore[arg-type]
    with load(labelled, adapter="dino") as loader, pytest.raises(ValueError, match="without adapter"):
        analyze_crop_statistics(loader)


def test_scales_are_plotted_as_they_were_drawn(labelled: Path, tmp_path: Path) -> None:
    with load(labelled) as loader:
        figure = MultiCropVisualizer.plot_crop_statistics(loader, 2, tmp_path / "new" / "scales.png")
    with load(labelled) as loader:
        found = analyze_crop_statistics(loader, 2)
    for axis, view in zip(figure.axes, found.views.values(), strict=True):
        heights = [bar.get_height() for bar in axis.patches]
        assert heights == pytest.approx(np.histogram(view.scales, bins=len(heights), range=(0, 1))[0])
    assert (tmp_path / "new" / "scales.png").stat().st_size > 5_000


def test_sample_shows_what_the_next_call_gives(labelled: Path, tmp_path: Path) -> None:
    transform = MultiCropTransform(global_crop_size=32, local_crop_size=16, mean=CIFAR.mean, std=CIFAR.std, seed=3)
    image = Image.open(sorted(labelled.rglob("*.jpg"))[0])
    transform(image)
    figure = MultiCropVisualizer.visualize_multicrop_sample(image, transform, tmp_path / "sample.png")
    crops = transform(image)  # the picture did not move it on
    original, *pictures = shown(figure)
    assert np.array_equal(original, np.asarray(image))
    assert len(figure.axes[0].patches) == len(pictures) == 8
    for picture, crop in zip(pictures, crops, strict=True):
        expected = denormalize_tensor(crop, CIFAR.mean, CIFAR.std).clamp(0, 1)
        assert picture == pytest.approx(expected.permute(1, 2, 0).numpy(), abs=1e-6)
    assert (tmp_path / "sample.png").exists()


@pytest.mark.parametrize(
    "transform",
    ["dino", evaluation(32), hjepa.MultiCropEvalTransform(32), Path("recipe.yaml")],
    ids=["dino", "recipe", "eval", "file"],
)
def test_sample_of_any_recipe_is_shown(
    transform: object, labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("recipe.yaml").write_text(recipe_to_yaml(evaluation(32)))
    pixels = np.asarray(Image.open(sorted(labelled.rglob("*.jpg"))[0]))
    figure = MultiCropVisualizer.visualize_multicrop_sample(pixels, transform)  # type: ignore[arg-type]
    assert len(shown(figure)) == (11 if transform == "dino" else 2)


def test_batch_has_a_row_for_each_sample_and_two_crops_of_a_name(labelled: Path, tmp_path: Path) -> None:
    with load(labelled) as loader:
        figure = MultiCropVisualizer.visualize_batch(loader, 4, tmp_path / "batch.png")
    assert titles(figure) == ["global 0", "global 1", "local 0", "local 1"] * 4
    with load(labelled, evaluation(32)) as loader:
        assert titles(MultiCropVisualizer.visualize_batch(loader, 1)) == ["global 0"]
    with load(labelled, batch_size=2) as loader:
        assert len(shown(MultiCropVisualizer.visualize_batch(loader, 100))) == 2 * 4


def test_all_crops_of_a_sample_are_shown_in_its_own_normalisation(labelled: Path, tmp_path: Path) -> None:
    recipe = replace(SMALL, mean=CIFAR.mean, std=CIFAR.std)
    with load(labelled, recipe) as loader:
        batch = next(iter(loader))
    options = {"mean": recipe.mean, "std": recipe.std}
    figure = hjepa.visualize_multicrop_batch(batch.views(), 2, 5, tmp_path / "crops.png", **options)
    assert len(shown(figure)) == 6
    for picture, crop in zip(shown(figure), batch.views(), strict=True):
        expected = denormalize_tensor(crop[5], **options).clamp(0, 1).permute(1, 2, 0)
        assert picture == pytest.approx(expected.numpy(), abs=1e-6)
    assert titles(figure)[0] == "global 0: 32x32"
    assert titles(figure)[2] == "local 0: 16x16"
    assert titles(hjepa.visualize_multicrop_batch(batch, sample_idx=5)) == titles(figure)
    with Image.open(tmp_path / "crops.png") as picture:
        assert round(picture.info["dpi"][0]) == 300
    assert len(shown(hjepa.visualize_multicrop_batch(batch.views()[:2]))) == 2  # no locals
    with pytest.raises(ValueError, match="use 0 to 7"):
        hjepa.visualize_multicrop_batch(batch, sample_idx=8)
    with pytest.raises(ValueError, match="no crops"):
        hjepa.visualize_multicrop_batch([])


@pytest.mark.parametrize("count", [1, 3])
def test_effects_are_shown_for_each_image(count: int, labelled: Path) -> None:
    figure = hjepa.visualize_augmentation_effects(labelled, "dino", count)
    assert len(shown(figure)) == count * 7
    assert titles(figure)[1:7] == ["global 0", "global 1", *(f"local {place}" for place in range(4))]
    assert len(shown(hjepa.visualize_augmentation_effects(labelled, evaluation(32), count))) == count * 2


def test_effects_are_shown_of_document_ds_configuration(labelled: Path) -> None:
    config = {"data": {"dataset": "cifar10", "local_crops_number": 3}}
    figure = hjepa.visualize_augmentation_effects(labelled, config, 1)
    assert titles(figure)[1:] == ["global 0", "global 1", *(f"local {place}" for place in range(3))]
    assert [image.shape[0] for image in shown(figure)[1:]] == [32] * 2 + [16] * 3


def test_names_that_draw_are_loaded_late_and_others_are_refused() -> None:
    assert set(hjepa.__all__) >= {"MultiCropVisualizer", "denormalize_tensor", "visualize_augmentation_effects"}
    assert all(hasattr(hjepa, name) for name in hjepa.__all__)
    with pytest.raises(AttributeError, match="no attribute 'visualise'"):
        _ = hjepa.visualise  # type: ignore[attr-defined]
