"""Sums over the steps since the last line of the log; they stay on the device until the line is written."""

import time

import torch
from torch import Tensor

from hjepa.models.dino import DinoLosses
from hjepa.models.hjepa import JepaLosses
from hjepa.models.monitors import baseline_ratio
from hjepa.models.ranks import all_sum, num_ranks
from hjepa.pipeline.batch import Batch


class Window:
    """What happened since it was made."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._figures: list[Tensor] = []
        self._names: list[str] = []
        self.images = 0
        """On all ranks."""
        self.wait_seconds = 0.0
        """On this one."""
        self.seconds = 0.0

    def add(self, batch: Batch, losses: JepaLosses | DinoLosses, wait_seconds: float) -> None:
        """One batch, its losses, and how long it was waited for."""
        figures = _figures(losses)
        self._names = list(figures)
        self._figures.append(torch.stack(list(figures.values())))
        self.images += len(batch.labels) * num_ranks()
        self.wait_seconds += wait_seconds

    def summary(self) -> dict[str, float]:
        """Means over steps and ranks, and rates. It waits for the device; all ranks must ask."""
        means = all_sum(torch.stack(self._figures).mean(0)) / num_ranks()
        line = dict(zip(self._names, means.tolist(), strict=True))
        levels = [name for name in line if name.startswith("baseline_level_")]
        for name in levels:
            level = name.removeprefix("baseline_level_")
            pair = (torch.tensor([line[f"loss_level_{level}"]]), torch.tensor([line.pop(name)]))
            line[f"baseline_ratio_level_{level}"] = baseline_ratio(*pair).item()
        self.seconds = time.perf_counter() - self._start
        rates = {"images_per_second": self.images / self.seconds, "wait_share": self.wait_seconds / self.seconds}
        return line | rates


def _figures(losses: JepaLosses | DinoLosses) -> dict[str, Tensor]:
    """What is logged of a batch's losses, by its name in the log; each float32 [], without gradient."""
    if isinstance(losses, DinoLosses):
        norms = {"student_norm": losses.student_norm, "teacher_norm": losses.teacher_norm, "center_norm": losses.center_norm}
        return {"loss": losses.total.detach(), "loss_koleo": losses.koleo, **norms}
    return {
        "loss": losses.total.detach(),
        **{f"loss_level_{number}": loss for number, loss in enumerate(losses.levels)},
        **{f"baseline_level_{number}": loss for number, loss in enumerate(losses.baselines)},
        "loss_view": losses.view,
        "loss_spread": losses.spread,
        "loss_cross": losses.cross,
    }
