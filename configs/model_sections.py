"""The settings of the networks and of the masks: what is predicted from what."""

from collections.abc import Mapping
from dataclasses import asdict
from difflib import get_close_matches
from typing import Any, Literal

from pydantic import model_validator

from hjepa.configs.section import (
    Count,
    CountOrZero,
    Counts,
    NotNegative,
    Positive,
    PositiveRange,
    Section,
    Share,
    ShareOrZero,
    ShareRange,
)
from hjepa.models.sizes import NAMED_ENCODERS as KNOWN_SIZES
from hjepa.models.sizes import check_heads


class EncoderSettings(Section):
    """Sizes of the vision transformer."""

    patch_size: Count
    """Side of a patch, in pixels."""
    width: Count
    """Numbers in a token; divisible by num_heads and by 4."""
    depth: Count
    """Number of transformer blocks."""
    num_heads: Count
    """Attention heads in a block."""
    mlp_ratio: Positive = 4.0
    """Hidden width of the MLP, as a multiple of width."""

    @model_validator(mode="after")
    def _check(self) -> "EncoderSettings":
        check_heads("model.encoder", self.width, self.num_heads)
        return self


NAMED_ENCODERS = {name: EncoderSettings(**asdict(sizes)) for name, sizes in KNOWN_SIZES.items()}
DEFAULT_ENCODER = "vit_base_patch16_224"


class PredictorSettings(Section):
    """Sizes of the transformer that predicts the hidden tokens."""

    width: Count = 384
    """Numbers in a token of the predictor; divisible by num_heads and by 4."""
    depth: Count = 6
    """Number of transformer blocks."""
    num_heads: Count = 12
    """Attention heads in a block."""
    mlp_ratio: Positive = 4.0
    """Hidden width of the MLP, as a multiple of width."""

    @model_validator(mode="after")
    def _check(self) -> "PredictorSettings":
        check_heads("model.predictor", self.width, self.num_heads)
        return self


class EmaSettings(Section):
    """The teacher: an exponential moving average of the student."""

    momentum: ShareOrZero = 0.996
    """Share of the teacher kept at each step, at the start."""
    momentum_end: ShareOrZero = 1.0
    """The same share at the end of the ramp, which is linear over steps; at 1 the teacher no longer follows."""
    momentum_warmup_epochs: Count | None = None
    """Length of the ramp, in epochs; null: all epochs of the run."""


class ModelSettings(Section):
    """Encoder, predictor, teacher and the hierarchy of targets."""

    encoder_type: str = DEFAULT_ENCODER
    """Name of an encoder, vit_{tiny,small,base,large,huge}_patch{8,14,16}_224, or custom: sizes from model.encoder."""
    encoder: EncoderSettings = NAMED_ENCODERS[DEFAULT_ENCODER]
    """Sizes of the encoder; filled in for a named encoder, written out for custom."""
    embed_dim: Count = 768
    """Numbers in a token of the encoder; equals model.encoder.width, which it defaults to."""
    num_hierarchies: Count = 3
    """Number of levels, from fine to coarse; level 0 is the finest."""
    predictor: PredictorSettings = PredictorSettings()
    """Sizes of the predictor."""
    ema: EmaSettings = EmaSettings()
    """Schedule of the teacher."""
    level_windows: Counts = (1, 3, 7)
    """Side of the window that the targets of each level are averaged over, in patches, odd; one per level."""
    view_weight: NotNegative = 0.0
    """Weight of the term that predicts the whole image from a local crop; 0: pure H-JEPA."""
    spread_weight: NotNegative = 0.0
    """Weight of VICReg's variance and covariance terms on the local crops' means, against collapse; needs view_weight."""
    cross_weight: Positive = 1.0
    """Weight of the term that predicts masked local crops; read with masking.strategy=cross_crop_prediction."""

    @model_validator(mode="before")
    @classmethod
    def _fill_in_encoder(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        name, encoder = given.get("encoder_type", DEFAULT_ENCODER), given.get("encoder", {})
        if not isinstance(name, str) or not isinstance(encoder, Mapping | EncoderSettings):
            return given
        if name != "custom" and name not in NAMED_ENCODERS:
            near = get_close_matches(name, NAMED_ENCODERS, n=1)
            hint = f", the nearest is {near[0]}" if near else ""
            raise ValueError(
                f"model.encoder_type: there is no encoder {name!r}{hint}; known: {', '.join(NAMED_ENCODERS)}, custom"
            )
        sizes = dict(encoder) if name == "custom" else {**dict(NAMED_ENCODERS[name]), **dict(encoder)}
        return {"embed_dim": sizes.get("width", 768), **given, "encoder": sizes}

    @model_validator(mode="after")
    def _check(self) -> "ModelSettings":
        named = NAMED_ENCODERS.get(self.encoder_type, self.encoder)
        for key, size in named:
            if (ours := getattr(self.encoder, key)) != size:
                raise ValueError(
                    f"model.encoder.{key}={ours} contradicts model.encoder_type={self.encoder_type}, which has {size}; "
                    "set model.encoder_type=custom to choose the sizes freely"
                )
        if self.embed_dim != named.width:
            raise ValueError(
                f"model.embed_dim={self.embed_dim} contradicts the encoder {self.encoder_type}, whose width is {named.width}; "
                f"set model.embed_dim={named.width} or leave it out"
            )
        if self.spread_weight > 0 and self.view_weight == 0:
            raise ValueError(
                f"model.spread_weight={self.spread_weight} has no effect with model.view_weight=0; "
                "set model.view_weight above 0"
            )
        if even := [window for window in self.level_windows if window % 2 == 0]:
            raise ValueError(f"model.level_windows must be odd, so that a window has a centre; got {even[0]}")
        return self


class MaskingSettings(Section):
    """Blocks of patches to hide and to predict, at each level of the hierarchy."""

    strategy: Literal["global_only", "global_with_local_context", "cross_crop_prediction"] = "global_only"
    """What is masked: only global crops, with local crops as extra context, or a half of the local crops too."""
    exclude_leaks: bool = True
    """Whether patches of local crops that show a part of a target block are hidden; false: they give the answer away."""
    law: Literal["exact", "reference"] = "exact"
    """How blocks are drawn: exact (they never overlap and keep their areas), or reference (as published: they may overlap)."""
    num_masks: Count = 4
    """Target blocks per global crop and level."""
    mask_scale: ShareRange = (0.05, 0.15)
    """Area of a target block at level 0, as a share of the crop: [least, most]."""
    mask_scale_end: ShareRange | None = None
    """The same at the end of the ramp, which is linear over epochs; null: mask_scale stays constant."""
    mask_scale_warmup_epochs: Count | None = None
    """Length of the ramp to mask_scale_end, in epochs; null: all epochs of the run."""
    aspect_ratio: PositiveRange = (0.75, 1.5)
    """Width over height of a target block: [least, most]."""
    scale_progression: Literal["geometric", "linear"] = "geometric"
    """Growth of mask_scale at level l: geometric times 2**l, linear times 1 + l."""
    nested: bool = False
    """Whether each target block lies in the one of the same number of the next coarser level; law=exact only."""
    weights: Literal["none", "attention"] = "none"
    """What target blocks of global crops lean to: none, which is chance, or attention, of the teacher's last block."""
    max_attempts: Count = 10
    """Tries to place a block clear of the others before a smaller one is placed; read when law is reference."""
    min_keep: Count = 4
    """Context patches that every masked crop keeps at every level, as far as context_tokens of a local crop reaches."""
    context_tokens: Share = 0.5
    """Length of the context's index tensor, as a share of the crop's patches; longer contexts lose random patches."""
    target_tokens: Share = 0.3
    """Length of a target block's index tensor, as a share of the crop's patches; larger blocks lose random patches."""

    @model_validator(mode="after")
    def _check(self) -> "MaskingSettings":
        if self.mask_scale_end is None and self.mask_scale_warmup_epochs is not None:
            raise ValueError(
                f"masking.mask_scale_warmup_epochs={self.mask_scale_warmup_epochs} has no effect without "
                "masking.mask_scale_end; set that, or leave it out"
            )
        if self.nested and self.law == "reference":
            raise ValueError(
                "masking.nested=true needs blocks that do not overlap; set masking.law=exact, or masking.nested=false"
            )
        return self


class DinoSettings(Section):
    """Self-distillation between crops; read with objective=dino."""

    num_prototypes: Count = 65536
    """Outputs of the head, over which student and teacher give probabilities."""
    hidden: Count = 2048
    """Width of the head's two hidden layers."""
    bottleneck: Count = 256
    """Width of the head before the prototypes."""
    student_temperature: Positive = 0.1
    """The student's outputs are divided by it."""
    teacher_temperature: Positive = 0.04
    """The teacher's outputs are divided by it, at the start."""
    teacher_temperature_end: Positive = 0.07
    """The same from the end of the ramp on; higher is softer."""
    teacher_temperature_warmup_epochs: CountOrZero = 30
    """Length of the ramp, in epochs; 0: teacher_temperature_end at once."""
    center_momentum: ShareOrZero = 0.9
    """Share of the centre of the teacher's outputs that is kept with each update."""
    held_prototypes_epochs: CountOrZero = 1
    """Epochs in which the prototypes stay where they are; more, where the outputs become equal for all images."""
    local_weight: Positive = 1.0
    """Weight of a term in which the student sees a local crop, beside 1 for a global one: local crops' share of the step."""
    koleo_weight: NotNegative = 0.0
    """Weight of DINOv2's KoLeo, which keeps the features of different images apart: 0.1 there; 0: off, as in DINO."""
    blur_sigma: PositiveRange = (0.1, 2.0)
    """Deviation of the blur of a crop, in its pixels: [least, most]; DINO's is for crops of 224."""
