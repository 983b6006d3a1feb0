"""hjepa feeds self-supervised vision training: multi-crop loading with DALI, block masks, and a thin trainer."""

from hjepa.configs.recipe_file import load_recipe
from hjepa.loader_speed import LoaderSpeed, benchmark_augmentation_speed, benchmark_multicrop_dataloader
from hjepa.multicrop_dataset import (
    MultiCropDataset,
    MultiCropDatasetRaw,
    build_multicrop_dataloader,
    build_multicrop_dataset,
    multicrop_collate_fn,
)
from hjepa.multicrop_transforms import (
    AdaptiveMultiCropTransform,
    MultiCropEvalTransform,
    MultiCropTransform,
    build_multicrop_transform,
)
from hjepa.pipeline.batch import Batch
from hjepa.pipeline.cifar import open_cifar
from hjepa.pipeline.curriculum import Curriculum, Ramp
from hjepa.pipeline.dataset import open_dataset
from hjepa.pipeline.folder import open_folder
from hjepa.pipeline.lists import open_csv, open_list
from hjepa.pipeline.loader import Loader
from hjepa.pipeline.masks import HierarchicalMaskGenerator, MultiBlockMaskGenerator
from hjepa.pipeline.mixture import Mixture
from hjepa.pipeline.multicrop_masks import MultiCropMaskGenerator
from hjepa.pipeline.open_source import open_source
from hjepa.pipeline.parquet import open_parquet
from hjepa.pipeline.presets import preset
from hjepa.pipeline.quarantine import BadImageError, DataError, TooManyBadImagesError
from hjepa.pipeline.recipe import Jitter, Recipe, View
from hjepa.pipeline.source import BadImage, Samples, Source
from hjepa.pipeline.stl10 import open_stl10
from hjepa.pipeline.webdataset import open_webdataset

__all__ = [
    "AdaptiveMultiCropTransform",
    "BadImage",
    "BadImageError",
    "Batch",
    "Curriculum",
    "DataError",
    "HierarchicalMaskGenerator",
    "Jitter",
    "Loader",
    "LoaderSpeed",
    "Mixture",
    "MultiBlockMaskGenerator",
    "MultiCropDataset",
    "MultiCropDatasetRaw",
    "MultiCropEvalTransform",
    "MultiCropMaskGenerator",
    "MultiCropTransform",
    "Ramp",
    "Recipe",
    "Samples",
    "Source",
    "TooManyBadImagesError",
    "View",
    "benchmark_augmentation_speed",
    "benchmark_multicrop_dataloader",
    "build_multicrop_dataloader",
    "build_multicrop_dataset",
    "build_multicrop_transform",
    "load_recipe",
    "multicrop_collate_fn",
    "open_cifar",
    "open_csv",
    "open_dataset",
    "open_folder",
    "open_list",
    "open_parquet",
    "open_source",
    "open_stl10",
    "open_webdataset",
    "preset",
]
