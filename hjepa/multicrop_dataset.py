"""The data set and loader of the multi-crop H-JEPA report (jonwiggins/H-JEPA), as thin doors to Source and Loader."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from hjepa.multicrop_transforms import AdaptiveMultiCropTransform, MultiCropEvalTransform, build_multicrop_transform
from hjepa.named_data import Split, open_named
from hjepa.pipeline.dataset import unpack
from hjepa.pipeline.loader import Loader
from hjepa.pipeline.normalisation import statistics_of
from hjepa.pipeline.open_source import open_source
from hjepa.pipeline.recipe import Range
from hjepa.pipeline.source import Source, decoded
from hjepa.recipe_transform import Crops, RecipeTransform

# B images, S pixels
Own = TypeVar("Own", bound="CropBatches")


class MultiCropDataset(Dataset[Any]):
    """Wraps a map-style data set of PIL images, with or without labels: item -> (crops, label), or crops."""

    def __init__(
        self, base_dataset: Any, multicrop_transform: RecipeTransform | MultiCropEvalTransform, return_labels: bool = True
    ) -> None:
        self.base_dataset = base_dataset
        self.multicrop_transform = multicrop_transform
        self.return_labels = return_labels

    def __len__(self) -> int:
        return len(self.base_dataset)

    def __getitem__(self, index: int) -> Any:
        image, label = unpack(self.base_dataset[index])
        crops = self.multicrop_transform(image)
        return (crops, label) if self.return_labels and label is not None else crops

    @property
    def classes(self) -> list[str] | None:
        """Names of the classes, None where the wrapped data set has none."""
        return list(self.base_dataset.classes) if hasattr(self.base_dataset, "classes") else None

    @property
    def num_global_crops(self) -> int:
        """Global crops per image; 1 for the central crop."""
        return self.multicrop_transform.recipe.count("global")

    @property
    def num_local_crops(self) -> int:
        """Local crops per image."""
        return self.multicrop_transform.recipe.count("local")

    @property
    def total_crops(self) -> int:
        """Crops per image."""
        return self.num_global_crops + self.num_local_crops

    def set_epoch(self, epoch: int) -> None:
        """Passes the epoch on to the transform."""
        if isinstance(self.multicrop_transform, RecipeTransform):
            self.multicrop_transform.set_epoch(epoch)


class SourceImages(Dataset[tuple[Image.Image, int]]):
    """The images and labels of a Source, as PIL images."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.classes = list(source.classes)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        samples = self.source.fetch(np.array([index]))
        return decoded(samples, 0), int(samples.labels[0])


class MultiCropDatasetRaw(MultiCropDataset):
    """A data set by its name, without transforms of its own, under a multi-crop transform: item -> (crops, label).

    dataset_name: imagefolder, imagenet, imagenet100, cifar10, cifar100, stl10, webdataset, parquet or csv. split: "train", or
    "val", whose item is (central crop [3, S, S], label). The label is -1 where there is none. multicrop_config: options of
    build_multicrop_transform. Data is not downloaded. Raises ValueError for another name or split, or where the data is not
    there.
    """

    def __init__(
        self,
        dataset_name: str,
        data_path: str | Path,
        split: Split = "train",
        multicrop_config: Mapping[str, Any] | None = None,
    ) -> None:
        source = open_named(dataset_name.lower(), data_path, split)
        mean, std = statistics_of(dataset_name.lower())
        training = build_multicrop_transform(**{"mean": mean, "std": std, **(multicrop_config or {})})
        size, mean, std = training.recipe.views[0].size, training.recipe.mean, training.recipe.std
        central = MultiCropEvalTransform(size, mean=mean, std=std)
        super().__init__(SourceImages(source), training if split == "train" else central)
        self.dataset_name = dataset_name
        self.split = split


class CropBatches:
    """Batches (list of [B, 3, S, S], labels int64 [B]; empty without labels) from a Loader, which is in `loader`.

    set_epoch of the transform, or of the data set that has it, is set_epoch of the Loader, too: the documents' loops call that.
    """

    def __init__(self, loader: Loader, return_labels: bool = True, transform: RecipeTransform | None = None) -> None:
        self._loader = loader
        self.return_labels = return_labels
        self.transform = transform
        self._times_set = 0 if transform is None else transform.times_set

    @property
    def loader(self) -> Loader:
        """The Loader, at the epoch that the transform was set to."""
        if self.transform is not None and self.transform.times_set != self._times_set:
            self._times_set = self.transform.times_set
            self._loader.set_epoch(self.transform.epoch)
        return self._loader

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[tuple[Crops, Tensor]]:
        for batch in self.loader:
            yield batch.views(), batch.labels if self.return_labels else batch.labels[:0]

    def set_epoch(self, epoch: int) -> None:
        """See Loader.set_epoch."""
        self.loader.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """See Loader.state_dict."""
        return self.loader.state_dict()

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """See Loader.load_state_dict."""
        self.loader.load_state_dict(saved)

    def close(self) -> None:
        """See Loader.close."""
        self.loader.close()

    def __enter__(self: Own) -> Own:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def build_multicrop_dataset(
    dataset_name: str,
    data_path: str | Path,
    split: Split = "train",
    num_global_crops: int = 2,
    num_local_crops: int = 6,
    global_crop_size: int = 224,
    local_crop_size: int = 96,
    global_crop_scale: Range = (0.4, 1.0),
    local_crop_scale: Range = (0.05, 0.4),
    global_color_jitter: float | None = 0.4,
    local_color_jitter: float | None = 0.4,
    adaptive: bool = False,
    min_local_crops: int = 2,
    max_local_crops: int = 10,
    warmup_epochs: int = 0,
) -> MultiCropDatasetRaw:
    """The data set of that name, with a transform of these options: see MultiCropDatasetRaw."""
    options = {
        "num_global_crops": num_global_crops,
        "num_local_crops": num_local_crops,
        "global_crop_size": global_crop_size,
        "local_crop_size": local_crop_size,
        "global_crop_scale": global_crop_scale,
        "local_crop_scale": local_crop_scale,
        "global_color_jitter": global_color_jitter,
        "local_color_jitter": local_color_jitter,
        "adaptive": adaptive,
        "min_local_crops": min_local_crops,
        "max_local_crops": max_local_crops,
        "warmup_epochs": warmup_epochs,
    }
    return MultiCropDatasetRaw(dataset_name, data_path, split, options)


def build_multicrop_dataloader(
    dataset: MultiCropDataset,
    batch_size: int = 32,
    num_workers: int | Literal["auto"] = 4,
    pin_memory: bool = True,
    shuffle: bool = True,
    drop_last: bool = True,
    **options: Any,
) -> CropBatches:
    """Batches of a MultiCropDataset, rendered by a Loader, which takes the other options.

    What the data set wraps is read as open_source says, and no item of it is asked for its crops. The transform's seed (unless
    seed=... is among the options) and epoch, whenever it is set, are the Loader's, and the data set's return_labels is kept.
    Raises ValueError for data that no source reads.
    """
    if not isinstance(dataset, MultiCropDataset):
        raise ValueError(f"a {type(dataset).__name__} has no multi-crop transform; give MultiCropDataset(it, transform)")
    images, transform = dataset.base_dataset, dataset.multicrop_transform
    if not isinstance(transform, RecipeTransform | MultiCropEvalTransform):
        raise ValueError(
            f"the transform {type(transform).__name__} is none of hjepa's, so that it has no recipe to render by; take one of "
            "hjepa's, or torch's DataLoader with collate_fn=multicrop_collate_fn"
        )
    source = images.source if isinstance(images, SourceImages) else open_source(images)
    recipe = transform.curriculum if isinstance(transform, AdaptiveMultiCropTransform) else transform.recipe
    tail: Literal["drop", "keep"] = "drop" if drop_last else "keep"
    if isinstance(transform, RecipeTransform):
        options.setdefault("seed", transform.seed)
    loader = Loader(
        source,
        recipe,
        batch_size=batch_size,
        num_workers=num_workers,
        pin_memory=pin_memory,
        shuffle=shuffle,
        tail=tail,
        **options,
    )
    if not isinstance(transform, RecipeTransform):
        return CropBatches(loader, dataset.return_labels)
    loader.set_epoch(transform.epoch)
    return CropBatches(loader, dataset.return_labels, transform)


def multicrop_collate_fn(batch: Sequence[Any]) -> tuple[Crops, Tensor]:
    """Items (crops, label), or crops alone -> (list of [B, 3, S, S], labels int64 [B]; empty without labels).

    A central crop [3, S, S], as of the split "val", is a list of one, as in the batches of build_multicrop_dataloader.
    """
    if not batch:
        return [], torch.empty(0, dtype=torch.int64, device="cpu")
    labelled = isinstance(batch[0], tuple)
    items = [item[0] for item in batch] if labelled else list(batch)
    crops = [[item] if isinstance(item, Tensor) and item.ndim == 3 else item for item in items]
    # beside the crops, whatever torch's default is: a forked worker has no GPU
    labels = torch.tensor([item[1] for item in batch] if labelled else [], dtype=torch.int64, device="cpu")
    return [torch.stack(view) for view in zip(*crops, strict=True)], labels
