"""The DINO course's lessons (documents C and D): augmentation, both loaders, the trainer, pictures, checks and speed.

    python examples/dino_course.py [--images photos/] [--output pictures/]

It runs in seconds on a CPU. The names and calls are the course's; crops are smaller than its 224 and 96 pixels, for speed.
"""

import argparse
import copy
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.datasets import ImageFolder

import hjepa
from hjepa import sample_data

GLOBAL, LOCAL = 96, 48
"""Sides, in pixels."""
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
"""Where a Loader puts its batches, unless it is told."""
CONFIG: dict[str, Any] = {
    "data": {
        "dataset": "cifar10",  # chooses the CIFAR class
        "batch_size": 16,
        "num_workers": 2,
        "pin_memory": False,
        "global_crops_number": 2,
        "local_crops_number": 6,
        "global_crops_scale": [0.7, 1.0],
        "local_crops_scale": [0.3, 0.7],
        "global_crop_size": 32,
        "local_crop_size": 16,
    }
}


def main() -> None:
    """Runs every part."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--images", type=Path, help="folder of images, one folder per class; 64 that hjepa makes without")
    parser.add_argument("--output", type=Path, default=Path("dino_course"), help="folder of the pictures")
    arguments = parser.parse_args()
    images = arguments.images or sample_data.make(sample_data.default_folder(64), 64)
    augmentation(images, arguments.output)
    loader_of_document_d(images, arguments.output)
    trainer_of_document_c(images)


def augmentation(images: Path, output: Path) -> None:
    """One image becomes a list of crops, which answers to document C's two keys."""
    augment = hjepa.MultiCropAugmentation(num_local_crops=8, color_jitter_strength=1.0)
    path, _ = ImageFolder(images).samples[0]
    crops = augment(Image.open(path))
    print(f"augmentation: {len(crops)} crops, {tuple(crops['global_crops'].shape)} and {tuple(crops['local_crops'].shape)}")
    hjepa.check_crop_sizes(crops, augment.recipe)
    hjepa.MultiCropVisualizer.visualize_multicrop_sample(Image.open(path), augment, output / "sample.png")
    hjepa.visualize_augmentation_effects(images, augment, save_path=output / "effects.png")


def loader_of_document_d(images: Path, output: Path) -> None:
    """A torchvision data set with the configuration's augmentation as its transform, in batches; statistics and speed."""
    dataset = ImageFolder(images, transform=hjepa.get_multicrop_augmentation(CONFIG))
    with hjepa.create_dino_dataloader(dataset, CONFIG) as loader:
        crops, labels = next(iter(loader))
        large, small = loader.split_crops(crops)
        print(
            f"document D: {len(large)} x {tuple(large[0].shape)}, {len(small)} x {tuple(small[0].shape)}, {len(labels)} labels"
        )
        statistics = hjepa.analyze_crop_statistics(loader, n_batches=4)
        for name, view in statistics.views.items():
            print(f"  {name}: {view.count} crops of {view.scales.min():.0%} to {view.scales.max():.0%} of the image")
        hjepa.MultiCropVisualizer.visualize_batch(loader, save_path=output / "batch.png")
        speed = hjepa.benchmark_augmentation_speed(loader, num_batches=10)
    print(f"  {speed.images_per_second:.0f} images and {speed.crops_per_second:.0f} crops per second")


class TwoNetworks(nn.Module):
    """The smallest student and teacher that document C's trainer can train: a pooled convolution with a head."""

    def __init__(self, outputs: int = 64) -> None:
        super().__init__()
        layers = (nn.Conv2d(3, 32, 8, 8), nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, outputs))
        self.student = nn.Sequential(*layers)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)

    def forward_student(self, images: Tensor) -> Tensor:
        """[R, 3, S, S] of any size -> [R, outputs]."""
        outputs: Tensor = self.student(images)
        return outputs

    def forward_teacher(self, images: Tensor) -> Tensor:
        """The same of the teacher."""
        outputs: Tensor = self.teacher(images)
        return outputs

    def get_student_parameters(self) -> Iterable[nn.Parameter]:
        """What the optimizer trains."""
        return self.student.parameters()

    @torch.no_grad()
    def update_teacher(self, epoch: int) -> None:
        """Moves the teacher towards the student."""
        for theirs, own in zip(self.teacher.parameters(), self.student.parameters(), strict=True):
            theirs.lerp_(own, 0.01)


def trainer_of_document_c(images: Path) -> None:
    """Document C's loader and trainer: stacks of crops, crop-major, and steps on them.

    While the centre is still small the teacher is surer than it will be, so the loss grows before it falls.
    """
    torch.manual_seed(0)
    model = TwoNetworks().to(DEVICE)
    trainer = hjepa.MultiCropTrainer(model)
    optimizer = torch.optim.AdamW(model.get_student_parameters(), lr=1e-3)
    with hjepa.create_multicrop_dataloader(
        images, batch_size=16, num_workers=2, global_crop_size=GLOBAL, local_crop_size=LOCAL, num_local_crops=4
    ) as loader:
        for step, batch in enumerate(loader):
            if step == 0:
                print(f"document C: {tuple(batch['global_crops'].shape)}, {tuple(batch['local_crops'].shape)}")
                print("  at first the loss grows with the centre")
            figures = trainer.training_step(batch, optimizer, epoch=0)
            print(f"  step {step}: loss {figures['loss']:.3f}")


if __name__ == "__main__":
    main()
