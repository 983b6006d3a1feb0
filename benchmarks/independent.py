"""Check it yourself: torchvision and hjepa on the same JPEG files, timed by nothing but time.perf_counter.

    python benchmarks/independent.py FOLDER_OF_CLASS_FOLDERS [ROUNDS]

It shares no code with throughput.py. torchvision's side is written from DINO's public recipe (facebookresearch/dino,
main_dino.py: two crops of 224 and eight of 96; torchvision's operators blur and solarize) with an ImageFolder and a DataLoader
of a worker per core; hjepa's is a Loader with its defaults. They take turns, each opened anew and warmed up; medians.
"""

import os
import statistics
import sys
import time
from collections.abc import Iterable
from itertools import chain, repeat
from typing import Any

import torch
from torch.utils.data import DataLoader, RandomSampler
from torchvision import transforms as T
from torchvision.datasets import ImageFolder
from torchvision.transforms import InterpolationMode

import hjepa

CORES = len(os.sched_getaffinity(0))
BATCH = 32


def crop(side: int, scale: tuple[float, float], blur: float, solarize: float = 0.0) -> T.Compose:
    """One of DINO's transforms."""
    return T.Compose(
        [
            T.RandomResizedCrop(side, scale=scale, interpolation=InterpolationMode.BICUBIC),
            T.RandomHorizontalFlip(p=0.5),
            T.RandomApply([T.ColorJitter(brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1)], p=0.8),
            T.RandomGrayscale(p=0.2),
            T.RandomApply([T.GaussianBlur(9, (0.1, 2.0))], p=blur),
            T.RandomSolarize(128, p=solarize),
            T.ToTensor(),
            T.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )


CROPS = [crop(224, (0.4, 1), 1.0), crop(224, (0.4, 1), 0.1, 0.2), *[crop(96, (0.05, 0.4), 0.5)] * 8]


def dino(image: Any) -> list[Any]:
    """The ten crops of an image."""
    return [each(image) for each in CROPS]


def rate(loader: Iterable[Any], batches: int) -> float:
    """Images per second over so many batches, after a warm-up."""
    iterator = chain.from_iterable(repeat(loader))
    for _ in range(4 * CORES):
        next(iterator)
    finish()
    start = time.perf_counter()
    for _ in range(batches):
        next(iterator)
    finish()
    return batches * BATCH / (time.perf_counter() - start)


def finish() -> None:
    """Waits for crops that a GPU still makes: with its defaults hjepa makes them there, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def torchvision_rate(folder: str) -> float:
    """torchvision's, shuffled, in one epoch without end: its workers idle between two, which in a small folder is often."""
    images = ImageFolder(folder, dino)
    return rate(DataLoader(images, BATCH, sampler=RandomSampler(images, num_samples=1 << 40), num_workers=CORES), 10 * CORES)


def main(folder: str, rounds: int = 3) -> None:
    """Measures in turn, and prints the medians and their ratio."""
    theirs, ours = [], []
    for _ in range(rounds):
        theirs.append(torchvision_rate(folder))
        with hjepa.Loader(folder, "dino", batch_size=BATCH) as loader:
            ours.append(rate(loader, 100 * CORES))
        print(f"torchvision {theirs[-1]:.0f} images/s, hjepa {ours[-1]:.0f} images/s", flush=True)
    print(f"medians: hjepa / torchvision = {statistics.median(ours) / statistics.median(theirs):.1f}")


if __name__ == "__main__":
    if not sys.argv[1:] or not os.path.isdir(sys.argv[1]):
        sys.exit(__doc__)
    main(sys.argv[1], *map(int, sys.argv[2:]))
