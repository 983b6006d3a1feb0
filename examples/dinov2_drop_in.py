"""DINOv2: the dictionary that its training step reads, made by hjepa, and what that step does with it.

    python examples/dinov2_drop_in.py [--images photos/]

In DINOv2's own code nothing but `data_loader = ...` in `do_train` changes: docs/drop-in/dinov2.md. Here stand-ins for its
backbone and heads do what `SSLMetaArch.forward_backward` does with each key.
"""

import argparse
import itertools
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

import hjepa
from hjepa import sample_data
from hjepa.pipeline.adapters import DinoV2

# B images, N patches of a global crop, M masked patches, D channels
PATCH = 16
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
"""Where a Loader puts its batches, unless it is told."""


def main() -> None:
    """Two batches of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--images", type=Path, help="folder of images; 64 that hjepa makes without")
    images = parser.parse_args().images or sample_data.make(sample_data.default_folder(64), 64)
    torch.manual_seed(0)
    embed, mask_token = nn.Conv2d(3, 32, PATCH, PATCH, device=DEVICE), nn.Parameter(torch.zeros(32, device=DEVICE))
    adapter = DinoV2(dtype=torch.float32)  # float16, its default, is for a GPU
    with hjepa.Loader(images, "dinov2", batch_size=8, adapter=adapter) as loader:
        data_loader = itertools.chain.from_iterable(itertools.repeat(loader))  # DINOv2 counts steps, not epochs
        for batch in itertools.islice(data_loader, 2):
            for name, value in batch.items():
                print(f"  {name}: {f'{value.dtype} {tuple(value.shape)}' if isinstance(value, torch.Tensor) else value}")
            masks = batch["collated_masks"]
            patches = embed(batch["collated_global_crops"]).flatten(2).transpose(1, 2)  # [2 B, N, D]
            student = torch.where(masks.unsqueeze(-1), mask_token, patches)
            chosen = student.flatten(0, 1).index_select(0, batch["mask_indices_list"])  # [M, D]
            target = patches.detach().flatten(0, 1).index_select(0, batch["mask_indices_list"])
            per_patch = F.mse_loss(chosen, target, reduction="none").mean(-1)
            loss = (per_patch * batch["masks_weight"]).sum() / masks.shape[0]
            print(f"loss of the masked patches {loss.item():.3f}")


if __name__ == "__main__":
    main()
