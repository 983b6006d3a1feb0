"""With one level, one crop and no local ones the loss is I-JEPA's, written down here from its published code."""

import torch
import torch.nn.functional as F

from hjepa.models.hjepa import HierarchicalJepa, HierarchicalJepaSettings
from hjepa.models.positions import grid_positions
from hjepa.models.predictor import PredictorSettings
from hjepa.models.sizes import VisionTransformerSettings

# B images, N = 16 patches, K context patches, T blocks, M patches of a block


def test_one_level_of_one_crop_is_the_loss_of_ijepa() -> None:
    torch.manual_seed(0)
    settings = HierarchicalJepaSettings(
        encoder=VisionTransformerSettings(patch_size=8, width=16, depth=2, num_heads=2),
        predictor=PredictorSettings(width=8, depth=2, num_heads=2),
        num_levels=1,
        level_windows=(1,),
        level_weights=(1.0,),
    )
    model = HierarchicalJepa(settings).double()
    torch.nn.init.zeros_(model.predictor.level_embedding.weight)  # I-JEPA has no levels to tell apart
    images = torch.randn(5, 3, 32, 32, dtype=torch.float64)
    patches = torch.rand(5, 16).argsort(-1)
    masks_enc, masks_pred = patches[:, :6], list(patches[:, 6:14].split(4, dim=1))

    # src/train.py and src/models/vision_transformer.py of facebookresearch/ijepa, arXiv 2301.08243
    def apply_masks(tokens: torch.Tensor, masks: list[torch.Tensor]) -> torch.Tensor:
        return torch.cat([tokens.gather(1, mask.unsqueeze(-1).expand(-1, -1, tokens.shape[-1])) for mask in masks])

    with torch.no_grad():
        h = model.teacher(images)
        h = F.layer_norm(h, (h.size(-1),))
        h = apply_masks(h, masks_pred)
    z = model.encoder(images, masks_enc)
    predictor, positions = model.predictor, grid_positions((4, 4), 8, images.device).double().expand(5, -1, -1)
    z = predictor.embed(z) + apply_masks(positions, [masks_enc])
    asked = predictor.mask_token + apply_masks(positions, masks_pred)
    z = torch.cat([z.repeat(len(masks_pred), 1, 1), asked], dim=1)
    for block in predictor.blocks:
        z = block(z)
    z = predictor.project(predictor.norm(z)[:, 6:])
    expected = F.smooth_l1_loss(z, h)

    context = masks_enc[None, None]
    targets = torch.stack(masks_pred, dim=1)[None, None]
    losses = model(
        images[None], context, torch.ones_like(context, dtype=torch.bool), targets, torch.ones_like(targets, dtype=torch.bool)
    )
    assert abs(losses.total.item() - expected.item()) < 1e-6
    expected.backward()
    wanted = [parameter.grad.clone() for parameter in model.encoder.parameters()]
    model.zero_grad()
    losses.total.backward()
    for parameter, gradient in zip(model.encoder.parameters(), wanted, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-8)  # the loss itself is float32
