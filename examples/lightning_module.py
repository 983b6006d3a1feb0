"""Lightning: a LightningModule makes its Loader, and Lightning's checkpoints hold the place in the epoch.

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

    def __init__(self, images: Path) -> None:
        super().__init__()
        self.images = images
        self.network = nn.Sequential(nn.Conv2d(3, 8, 8, 8), nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.seen: list[int] = []

    def train_dataloader(self) -> hjepa.Loader:
        """Made here, not before `fit`: a Loader asks once which rank it is, and `fit` is what joins the ranks."""
        return hjepa.Loader(self.images, "simclr", batch_size=8, device="cpu", seed=1)

    def training_step(self, batch: hjepa.Batch, number: int) -> Tensor:
        """Lightning has moved the batch to its device."""
        self.seen += batch.indices.tolist()
        first, second = (self.network(crops) for crops in batch.globals)  # [B, 8] each
        return (1 - torch.cosine_similarity(first, second)).mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Nothing special."""
        return torch.optim.AdamW(self.parameters(), lr=1e-3)

    def on_fit_end(self) -> None:
        """Its threads end here."""
        self.trainer.train_dataloader.close()


def fit(module: Colours, folder: str, checkpoint: str | None = None, **length: int) -> None:
    """Trains for max_steps or max_epochs, from a checkpoint on where there is one; saves one every three steps."""
    trainer = lightning.Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[lightning.pytorch.callbacks.ModelCheckpoint(folder, "{step}", every_n_train_steps=3, save_top_k=-1)],
        **length,
    )
    trainer.fit(module, ckpt_path=checkpoint, weights_only=False if checkpoint else None)


def main() -> None:
    """Four steps, and from the checkpoint of the third the other five of the epoch."""
    images = sample_data.make(sample_data.default_folder(64), 64)
    first, second = Colours(images), Colours(images)
    with tempfile.TemporaryDirectory() as folder:
        fit(first, folder, max_steps=4)
        fit(second, folder, f"{folder}/step=3.ckpt", max_epochs=1)
    before = first.seen[:24]
    seen = before + second.seen
    print(f"{len(before)} images before the checkpoint, {len(second.seen)} after; {len(set(seen))} different of {len(seen)}")


if __name__ == "__main__":
    main()
