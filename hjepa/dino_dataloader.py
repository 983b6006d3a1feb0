"""The loaders of the DINO course's two lessons (documents C and D), as thin doors to the Loader."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Subset

from hjepa.dino_augmentations import CropList, MultiCropAugmentation, get_multicrop_augmentation
from hjepa.document_config import data_section
from hjepa.multicrop_dataset import CropBatches, MultiCropDataset, build_multicrop_dataloader
from hjepa.pipeline.adapters.lists import CropDict, StackedCrops
from hjepa.pipeline.loader import Loader
from hjepa.recipe_transform import Crops, RecipeTransform

# B images, G global crops, V local crops, S and s pixels


class MultiCropCollator:
    """Document C's collate function for torch's DataLoader: CropLists, or pairs of one with a label -> its dict.

    Dictionaries with the keys of a CropList will do; raises ValueError for other crops. The stacks are crop-major (crop 0 of
    all images first), as the document's own loss reads them; its collator's are not.
    """

    def __call__(self, items: Sequence[CropList] | Sequence[tuple[CropList, Any]]) -> CropDict:
        """{"global_crops": [G * B, 3, S, S], "local_crops": [V * B, 3, s, s], "batch_size": B}."""
        lists = [item[0] if isinstance(item, tuple) else item for item in items]
        if other := next((type(one).__name__ for one in lists if not isinstance(one, CropList | Mapping)), None):
            raise ValueError(f"an item's crops are a {other}, not a CropList; let MultiCropAugmentation make them")
        stacks = [torch.stack([crops[key] for crops in lists], dim=1).flatten(0, 1) for key in ("global_crops", "local_crops")]
        return {"global_crops": stacks[0], "local_crops": stacks[1], "batch_size": len(lists)}


class CropDictBatches(CropBatches):
    """Document C's batches from a Loader, which is in `loader` and knows the boxes, as pictures and statistics want them."""

    def __iter__(self) -> Iterator[CropDict]:  # type: ignore[override]  # a dict, where documents A and D have pairs
        return map(StackedCrops(), self.loader)


def create_multicrop_dataloader(
    dataset_path: str | Path,
    batch_size: int = 32,
    num_workers: int = 4,
    global_crop_size: int = 224,
    local_crop_size: int = 96,
    num_local_crops: int = 8,
    **options: Any,
) -> CropDictBatches:
    """Document C's loader: batches as MultiCropCollator makes them, of a folder of images, shuffled, without a rest.

    Other options are those of MultiCropAugmentation. For other options of the Loader make it yourself, with the adapter
    "document-c".
    """
    augmentation = MultiCropAugmentation(
        global_crop_size=global_crop_size, local_crop_size=local_crop_size, num_local_crops=num_local_crops, **options
    )
    loader = Loader(dataset_path, augmentation.recipe, batch_size=batch_size, num_workers=num_workers, seed=augmentation.seed)
    return CropDictBatches(loader, return_labels=False)


class MultiCropDataLoader(CropBatches):
    """Document D's loader: batches (list of [B, 3, S, S], globals first, labels int64 [B]) from a Loader, without a rest.

    dataset: a MultiCropDataset, or whatever open_source reads. A torchvision data set may have an augmentation of hjepa as its
    transform, which is taken for the whole batch; without one config says which (see get_multicrop_augmentation). config.data
    also has batch_size, and may have num_workers and pin_memory. Other options are the Loader's.
    """

    def __init__(self, dataset: Any, config: Any, shuffle: bool = True, **options: Any) -> None:
        data = data_section(config)
        if "batch_size" not in data:
            raise ValueError("config.data has no batch_size; put one there")
        given = {name: data[name] for name in ("num_workers", "pin_memory") if name in data}
        if not isinstance(dataset, MultiCropDataset):
            images, transform = _apart(dataset)
            dataset = MultiCropDataset(images, get_multicrop_augmentation(config) if transform is None else transform)
        made = build_multicrop_dataloader(dataset, data["batch_size"], shuffle=shuffle, **given, **options)
        super().__init__(made.loader, made.return_labels, made.transform)

    def split_crops(self, crops: Crops) -> tuple[Crops, Crops]:
        """A batch's crops as its global ones and its local ones."""
        num_globals = self.loader.recipe.count("global")
        return crops[:num_globals], crops[num_globals:]


def create_dino_dataloader(dataset: Any, config: Any, shuffle: bool = True, **options: Any) -> MultiCropDataLoader:
    """Document D's name for making a MultiCropDataLoader."""
    return MultiCropDataLoader(dataset, config, shuffle, **options)


def _apart(dataset: Any) -> tuple[Any, RecipeTransform | None]:
    """A torchvision data set, or a Subset of one, without its transform, and that; any other data set as it is, and None."""
    if isinstance(dataset, Subset):
        images, transform = _apart(dataset.dataset)
        return (dataset if transform is None else Subset(images, dataset.indices)), transform
    transform = vars(dataset).get("transform") if hasattr(dataset, "__dict__") else None
    if not isinstance(transform, RecipeTransform):
        return dataset, None
    images = copy.copy(dataset)
    images.transform = None
    if vars(images).get("target_transform") is None:
        images.transforms = None  # torchvision's pair of both
    elif (pair := vars(images).get("transforms")) is not None:
        images.transforms = copy.copy(pair)
        images.transforms.transform = None
    return images, transform
