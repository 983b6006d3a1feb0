"""Numbers that show whether representations collapse and predictions say something; float32, left on the device."""

# B images, D channels, L levels

import torch
from jaxtyping import Float
from torch import Tensor


def feature_std(features: Float[Tensor, "B D"]) -> Float[Tensor, ""]:
    """Standard deviation over the images, averaged over the channels; 0 where every image has the same feature."""
    return _deviation(features).mean()


def dead_channels(features: Float[Tensor, "B D"]) -> Float[Tensor, ""]:
    """Share of the channels that hardly vary over the images: by less than a hundredth of the features' root mean square."""
    size = features.float().square().mean().sqrt()
    return (_deviation(features) <= 0.01 * size).float().mean()


def _deviation(features: Float[Tensor, "B D"]) -> Float[Tensor, " D"]:
    return features.float().std(0, correction=min(1, len(features) - 1))  # 0 of one image, which is no sample


def rankme(features: Float[Tensor, "B D"]) -> Float[Tensor, ""]:
    """Effective rank of the centred features, from 1 to min(B - 1, D): RankMe, Garrido et al., arXiv 2210.02885, equation 1."""
    centred = features.float() - features.float().mean(0)
    sizes = torch.linalg.svdvals(centred)
    shares = sizes / sizes.sum().clamp_min(1e-12) + 1e-7
    return torch.exp(-(shares * shares.log()).sum())


def baseline_ratio(losses: Float[Tensor, " L"], baselines: Float[Tensor, " L"]) -> Float[Tensor, " L"]:
    """Loss of the predictor over the loss of predicting the mean target (`baseline_loss`): 0 where it is perfect.

    At 1 or above it knows no more than the mean; it is 1, too, where both losses are 0 and there is nothing to know.
    """
    return (losses + 1e-12) / (baselines + 1e-12)
