"""The linear probe: how well one linear layer, trained on frozen features, tells the classes of other images apart.

A fifth of the images is kept out of the layer's training and measured on. The encoder may have been trained on those as well,
though never on a label; so this compares epochs and runs, and is no substitute for a data set that training never saw. With few
images per class (see EVALUATED in evaluate.py) it is lower than what papers report.
"""

# N images, D channels, C classes

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hjepa.configs.run_sections import LinearProbeSettings
from hjepa.kernels import chance

HELD_OUT = 0.2
"""Share of the images that the layer is not trained on."""
PROBE = 0x70726F62  # "prob": keeps the keys of the split apart from those of other things that are drawn from the seed


def split(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Numbers int64 of the images to train on and of those to measure on: by the seed alone, at least one of the latter."""
    order = torch.from_numpy(np.argsort(chance.bits(chance.key(seed, PROBE), np.arange(count)), kind="stable"))
    num_held_out = max(1, round(HELD_OUT * count))
    return order[num_held_out:], order[:num_held_out]


def linear_probe_accuracy(features: Tensor, labels: Tensor, settings: LinearProbeSettings, seed: int) -> float:
    """Share of held-out images whose class the layer finds, for features float32 [N, D] and labels int64 [N].

    SGD with momentum 0.9, the learning rate falling along a cosine, no weight decay; channels are standardised with the
    mean and deviation of the images trained on. The layer starts at zero, so that nothing is drawn for it.
    """
    trained, held_out = (numbers.to(features.device) for numbers in split(len(features), seed))
    mean, deviation = features[trained].mean(0), features[trained].std(0, correction=0)
    standardised = (features - mean) / deviation.clamp_min(1e-6)
    layer = _fit(standardised[trained], labels[trained], int(labels.max()) + 1, settings, seed)
    found = F.linear(standardised[held_out], *layer).argmax(1)
    return int((found == labels[held_out]).sum()) / len(held_out)


def _fit(features: Tensor, labels: Tensor, num_classes: int, settings: LinearProbeSettings, seed: int) -> tuple[Tensor, Tensor]:
    """Weight [C, D] and bias [C] of the trained layer, without gradient."""
    weight, bias = features.new_zeros(num_classes, features.shape[1]), features.new_zeros(num_classes)
    parameters = [weight.requires_grad_(), bias.requires_grad_()]
    optimizer = torch.optim.SGD(parameters, lr=settings.lr, momentum=0.9)
    num_steps = settings.epochs * -(-len(features) // settings.batch_size)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, num_steps)
    generator = torch.Generator().manual_seed(seed)  # its own: drawing from torch's would change the run that is measured
    for _ in range(settings.epochs):
        order = torch.randperm(len(features), generator=generator).to(features.device)
        for batch in torch.split(order, settings.batch_size):
            optimizer.zero_grad()
            loss = F.cross_entropy(F.linear(features[batch], weight, bias), labels[batch])
            loss.backward()  # type: ignore[no-untyped-call]  # torch's own
            optimizer.step()
            cosine.step()
    return weight.detach(), bias.detach()
