"""What a run came to."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Result:
    """What a run came to."""

    finished: bool = False
    """False where it was interrupted."""
    signal: int = 0
    """Number of the signal that interrupted it."""
    step: int = 0
    first_loss: float | None = None
    """Mean over the first line of the log; None before it."""
    last_loss: float | None = None
    accuracies: dict[int, float] = field(default_factory=dict)
    """kNN accuracy by the number of epochs trained."""
    probe_accuracies: dict[int, float] = field(default_factory=dict)
    """The same of the linear probe."""
    rankme: dict[int, float] = field(default_factory=dict)
    """Effective rank of the features, likewise."""
    images: int = 0
    """Images trained on by this process, on all ranks."""
    bad_images: int = 0
    """Images that others stand in for."""
    seconds: float = 0.0
    """Time spent training, without evaluation."""
    wait_seconds: float = 0.0
    """Of it, waiting for data."""


def in_words(result: Result) -> dict[str, str]:
    """Rows of the table that ends a run: how fast it was, its loss, and what its features are worth."""
    return {
        "images/s": f"{result.images / max(result.seconds, 1e-9):.0f} (training)",
        "data wait": f"{result.wait_seconds / max(result.seconds, 1e-9):.1%} of the training time",
        "loss": _losses(result),
        "kNN accuracy": _figures(result.accuracies, ".1%") or "not measured (no labels, or not asked for)",
        **({"linear probe": _figures(result.probe_accuracies, ".1%")} if result.probe_accuracies else {}),
        **({"RankMe": _figures(result.rankme, ".1f")} if result.rankme else {}),
    }


def _losses(result: Result) -> str:
    if result.first_loss is None or result.last_loss is None:
        return "-"
    first, last = f"{result.first_loss:.4f}", f"{result.last_loss:.4f}"
    return last if first == last else f"{first} at first, {last} at last"


def _figures(figures: dict[int, float], form: str) -> str:
    """The first and the last one, by the number of epochs trained; nothing where there is none."""
    if not figures:
        return ""
    before, after = min(figures), max(figures)
    if before == after:
        return f"{figures[after]:{form}} after {after} epochs"
    return f"{figures[before]:{form}} after {before} epochs, {figures[after]:{form}} after {after}"
