"""One step of training as named parts: what the masks follow, loss and gradient, and the update.

Order of an update: schedules, clip, optimizer, teacher; so the first one already has a learning rate above 0, and the teacher
follows the student of this step, once.
"""

import torch
from torch import Tensor, nn

from hjepa.configs.schema import Settings
from hjepa.distributed import without_joining
from hjepa.model_assembly import Model
from hjepa.models.dino import Dino, DinoLosses
from hjepa.models.hjepa import HierarchicalJepa, JepaLosses
from hjepa.models.parameters import parameter_groups
from hjepa.pipeline.batch import Batch
from hjepa.schedules import Schedule
from hjepa.sharding import whole
from hjepa.step_masks import StepMasks, Watched


def backward(
    model: nn.Module, batch: Batch, masks: StepMasks | None, values: Schedule, settings: Settings, *, last: bool
) -> JepaLosses | DinoLosses:
    """Adds the gradient of this batch's loss, divided by the number of batches of an update, of which it may be the last."""
    with without_joining(model, unless=last):
        with _autocast(batch, settings):
            losses = _losses(model, batch, masks, values, settings)
        (losses.total / settings.training.accumulation_steps).backward()  # type: ignore[no-untyped-call]  # torch's own
    return losses


def watch(model: Model, batch: Batch, settings: Settings) -> Watched | None:
    """What the teacher says of the global crops before their masks are drawn; None where these do not follow it."""
    if settings.masking.weights == "none":
        return None
    assert isinstance(model, HierarchicalJepa)
    with _autocast(batch, settings):
        tokens, attention = model.watch(batch.globals)
    # Of a run that has diverged all patches weigh the same: it is the loss that says so.
    return Watched(tokens=tokens, attention=attention.nan_to_num(nan=1.0))


def build_optimizer(model: Model, settings: Settings) -> torch.optim.Optimizer:
    """AdamW, or SGD with momentum; biases, norms and other vectors do not decay."""
    training = settings.training
    groups = parameter_groups(model, training.weight_decay)
    if training.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=training.lr, momentum=training.betas[0])
    # fused: one pass over the parameters, on a CPU too, instead of a dozen small operations for each
    return torch.optim.AdamW(groups, lr=training.lr, betas=training.betas, fused=True)


def update(model: Model, optimizer: torch.optim.Optimizer, values: Schedule, clip_grad: float) -> Tensor:
    """Applies the gradients and clears them; the teacher follows. Returns the gradient's norm before clipping, float32 []."""
    for group in optimizer.param_groups:
        group["lr"] = values.learning_rate
        if group["name"] == "decayed":
            group["weight_decay"] = values.weight_decay
    if isinstance(model, Dino) and values.prototypes_held:
        model.hold_prototypes()
    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    norm: Tensor = whole(torch.nn.utils.clip_grad_norm_(trained, clip_grad if clip_grad > 0 else float("inf")))
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    model.update_teacher(values.momentum)
    return norm


def _autocast(batch: Batch, settings: Settings) -> torch.autocast:
    device = batch.globals.device.type
    return torch.autocast(device, torch.bfloat16, enabled=settings.training.use_amp and device == "cuda")


def _losses(
    model: nn.Module, batch: Batch, masks: StepMasks | None, values: Schedule, settings: Settings
) -> JepaLosses | DinoLosses:
    """DINO's loss without masks, H-JEPA's with them."""
    if masks is None:
        distilled: DinoLosses = model(batch.globals, batch.locals, values.teacher_temperature)
        return distilled
    reads_locals = settings.model.view_weight > 0 or masks.local is not None
    predicted: JepaLosses = model(
        batch.globals,
        masks.context_index,
        masks.context_valid,
        masks.target_index,
        masks.target_valid,
        batch.locals if reads_locals else None,
        masks.places,
        masks.local,
        None if masks.watched is None else masks.watched.tokens,
    )
    return predicted
