"""What a user mistypes in a notebook is a ValueError that says what came, and not an error from the inside."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import hjepa
from hjepa.pipeline.adapters import open_adapter
from hjepa.pipeline.presets.jepa import multicrop
from hjepa.visualizer import MultiCropVisualizer, denormalize_tensor, visualize_multicrop_batch

hjepa_: Any = hjepa
"""Without types, which forbid what is tried here."""
IMAGE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8))
IMAGES = [IMAGE, IMAGE]
SMALL = multicrop(global_crop_size=32, local_crop_size=16, num_local_crops=2)
RAMP = hjepa.Ramp(start=2, end=4, epochs=3)
NONE = np.ones(0, dtype=np.int64)
CROPS = [torch.zeros(4, 3, 32, 32), torch.zeros(4, 3, 32, 32)]


def load(data: Any = IMAGES, recipe: Any = SMALL, **options: Any) -> Any:
    return hjepa_.Loader(data, recipe, batch_size=2, backend="torchvision", num_workers=0, **{"device": "cpu"} | options)


def batch(recipe: hjepa.Recipe) -> Any:
    with load(recipe=recipe) as loader:
        return next(iter(loader))


class SoMany:
    """A source that gives so many images, however many are asked for."""

    name, classes, bad = "mine", (), ()

    def __init__(self, given: int) -> None:
        self.given = given

    def __len__(self) -> int:
        return 4

    def fetch(self, indices: Any) -> hjepa.Samples:
        pixels = np.frombuffer(b"P6 1 1 255\n\0\0\0", dtype=np.uint8)
        ones, sizes, keys = np.ones(self.given, dtype=np.uint8), np.ones((self.given, 2), dtype=np.int32), ("a",) * self.given
        return hjepa.Samples(encoded=[pixels] * self.given, sizes=sizes, orientation=ones, labels=ones, keys=keys)

    def fingerprint(self) -> str:
        return "mine"


MISTAKES: dict[str, tuple[Callable[[], Any], str]] = {
    "preset of none": (lambda: hjepa_.preset(None), "recipe=None is unknown"),
    "preset of a preset": (lambda: hjepa_.preset(SMALL), "is unknown; use one of hjepa"),
    "transform of a name": (lambda: hjepa_.RecipeTransform("dino"), "recipe='dino' is of type str; give a Recipe"),
    "curriculum of a name": (lambda: hjepa_.Curriculum(recipe="dino", ramps={"local.count": RAMP}), "recipe='dino' is of type"),
    "ramp as a pair": (
        lambda: hjepa_.Curriculum(recipe=SMALL, ramps={"local.count": (2, 4)}),
        r"ramp 'local.count' is \(2, 4\)",
    ),
    "check of a name": (lambda: hjepa_.check_crop_sizes(CROPS, "dino"), "recipe='dino' is of type str"),
    "adapter of a name": (lambda: open_adapter("dino", hjepa_.MultiCropTransform()), "is of type MultiCropTransform"),
    "picture of no recipe": (
        lambda: MultiCropVisualizer.visualize_multicrop_sample(IMAGE, hjepa_.GaussianBlur()),
        "of type Gau",
    ),
    "half an epoch": (lambda: hjepa_.Ramp(start=2, end=4, epochs=1.5), "Ramp: epochs=1.5 is no whole number"),
    "a ramp of text": (lambda: hjepa_.Ramp(start="2", end=4, epochs=1), "Ramp: start='2' is no number"),
    "half a step": (lambda: hjepa_.Steps(epochs=(0, 2.5), values=(2, 4)), "Steps: epochs=2.5 is no whole number"),
    "device of none": (lambda: load(device=None), "device=None is unknown; use 'auto'"),
    "no limit of bad images": (lambda: load(max_bad=None), "max_bad=None is no share"),
    "no limit of pixels": (lambda: hjepa_.open_list(["a.jpg"], max_pixels=None), "max_pixels=None leaves no image"),
    "state of none": (lambda: load().load_state_dict(None), "the state is of type NoneType; give what"),
    "masks' state of none": (lambda: hjepa_.MultiBlockMaskGenerator().load_state_dict(None), "the state is of type NoneType"),
    "seed of none": (lambda: hjepa_.MultiBlockMaskGenerator(seed=None), "seed=None is no whole number"),
    "transform's seed of none": (lambda: hjepa_.MultiCropAugmentation(seed=None), "seed=None is no whole number"),
    "epoch of text": (lambda: hjepa_.MultiCropTransform().set_epoch("3"), "epoch='3' is no whole number"),
    "which of the crops": (
        lambda: hjepa_.MultiCropMaskGenerator(local_crop_size="96"),
        "local_crop_size='96' is no whole number",
    ),
    "two sides": (lambda: hjepa_.MultiCropEvalTransform((224, 224)), r"crop_size=\(224, 224\) is no whole number"),
    "no warm-up": (lambda: hjepa_.AdaptiveMultiCropTransform(warmup_epochs=None), "warmup_epochs=None is no whole number"),
    "no global crops": (
        lambda: batch(hjepa.preset("asymmetric")).globals,
        "crops are strong, medium, light, none of them global",
    ),
    "plain lists collated": (lambda: hjepa_.MultiCropCollator()([CROPS]), "a list, not a CropList"),
    "half a batch": (lambda: hjepa_.benchmark_augmentation_speed(CROPS, 2.5), "num_batches=2.5 is no whole number"),
    "a batch of none": (lambda: hjepa_.benchmark_augmentation_speed(CROPS, batch_size=0), "batch_size=0 is no whole number"),
    "crops and labels": (lambda: visualize_multicrop_batch(hjepa_.multicrop_collate_fn([(CROPS, 1)])), "a list; give"),
    "crops in a dictionary": (lambda: hjepa_.visualize_multicrop_batch({"global_crops": CROPS}), "the crops is a dict; give"),
    "crops of an image": (lambda: visualize_multicrop_batch([crop[0] for crop in CROPS]), r"of shape \[3, 32, 32\]; give"),
    "levels of 8 bits": (lambda: denormalize_tensor(torch.zeros(3, 4, 4, dtype=torch.uint8)), "uint8.* give floating"),
    "an array": (lambda: hjepa_.denormalize_tensor(np.zeros((3, 4, 4))), "ndarray is no tensor; give one"),
    "step on a pair": (lambda: hjepa_.MultiCropTrainer(None).training_step((CROPS, 1), None, 0), "a batch is a tuple; give a"),
    "temperature of 0": (lambda: hjepa_.MultiCropTrainer(None, temperature_teacher=0.0), "temperatures are above 0"),
    "labels with names": (lambda: hjepa_.open_dataset(IMAGES, labels=["cat", "dog"]), "give whole numbers, and their names"),
    "a path as a data set": (lambda: hjepa_.open_dataset("photos"), "str is not a map-style data set"),
    "a path as a list": (lambda: hjepa_.open_list("photos.txt"), "a str is no list of images"),
    "labels by path": (lambda: hjepa_.open_list({"a.jpg": 1}), r"a dict is no list of images; give .* \[\(path, label\)"),
    "a path as a mixture": (lambda: hjepa_.Mixture("photos"), "a mixture is of a list of sources, and a str came"),
    "empty folder name": (lambda: hjepa_.open_folder(""), "is empty; give its place, or . for the current"),
    "empty shard name": (lambda: hjepa_.open_webdataset(""), "is empty; give tar files"),
    "empty parquet name": (lambda: hjepa_.open_parquet(""), "is empty; give files"),
    "a key too many": (
        lambda: hjepa_.Samples(encoded=[], sizes=np.ones((0, 2), int), orientation=NONE, labels=NONE, keys=("a",)),
        "there are 1 keys for 0 images",
    ),
    "images too few": (lambda: next(iter(load(SoMany(1)))), "fetch gave 1 images for 2 numbers"),
    "images too many": (lambda: next(iter(load(SoMany(3)))), "fetch gave 3 images for 2 numbers"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake_is_said_in_words(name: str) -> None:
    call, message = MISTAKES[name]
    with pytest.raises(ValueError, match=message):
        call()


def test_bad_image_is_named_by_a_data_set_and_by_pictures_of_it(tmp_path: Path) -> None:
    Image.effect_noise((200, 100), 50).save(tmp_path / "a.jpg")
    content = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "b.jpg").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"cannot decode b\.jpg: image file is truncated"):
        hjepa.MultiCropDatasetRaw("imagefolder", tmp_path)[1]
    with pytest.raises(ValueError, match=r"cannot decode b\.jpg: image file is truncated"):
        hjepa.visualize_augmentation_effects(tmp_path, "cifar10")
    with pytest.raises(ValueError, match="cannot decode 1: not an image"):
        hjepa.visualize_augmentation_effects([IMAGE, b"none"], "cifar10")
