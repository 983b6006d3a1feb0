"""The stages in order, from a place in the run onwards: sampler, source, draws, backend, batch; bad images are replaced.

Requests are made on the backend's background thread, ahead of the batches that are taken.
"""

import atexit
import os
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from hjepa.kernels import chance
from hjepa.pipeline.backend import Backend, BadBatchError, Crops, Request
from hjepa.pipeline.batch import Batch
from hjepa.pipeline.draws import draw
from hjepa.pipeline.quarantine import BadImageError, Quarantine
from hjepa.pipeline.recipe import Recipe
from hjepa.pipeline.sampler import Sampler
from hjepa.pipeline.source import Samples, Source, content_of, upright_sizes

ENDED = "this iteration was ended by a newer one, or by close(); a Loader has one iteration at a time"
LONGEST_BATCH = 30.0
"""Seconds that the end of the interpreter waits for another thread's batch."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stages:
    """What batches are made with."""

    source: Source
    sampler: Sampler
    recipe: Recipe
    backend: Backend
    quarantine: Quarantine | None
    """None: a bad image ends the run."""
    device: torch.device


@dataclass(frozen=True, kw_only=True, slots=True)
class _Flight:
    """A batch that is being made."""

    request: Request
    indices: npt.NDArray[np.int64]
    samples: Samples


class Stream:
    """Batches from (epoch, number) onwards, across the ends of epochs, so that none of them costs a refill; up to an epoch."""

    def __init__(self, stages: Stages, epoch: int, number: int, end: int | None) -> None:
        self.next = (epoch, number)
        self.process = os.getpid()
        self._closed = False
        self.end = end
        """The first epoch that is not made; None: there is no end."""
        self._stages = stages
        self._flying: deque[_Flight] = deque()
        self._failure: Exception | None = None
        """Why no further request could be made."""
        self._crops = self._render()
        self._using = threading.Lock()
        """Held where `_crops` runs: a generator that another thread is in can be neither advanced nor closed."""
        # A thread that meets the end of the interpreter inside of a native library aborts the process, or hangs it.
        atexit.register(self._close_at_exit)

    @property
    def closed(self) -> bool:
        """Whether it makes nothing any more."""
        return self._closed

    @property
    def ended(self) -> bool:
        """Whether there is no batch left, because reading ahead was to end here."""
        return self.end is not None and self.next[0] >= self.end

    def take(self) -> Batch:
        """The next batch. Raises BadImageError, or TooManyBadImagesError where too many had to be replaced."""
        with self._using:
            crops = self._take_crops()
            flight = self._flying.popleft()
            (epoch, number), sampler = self.next, self._stages.sampler
            self.next = (epoch, number + 1) if number + 1 < len(sampler) else (epoch + 1, 0)
            batch = Batch(
                crops=crops,
                # copied, because a source may give its own array, and the consumer may write on its batch
                labels=torch.from_numpy(flight.samples.labels.copy()).to(self._stages.device, non_blocking=True),
                indices=torch.from_numpy(flight.indices),
                keys=flight.samples.keys,
                draws=flight.request.draws,
                step_key=chance.key(sampler.seed, epoch, number),
            )
        if self._closed:  # meanwhile, by a thread that then left the rest to this one
            self.close()
        return batch

    def restart(self, stages: Stages) -> None:
        """Goes on from the same place with other stages; what is in flight is dropped."""
        with self._using:
            self._end_backend()
            self._stages = stages
            self._flying.clear()
            self._crops = self._render()

    def close(self) -> None:
        """Ends the backend's work; while another thread is in `take`, by giving it no further request."""
        self._closed = True
        if self.process != os.getpid():  # a forked process has none of the threads
            return
        if self._using.acquire(blocking=False):
            try:
                self._end_backend()
                atexit.unregister(self._close_at_exit)
            finally:
                self._using.release()

    def _end_backend(self) -> None:
        self._crops.close()  # type: ignore[attr-defined]  # render is a generator: closing it ends the backend's work
        self._stages.backend.close()

    def _close_at_exit(self) -> None:
        self._closed = True
        if self.process == os.getpid() and self._using.acquire(timeout=LONGEST_BATCH):  # a thread may still be in `take`
            self._using.release()
            self.close()

    def _render(self) -> Iterator[Crops]:
        self._failure = None
        return self._stages.backend.render(self._requests(*self.next))

    def _take_crops(self) -> Crops:
        while True:
            try:
                crops = next(self._crops, None)
            except BadBatchError as error:
                if self._closed:  # files may be gone by now
                    raise ValueError(ENDED) from None
                for (number, place), reason in error.reasons.items():
                    flight = self._flying[number]
                    path, lasting = _place_of(flight.samples, place), _can_be_read(flight.samples, place)
                    self._exclude(flight.indices[place], path, reason, lasting=lasting)
                self._flying.clear()
                self._crops = self._render()  # from the batch that failed: all before it have been taken
                continue
            if crops is None:
                failure, self._failure = self._failure, None
                try:
                    raise failure or ValueError(ENDED)
                finally:
                    del failure  # else it holds this frame, which holds it
            return crops

    def _requests(self, epoch: int, number: int) -> Iterator[Request]:
        """What is to be made, ahead of what is taken; an error ends it, and is raised once all before it is taken."""
        try:
            yield from self._make_requests(epoch, number)
        except Exception as error:
            self._failure = error

    def _make_requests(self, epoch: int, number: int) -> Iterator[Request]:
        stages = self._stages
        sampler, recipe = stages.sampler, stages.recipe
        while self.end is None or epoch < self.end:
            for chosen in sampler.batches(epoch, number):
                if self._closed:
                    return
                indices, samples = self._fetch(chosen.indices)
                sizes = upright_sizes(samples, recipe.orientation)
                # Keyed by the number that was to come, so that an image that stands in for another is cropped anew.
                draws = draw(recipe, sampler.seed, chosen.passes, chosen.indices, sizes)
                request = Request(encoded=samples.encoded, sizes=sizes, draws=draws)
                self._flying.append(_Flight(request=request, indices=indices, samples=samples))
                yield request
            epoch, number = epoch + 1, 0

    def _fetch(self, wanted: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], Samples]:
        """The images with these numbers, or others in place of the bad ones: their numbers, and what the source gives."""
        while True:
            indices = wanted if self._stages.quarantine is None else self._stages.quarantine.replace(wanted)
            samples = self._stages.source.fetch(indices)
            if len(samples.keys) != len(indices):  # of a user's own source
                raise ValueError(
                    f"fetch gave {len(samples.keys)} images for {len(indices)} numbers; give one for each, in order"
                )
            if not samples.failures:
                return indices, samples
            if self._closed:  # files may be gone by now
                raise ValueError(ENDED)
            for place, reason in samples.failures.items():
                self._exclude(indices[place], _place_of(samples, place), reason, lasting=False)

    def _exclude(self, index: np.int64, path: str, reason: str, *, lasting: bool) -> None:
        if self._stages.quarantine is None:
            raise BadImageError(path, reason)
        self._stages.quarantine.add(int(index), path, reason, lasting=lasting)


def _can_be_read(samples: Samples, place: int) -> bool:
    """Whether a bad image's content can be read, so that it is the image that is bad, now and later, and not the disk."""
    try:
        content_of(samples.encoded, place)
    except OSError:
        return False
    return True


def _place_of(samples: Samples, place: int) -> str:
    """The path of a file, or the key of what is none."""
    return samples.keys[place] if isinstance(samples.encoded, list) else os.fsdecode(samples.encoded[place])
