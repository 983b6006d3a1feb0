"""From settings to the model of a run; apart from its data, because models load timm, which takes longer than all else."""

from typing import TypeAlias

import torch

from hjepa.configs.schema import Settings
from hjepa.models.block import Block
from hjepa.models.dino import Dino, DinoSettings
from hjepa.models.hjepa import HierarchicalJepa, HierarchicalJepaSettings
from hjepa.models.predictor import PredictorSettings
from hjepa.models.sizes import VisionTransformerSettings

Model: TypeAlias = HierarchicalJepa | Dino
"""What a run trains."""
VARIANTS = 64
"""Of a block, that torch.compile makes at most: for student, teacher and predictor, for sizes of crops, with and without a mask
or a gradient. Its own limit is 8, which masked local crops exceed; what is beyond it would not be compiled, without a word."""


def build_model(settings: Settings, device: torch.device) -> Model:
    """The model with its first weights, which follow from the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        model = Dino(_dino(settings)) if settings.objective == "dino" else HierarchicalJepa(_hierarchical_jepa(settings))
    if settings.training.compile:
        torch._dynamo.config.cache_size_limit = VARIANTS  # torch 2.6's name, which later ones know
    for block in model.modules():
        if isinstance(block, Block):
            block.recompute = settings.training.gradient_checkpointing
            if settings.training.compile:
                block.compile()  # block by block: one kernel for all of them, and the state keeps its names
    return model.to(device)


def _hierarchical_jepa(settings: Settings) -> HierarchicalJepaSettings:
    model, loss, strategy = settings.model, settings.loss, settings.masking.strategy
    return HierarchicalJepaSettings(
        encoder=VisionTransformerSettings(**dict(model.encoder)),
        predictor=PredictorSettings(**dict(model.predictor)),
        num_levels=model.num_hierarchies,
        level_windows=tuple(model.level_windows),
        level_weights=tuple(loss.hierarchy_weights),
        loss="smooth_l1" if loss.type == "smoothl1" else loss.type,
        normalize_embeddings=loss.normalize_embeddings,
        view_weight=model.view_weight,
        spread_weight=model.spread_weight,
        reads_locals=strategy != "global_only",
        cross_weight=model.cross_weight if strategy == "cross_crop_prediction" else 0.0,
    )


def _dino(settings: Settings) -> DinoSettings:
    head = settings.dino
    return DinoSettings(
        encoder=VisionTransformerSettings(**dict(settings.model.encoder)),
        num_prototypes=head.num_prototypes,
        hidden=head.hidden,
        bottleneck=head.bottleneck,
        student_temperature=head.student_temperature,
        center_momentum=head.center_momentum,
        local_weight=head.local_weight,
        koleo_weight=head.koleo_weight,
    )
