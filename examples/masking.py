"""Masks from the first call to a training step: multi-block, hierarchical, several crops, other settings, and a model.

    python examples/masking.py [--output runs/masking]

It runs in seconds on a CPU, prints shapes and statistics, and writes a picture of each kind of mask into the folder.
"""

import argparse
from pathlib import Path
from typing import get_args

import numpy as np
import torch

from hjepa import HierarchicalMaskGenerator, MultiBlockMaskGenerator, MultiCropMaskGenerator
from hjepa.kernels import chance
from hjepa.kernels.mask_indices import block_indices
from hjepa.models.hjepa import HierarchicalJepa, HierarchicalJepaSettings
from hjepa.models.predictor import PredictorSettings
from hjepa.models.sizes import VisionTransformerSettings
from hjepa.pipeline.multicrop_masks import MaskingStrategy

# G crops, L levels, B images, T target blocks, N patches


def main() -> None:
    """Runs every part."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--output", type=Path, default=Path("runs/masking"), help="folder of the pictures")
    folder = parser.parse_args().output
    basic(folder)
    hierarchical(folder)
    several_crops(folder)
    other_settings()
    training_step()


def basic(folder: Path) -> None:
    """Four target blocks and one large context block, without the targets, for each image."""
    print("Multi-block masks")
    generator = MultiBlockMaskGenerator(input_size=224, patch_size=16, num_target_masks=4, seed=0)
    context, targets = generator(batch_size=4, device="cpu")
    print(f"  context {tuple(context.shape)}, targets {tuple(targets.shape)}, {context.dtype}")
    show(generator.get_mask_statistics(context, targets))
    generator.visualize_masks(context, targets, sample_idx=0, save_path=folder / "multi_block_masks_demo.png")


def hierarchical(folder: Path) -> None:
    """The same for three levels, with blocks that grow from level to level."""
    generator = HierarchicalMaskGenerator(num_hierarchies=3, scale_progression="geometric", base_scale=(0.05, 0.15), seed=0)
    masks = generator(batch_size=4, device="cpu")
    for level, statistics in generator.get_hierarchical_statistics(masks).items():
        print(f"Hierarchical masks, {level}")
        show(statistics)
    generator.visualize_hierarchical_masks(masks, save_path=folder / "hierarchical_masks_demo.png")
    generator.visualize_combined_view(masks, save_path=folder / "hierarchical_masks_combined_demo.png")


def several_crops(folder: Path) -> None:
    """What each strategy asks of the global and of the local crops."""
    print("Masks of several crops")
    for strategy in get_args(MaskingStrategy):
        generator = MultiCropMaskGenerator(num_global_crops=2, num_local_crops=6, masking_strategy=strategy, seed=0)
        masks = generator(batch_size=4)
        print(f"  {strategy}: masks of each global crop: {', '.join(masks['global_masks']['crop_0'])}")
        for name, crop in (masks["local_masks"] or {}).items():
            print(f"    local {name}: {', '.join(crop)}")
        generator.visualize_multicrop_masks(masks, save_path=folder / f"multicrop_masks_{strategy}.png")
    print(f"  {generator.get_crop_info()}")


def other_settings() -> None:
    """Larger images, oblong ones, more levels; and settings that no masks can satisfy."""
    print("Other settings")
    generators = {
        "384 x 384 pixels": MultiBlockMaskGenerator(384),
        "224 x 448 pixels, 6 small targets": MultiBlockMaskGenerator((224, 448), num_target_masks=6, target_scale=(0.05, 0.1)),
        "patches of 14": MultiBlockMaskGenerator(224, patch_size=14),
    }
    for name, generator in generators.items():
        context, targets = generator(8)
        coverage = generator.get_mask_statistics(context, targets)["context_coverage_mean"]
        print(f"  {name}: {context.shape[1]} patches, {targets.shape[1]} targets, context {coverage:.0%}")
    four = HierarchicalMaskGenerator(num_hierarchies=4, scale_progression="linear", base_scale=(0.03, 0.1))
    for level, statistics in four.get_hierarchical_statistics(four(8)).items():
        print(f"  four levels, linear, {level}: each target {statistics['target_coverage_mean']:.1%}")
    try:
        HierarchicalMaskGenerator(base_scale=(0.15, 0.2))
    except ValueError as error:
        print(f"  refused: {error}")


def training_step() -> None:
    """Forward and backward of a small model on random images: the student reads the context, the targets are predicted.

    Hidden patches are not zeroed but left out, so masks become indices of a fixed length: shapes that do not depend on chance.
    """
    print("A training step")
    torch.manual_seed(0)
    model = HierarchicalJepa(
        HierarchicalJepaSettings(
            encoder=VisionTransformerSettings(width=48, depth=2, num_heads=4),
            predictor=PredictorSettings(width=24, depth=1, num_heads=4),
        )
    )
    images = torch.randn(4, 3, 224, 224)
    keys = chance.key_tensor(chance.key(0, np.arange(len(images))))  # one key for each image: its masks depend on nothing else
    masks = HierarchicalMaskGenerator(num_hierarchies=3).sample(keys)  # context [G, L, B, N], targets [G, L, B, T, N], G = 1
    order = chance.fold_tensor(keys, 1)  # other keys than the masks were drawn with: which patches go where there are too many
    indices = block_indices(masks.context, masks.targets, context_length=64, target_length=32, min_keep=10, keys=order)
    losses = model(images.unsqueeze(0), *indices)
    losses.total.backward()
    print(f"  loss {losses.total.item():.3f}; by level {[round(loss, 3) for loss in losses.levels.tolist()]}")
    for name, network in {"student": model.encoder, "predictor": model.predictor, "teacher": model.teacher}.items():
        given = sum(parameter.grad is not None for parameter in network.parameters())
        print(f"  {name}: {given} of {len(list(network.parameters()))} parameters have a gradient")


def show(statistics: dict[str, float]) -> None:
    """Prints statistics, one a line."""
    for name, value in statistics.items():
        print(f"  {name}: {value:.4f}")


if __name__ == "__main__":
    main()
