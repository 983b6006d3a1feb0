"""What `import hjepa` has: the names that are promised to users."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from hjepa.configs.recipe_file import load_recipe
from hjepa.crop_statistics import CropStatistics, analyze_crop_statistics, check_crop_sizes
from hjepa.dino_augmentations import (
    MultiCropAugmentation,
    MultiCropAugmentationCIFAR,
    SimpleMultiCrop,
    create_asymmetric_transforms,
    get_multicrop_augmentation,
)
from hjepa.dino_dataloader import (
    MultiCropCollator,
    MultiCropDataLoader,
    create_dino_dataloader,
    create_multicrop_dataloader,
)
from hjepa.image_operators import GaussianBlur, Solarization
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
from hjepa.pipeline.curriculum import Curriculum, Ramp, Steps
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
from hjepa.recipe_transform import RecipeTransform

if TYPE_CHECKING:
    from hjepa.multicrop_trainer import MultiCropTrainer
    from hjepa.visualizer import (
        MultiCropVisualizer,
        denormalize_tensor,
        visualize_augmentation_effects,
        visualize_multicrop_batch,
    )

__all__ = [
    "AdaptiveMultiCropTransform",
    "BadImage",
    "BadImageError",
    "Batch",
    "CropStatistics",
    "Curriculum",
    "DataError",
    "GaussianBlur",
    "HierarchicalMaskGenerator",
    "Jitter",
    "Loader",
    "LoaderSpeed",
    "Mixture",
    "MultiBlockMaskGenerator",
    "MultiCropAugmentation",
    "MultiCropAugmentationCIFAR",
    "MultiCropCollator",
    "MultiCropDataLoader",
    "MultiCropDataset",
    "MultiCropDatasetRaw",
    "MultiCropEvalTransform",
    "MultiCropMaskGenerator",
    "MultiCropTrainer",
    "MultiCropTransform",
    "MultiCropVisualizer",
    "Ramp",
    "Recipe",
    "RecipeTransform",
    "Samples",
    "SimpleMultiCrop",
    "Solarization",
    "Source",
    "Steps",
    "TooManyBadImagesError",
    "View",
    "analyze_crop_statistics",
    "benchmark_augmentation_speed",
    "benchmark_multicrop_dataloader",
    "build_multicrop_dataloader",
    "build_multicrop_dataset",
    "build_multicrop_transform",
    "check_crop_sizes",
    "create_asymmetric_transforms",
    "create_dino_dataloader",
    "create_multicrop_dataloader",
    "denormalize_tensor",
    "get_multicrop_augmentation",
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
    "visualize_augmentation_effects",
    "visualize_multicrop_batch",
]

_LATER = {
    "MultiCropTrainer": "hjepa.multicrop_trainer",
    "MultiCropVisualizer": "hjepa.visualizer",
    "denormalize_tensor": "hjepa.visualizer",
    "visualize_augmentation_effects": "hjepa.visualizer",
    "visualize_multicrop_batch": "hjepa.visualizer",
}
"""Loaded when they are first named, because timm and matplotlib take seconds."""


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return vars(import_module(_LATER[name]))[name]
