"""A training loop of one's own in plain PyTorch: crops from hjepa, a loss like DINO's, resume in the middle of an epoch.

    python examples/plain_pytorch.py [--images photos/] [--steps 6]

The model is as small as can be; what matters is where the data come from, and that nothing is lost or seen twice on the way.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import hjepa
from hjepa import sample_data
from hjepa.pipeline.presets.dino import dino

# B images, V views, S pixels
BATCH = 8
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
"""Where a Loader puts its batches, unless it is told."""


def main() -> None:
    """Trains, stops in the middle of an epoch, goes on, and shows that no image was lost."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--images", type=Path, help="folder of images; 64 that hjepa makes without")
    parser.add_argument("--steps", type=int, default=6, help="steps before it stops")
    arguments = parser.parse_args()
    images = arguments.images or sample_data.make(sample_data.default_folder(64), 64)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 16, 8, 8), nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 32))
    model.to(DEVICE)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    with hjepa.Loader(images, dino(num_local_crops=4), batch_size=BATCH, seed=1) as loader:
        before, state = train(model, optimizer, loader, arguments.steps)
    print(f"stopped at epoch {state['epoch']}, image {state['position']}")
    with hjepa.Loader(images, dino(num_local_crops=4), batch_size=BATCH, seed=1) as loader:
        loader.load_state_dict(state)
        after, _ = train(model, optimizer, loader, len(loader) - arguments.steps)
    seen = before + after
    print(f"{len(seen)} images of the epoch were seen, {len(set(seen))} of them different")


def train(
    model: nn.Module, optimizer: torch.optim.Optimizer, loader: hjepa.Loader, steps: int
) -> tuple[list[int], dict[str, Any]]:
    """Some steps of the epoch; gives the numbers of the images and where the loader stands."""
    seen: list[int] = []
    for step, batch in zip(range(steps), loader, strict=False):
        loss = agreement([model(crops) for crops in batch.views()])  # each crop at its own size
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen += batch.indices.tolist()
        print(f"step {step}: loss {loss.item():.3f}, waited {1000 * loader.wait_seconds:.0f} ms")
    return seen, loader.state_dict()


def agreement(outputs: list[Tensor]) -> Tensor:
    """Cross-entropy of every crop's answer with the global crops' [B, 32], which get no gradient."""
    answers = [F.softmax(output.detach() / 0.04, -1) for output in outputs[:2]]
    pairs = [(answer, output) for place, answer in enumerate(answers) for other, output in enumerate(outputs) if other != place]
    return torch.stack([-(answer * F.log_softmax(output / 0.1, -1)).sum(-1).mean() for answer, output in pairs]).mean()


if __name__ == "__main__":
    main()
