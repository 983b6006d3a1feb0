"""What a run came to, in words: the rows of the table that it ends with. A row that would say nothing is left out."""

import shlex
from pathlib import Path

from hjepa.checkpoint import LATEST
from hjepa.configs.schema import Settings
from hjepa.result import Result


def result_rows(result: Result, settings: Settings, num_classes: int, total_steps: int) -> dict[str, str]:
    """What was trained, and how good it is. num_classes: of the images; 0 without labels."""
    rows = {"steps": f"{result.step} of {total_steps}"}
    if result.seconds:  # nothing was trained by a run that was done already
        rows["images/s"] = f"{result.images / result.seconds:.0f} (training)"
        rows["data wait"] = f"{result.wait_seconds / result.seconds:.1%} of the training time"
    if result.first_loss is not None and result.last_loss is not None:
        first, last = f"{result.first_loss:.4f}", f"{result.last_loss:.4f}"
        rows["loss"] = last if first == last else f"{first} at first, {last} at last"
    why_not = _why_not(settings, num_classes, is_evaluated=bool(result.rankme))
    rows["kNN accuracy"] = _figures(result.accuracies, ".1%") or f"not measured ({why_not})"
    if result.probe_accuracies:
        rows["linear probe"] = _figures(result.probe_accuracies, ".1%")
    if result.rankme:
        rows["RankMe"] = _figures(result.rankme, ".1f")
    return rows


def places(settings: Settings, result: Result, picture: Path) -> dict[str, str]:
    """Where everything lies."""
    bad = {"bad images": f"{result.bad_images} replaced, see {settings.bad_images_file}"} if result.bad_images else {}
    drawn = {"crops and masks": str(picture)} if picture.exists() else {}  # not before the first step
    return {
        **bad,
        "checkpoint": str(settings.checkpoint_folder / LATEST),
        "metrics": str(settings.metrics_file),
        "TensorBoard": f"tensorboard --logdir {shlex.quote(str(settings.log_folder))}",
        **drawn,
    }


def counted(number: int, what: str) -> str:
    """A number with its noun: 1 class, 2 classes."""
    ending = "" if number == 1 else "es" if what.endswith("s") else "s"
    return f"{number} {what}{ending}"


def _why_not(settings: Settings, num_classes: int, *, is_evaluated: bool) -> str:
    if not settings.evaluation.knn.enabled:
        return "evaluation.knn.enabled=false"
    if num_classes == 1:
        return "all images are of one class"
    if num_classes == 0:
        return "no labels"
    return "no two images have labels" if is_evaluated else "it was interrupted before"


def _figures(figures: dict[int, float], form: str) -> str:
    """The first and the last one, by the number of epochs trained; nothing where there is none."""
    if not figures:
        return ""
    before, after = min(figures), max(figures)
    if before == after:
        return f"{figures[after]:{form}} after {counted(after, 'epoch')}"
    return f"{figures[before]:{form}} after {counted(before, 'epoch')}, {figures[after]:{form}} after {after}"
