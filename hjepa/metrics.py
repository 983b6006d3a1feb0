"""What a run writes down: one JSON object per line, and curves for TensorBoard."""

import json
import time
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter


class Metrics:
    """Appends to a file of lines and, if asked, to TensorBoard's event files beside it."""

    def __init__(self, path: Path, *, tensorboard: bool) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._lines = open(self.path, "a", encoding="utf-8")  # noqa: SIM115 - open for the life of this object
        self._writer = SummaryWriter(str(path.parent)) if tensorboard else None

    def record(self, kind: str, step: int, values: dict[str, float | int]) -> None:
        """Writes one line, and each value as a point of the curve kind/name."""
        line: dict[str, Any] = {"kind": kind, "step": step, "time": round(time.time(), 3), **values}
        self._lines.write(json.dumps(line) + "\n")
        self._lines.flush()  # a run that is killed keeps its lines
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(f"{kind}/{name}", value, step)

    def close(self) -> None:
        """Ends both files."""
        self._lines.close()
        if self._writer is not None:
            self._writer.close()
