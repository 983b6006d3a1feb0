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
