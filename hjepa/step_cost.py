"""What one training step costs in time and memory, measured by making a few.

On a GPU memory is what torch held at most. On a CPU, where the system's figures say little of one step, it is counted: weights,
gradients, the optimizer's averages, the batches in flight, and every tensor that the forward pass keeps for the backward one.
"""

import time
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from hjepa.assembly import build_loader, build_masks, build_recipe
from hjepa.configs.schema import Settings
from hjepa.model_assembly import Model, build_model
from hjepa.pipeline.batch import Batch
from hjepa.pipeline.curriculum import recipe_at
from hjepa.pipeline.source import Source
from hjepa.schedules import schedule
from hjepa.step import backward, build_optimizer, update, watch
from hjepa.step_masks import draw_masks

GIB = 1 << 30
TIMED = 3
"""Steps that are timed, after one that is not: the first makes the optimizer's averages."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepCost:
    """One step with one batch."""

    seconds: float
    """The fastest of the timed ones, without waiting for data."""
    memory_gib: float


def measure_step(settings: Settings, source: Source) -> StepCost:
    """The cost of a step of these settings with images of the source. Raises what a Loader and a model raise.

    Where crops follow the epochs it is one of the epoch with the most pixels.
    """
    plan, epochs = build_recipe(settings), range(settings.training.epochs)
    epoch = max(epochs, key=lambda epoch: sum(view.count * view.size**2 for view in recipe_at(plan, epoch).views))
    torch.cuda.empty_cache()  # what torch kept of the step before, DALI could not have
    with build_loader(settings, source, "measure") as loader:
        loader.set_epoch(epoch)
        batch, device = next(iter(loader)), loader.device
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    model = build_model(settings, device)
    optimizer = build_optimizer(model, settings)
    generator = build_masks(settings, epoch) if settings.objective == "hjepa" else None
    kept, times = _Kept(model.parameters()), []
    for step in range(1 + TIMED):
        values = schedule(settings, step, 1 + TIMED)
        start = time.perf_counter()
        watched = watch(model, batch, settings)
        masks = None if generator is None else draw_masks(generator, batch, settings, watched)
        with kept.counting() if step == 0 and device.type == "cpu" else nullcontext():
            backward(model, batch, masks, values, settings, last=True)
        update(model, optimizer, values, settings.training.clip_grad)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    flying = 2 * settings.data.prefetch * _bytes(batch.views())  # as many in the making as are ready
    held = _held(model, optimizer, batch) + kept.bytes
    if device.type == "cuda":
        held = torch.cuda.max_memory_allocated(device)
    return StepCost(seconds=min(times[1:]), memory_gib=(held + flying) / GIB)


class _Kept:
    """Counts what autograd keeps of a forward pass, but for the weights."""

    def __init__(self, weights: Iterable[Tensor]) -> None:
        self._weights = {weight.untyped_storage().data_ptr() for weight in weights}
        self._storages: dict[int, int] = {}

    @property
    def bytes(self) -> int:
        """Of all storages, each once."""
        return sum(size for place, size in self._storages.items() if place not in self._weights)

    def counting(self) -> torch.autograd.graph.saved_tensors_hooks:
        """Within it every tensor that is kept is counted."""
        return torch.autograd.graph.saved_tensors_hooks(self._count, lambda tensor: tensor)

    def _count(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        self._storages[storage.data_ptr()] = storage.nbytes()  # all are alive until the backward pass, so no two share a place
        return tensor


def _held(model: Model, optimizer: torch.optim.Optimizer, batch: Batch) -> int:
    """Bytes of weights, the teacher's among them, gradients, the optimizer's state, and the batch."""
    weights = list(model.parameters())
    averages = [part for state in optimizer.state.values() for part in state.values() if isinstance(part, Tensor)]
    gradients = [weight for weight in weights if weight.requires_grad]
    return _bytes([*weights, *gradients, *model.buffers(), *averages, *batch.views()])


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)
