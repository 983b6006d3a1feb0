"""lightly's own modules train on what the adapters hand out, in the loops of its examples for DINO and I-JEPA."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torchvision.models import VisionTransformer

from hjepa.pipeline.adapters import IJepa, Lightly
from hjepa.pipeline.loader import Loader
from hjepa.pipeline.recipe import Recipe, View

pytestmark = pytest.mark.filterwarnings("ignore")  # lightly and what it imports warn about their own future


def load(folder: Path, *views: View) -> Loader:
    recipe = Recipe(name="small", source="here", views=views)
    return Loader(folder, recipe, batch_size=8, backend="torchvision", device="cpu", num_workers=0)


def test_lightly_trains_dino(labelled: Path) -> None:
    losses = pytest.importorskip("lightly.loss")
    modules, utils = pytest.importorskip("lightly.models.modules"), pytest.importorskip("lightly.models.utils")
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Conv2d(3, 16, 8, 8), nn.GroupNorm(1, 16), nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    student = nn.Sequential(backbone, modules.DINOProjectionHead(16, 32, 16, 64))
    teacher = nn.Sequential(copy.deepcopy(backbone), modules.DINOProjectionHead(16, 32, 16, 64))
    utils.deactivate_requires_grad(teacher)
    criterion = losses.DINOLoss(output_dim=64, warmup_teacher_temp_epochs=1)
    optimizer = torch.optim.Adam(student.parameters(), lr=0.01)
    course = []
    local = View(name="local", count=2, size=16, area=(0.05, 0.4))
    with load(labelled, View(name="global", count=2, size=32, area=(0.4, 1.0)), local) as loader:
        for epoch in range(6):
            for views, _, _ in map(Lightly(), loader):
                loss = criterion([teacher(view) for view in views[:2]], [student(view) for view in views], epoch=epoch)
                course.append(loss.item())
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
                utils.update_momentum(student, teacher, m=0.9)
    assert sum(course[-5:]) < 0.9 * sum(course[:5]), course


def test_lightly_trains_ijepa(labelled: Path) -> None:
    modules, utils = pytest.importorskip("lightly.models.modules"), pytest.importorskip("lightly.models.utils")
    ijepa = pytest.importorskip("lightly.models.modules.ijepa")
    torch.manual_seed(0)
    settings: Any = {"image_size": 56, "patch_size": 8, "num_layers": 1, "num_heads": 2, "hidden_dim": 32, "mlp_dim": 64}
    encoder = ijepa.IJEPABackbone.from_vit(VisionTransformer(**settings))
    predictor = modules.IJEPAPredictorTIMM(num_patches=49, depth=1, mlp_dim=32, predictor_embed_dim=32, num_heads=2)
    target_encoder = copy.deepcopy(encoder)
    optimizer = torch.optim.AdamW([*encoder.parameters(), *predictor.parameters()], lr=1e-3)
    course = []
    with load(labelled, View(name="global", count=1, size=56, area=(0.3, 1.0), gray=0, blur=0)) as loader:
        for _ in range(4):
            for (images, _), masks_enc, masks_pred in map(IJepa(patch_size=8, min_keep=4), loader):
                with torch.no_grad():
                    features = target_encoder(images)
                    normed = nn.functional.layer_norm(features, features.shape[-1:])
                    target = utils.repeat_interleave_batch(utils.apply_masks(normed, masks_pred), len(images), repeat=1)
                loss = nn.functional.smooth_l1_loss(predictor(encoder(images, masks_enc), masks_enc, masks_pred), target)
                course.append(loss.item())
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
                for online, slow in zip(encoder.parameters(), target_encoder.parameters(), strict=True):
                    slow.data.mul_(0.99).add_(0.01 * online.detach())
    assert sum(course[-5:]) < 0.9 * sum(course[:5]), course
