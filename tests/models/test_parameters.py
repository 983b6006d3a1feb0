"""Groups of parameters: every trained one once, and only matrices decay."""

import torch

from hjepa.models.hjepa import HierarchicalJepa, HierarchicalJepaSettings
from hjepa.models.parameters import parameter_groups
from hjepa.models.predictor import PredictorSettings
from hjepa.models.sizes import VisionTransformerSettings


def test_only_matrices_and_filters_decay_and_the_teacher_is_left_out() -> None:
    settings = HierarchicalJepaSettings(
        encoder=VisionTransformerSettings(patch_size=8, width=16, depth=1, num_heads=2),
        predictor=PredictorSettings(width=8, depth=1, num_heads=2),
        view_weight=1.0,
    )
    model = HierarchicalJepa(settings)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = parameter_groups(model, 0.05)
    decayed, others = ([names[id(parameter)] for parameter in group["params"]] for group in groups)
    assert all(name.endswith("weight") and "norm" not in name and "embedding" not in name for name in decayed)
    assert all("bias" in name or "norm" in name or name in EXCEPTIONS for name in others)
    assert set(others) >= EXCEPTIONS
    assert sorted(decayed + others) == sorted(name for name in names.values() if not name.startswith("teacher."))
    assert [group["name"] for group in groups] == ["decayed", "not_decayed"]
    optimizer = torch.optim.AdamW(groups, lr=1e-3)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.05, 0.0]


EXCEPTIONS = {"predictor.mask_token", "predictor.level_embedding.weight"}
