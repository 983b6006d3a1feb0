"""Writes the pictures of masks in docs/images/, the same ones from the same seed.

    python docs/make_mask_pictures.py [--output docs/images] [--samples 4000] [--seed 0]

One sample of each generator, of each strategy for several crops, and for three grids where on the grid the masks of many
samples fall.
"""

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from hjepa.pipeline.mask_pictures import plot_marginal_maps
from hjepa.pipeline.mask_sampler import BlockMasks
from hjepa.pipeline.mask_statistics import MarginalMaps, estimate_marginal_maps
from hjepa.pipeline.masks import HierarchicalMaskGenerator, MultiBlockMaskGenerator
from hjepa.pipeline.multicrop_masks import MaskingStrategy, MultiCropMaskGenerator
from hjepa.sample_data import render

STRATEGIES: dict[MaskingStrategy, tuple[float, float]] = {
    "global_only": (5.5, 11),
    "global_with_local_context": (13.5, 11),
    "cross_crop_prediction": (13.5, 11),
}
"""Size of each strategy's figure, in inches."""
WEIGHTS = (1, 10, 100)
"""Of the patches in the middle, in the picture of weights."""
SIDES = {14: 224, 24: 384, 6: 96}
"""Pixels of an image with this many rows of patches of 16."""


def main() -> None:
    """Writes all pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "images", help="folder of the pictures")
    parser.add_argument("--samples", type=int, default=4000, help="samples behind each heat map")
    parser.add_argument("--seed", type=int, default=0, help="seed of the generators")
    arguments = parser.parse_args()
    write_samples(arguments.output, arguments.seed)
    write_strategies(arguments.output, arguments.seed)
    for rows, side in SIDES.items():
        write_maps(arguments.output / f"masks-maps-{rows}x{rows}.png", side, arguments.samples, arguments.seed)
    write_weighted_maps(arguments.output / "masks-maps-weighted.png", arguments.samples, arguments.seed)
    for path in sorted(arguments.output.glob("masks-*.png")):
        print(path)


def write_samples(folder: Path, seed: int) -> None:
    """One sample of the generators for single images; the levels once more over an image."""
    multi_block = MultiBlockMaskGenerator(seed=seed)
    multi_block.visualize_masks(*multi_block(1), save_path=folder / "masks-multi-block.png")
    hierarchical = HierarchicalMaskGenerator(seed=seed)
    masks = hierarchical(1)
    hierarchical.visualize_hierarchical_masks(masks, save_path=folder / "masks-hierarchical.png")
    hierarchical.visualize_combined_view(masks, save_path=folder / "masks-combined.png")
    nested = HierarchicalMaskGenerator(nested=True, seed=seed)
    nested.visualize_combined_view(nested(1), save_path=folder / "masks-nested.png")
    over_image = folder / "masks-over-image.png"
    image = square_image(112)  # small, because what is between the pixels of a larger one compresses badly
    hierarchical.visualize_combined_view(masks, figsize=(9, 4.3), save_path=over_image, image=image)


def write_strategies(folder: Path, seed: int) -> None:
    """One sample of each masking strategy for several crops."""
    for strategy, size in STRATEGIES.items():
        generator = MultiCropMaskGenerator(masking_strategy=strategy, seed=seed)
        path = folder / f"masks-{strategy.replace('_', '-')}.png"
        generator.visualize_multicrop_masks(generator(1), figsize=size, save_path=path)


def write_maps(path: Path, side: int, num_samples: int, seed: int) -> None:
    """Heat maps of both generators for images of this side."""
    multi_block = estimate_marginal_maps(MultiBlockMaskGenerator(side).sample, num_samples, seed=seed)
    hierarchical = estimate_marginal_maps(HierarchicalMaskGenerator(side).sample, num_samples, seed=seed)
    maps = MarginalMaps(
        context=torch.cat([multi_block.context, hierarchical.context]),
        target=torch.cat([multi_block.target, hierarchical.target]),
        union=torch.cat([multi_block.union, hierarchical.union]),
    )
    rows = side // 16
    row_names = ["multi-block", *(f"hierarchical\nlevel {level}" for level in range(len(hierarchical.context)))]
    title = f"Where masks fall on {rows} x {rows} patches\n({num_samples} samples, default settings)"
    plot_marginal_maps(maps, (rows, rows), row_names=row_names, title=title, save_path=path)


def write_weighted_maps(path: Path, num_samples: int, seed: int) -> None:
    """Heat maps of level 0 for weights that are 1, 10 and 100 in the 16 patches in the middle, and 1 elsewhere."""
    generator, found = HierarchicalMaskGenerator(num_hierarchies=1), []
    for factor in WEIGHTS:
        weights = torch.ones(1, 14, 14)
        weights[:, 5:9, 5:9] = factor

        def sample(keys: torch.Tensor, weights: torch.Tensor = weights) -> BlockMasks:
            return generator.sample(keys, weights.flatten(1).expand(len(keys), -1))

        found.append(estimate_marginal_maps(sample, num_samples, seed=seed))
    maps = MarginalMaps(
        context=torch.cat([part.context for part in found]),
        target=torch.cat([part.target for part in found]),
        union=torch.cat([part.union for part in found]),
    )
    row_names = [f"weight {factor}\nin the middle" for factor in WEIGHTS]
    title = f"Level 0 with weights, 14 x 14 patches\n({num_samples} samples)"
    plot_marginal_maps(maps, (14, 14), row_names=row_names, title=title, figsize=(8, 8.5), save_path=path)


def square_image(side: int) -> npt.NDArray[np.uint8]:
    """The central square of a sample image, uint8 [S, S, 3]."""
    image = render(1)
    size = min(image.size)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return np.asarray(image.crop((left, top, left + size, top + size)).resize((side, side), Image.Resampling.BOX))


if __name__ == "__main__":
    main()
