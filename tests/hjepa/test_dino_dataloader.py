"""Documents C's and D's loaders: their batches, and that they are a Loader's."""

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Subset
from torchvision.datasets import ImageFolder, VisionDataset

import hjepa

SMALL: dict[str, Any] = {"global_crop_size": 32, "local_crop_size": 16, "num_local_crops": 3}
CONFIG: dict[str, Any] = {
    "experiment": {"name": "dino_cifar10_multicrop"},
    "data": {"dataset": "cifar10", "batch_size": 8, "local_crops_number": 3, "num_workers": 1, "pin_memory": False},
}
REFERENCE: dict[str, Any] = {"device": "cpu", "backend": "torchvision"}


def test_collator_stacks_crop_after_crop(labelled: Path) -> None:
    dataset = hjepa.MultiCropDataset(ImageFolder(labelled), hjepa.MultiCropAugmentation(**SMALL), return_labels=False)
    items = [dataset[0], dataset[1]]
    batch = hjepa.MultiCropCollator()(items)
    assert batch["batch_size"] == 2
    assert torch.equal(batch["global_crops"], torch.stack([items[0][0], items[1][0], items[0][1], items[1][1]]))
    assert batch["local_crops"].shape == (6, 3, 16, 16)
    loader = DataLoader(dataset, batch_size=4, collate_fn=hjepa.MultiCropCollator())
    assert next(iter(loader))["global_crops"].shape == (8, 3, 32, 32)
    labelled_items = [(items[0], 1), (items[1], 0)]
    assert torch.equal(hjepa.MultiCropCollator()(labelled_items)["local_crops"], batch["local_crops"])
    of_dicts: Any = [{key: crops[key] for key in ("global_crops", "local_crops")} for crops in items]
    assert torch.equal(hjepa.MultiCropCollator()(of_dicts)["local_crops"], batch["local_crops"])


def test_collator_works_without_local_crops(labelled: Path) -> None:
    augmentation = hjepa.MultiCropAugmentation(**SMALL | {"num_local_crops": 0})
    dataset = hjepa.MultiCropDataset(ImageFolder(labelled), augmentation, return_labels=False)
    assert len(hjepa.MultiCropCollator()([dataset[0], dataset[1]])["local_crops"]) == 0


def test_document_cs_loader_has_its_batches(labelled: Path) -> None:
    with hjepa.create_multicrop_dataloader(labelled, batch_size=4, num_workers=1, color_jitter_strength=0.5, **SMALL) as loader:
        batch = next(iter(loader))
        assert len(loader) == 10
        assert loader.loader.recipe == hjepa.MultiCropAugmentation(**SMALL, color_jitter_strength=0.5).recipe
    assert batch["batch_size"] == 4
    assert batch["global_crops"].shape == (8, 3, 32, 32)
    assert batch["local_crops"].shape == (12, 3, 16, 16)


def test_document_cs_loader_draws_by_its_seed(labelled: Path) -> None:
    def crops(seed: int) -> torch.Tensor:
        with hjepa.create_multicrop_dataloader(labelled, batch_size=4, num_workers=1, seed=seed, **SMALL) as loader:
            return next(iter(loader))["global_crops"]

    assert torch.equal(crops(1), crops(1))
    assert not torch.equal(crops(1), crops(2))


def test_document_cs_loader_works_without_local_crops(labelled: Path) -> None:
    with hjepa.create_multicrop_dataloader(labelled, batch_size=4, num_workers=1, **SMALL | {"num_local_crops": 0}) as loader:
        batch = next(iter(loader))
    assert batch["global_crops"].shape == (8, 3, 32, 32)
    assert batch["local_crops"].shape == (0, 3, 32, 32)


def test_document_cs_pictures_are_made_of_its_loader(labelled: Path) -> None:
    with hjepa.create_multicrop_dataloader(labelled, batch_size=4, num_workers=1, **SMALL) as loader:
        assert len(hjepa.MultiCropVisualizer.visualize_batch(loader, num_samples=3).axes) == 12
        assert hjepa.analyze_crop_statistics(loader, n_batches=2).views["local"].count == 24


def test_document_ds_loader_follows_the_epoch_of_its_augmentation(labelled: Path) -> None:
    augmentation = hjepa.MultiCropAugmentation(**SMALL)
    with hjepa.MultiCropDataLoader(ImageFolder(labelled, transform=augmentation), CONFIG, **REFERENCE) as loader:
        augmentation.set_epoch(7)
        assert loader.loader.epoch == 7


def test_document_ds_loader_takes_crops_and_batches_from_the_configuration(labelled: Path) -> None:
    with hjepa.create_dino_dataloader(ImageFolder(labelled), CONFIG, **REFERENCE) as loader:
        assert isinstance(loader, hjepa.MultiCropDataLoader)
        assert len(loader) == 5
        crops, labels = next(iter(loader))
        assert loader.loader.recipe == hjepa.get_multicrop_augmentation(CONFIG).recipe
        globals_, locals_ = loader.split_crops(crops)
    assert [tuple(crop.shape) for crop in globals_] == [(8, 3, 32, 32)] * 2
    assert [tuple(crop.shape) for crop in locals_] == [(8, 3, 16, 16)] * 3
    assert set(labels.tolist()) == {0, 1}


@pytest.mark.parametrize("part", [False, True], ids=["whole", "subset"])
def test_an_augmentation_that_is_the_data_sets_transform_makes_the_batches(part: bool, labelled: Path) -> None:
    augmentation = hjepa.MultiCropAugmentation(**SMALL, seed=3)
    folder = ImageFolder(labelled, transform=augmentation)
    dataset = Subset(folder, range(7, 31)) if part else folder
    with hjepa.MultiCropDataLoader(dataset, CONFIG, shuffle=False, **REFERENCE) as loader:
        crops, labels = next(iter(loader))
        assert loader.loader.recipe == augmentation.recipe
    own, label = dataset[0]  # the first sample of an epoch, whoever renders it
    torch.testing.assert_close(crops[0][0], own[0])
    assert label == labels[0]


def test_a_transform_of_labels_is_kept(labelled: Path) -> None:
    folder = ImageFolder(labelled, transform=hjepa.MultiCropAugmentation(**SMALL), target_transform=lambda label: 7 + label)
    with hjepa.MultiCropDataLoader(folder, CONFIG, **REFERENCE) as loader:
        assert set(next(iter(loader))[1].tolist()) == {7, 8}
    assert len(folder[0][0]) == 5  # the user's data set keeps its own


class Pairs(VisionDataset):
    """Takes its image and its label through `transforms`, as torchvision's data sets of detection do."""

    classes = ("even", "odd")

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        image, label = Image.new("RGB", (40, 40)), [index % 2]
        return (image, label) if self.transforms is None else self.transforms(image, label)


class Own:
    """A data set of the user's own with transforms named as torchvision's are, and no pair of them."""

    def __init__(self, transform: Any, target_transform: Any) -> None:
        self.transform = transform
        self.target_transform = target_transform

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        image = Image.new("RGB", (40, 40))
        return image if self.transform is None else self.transform(image), self.target_transform(index % 2)


def test_a_transform_of_labels_is_kept_of_a_data_set_of_ones_own() -> None:
    own = Own(hjepa.MultiCropAugmentation(**SMALL), lambda label: 7 + label)
    with hjepa.MultiCropDataLoader(own, CONFIG, **REFERENCE) as loader:
        assert set(next(iter(loader))[1].tolist()) == {7, 8}


def test_a_transform_of_labels_is_kept_where_it_is_one_of_a_pair() -> None:
    augmentation = hjepa.MultiCropAugmentation(**SMALL)
    pairs = Pairs("", transform=augmentation, target_transform=lambda label: 7 + label[0])
    with hjepa.MultiCropDataLoader(pairs, CONFIG, **REFERENCE) as loader:
        crops, labels = next(iter(loader))
    assert len(crops) == 5
    assert set(labels.tolist()) == {7, 8}
    assert pairs.transforms.transform is augmentation  # the user's data set keeps its own


def test_shuffling_is_asked_for(labelled: Path) -> None:
    def labels(shuffle: bool) -> list[int]:
        with hjepa.MultiCropDataLoader(ImageFolder(labelled), CONFIG, shuffle, **REFERENCE) as loader:
            return next(iter(loader))[1].tolist()

    assert labels(False) == [0] * 8
    assert labels(True) != [0] * 8


def test_a_configuration_without_a_batch_size_is_refused(labelled: Path) -> None:
    with pytest.raises(ValueError, match="no batch_size"):
        hjepa.MultiCropDataLoader(ImageFolder(labelled), {"data": {"dataset": "cifar10"}})


def test_workers_are_those_of_the_configuration(labelled: Path) -> None:
    with pytest.raises(ValueError, match="num_workers=-3"):
        hjepa.MultiCropDataLoader(ImageFolder(labelled), {"data": CONFIG["data"] | {"num_workers": -3}}, **REFERENCE)
