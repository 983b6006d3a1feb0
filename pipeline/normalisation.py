"""Means and deviations of pixels, by which crops are normalised: of the data sets that go by a name; ImageNet's for others.

STL-10 is cut from ImageNet and has ImageNet's. The deviations of CIFAR-10 that most code has, and the DINO course, are those
within an image, averaged; those of all pixels are 0.2470, 0.2435, 0.2616. CIFAR-100's are those of all pixels.
"""

from types import MappingProxyType

from hjepa.pipeline.recipe import IMAGENET_MEAN, IMAGENET_STD, Channels

STATISTICS: MappingProxyType[str, tuple[Channels, Channels]] = MappingProxyType(
    {
        "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
        "cifar100": ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
    }
)
"""Name of a data set -> mean and standard deviation of red, green and blue, with levels in [0, 1]."""


def statistics_of(dataset: str) -> tuple[Channels, Channels]:
    """Mean and standard deviation for the data set of that name."""
    return STATISTICS.get(dataset, (IMAGENET_MEAN, IMAGENET_STD))
