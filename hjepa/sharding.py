"""FSDP2: parameters, gradients and the optimizer's averages divided among the ranks, for models that one GPU can hold but
not train: every rank makes the whole model before it is divided.

Student, teacher and predictor are divided alike, so the teacher follows without a word between the ranks. What leaves the run,
for a checkpoint or an evaluation, is put together again: files are the same with and without sharding, on any number of ranks.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor

from hjepa.models.block import Block
from hjepa.models.hjepa import HierarchicalJepa


def shard(model: nn.Module, device: torch.device, world_size: int) -> nn.Module:
    """Divides a model among the ranks, in place: a block's parameters are whole only while it computes."""
    mesh = init_device_mesh(device.type, (world_size,))
    for module in model.modules():
        if isinstance(module, Block):
            fully_shard(module, mesh=mesh)
            register_fsdp_forward_method(module, "received")
    # What no block holds (embeddings, norms, heads) stays whole between forward and backward.
    fully_shard(model, mesh=mesh)
    if isinstance(model, HierarchicalJepa):
        register_fsdp_forward_method(model, "watch")
    return model


def is_sharded(model: nn.Module) -> bool:
    """Whether its parameters are divided among the ranks."""
    return isinstance(model, FSDPModule)


def whole(state: Any) -> Any:
    """A model's or an optimizer's state with every divided tensor put together; all ranks must ask."""
    if isinstance(state, DTensor):
        return state.full_tensor()
    if isinstance(state, dict):
        return {name: whole(value) for name, value in state.items()}
    return [whole(value) for value in state] if isinstance(state, list) else state


def load_model(model: nn.Module, state: dict[str, Tensor]) -> None:
    """Takes over whole weights, divided as the model is."""
    own = model.state_dict()
    divided = {name: divide(tensor, own[name]) if name in own else tensor for name, tensor in state.items()}
    model.load_state_dict(divided)


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Takes over a whole state, its averages divided as the parameters are."""
    optimizer.load_state_dict(state)
    for parameter, averages in optimizer.state.items():
        for name, value in averages.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:  # all but the number of steps
                averages[name] = divide(value, parameter)


def divide(tensor: Tensor, like: Tensor) -> Tensor:
    """This rank's part of a whole tensor that every rank holds, or the tensor where nothing is divided."""
    if not isinstance(like, DTensor) or isinstance(tensor, DTensor):
        return tensor
    # What is sent is what the rank holds already; torch 2.6 cannot be told so.
    return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements)
