"""Which checkpoints stay under the names of their epochs: the best by an accuracy, or the newest; also of a resumed run.

A loss says not which is better: targets change with the teacher, and features that collapse are the easiest to predict.
"""

from typing import Any

from hjepa import checkpoint
from hjepa.configs.schema import Settings
from hjepa.result import Result


class Kept:
    """The named checkpoints of a run and their scores, the higher the better."""

    def __init__(self, settings: Settings) -> None:
        self._evaluation = settings.evaluation
        self._folder = settings.checkpoint_folder
        self._count = settings.checkpoint.keep_best_n
        self._scores: dict[str, float] = {}
        self._measure = ""

    def add(self, name: str, epochs_done: int, result: Result) -> None:
        """Scores a checkpoint: by the kNN accuracy, else the linear probe's (epochs without one go first), else by its age."""
        asked = {
            "knn": result.accuracies if self._evaluation.knn.enabled else {},
            "probe": result.probe_accuracies if self._evaluation.linear_probe.enabled else {},
        }
        measure = next((measure for measure, accuracies in asked.items() if accuracies), "newest")
        if measure != self._measure:  # scores by another one are no match for those to come; their files stay
            self._scores, self._measure = {}, measure
        self._scores[name] = float(epochs_done) if measure == "newest" else asked[measure].get(epochs_done, -1.0)

    def delete_worse(self) -> None:
        """Deletes all but the best, as many as the settings keep."""
        self._scores = checkpoint.keep_best(self._folder, self._scores, self._count)

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"kept": dict(self._scores), "kept_by": self._measure}

    def restore(self, state: dict[str, Any]) -> None:
        """Goes on from a checkpoint, as far as the files that it names are this folder's checkpoints.

        What else a checkpoint from elsewhere might name, such as ../../thesis.tex, would be deleted in its turn.
        """
        here = {file.name for file in self._folder.glob("epoch_*.pt")}
        self._scores = {name: score for name, score in state["kept"].items() if name in here}
        self._measure = state.get("kept_by", "knn" if state["accuracies"] else "loss")  # older ones do not say
