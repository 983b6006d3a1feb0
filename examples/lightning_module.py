"""Lightning: a Loader is the train_dataloader, and Lightning's checkpoints hold its place in the epoch.

python examples/lightning_module.py        (pip install lightning)
"""

import tempfile
from pathlib import Path

import lightning
import torch
from torch import Tensor, nn

import hjepa
from hjepa import sample_data

# B images


class Colours(lightning.LightningModule):
    """Two crops of an image should have features that are alike; small enough to train in a second."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Conv2d(3, 8, 8, 8), nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.seen: list[int] = []

    def training_step(self, batch: hjepa.Batch, number: int) -> Tensor:
        """Lightning has moved the batch to its device."""
        self.seen += batch.indices.tolist()
        first, second = (self.network(crops) for crops in batch.globals)  # [B, 8] each
        return (1 - torch.cosine_similarity(first, second)).mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Nothing special."""
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


def fit(images: Path, folder: str, steps: int, checkpoint: str | None = None) -> Colours:
    """Trains up to that many steps, from a checkpoint on where there is one."""
    module = Colours()
    trainer = lightning.Trainer(
        max_steps=steps,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        use_distributed_sampler=False,  # a Loader shards by itself
    )
    with hjepa.Loader(images, "simclr", batch_size=8, device="cpu", seed=1) as loader:
        trainer.fit(module, loader, ckpt_path=checkpoint, weights_only=False if checkpoint else None)
        trainer.save_checkpoint(f"{folder}/latest.ckpt")
    return module


def main() -> None:
    """Three steps, and from the checkpoint the other five of the epoch."""
    images = sample_data.make(sample_data.default_folder(64), 64)
    with tempfile.TemporaryDirectory() as folder:
        first = fit(images, folder, steps=3)
        second = fit(images, folder, steps=8, checkpoint=f"{folder}/latest.ckpt")
    seen = first.seen + second.seen
    print(
        f"{len(first.seen)} images before the checkpoint, {len(second.seen)} after; {len(set(seen))} different of {len(seen)}"
    )


if __name__ == "__main__":
    main()
