"""Which parameters are decayed."""

from typing import Any

from torch import nn


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups for an optimizer, named "decayed" (matrices and filters) and "not_decayed" (all else); frozen ones are out.

    Biases, gains of norms, the mask token and the level embeddings are offsets: decay would only pull them towards a value
    that means nothing. A schedule of weight decay changes the group named "decayed".
    """
    embeddings = {id(part.weight) for part in module.modules() if isinstance(part, nn.Embedding)}
    groups: tuple[list[nn.Parameter], list[nn.Parameter]] = ([], [])
    for parameter in module.parameters():
        if parameter.requires_grad:
            groups[parameter.ndim < 2 or id(parameter) in embeddings].append(parameter)
    return [
        {"name": "decayed", "params": groups[0], "weight_decay": weight_decay},
        {"name": "not_decayed", "params": groups[1], "weight_decay": 0.0},
    ]
