"""The documents' names: their shapes, defaults and contracts."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.transforms import InterpolationMode

import hjepa

SMALL = {"global_crop_size": 32, "local_crop_size": 16, "num_local_crops": 3}
IMAGE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (256, 256, 3), dtype=np.uint8))


def test_transform_gives_the_documented_crops() -> None:
    crops = hjepa.build_multicrop_transform()(IMAGE)
    assert len(crops) == 8
    assert [tuple(crop.shape) for crop in crops] == [(3, 224, 224)] * 2 + [(3, 96, 96)] * 6
    assert hjepa.MultiCropEvalTransform()(IMAGE).shape == (3, 224, 224)


def test_transforms_of_one_seed_are_alike_and_calls_differ() -> None:
    first, second, other = (hjepa.MultiCropTransform(**SMALL, seed=seed) for seed in (0, 0, 1))
    one, two = first(IMAGE), first(np.asarray(IMAGE))
    assert torch.equal(one[0], second(IMAGE)[0])
    assert not torch.equal(one[0], two[0])
    assert not torch.equal(one[0], other(IMAGE)[0])


def test_adaptive_transform_follows_the_epochs() -> None:
    transform = hjepa.AdaptiveMultiCropTransform(2, 10, 4, global_crop_size=32, local_crop_size=16)
    counts = []
    for epoch in (0, 1, 2, 4, 9):
        transform.set_epoch(epoch)
        counts.append(len(transform(IMAGE)) - 2)
    assert counts == [2, 4, 6, 10, 10]
    assert hjepa.AdaptiveMultiCropTransform().num_local_crops == 10
    with pytest.raises(ValueError, match="no range"):
        hjepa.AdaptiveMultiCropTransform(5, 2)
    with pytest.raises(ValueError, match="num_local_crops is the epoch's"):
        hjepa.AdaptiveMultiCropTransform(num_local_crops=6)


def test_dataset_and_dataloader_keep_the_documents_contract(photographs: Path) -> None:
    dataset = hjepa.build_multicrop_dataset("imagefolder", photographs, **SMALL)
    crops, label = dataset[0]
    assert isinstance(label, int)
    assert len(crops) == dataset.total_crops == dataset.num_global_crops + dataset.num_local_crops == 5
    assert dataset.classes == []
    with hjepa.build_multicrop_dataloader(dataset, batch_size=8, num_workers=1, device="cpu") as loader:
        assert len(loader) == 4
        for crops, labels in loader:
            assert [tuple(crop.shape) for crop in crops] == [(8, 3, 32, 32)] * 2 + [(8, 3, 16, 16)] * 3
            assert labels.shape == (8,)
            masks = hjepa.MultiCropMaskGenerator(32, 16, num_local_crops=3, patch_size=8)(batch_size=crops[0].shape[0])
            assert len(masks["global_masks"]) == 2


@pytest.mark.parametrize("seed", [-3, np.uint64(2**64 - 3), torch.tensor(-3)], ids=["negative", "numpy", "torch"])
def test_transforms_and_masks_take_any_whole_number_as_a_seed(seed: Any) -> None:
    crops, expected = (hjepa.MultiCropTransform(**SMALL, seed=one)(IMAGE) for one in (seed, -3))
    assert all(torch.equal(one, two) for one, two in zip(crops, expected, strict=True))
    masks, others = (hjepa.MultiBlockMaskGenerator(64, seed=one)(4) for one in (seed, -3))
    assert torch.equal(masks[0], others[0])


def test_dataset_works_in_a_plain_dataloader_too(photographs: Path) -> None:
    dataset = hjepa.build_multicrop_dataset("imagefolder", photographs, **SMALL)
    crops, labels = next(iter(DataLoader(dataset, batch_size=4, collate_fn=hjepa.multicrop_collate_fn)))
    assert len(crops) == 5
    assert crops[0].shape == (4, 3, 32, 32)
    assert labels.dtype == torch.int64
    assert hjepa.multicrop_collate_fn([[crop[0] for crop in crops]])[1].shape == (0,)
    assert hjepa.multicrop_collate_fn([])[0] == []
    stacked = [(torch.stack([crop[number] for crop in crops[:2]]), 1) for number in range(4)]  # an image's in one tensor
    assert all(torch.equal(one, two) for one, two in zip(hjepa.multicrop_collate_fn(stacked)[0], crops, strict=False))


def test_transforms_make_the_same_crops_whatever_torchs_default_device_is() -> None:
    def crops() -> list[torch.Tensor]:
        drawn = hjepa.MultiCropAugmentation(**SMALL, seed=3)(IMAGE)
        drawn += hjepa.multicrop_collate_fn([(hjepa.MultiCropEvalTransform(32)(IMAGE), 7)])[1:]
        return [*drawn, hjepa.MultiCropEvalTransform(32)(IMAGE), torch.from_numpy(np.array(hjepa.GaussianBlur(1.0)(IMAGE)))]

    expected = crops()
    with torch.device("meta"):  # in place of a GPU
        found = crops()
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_validation_split_is_the_central_crop(photographs: Path, tmp_path: Path) -> None:
    (tmp_path / "val").symlink_to(photographs)
    dataset = hjepa.build_multicrop_dataset("imagenet", tmp_path, split="val", **SMALL)
    assert dataset[0][0].shape == (3, 32, 32)
    assert (dataset.num_global_crops, dataset.num_local_crops) == (1, 0)
    crops, labels = hjepa.multicrop_collate_fn([dataset[0], dataset[1]])
    assert [tuple(crop.shape) for crop in crops] == [(2, 3, 32, 32)]
    assert labels.shape == (2,)


def test_what_cannot_be_read_or_loaded_is_refused(photographs: Path) -> None:
    with pytest.raises(ValueError, match="no CIFAR-10 in"):
        hjepa.build_multicrop_dataset("cifar10", photographs)
    with pytest.raises(ValueError, match="'mnist' is unknown"):
        hjepa.build_multicrop_dataset("mnist", photographs)
    with pytest.raises(ValueError, match="split='test'"):
        hjepa.build_multicrop_dataset("imagefolder", photographs, split="test")
    tensors = hjepa.MultiCropDataset([torch.zeros(3, 8, 8)], hjepa.MultiCropTransform(**SMALL))
    with pytest.raises(ValueError, match="yields a Tensor"):
        hjepa.build_multicrop_dataloader(tensors)


def test_what_has_no_recipe_is_refused_by_the_loader() -> None:
    with pytest.raises(ValueError, match="a list has no multi-crop transform"):
        hjepa.build_multicrop_dataloader([IMAGE])  # type: ignore[arg-type]  # a data set that is not wrapped
    own = hjepa.MultiCropDataset([IMAGE], lambda image: [image])  # type: ignore[arg-type]  # a transform of one's own
    with pytest.raises(ValueError, match="the transform function is none of hjepa's"):
        hjepa.build_multicrop_dataloader(own)


def test_loader_takes_the_validation_split_and_any_data_set_that_a_source_reads(photographs: Path) -> None:
    options = {"batch_size": 2, "shuffle": False, "device": "cpu", "backend": "torchvision", "num_workers": 0}
    validation = hjepa.build_multicrop_dataset("imagefolder", photographs, split="val", **SMALL)
    with hjepa.build_multicrop_dataloader(validation, **options) as loader:
        crops, _ = next(iter(loader))
    assert [tuple(crop.shape) for crop in crops] == [(2, 3, 32, 32)]
    assert torch.equal(crops[0][0], validation[0][0])
    wrapped = hjepa.MultiCropDataset([(IMAGE, 4), (IMAGE, 2)], hjepa.MultiCropTransform(**SMALL))
    with hjepa.build_multicrop_dataloader(wrapped, **options) as loader:
        crops, labels = next(iter(loader))
    assert (len(crops), labels.tolist()) == (5, [4, 2])


def test_loader_follows_an_adaptive_transform(photographs: Path) -> None:
    dataset = hjepa.build_multicrop_dataset(
        "imagefolder",
        photographs,
        global_crop_size=32,
        local_crop_size=16,
        adaptive=True,
        min_local_crops=1,
        max_local_crops=3,
        warmup_epochs=2,
    )
    with hjepa.build_multicrop_dataloader(
        dataset, batch_size=32, device="cpu", backend="torchvision", num_workers=0, epochs=3
    ) as loader:
        counts = [len(crops) for _ in range(3) for crops, _ in loader]
    assert counts == [3, 4, 5]


REFERENCE = {"batch_size": 2, "device": "cpu", "backend": "torchvision", "num_workers": 0}


def adaptive_dataset() -> hjepa.MultiCropDataset:
    transform = hjepa.AdaptiveMultiCropTransform(1, 5, 4, global_crop_size=32, local_crop_size=16)
    return hjepa.MultiCropDataset([(IMAGE, number) for number in range(4)], transform)


@pytest.mark.parametrize("setter", ["data set", "transform"])
def test_loader_goes_where_the_epoch_of_its_data_set_is_set(setter: str) -> None:
    dataset = adaptive_dataset()
    chosen = dataset if setter == "data set" else dataset.multicrop_transform
    with hjepa.build_multicrop_dataloader(dataset, **REFERENCE) as loader:
        next(iter(loader))  # a look at the shapes, before the loop
        for epoch in (0, 3, 3, 9):
            chosen.set_epoch(epoch)
            assert {len(crops) - 2 for crops, _ in loader} == {dataset.num_local_crops} == {min(5, 1 + epoch)}
        loader.set_epoch(2)  # the last word counts
        assert {len(crops) - 2 for crops, _ in loader} == {3}
        assert {len(crops) - 2 for crops, _ in loader} == {4}


def test_a_loaded_place_is_kept_where_its_epoch_is_set_again() -> None:
    dataset = adaptive_dataset()
    with hjepa.build_multicrop_dataloader(dataset, **REFERENCE) as loader:
        dataset.set_epoch(3)
        next(iter(loader))
        saved = loader.state_dict()
    dataset.set_epoch(0)
    with hjepa.build_multicrop_dataloader(dataset, **REFERENCE) as loader:
        loader.load_state_dict(saved)
        dataset.set_epoch(3)
        assert [len(crops) - 2 for crops, _ in loader] == [4]


def test_loader_takes_seed_and_epoch_of_the_transform() -> None:
    def first(own: int, epoch: int, **options: int) -> torch.Tensor:
        transform = hjepa.MultiCropTransform(**SMALL, seed=own)
        transform.set_epoch(epoch)
        dataset = hjepa.MultiCropDataset([(IMAGE, 4), (IMAGE, 2)], transform)
        with hjepa.build_multicrop_dataloader(dataset, **REFERENCE, shuffle=False, **options) as loader:
            return next(iter(loader))[0][0]

    assert torch.equal(first(5, 3), first(5, 3))
    assert torch.equal(first(5, 3), first(0, 3, seed=5))
    assert not torch.equal(first(5, 3), first(6, 3))
    assert not torch.equal(first(5, 3), first(5, 0))
    whole = hjepa.MultiCropTransform(**SMALL, seed=5)
    whole.set_epoch(3)
    torch.testing.assert_close(first(5, 3)[0], whole(IMAGE)[0])  # sample 0 of the epoch, whoever renders it


def test_loader_gives_no_labels_where_the_data_set_gives_none() -> None:
    dataset = hjepa.MultiCropDataset([(IMAGE, 4), (IMAGE, 2)], hjepa.MultiCropTransform(**SMALL), return_labels=False)
    with hjepa.build_multicrop_dataloader(dataset, **REFERENCE) as loader:
        crops, labels = next(iter(loader))
    collated = hjepa.multicrop_collate_fn([dataset[0], dataset[1]])
    assert [crop.shape for crop in crops] == [crop.shape for crop in collated[0]]
    assert (labels.shape, labels.dtype) == (collated[1].shape, collated[1].dtype) == ((0,), torch.int64)


def test_loader_goes_on_from_its_state() -> None:
    dataset = hjepa.MultiCropDataset([(IMAGE, number) for number in range(8)], hjepa.MultiCropTransform(**SMALL))
    with hjepa.build_multicrop_dataloader(dataset, **REFERENCE) as loader:
        batches = iter(loader)
        next(batches)
        saved = loader.state_dict()
        expected = list(batches)
    with hjepa.build_multicrop_dataloader(dataset, **REFERENCE) as loader:
        loader.load_state_dict(saved)
        resumed = list(loader)
    assert len(resumed) == len(expected) == 3
    for (crops, labels), (again, same) in zip(expected, resumed, strict=True):
        assert torch.equal(crops[0], again[0])
        assert torch.equal(labels, same)


def test_raw_dataset_has_the_documented_defaults(labelled: Path) -> None:
    dataset = hjepa.MultiCropDatasetRaw("imagefolder", labelled)
    crops, label = dataset[39]
    assert [crop.shape[-1] for crop in crops] == [224] * 2 + [96] * 6
    assert (label, dataset.classes, len(dataset)) == (1, ["dark", "light"], 40)
    central, _ = hjepa.MultiCropDatasetRaw("imagefolder", labelled, "val", {"global_crop_size": 32})[0]
    assert central.shape == (3, 32, 32)


@pytest.mark.parametrize("item", [{"image": IMAGE, "label": 3}, [IMAGE, 3], (IMAGE, 3, "a.jpg")], ids=["dict", "list", "three"])
def test_items_are_taken_apart_as_the_loader_does(item: object) -> None:
    crops, label = hjepa.MultiCropDataset([item], hjepa.MultiCropTransform(**SMALL))[0]
    assert (len(crops), label) == (5, 3)


@pytest.mark.parametrize("image", [torch.zeros(3, 8, 8), "a.jpg", np.zeros((8, 8, 3))], ids=["tensor", "path", "floats"])
def test_what_is_no_image_is_refused(image: Any) -> None:
    for transform in (hjepa.MultiCropTransform(**SMALL), hjepa.MultiCropEvalTransform(32), hjepa.GaussianBlur(1.0)):
        with pytest.raises(ValueError, match="is no image"):
            transform(image)


def test_transforms_take_torchvisions_filters_and_no_jitter() -> None:
    for transform in (hjepa.MultiCropTransform, hjepa.MultiCropEvalTransform):
        assert {view.interpolation for view in transform(interpolation=InterpolationMode.BILINEAR).recipe.views} == {"bilinear"}
        assert transform().recipe == transform(interpolation="bicubic").recipe
        with pytest.raises(ValueError, match=r"interpolation='nearest' is unknown; use one of bicubic, bilinear"):
            transform(interpolation=InterpolationMode.NEAREST)
    plain = hjepa.build_multicrop_transform(global_color_jitter=None, local_color_jitter=0)
    assert [view.jitter for view in plain.recipe.views] == [None, None]


def test_unlabelled_items_give_crops_alone() -> None:
    dataset = hjepa.MultiCropDataset([IMAGE], hjepa.MultiCropTransform(**SMALL))
    assert len(dataset[0]) == 5


def test_no_draw_is_repeated_by_workers_or_epochs() -> None:
    dataset = hjepa.MultiCropDataset([IMAGE] * 4, hjepa.MultiCropTransform(**SMALL))
    for workers in (0, 2):
        loader = DataLoader(dataset, batch_size=2, num_workers=workers, collate_fn=hjepa.multicrop_collate_fn)
        crops = torch.cat([batch[0][0] for _ in range(2) for batch in loader])
        assert len(torch.unique(crops.flatten(1), dim=0)) == 8
