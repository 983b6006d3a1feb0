"""Documents C's and D's augmentations: their arguments, the recipes behind them, and chance that is keyed."""

import copy
import pickle
from collections import UserList
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, default_collate

import hjepa
from hjepa.configs.load import load_settings
from hjepa.pipeline.recipe import Jitter

IMAGE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 80, 3), dtype=np.uint8))
SMALL: dict[str, Any] = {"global_crop_size": 32, "local_crop_size": 16, "num_local_crops": 3}
NAMES_OF_D = {
    "global_crops_number": 3,
    "local_crops_number": 4,
    "global_crops_scale": (0.5, 1.0),
    "local_crops_scale": (0.1, 0.5),
    "global_crop_size": 32,
    "local_crop_size": 16,
}


def test_defaults_are_the_recipes_of_the_documents() -> None:
    assert hjepa.MultiCropAugmentation().recipe == hjepa.preset("dino")
    assert hjepa.MultiCropAugmentationCIFAR().recipe == hjepa.preset("cifar10")
    assert hjepa.SimpleMultiCrop().recipe == hjepa.preset("simple")


def test_crops_are_document_ds_list_and_document_cs_dict() -> None:
    crops = hjepa.MultiCropAugmentation()(IMAGE)
    assert [tuple(crop.shape) for crop in crops] == [(3, 224, 224)] * 2 + [(3, 96, 96)] * 8
    assert crops["global_crops"].shape == (2, 3, 224, 224)
    assert crops["local_crops"].shape == (8, 3, 96, 96)
    assert torch.equal(crops["global_crops"][1], crops[1])
    assert torch.equal(crops["local_crops"][7], crops[-1])
    with pytest.raises(KeyError, match="'global_crops' and 'local_crops'"):
        crops["global"]  # type: ignore[call-overload]


def test_crops_without_local_ones_are_a_dict_too() -> None:
    crops = hjepa.MultiCropAugmentation(**SMALL | {"num_local_crops": 0})(IMAGE)
    assert len(crops) == 2
    assert crops["local_crops"].shape == (0, 3, 32, 32)


def test_crops_stay_a_dict_when_they_are_copied_sent_or_collated() -> None:
    crops = hjepa.MultiCropAugmentation(**SMALL)(IMAGE)
    for same in (copy.copy(crops), pickle.loads(pickle.dumps(crops))):
        assert torch.equal(same["local_crops"], crops["local_crops"])
    assert default_collate([crops, crops])["local_crops"].shape == (3, 2, 3, 16, 16)


def test_names_of_document_d_are_those_of_document_c() -> None:
    theirs = hjepa.MultiCropAugmentation(**NAMES_OF_D)
    ours = hjepa.MultiCropAugmentation(
        num_global_crops=3,
        num_local_crops=4,
        global_crop_scale=(0.5, 1.0),
        local_crop_scale=(0.1, 0.5),
        global_crop_size=32,
        local_crop_size=16,
    )
    assert theirs.recipe == ours.recipe
    assert [view.solarize for view in theirs.recipe.views] == [0, 0.2, 0]  # the third global crop is drawn as the second
    assert len(theirs(IMAGE)) == 7


def test_one_option_under_two_names_is_refused() -> None:
    with pytest.raises(ValueError, match="num_local_crops=4 is given a second time as 6"):
        hjepa.MultiCropAugmentation(num_local_crops=4, local_crops_number=6)
    with pytest.raises(ValueError, match="use 1 or more"):
        hjepa.MultiCropAugmentation(num_global_crops=0)


def test_strengths_and_normalisation_are_document_cs() -> None:
    recipe = hjepa.MultiCropAugmentation(color_jitter_strength=0.5, gaussian_blur_prob=0.6, normalize=False).recipe
    assert {view.jitter for view in recipe.views} == {Jitter(brightness=0.2, contrast=0.2, saturation=0.1, hue=0.05)}
    assert [view.blur for view in recipe.views] == [0.6, 0.1, 0.3]
    assert hjepa.MultiCropAugmentation(color_jitter_strength=0).recipe.views[0].jitter is None
    crops = hjepa.MultiCropAugmentation(**SMALL, normalize=False)(IMAGE)
    assert all(0 <= float(crop.min()) < float(crop.max()) <= 1 for crop in crops)


@pytest.mark.parametrize(
    "make",
    [hjepa.MultiCropAugmentation, hjepa.MultiCropAugmentationCIFAR, hjepa.SimpleMultiCrop],
    ids=lambda each: each.__name__,
)
def test_draws_follow_from_seed_epoch_and_number_of_the_call(make: Any) -> None:
    first, second, other = make(seed=1), make(seed=1), make(seed=2)
    one, two = first(IMAGE)[0], first(IMAGE)[0]
    assert torch.equal(second(IMAGE)[0], one)
    assert not torch.equal(one, two)
    assert not torch.equal(other(IMAGE)[0], one)
    second.set_epoch(1)
    assert not torch.equal(second(IMAGE)[0], one)
    second.set_epoch(0)
    assert torch.equal(second(IMAGE)[0], one)


def test_exercises_of_document_c_have_their_numbers() -> None:
    crops = hjepa.SimpleMultiCrop(global_size=32, local_size=16, num_local=2)(IMAGE)
    assert [crop.shape[-1] for crop in crops] == [32, 32, 16, 16]
    strengths = [view.jitter for each in hjepa.create_asymmetric_transforms() for view in each.recipe.views]
    assert strengths[0].brightness > strengths[1].brightness
    assert strengths[2] is None
    assert [len(each(IMAGE)) for each in hjepa.create_asymmetric_transforms()] == [1, 1, 1]


@pytest.mark.parametrize("form", [lambda data: {"data": data}, lambda data: SimpleNamespace(data=SimpleNamespace(**data))])
def test_configuration_chooses_the_class_and_its_numbers(form: Any) -> None:
    cifar = hjepa.get_multicrop_augmentation(form({"dataset": "cifar10", **NAMES_OF_D}))
    assert isinstance(cifar, hjepa.MultiCropAugmentationCIFAR)
    assert cifar.recipe.mean == hjepa.preset("cifar10").mean
    imagenet = hjepa.get_multicrop_augmentation(form({"dataset": "imagenet", **NAMES_OF_D}))
    assert imagenet.recipe == hjepa.MultiCropAugmentation(**NAMES_OF_D).recipe
    for found in (cifar, imagenet):
        assert [(view.count, view.size, view.area) for view in found.recipe.views] == [
            (1, 32, (0.5, 1.0)),
            (2, 32, (0.5, 1.0)),
            (4, 16, (0.1, 0.5)),
        ]
    assert hjepa.get_multicrop_augmentation(form({"dataset": "cifar10"})).recipe == hjepa.preset("cifar10")


def test_configuration_may_be_hydras_or_hjepas_own() -> None:
    own_lists = {"global_crops_scale": UserList([0.7, 1.0]), "local_crops_scale": UserList([0.3, 0.7])}  # as Hydra's are
    expected = hjepa.preset("cifar10")
    assert hjepa.get_multicrop_augmentation({"data": {"dataset": "cifar10", **own_lists}}).recipe == expected
    assert hjepa.get_multicrop_augmentation(load_settings(Path("cifar10_config"))).recipe == expected


def test_a_cifar_by_another_name_is_not_taken_for_imagenet() -> None:
    with pytest.raises(ValueError, match="'cifar-10' is no name of a CIFAR; use cifar10 or cifar100"):
        hjepa.get_multicrop_augmentation({"data": {"dataset": "CIFAR-10"}})


def test_cifar100_is_normalised_by_its_own_numbers() -> None:
    found = hjepa.get_multicrop_augmentation({"data": {"dataset": "cifar100"}})
    assert isinstance(found, hjepa.MultiCropAugmentationCIFAR)
    assert (found.recipe.mean, found.recipe.std) == ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761))
    with pytest.raises(ValueError, match="is no CIFAR"):
        hjepa.MultiCropAugmentationCIFAR(dataset="stl10")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model": 1}, "no data section, but model"),
        ({"data": 3}, "config.data is 3"),
        ({"data": {"global_crop_size": 32, "multicrop": {"global_crop_size": 48}}}, "a second time as 32"),
    ],
    ids=["no data", "no mapping", "two values"],
)
def test_configuration_that_cannot_be_read_is_refused(config: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        hjepa.get_multicrop_augmentation(config)


@pytest.mark.parametrize("make", [hjepa.MultiCropAugmentation, hjepa.MultiCropTransform], ids=lambda each: each.__name__)
def test_areas_that_do_not_meet_are_warned_of(make: Any) -> None:
    with pytest.warns(UserWarning, match=r"cover 0\.5 of the image or more, local ones 0\.4 or less.*the gap is meant"):
        make(global_crop_scale=(0.5, 1.0))
    with pytest.warns(UserWarning, match="the overlap is meant"):
        make(local_crop_scale=(0.05, 0.6))
    make(global_crop_scale=(0.5, 1.0), num_local_crops=0)


def test_areas_of_every_preset_meet() -> None:
    for name in ("dino", "dinov2", "dinov3-256", "ibot", "swav", "cifar10", "simple", "hjepa", "simclr"):
        hjepa.RecipeTransform(hjepa.preset(name))  # a warning would be an error


def test_blur_and_solarization_keep_the_image_or_change_it_by_their_probability() -> None:
    never, always = hjepa.GaussianBlur(p=0.0), hjepa.GaussianBlur(p=1.0, radius_min=1.5)
    assert np.array_equal(never(IMAGE), IMAGE)
    blurred = np.asarray(always(IMAGE), dtype=np.float32)
    assert blurred.shape == np.asarray(IMAGE).shape
    assert np.abs(np.diff(blurred, axis=0)).mean() < 0.5 * np.abs(np.diff(np.asarray(IMAGE, dtype=np.float32), axis=0)).mean()
    pixels, inverted = np.asarray(IMAGE), np.asarray(hjepa.Solarization(p=1.0, threshold=100)(IMAGE))
    assert np.array_equal(inverted, np.where(pixels >= 100, 255 - pixels, pixels))
    changed = [
        not np.array_equal(solarize(IMAGE), IMAGE) for solarize in [hjepa.Solarization(p=0.3, seed=1)] for _ in range(400)
    ]
    assert np.mean(changed) == pytest.approx(0.3, abs=0.08)


@pytest.mark.parametrize("make", [hjepa.GaussianBlur, hjepa.Solarization], ids=lambda each: each.__name__)
def test_operators_of_one_seed_are_alike_call_by_call(make: Any) -> None:
    def images(seed: int) -> list[bytes]:
        operator = make(p=0.5, seed=seed)
        return [operator(IMAGE).tobytes() for _ in range(12)]

    assert images(4) == images(4)
    assert images(4) != images(5)
    assert len(set(images(4))) > 1


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK"])
def test_operators_take_images_of_any_mode(mode: str) -> None:
    image = IMAGE.convert(mode)
    expected = np.asarray(image.convert("RGB"))
    solarized = np.asarray(hjepa.Solarization(p=1.0, threshold=128)(image))
    assert np.array_equal(solarized, np.where(expected >= 128, 255 - expected, expected))


def test_operators_work_in_workers() -> None:
    dataset = [IMAGE] * 4
    loader = DataLoader(dataset, batch_size=None, num_workers=2, collate_fn=hjepa.GaussianBlur(p=1.0, radius_min=1.0))
    assert len({image.tobytes() for image in loader}) == 4


def test_crop_sizes_are_checked_against_the_recipe() -> None:
    augmentation = hjepa.MultiCropAugmentation(**SMALL)
    crops = augmentation(IMAGE)
    hjepa.check_crop_sizes(crops, augmentation.recipe)
    hjepa.check_crop_sizes([crop[None] for crop in crops], augmentation.recipe)
    with pytest.raises(ValueError, match=r"crop 1 is \[3, 16, 16\], and 'global' crops are \[..., 3, 32, 32\]; use"):
        hjepa.check_crop_sizes([crops[0], crops[2], *crops[2:]], augmentation.recipe)
    with pytest.raises(ValueError, match="there are 4 crops, and recipe 'dino' makes 5"):
        hjepa.check_crop_sizes(crops[1:], augmentation.recipe)
