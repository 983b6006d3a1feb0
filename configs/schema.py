"""All settings of a run, and the checks that concern more than one section of them.

A setting that would have no effect is refused.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from hjepa.configs.data_sections import DataSettings
from hjepa.configs.model_sections import DinoSettings, MaskingSettings, ModelSettings
from hjepa.configs.run_sections import (
    CheckpointSettings,
    DistributedSettings,
    EvaluationSettings,
    LoggingSettings,
    LossSettings,
    TrainingSettings,
)
from hjepa.configs.section import Section

LARGEST_SHARE = 0.95  # of a crop: no level asks for larger blocks, however much mask_scale has grown


class Settings(Section):
    """Everything that decides a run."""

    objective: Literal["hjepa", "dino"] = "hjepa"
    """What is learned: hjepa predicts hidden blocks, dino what the teacher says of other crops."""
    model: ModelSettings = ModelSettings()
    """The network."""
    data: DataSettings = DataSettings()
    """Images and crops."""
    masking: MaskingSettings = MaskingSettings()
    """Blocks to hide and predict."""
    dino: DinoSettings = DinoSettings()
    """Self-distillation."""
    training: TrainingSettings = TrainingSettings()
    """Optimizer and schedules."""
    loss: LossSettings = LossSettings()
    """What is minimised."""
    checkpoint: CheckpointSettings = CheckpointSettings()
    """What is saved."""
    logging: LoggingSettings = LoggingSettings()
    """What is said."""
    distributed: DistributedSettings = DistributedSettings()
    """Several GPUs."""
    evaluation: EvaluationSettings = EvaluationSettings()
    """What is measured."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 42
    """Number that every random choice of the run follows from."""
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"
    """cpu, cuda, cuda:N (GPU number N), or auto: a GPU if there is one."""
    output_dir: Annotated[str, Field(min_length=1)] = "runs/hjepa"
    """Folder that the run writes to."""

    @property
    def checkpoint_folder(self) -> Path:
        """Where checkpoints go."""
        return Path(self.checkpoint.checkpoint_dir or f"{self.output_dir}/checkpoints")

    @property
    def log_folder(self) -> Path:
        """Where logs go."""
        return Path(self.logging.log_dir or f"{self.output_dir}/logs")

    @property
    def bad_images_file(self) -> Path:
        """Where images that were replaced are written down."""
        return Path(self.output_dir) / "bad_images.jsonl"

    @property
    def metrics_file(self) -> Path:
        """Where the lines of the log go."""
        return self.log_folder / "metrics.jsonl"

    @model_validator(mode="after")
    def _check(self) -> "Settings":
        problems = [*_size_problems(self), *_phase_problems(self), *_probe_problems(self)]
        if self.objective == "hjepa":
            problems += [*_level_problems(self), *_ramp_problems(self), *_mask_problems(self), *_strategy_problems(self)]
        else:
            problems += _dino_problems(self)
        if problems:
            raise ValueError("\n".join(problems))
        return self


def growth(masking: MaskingSettings, level: int) -> int:
    """What mask_scale is multiplied by at a level."""
    return 2**level if masking.scale_progression == "geometric" else 1 + level


def _size_problems(settings: Settings) -> list[str]:
    data, crops, patch = settings.data, settings.data.multicrop, settings.model.encoder.patch_size
    problems = []
    sizes = {"data.image_size": data.image_size}
    if data.use_multicrop:
        if data.image_size not in {phase.global_crop_size for _, phase in crops.phases}:
            problems.append(
                f"data.image_size={data.image_size} and data.multicrop.global_crop_size={crops.global_crop_size} differ; the "
                f"model sees global crops, so set data.image_size={crops.global_crop_size} (or set both to the size you want)"
            )
        sizes = {"data.multicrop.global_crop_size": crops.global_crop_size}
        if crops.adaptive or any(phase.num_local_crops for _, phase in crops.phases):
            sizes["data.multicrop.local_crop_size"] = crops.local_crop_size
        for number, phase in enumerate(crops.curriculum):
            own = {"global_crop_size": phase.global_crop_size, "local_crop_size": phase.local_crop_size}
            sizes |= {f"data.multicrop.curriculum[{number}].{name}": size for name, size in own.items() if size is not None}
    for name, size in sizes.items():
        if size % patch:
            above = size - size % patch + patch
            fitting = f"{above - patch} or {above}" if size > patch else f"{above}"
            problems.append(f"{name}={size} does not divide by the patch size {patch} of the encoder; use {fitting}")
    if settings.model.view_weight > 0 and not _least_locals(settings):
        problems.append(
            f"model.view_weight={settings.model.view_weight} has no effect without local crops; "
            "set it to 0, or set data.use_multicrop=true and data.multicrop.num_local_crops to 1 or more"
        )
    return problems


def _least_locals(settings: Settings) -> int:
    """The smallest number of local crops that an image has in any epoch."""
    crops = settings.data.multicrop
    least = min(phase.num_local_crops for _, phase in crops.phases)
    least = crops.adaptive_config.min_local_crops if crops.adaptive else least
    return least if settings.data.use_multicrop else 0


def _strategy_problems(settings: Settings) -> list[str]:
    needed = {"global_only": 0, "global_with_local_context": 1, "cross_crop_prediction": 2}[settings.masking.strategy]
    if _least_locals(settings) >= needed:
        return []
    return [
        f"masking.strategy={settings.masking.strategy} needs {needed} local crops or more in every epoch, and there may be "
        f"{_least_locals(settings)}; raise data.multicrop.num_local_crops (with adaptive, adaptive_config.min_local_crops) "
        "with data.use_multicrop=true, or set masking.strategy=global_only"
    ]


def _dino_problems(settings: Settings) -> list[str]:
    num_globals = settings.data.multicrop.num_global_crops if settings.data.use_multicrop else 1
    if num_globals > 1 or _least_locals(settings):
        return []
    return [
        "objective=dino compares crops of an image, and there is one alone; set data.use_multicrop=true with "
        "data.multicrop.num_global_crops of 2 or more, or with local crops"
    ]


def _level_problems(settings: Settings) -> list[str]:
    levels, weights, windows = settings.model.num_hierarchies, settings.loss.hierarchy_weights, settings.model.level_windows
    problems = []
    if len(weights) != levels:
        fitting = [0.5**level for level in range(levels)]
        problems.append(
            f"loss.hierarchy_weights has {len(weights)} numbers and model.num_hierarchies={levels}; "
            f"give one weight for each level, such as {fitting}"
        )
    if len(windows) != levels:
        sides = [2 ** (level + 1) - 1 for level in range(levels)]
        problems.append(
            f"model.level_windows has {len(windows)} numbers and model.num_hierarchies={levels}; "
            f"give one window for each level, such as {sides}"
        )
    return problems


def _phase_problems(settings: Settings) -> list[str]:
    crops, epochs = settings.data.multicrop, settings.training.epochs
    return [
        f"data.multicrop.curriculum[{number}].from_epoch={phase.from_epoch} never comes: training.epochs={epochs} ends with "
        f"epoch {epochs - 1}, counted from 0; lower it, or train longer"
        for number, phase in enumerate(crops.curriculum if settings.data.use_multicrop else ())
        if phase.from_epoch >= epochs
    ]


def _ramp_problems(settings: Settings) -> list[str]:
    length, epochs = settings.masking.mask_scale_warmup_epochs, settings.training.epochs
    if length is None or length <= epochs:
        return []
    return [
        f"masking.mask_scale_warmup_epochs={length} is longer than training.epochs={epochs}, so masking.mask_scale_end would "
        "never be reached; leave it out, or lower it"
    ]


def _mask_problems(settings: Settings) -> list[str]:
    """Of the crops of every phase; what is wrong in several is said once."""
    data = settings.data
    if not data.use_multicrop:
        return _grid_problems(settings, data.image_size, data.multicrop.local_crop_size)
    problems: dict[str, int] = {}
    for first, crops in data.multicrop.phases:
        for problem in _grid_problems(settings, crops.global_crop_size, crops.local_crop_size):
            problems.setdefault(problem, first)
    return [problem if first == 0 else f"from epoch {first} on: {problem}" for problem, first in problems.items()]


def _grid_problems(settings: Settings, side: int, small_side: int) -> list[str]:
    masking, patch = settings.masking, settings.model.encoder.patch_size
    patches = (side // patch) ** 2
    problems = _block_problems(masking, "a crop", patches, settings.model.num_hierarchies - 1)
    if masking.strategy == "cross_crop_prediction":
        problems += _block_problems(masking, "a local crop", (small_side // patch) ** 2, 0)
    context = int(masking.context_tokens * patches)
    if masking.min_keep > context:
        problems.append(
            f"masking.min_keep={masking.min_keep} exceeds the {context} context patches that masking.context_tokens="
            f"{masking.context_tokens} leaves of {patches}; lower min_keep or raise context_tokens"
        )
    return problems


def _block_problems(masking: MaskingSettings, crop: str, patches: int, level: int) -> list[str]:
    """Scales of which the least blocks do not fit; between its two ends a ramp of scales fits where they do."""
    factor, problems = growth(masking, level), []
    left = patches - masking.min_keep if masking.law == "exact" else patches
    if masking.num_masks > left:  # whatever their scale
        return [
            f"masking.num_masks={masking.num_masks} blocks cannot lie side by side in {max(0, left)} of the {patches} patches "
            f"of {crop} (masking.law=exact leaves masking.min_keep={masking.min_keep} free); use fewer masks or larger crops"
        ]
    room = left / patches
    for name, scale in (("mask_scale", masking.mask_scale), ("mask_scale_end", masking.mask_scale_end)):
        least = min(LARGEST_SHARE, scale[0] * factor) if scale is not None else 0.0
        if scale is not None and masking.num_masks * least > room:
            fitting = int(10_000 * room / (masking.num_masks * factor)) / 10_000
            problems.append(
                f"masking.{name}={list(scale)} is {factor} times as large at level {level}, where "
                f"{masking.num_masks} blocks (masking.num_masks) of at least {least:.0%} of {crop} cannot lie side by side in "
                f"{room:.0%} of it; lower the first number of masking.{name} to {fitting}, or use fewer masks or levels"
            )
    return problems


def _probe_problems(settings: Settings) -> list[str]:
    probe, own = settings.evaluation.linear_probe, settings.data.dataset
    if not probe.enabled or probe.data_path or probe.dataset in (None, own):
        return []
    return [
        f"evaluation.linear_probe.dataset={probe.dataset} is not the run's own (data.dataset={own}), and has no place; "
        "set evaluation.linear_probe.data_path, or evaluation.linear_probe.dataset=null for the run's own images"
    ]
