"""What changes from step to step, as pure functions of the step: learning rate, weight decay, momentum, temperature.

Being functions, not objects with a state, they cannot restart or run ahead when a run is resumed.
"""

import math
from dataclasses import dataclass

from hjepa.configs.schema import Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """The values of one optimizer step."""

    learning_rate: float
    weight_decay: float
    momentum: float
    """Share of the teacher that is kept."""
    teacher_temperature: float
    """DINO's; H-JEPA reads it not."""
    prototypes_held: bool
    """Whether DINO's prototypes stay where they are."""


def schedule(settings: Settings, step: int, steps_per_epoch: int) -> Schedule:
    """The values for step `step`, counted from 0: the first update already has a learning rate above 0."""
    training, ema = settings.training, settings.model.ema
    total, warmup = training.epochs * steps_per_epoch, training.warmup_epochs * steps_per_epoch
    done = step / max(1, total - 1)
    if step < warmup:
        learning_rate = training.lr * (step + 1) / warmup
    else:
        progress = (step - warmup) / max(1, total - 1 - warmup)
        shape = _cosine if training.lr_schedule == "cosine" else _linear
        learning_rate = shape(training.lr, training.min_lr, progress)
    ramp = total if ema.momentum_warmup_epochs is None else ema.momentum_warmup_epochs * steps_per_epoch
    heating = settings.dino.teacher_temperature_warmup_epochs * steps_per_epoch
    end = training.weight_decay if training.weight_decay_end is None else training.weight_decay_end
    return Schedule(
        learning_rate=learning_rate,
        weight_decay=_cosine(training.weight_decay, end, done),
        momentum=_linear(ema.momentum, ema.momentum_end, min(1.0, step / max(1, ramp - 1))),
        teacher_temperature=_linear(
            settings.dino.teacher_temperature,
            settings.dino.teacher_temperature_end,
            min(1.0, step / heating) if heating else 1.0,
        ),
        prototypes_held=step < settings.dino.held_prototypes_epochs * steps_per_epoch,
    )


def early_end(settings: Settings) -> str | None:
    """What is wrong, in a sentence, where the teacher stops following the student before the run ends; None where it does not.

    It is no mistake that is refused: the published configuration has a ramp of 30 of 100 epochs.
    """
    ema, epochs = settings.model.ema, settings.training.epochs
    ramp = ema.momentum_warmup_epochs
    if ramp is None or ramp >= epochs or ema.momentum_end < 1:
        return None
    return (
        f"model.ema.momentum_end=1 is reached after {ramp} of {epochs} epochs (model.ema.momentum_warmup_epochs), and the "
        "teacher no longer follows the student from there on; leave momentum_warmup_epochs out, and it is reached at the end"
    )


def _linear(start: float, end: float, progress: float) -> float:
    return start + (end - start) * progress


def _cosine(start: float, end: float, progress: float) -> float:
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * progress))
