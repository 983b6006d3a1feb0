"""The multi-crop report's examples: transform, data set, loader, masking strategies, and the whole way to training steps.

    python examples/multicrop.py [--images photos/]

It runs in seconds on a CPU. The names and calls are the report's; crops are smaller than its 224 and 96 pixels, for speed.
"""

import argparse
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from PIL import Image

import hjepa
from hjepa import sample_data
from hjepa.kernels import chance
from hjepa.kernels.mask_indices import block_indices
from hjepa.models.hjepa import HierarchicalJepa, HierarchicalJepaSettings
from hjepa.models.predictor import PredictorSettings
from hjepa.models.sizes import VisionTransformerSettings
from hjepa.pipeline.multicrop_masks import MaskingStrategy

# G global crops, L levels, B images, T targets, N patches
GLOBAL, LOCAL, PATCH = 96, 48, 8
"""Sides, in pixels."""
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
"""Where a Loader puts its batches, unless it is told."""


def main() -> None:
    """Runs every part."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--images", type=Path, help="folder of images; 64 that hjepa makes without")
    images = parser.parse_args().images or sample_data.make(sample_data.default_folder(64), 64)
    transform()
    dataset(images)
    dataloader(images)
    strategies()
    workflow(images)


def transform() -> None:
    """One image becomes a list of crops, globals first."""
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (256, 256, 3), dtype=np.uint8))
    crops = hjepa.build_multicrop_transform(num_global_crops=2, num_local_crops=6)(image)
    print(f"transform: {len(crops)} crops, {tuple(crops[0].shape)} and {tuple(crops[2].shape)}")
    adaptive = hjepa.build_multicrop_transform(adaptive=True, min_local_crops=2, max_local_crops=10, warmup_epochs=30)
    counts = []
    for epoch in (0, 15, 30):
        adaptive.set_epoch(epoch)
        counts.append(adaptive.num_local_crops)
    print(f"  adaptive: {counts} local crops in epochs 0, 15 and 30")


def dataset(images: Path) -> None:
    """A data set by its name and place: item -> (crops, label)."""
    data = hjepa.build_multicrop_dataset("imagefolder", images, num_local_crops=4)
    crops, label = data[0]
    print(
        f"data set: {len(data)} images, {len(data.classes or [])} classes; the first has {len(crops)} crops and label {label}"
    )


def dataloader(images: Path) -> None:
    """Batches of crops, one tensor for each crop."""
    data = hjepa.build_multicrop_dataset("imagefolder", images, global_crop_size=GLOBAL, local_crop_size=LOCAL)
    with hjepa.build_multicrop_dataloader(data, batch_size=16) as loader:
        crops, labels = next(iter(loader))
    print(f"loader: {len(crops)} tensors, {tuple(crops[0].shape)} and {tuple(crops[2].shape)}; labels {tuple(labels.shape)}")


def strategies() -> None:
    """What each strategy masks: the local crops are left alone, context as a whole, or masked by halves."""
    for strategy in get_args(MaskingStrategy):
        generator = hjepa.MultiCropMaskGenerator(masking_strategy=strategy, num_hierarchies=3, num_target_masks=4)
        masks = generator(batch_size=4)
        masked = [crop for crop in (masks["local_masks"] or {}).values() if "level_1" in crop]
        print(f"strategy {strategy}: {len(masks['global_masks'])} global and {len(masked)} local crops are masked")


def workflow(images: Path, steps: int = 3) -> None:
    """Images to training steps: crops, keyed masks, index tensors, the model, the teacher."""
    torch.manual_seed(0)
    model = HierarchicalJepa(
        HierarchicalJepaSettings(
            encoder=VisionTransformerSettings(patch_size=PATCH, width=48, depth=2, num_heads=4),
            predictor=PredictorSettings(width=24, depth=1, num_heads=4),
        )
    ).to(DEVICE)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3)
    generator = hjepa.MultiCropMaskGenerator(GLOBAL, LOCAL, patch_size=PATCH, min_keep=10)
    data = hjepa.build_multicrop_dataset("imagefolder", images, global_crop_size=GLOBAL, local_crop_size=LOCAL)
    with hjepa.build_multicrop_dataloader(data, batch_size=16) as loader:
        for step, batch in zip(range(steps), loader.loader, strict=False):  # the Loader, whose batches know their keys
            masks = batch.masks(generator)  # context [G, L, B, N], targets [G, L, B, T, N]
            order = chance.fold_tensor(batch.mask_keys, 1)  # which patches go where there are too many
            indices = block_indices(masks.context, masks.targets, context_length=64, target_length=32, min_keep=10, keys=order)
            losses = model(batch.globals, *indices)
            losses.total.backward()
            optimizer.step()
            optimizer.zero_grad()
            model.update_teacher(0.996)
            print(f"step {step}: loss {losses.total.item():.3f}")


if __name__ == "__main__":
    main()
