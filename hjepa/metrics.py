"""What a run writes down: one JSON object per line, and curves and pictures for TensorBoard and Weights & Biases."""

import json
import logging
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch.utils.tensorboard import SummaryWriter

from hjepa.configs.schema import Settings
from hjepa.run_folder import make_folder, set_log_aside
from hjepa.wandb_run import WandbRun

log = logging.getLogger("hjepa")


class Metrics:
    """Appends to the file of lines and, if asked, to TensorBoard's event files beside it and to Weights & Biases.

    Once a run is under way, a disk that is full or away for a while does not end it: lines wait until they can be written,
    TensorBoard's curves end there, and a warning says so.

    resume: the checkpoint that a run goes on from. What was written of later steps goes: they are made again. A new run shows
    nothing of one that ended in this folder before its first checkpoint.
    """

    def __init__(self, settings: Settings, resume: dict[str, Any] | None = None) -> None:
        folder = settings.log_folder
        make_folder(folder)
        self._wandb = WandbRun(settings, goes_on=resume is not None) if settings.logging.wandb.enabled else None
        if resume is None:
            set_log_aside(settings)
        elif settings.metrics_file.exists():
            _drop_later(settings.metrics_file, resume["step"], evaluates_again=_is_to_evaluate(resume))
        self._file, self._waiting, self._is_kept_waiting = settings.metrics_file, b"", False
        open(self._file, "ab").close()  # where it cannot be made, a run should not begin
        # of the step itself nothing but an evaluation is made again, and before the first step there is nothing else
        purged = resume["step"] + 1 if resume is not None and resume["step"] else 0
        self._writer = SummaryWriter(str(folder), purge_step=purged) if settings.logging.tensorboard.enabled else None

    def record(self, kind: str, step: int, values: dict[str, float | int]) -> None:
        """Writes one line, and each value as a point of the curve kind/name."""
        line: dict[str, Any] = {"kind": kind, "step": step, "time": round(time.time(), 3), **values}
        self._waiting += json.dumps(line).encode() + b"\n"
        self._write()
        curves = {f"{kind}/{name}": value for name, value in values.items()}
        if self._writer is not None:
            try:
                for name, value in curves.items():
                    self._writer.add_scalar(name, value, step)
            except OSError as error:  # of its thread, which has ended
                self._end_curves(error)
        if self._wandb is not None:
            self._wandb.record(step, curves)

    def picture(self, name: str, step: int, path: Path) -> None:
        """Shows the picture in a file under that name."""
        if self._writer is not None:
            with Image.open(path) as picture:
                pixels = np.asarray(picture.convert("RGB"))
            try:
                self._writer.add_image(name, pixels, step, dataformats="HWC")
            except OSError as error:
                self._end_curves(error)
        if self._wandb is not None:
            self._wandb.picture(step, name, path)

    def close(self) -> None:
        """Ends all of them."""
        self._write()
        if self._waiting:
            log.warning("the last lines of the log %s, %d, could not be written", self._file, self._waiting.count(b"\n"))
        if self._writer is not None:
            try:
                self._writer.close()
            except OSError as error:
                self._end_curves(error)
        if self._wandb is not None:
            self._wandb.close()

    def _write(self) -> None:
        """Appends the lines that wait. The file is opened each time: a handle may be stale when a network's disk is back."""
        try:
            with open(self._file, "ab", buffering=0) as file:
                while self._waiting:  # of the last one on a full disk only a part may be written
                    self._waiting = self._waiting[file.write(self._waiting) :]
            self._is_kept_waiting = False
        except OSError as error:
            if not self._is_kept_waiting:
                log.warning("cannot write the log %s (%s); its lines wait until it can be", self._file, error.strerror or error)
            self._is_kept_waiting = True

    def _end_curves(self, error: OSError) -> None:
        log.warning("TensorBoard's curves end here, as they cannot be written: %s", error.strerror or error)
        if self._writer is not None:
            with suppress(OSError):  # the same one again
                self._writer.close()
        self._writer = None


def _is_to_evaluate(resume: dict[str, Any]) -> bool:
    """Whether the evaluation at the step of a checkpoint is still to come: after an epoch, or of a model without any step."""
    return bool(resume.get("unended")) or resume["first_loss"] is None


def _drop_later(file: Path, step: int, *, evaluates_again: bool) -> None:
    """Cuts the lines of later steps off the end of a file, and the half line that a killed run may have left there.

    The evaluation at the step goes, too, where it is made again, because no checkpoint knows of it.
    Lines before them stay, whatever their steps: on other ranks an epoch has others.
    """
    lines = file.read_bytes().splitlines(keepends=True)
    while lines and (not lines[-1].endswith(b"\n") or _is_later(lines[-1], step, evaluates_again)):
        lines.pop()
    partial = file.with_name(f".{file.name}.partial")  # so that a crash leaves the one or the other
    partial.write_bytes(b"".join(lines))
    os.replace(partial, file)


def _is_later(line: bytes, step: int, evaluates_again: bool) -> bool:
    """Whether a line of the log comes after the step; what is no line of it does not."""
    try:
        record = json.loads(line)
        return int(record["step"]) > step or (evaluates_again and (record["step"], record["kind"]) == (step, "evaluation"))
    except (ValueError, KeyError, TypeError):
        return False
