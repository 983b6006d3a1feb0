"""Pixels are normalised by the data set's own numbers: in training, evaluation and the documents' data sets, and for ever."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import hjepa
from hjepa import checkpoint, trained
from hjepa.assembly import build_loader, build_recipe, open_source
from hjepa.configs.load import changes_to_yaml, load_settings, with_changes
from hjepa.configs.schema import Settings
from hjepa.model_assembly import build_model
from hjepa.pipeline.curriculum import recipe_at
from hjepa.pipeline.normalisation import STATISTICS, statistics_of
from hjepa.pipeline.recipe import IMAGENET_MEAN, IMAGENET_STD
from tests.pipeline.test_arrays import write_cifar10

CIFAR = STATISTICS["cifar10"]
IMAGENET = (IMAGENET_MEAN, IMAGENET_STD)
REFERENCE = ["data.pipeline=torchvision", "data.num_workers=0", "device=cpu", "data.batch_size=4"]


def of_cifar(place: Path | str, *others: str) -> Settings:
    return load_settings(Path("small"), ["data.dataset=cifar10", f"data.data_path={place}", *REFERENCE, *others])


def numbers(settings: Settings) -> tuple[Any, Any]:
    return settings.data.mean, settings.data.std


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "imagenet", "stl10", "imagefolder"])
@pytest.mark.parametrize("objective", ["hjepa", "dino"])
def test_a_named_data_set_is_normalised_by_its_own_numbers_and_others_by_imagenets(name: str, objective: str) -> None:
    settings = load_settings(None, [f"data.dataset={name}", "data.data_path=x", f"objective={objective}"])
    assert numbers(settings) == statistics_of(name) == STATISTICS.get(name, IMAGENET)
    recipe = recipe_at(build_recipe(settings), 0)
    assert (recipe.mean, recipe.std) == statistics_of(name)


def test_a_setting_overrides_and_the_other_number_stays() -> None:
    assert numbers(of_cifar("x", "data.mean=[0.5, 0.4, 0.3]")) == ((0.5, 0.4, 0.3), CIFAR[1])
    assert numbers(load_settings(Path("small"), ["data.std=[0.5, 0.5, 0.5]"])) == (IMAGENET[0], (0.5, 0.5, 0.5))


def test_settings_that_are_written_down_keep_their_numbers(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(changes_to_yaml(of_cifar("x")), encoding="utf-8")
    assert numbers(load_settings(file)) == CIFAR
    assert numbers(with_changes(of_cifar("x"), {"data.dataset": "imagefolder"})) == CIFAR
    as_imagenet = of_cifar("x", f"data.mean={list(IMAGENET_MEAN)}", f"data.std={list(IMAGENET_STD)}")
    file.write_text(changes_to_yaml(as_imagenet), encoding="utf-8")
    assert numbers(load_settings(file)) == IMAGENET


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.mean=[123.7, 116.3, 103.5]", "data.mean[0]=123.7 should be less than or equal to 1"),
        ("data.std=[58.4, 57.1, 57.4]", "data.std[0]=58.4 should be less than or equal to 1"),
        ("data.std=[0.2, 0, 0.2]", "data.std[1]=0 should be greater than 0"),
    ],
)
def test_numbers_of_bytes_are_refused(override: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        of_cifar("x", override)


def test_training_and_evaluation_see_the_same_numbers(tmp_path: Path) -> None:
    settings = of_cifar(write_cifar10(tmp_path))
    source = open_source(settings, lambda *_: None)
    for purpose in ("train", "evaluate"):
        with build_loader(settings, source, purpose) as loader:
            assert (loader.recipe.mean, loader.recipe.std) == CIFAR
    black = hjepa.MultiCropEvalTransform(32, mean=CIFAR[0], std=CIFAR[1])(Image.new("RGB", (32, 32)))
    assert black[:, 0, 0].tolist() == pytest.approx([-mean / std for mean, std in zip(*CIFAR, strict=True)])


def test_a_checkpoint_that_is_too_old_to_say_was_normalised_by_imagenets(tmp_path: Path) -> None:
    settings = of_cifar("x")
    plain = checkpoint.plain_settings(settings)
    del plain["data"]["mean"], plain["data"]["std"]
    with pytest.raises(checkpoint.CheckpointError, match=r"data\.mean was \[0\.485, 0\.456, 0\.406\], now \[0\.4914"):
        checkpoint.check_settings({"settings": plain}, settings, Path("x.pt"))
    as_before = of_cifar("x", f"data.mean={list(IMAGENET_MEAN)}", f"data.std={list(IMAGENET_STD)}")
    checkpoint.check_settings({"settings": plain}, as_before, Path("x.pt"))
    path = tmp_path / "old.pt"
    checkpoint.save(path, {"model": build_model(settings, torch.device("cpu")).state_dict(), "settings": plain})
    assert numbers(trained.load_model(path, {"device": "cpu"})[1]) == IMAGENET


def test_a_trained_encoder_keeps_its_numbers_on_other_images(tmp_path: Path) -> None:
    settings = of_cifar("x")
    path = tmp_path / "new.pt"
    state = build_model(settings, torch.device("cpu")).state_dict()
    checkpoint.save(path, {"model": state, "settings": checkpoint.plain_settings(settings)})
    assert numbers(trained.load_model(path, {"data.dataset": "imagefolder"})[1]) == CIFAR


def test_the_documents_data_set_is_normalised_by_its_own_numbers(tmp_path: Path) -> None:
    place = write_cifar10(tmp_path)
    for split in ("train", "val"):
        recipe = hjepa.MultiCropDatasetRaw("cifar10", place, split).multicrop_transform.recipe
        assert (recipe.mean, recipe.std) == CIFAR
    given = hjepa.MultiCropDatasetRaw("cifar10", place, "val", {"mean": IMAGENET_MEAN, "std": IMAGENET_STD})
    assert (given.multicrop_transform.recipe.mean, given.multicrop_transform.recipe.std) == IMAGENET
