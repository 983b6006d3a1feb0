"""One step of training as named parts: masks of a batch, loss and gradient, update.

Order of an update: schedules, clip, optimizer, teacher; so the first one already has a learning rate above 0, and the teacher
follows the student of this step, once.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from hjepa.configs.schema import Settings
from hjepa.kernels import chance
from hjepa.kernels.mask_indices import context_indices, mask_indices
from hjepa.models.hjepa import HierarchicalJepa, JepaLosses
from hjepa.models.parameters import parameter_groups
from hjepa.pipeline.batch import Batch
from hjepa.pipeline.mask_sampler import BlockMasks
from hjepa.pipeline.multicrop_masks import MultiCropMaskGenerator
from hjepa.schedules import Schedule

# G global crops, L levels, B images, K context tokens, T target blocks, M patches of a block


@dataclass(frozen=True, kw_only=True, slots=True)
class StepMasks:
    """What the student sees and what is asked of the predictor, as boolean masks and as index tensors of fixed length."""

    blocks: BlockMasks
    context_index: Tensor
    """int64 [G, L, B, K]"""
    context_valid: Tensor
    """bool [G, L, B, K]"""
    target_index: Tensor
    """int64 [G, L, B, T, M]"""
    target_valid: Tensor
    """bool [G, L, B, T, M]"""


def draw_masks(generator: MultiCropMaskGenerator, batch: Batch, settings: Settings) -> StepMasks:
    """The masks of a batch, on the device of its crops, keyed by (seed, epoch, sample): they resume and shard as crops do."""
    masking = settings.masking
    keys = batch.mask_keys
    blocks = generator.sample(keys)
    num_patches = blocks.context.shape[-1]
    crops, levels = (torch.arange(count, device=keys.device) for count in blocks.context.shape[:2])
    order = chance.fold_tensor(chance.fold_tensor(chance.fold_tensor(keys, 1), crops[:, None, None]), levels[:, None])
    context_index, context_valid = context_indices(
        blocks.context,
        blocks.targets.any(dim=-2),
        length=int(masking.context_tokens * num_patches),
        min_keep=masking.min_keep,
        keys=order,
    )
    length = max(1, int(masking.target_tokens * num_patches))
    target_index, target_valid = mask_indices(blocks.targets, length=length, keys=order.unsqueeze(-1))
    return StepMasks(
        blocks=blocks,
        context_index=context_index,
        context_valid=context_valid,
        target_index=target_index,
        target_valid=target_valid,
    )


def backward(model: HierarchicalJepa, batch: Batch, masks: StepMasks, settings: Settings) -> JepaLosses:
    """Adds the gradient of this batch's loss, divided by the number of batches of an update."""
    device = batch.globals.device
    with torch.autocast(device.type, torch.bfloat16, enabled=settings.training.use_amp and device.type == "cuda"):
        losses = model(
            batch.globals,
            masks.context_index,
            masks.context_valid,
            masks.target_index,
            masks.target_valid,
            batch.locals if settings.model.view_weight > 0 else None,
        )
    assert isinstance(losses, JepaLosses)
    (losses.total / settings.training.accumulation_steps).backward()  # type: ignore[no-untyped-call]  # torch's own
    return losses


def build_optimizer(model: HierarchicalJepa, settings: Settings) -> torch.optim.Optimizer:
    """AdamW, or SGD with momentum; biases, norms and other vectors do not decay."""
    training = settings.training
    groups = parameter_groups(model, training.weight_decay)
    if training.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=training.lr, momentum=training.betas[0])
    # fused: one pass over the parameters, on a CPU too, instead of a dozen small operations for each
    return torch.optim.AdamW(groups, lr=training.lr, betas=training.betas, fused=True)


def update(model: HierarchicalJepa, optimizer: torch.optim.Optimizer, values: Schedule, clip_grad: float) -> Tensor:
    """Applies the gradients and clears them; the teacher follows. Returns the gradient's norm before clipping, float32 []."""
    for group in optimizer.param_groups:
        group["lr"] = values.learning_rate
        if group["name"] == "decayed":
            group["weight_decay"] = values.weight_decay
    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    norm = torch.nn.utils.clip_grad_norm_(trained, clip_grad if clip_grad > 0 else float("inf"))
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    model.update_teacher(values.momentum)
    return norm
