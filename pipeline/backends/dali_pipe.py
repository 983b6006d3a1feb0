"""Runs a DALI pipeline batch by batch, and goes on with it after a bad one, which then costs hardly more than its own work.

DALI's messages call a pipeline that has failed no longer valid. With the dynamic executor only the batch that failed is lost:
those behind it come out as they would have, on the CPU and on a GPU (test_dali_pipe.py and test_gpu.py hold it to that). To
open another pipeline takes seconds on a GPU. So the batch is made again, without its bad images, at the end of the queue, and
those that were ahead of it there are kept until it is their turn.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, NoReturn, TypeAlias

import numpy as np
import torch
from nvidia.dali.pipeline import Pipeline

from hjepa.pipeline.backend import BackendSettings, BadBatchError, Request
from hjepa.pipeline.backends.dali_decode import current_device, find_bad

Feed: TypeAlias = Callable[[], Any]
"""Gives the inputs of the next batch; raises StopIteration where there is none."""
MOST_KEPT = 2
"""Times prefetch: batches that are kept until their turn. Where every second batch is bad, there would be more and more."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Made:
    """A request that has been through the pipeline."""

    request: Request
    outputs: list[Any] | RuntimeError
    stream: torch.cuda.Stream | None
    """What the outputs are ready on."""


class DaliPipe:
    """A pipeline that is opened when it is needed, and kept from one bad batch to what follows it.

    build: opens it, told whether images are given as paths. inputs: what a request is fed as. check: raises BadBatchError for
    outputs that are not the request's.
    """

    def __init__(
        self,
        settings: BackendSettings,
        build: Callable[[Feed, bool], Pipeline],
        inputs: Callable[[Request], Any],
        check: Callable[[list[Any], Request], None],
    ) -> None:
        self._settings, self._build, self._inputs, self._check = settings, build, inputs, check
        self._pipe: Pipeline | None = None
        self._requests: Iterator[Request] = iter(())
        self._ended = False
        """Whether the pipeline was told that no further batch will be fed."""
        self._flying: deque[Request] = deque()
        """What the pipeline was fed with, and has not given back."""
        self._made: deque[_Made] = deque()
        """What came out of the pipeline before its turn."""
        self._awaited: Request | None = None
        """The batch that is made again after a bad one, whose turn is before all that; None: there is none."""
        self._stale = 0
        """How many of the next batches to come out are dropped, because they are not asked for any more."""
        self._failed = np.empty(0, np.uint64)
        """Keys of the images of the batch that failed last though nothing bad was found in it."""

    def run(self, requests: Iterator[Request]) -> Iterator[tuple[Request, list[Any]]]:
        """Each request, in their order, and its outputs, which are ready on the current CUDA stream.

        Raises BadBatchError, after which the pipeline is kept for the next run or until close, unless there is no more to feed:
        that it is told but once. After any other end of a run it is closed.
        """
        first = next(requests, None)
        if first is None:
            self.close()
            return
        kept = False
        try:
            self._start(first, requests)
            while (made := self._next()) is not None:
                if isinstance(made.outputs, RuntimeError):
                    self._fail(made.request, made.outputs)
                self._wait(made)
                self._check(made.outputs, made.request)
                yield made.request, made.outputs
        except BadBatchError:
            kept = not self._ended
            raise
        finally:
            if not kept:
                self.close()

    def stream(self) -> torch.cuda.Stream | None:
        """The current CUDA stream, where the device is a GPU."""
        device = self._settings.device
        return torch.cuda.current_stream(device) if device.type == "cuda" else None

    def close(self) -> None:
        """Ends the pipeline; while no run goes on."""
        self._pipe, self._requests, self._ended, self._awaited, self._stale = None, iter(()), False, None, 0
        self._flying.clear()
        self._made.clear()

    def _start(self, first: Request, requests: Iterator[Request]) -> None:
        """Opens the pipeline, or goes on with it: what is on its way and is still asked for is not made again."""
        on_the_way = [*(made.request for made in self._made), *self._flying]
        following = list(islice(requests, len(on_the_way)))
        asked_for = len(following) == len(on_the_way) and all(map(_is_same, following, on_the_way))
        if asked_for and len(self._made) <= MOST_KEPT * self._settings.prefetch:
            self._requests = chain([first], requests)
        else:  # as where the bad image was in some of them, too
            self._made.clear()
            self._stale = len(self._flying)
            self._requests = chain([first], following, requests)
        self._awaited = first
        if self._pipe is None:
            self._pipe = self._build(self._feed, not isinstance(first.encoded, list))

    def _feed(self) -> Any:
        request = next(self._requests, None)
        if request is None:
            self._ended = True
            raise StopIteration
        self._flying.append(request)
        return self._inputs(request)

    def _next(self) -> _Made | None:
        """The next one in order; None where there is none."""
        if self._awaited is None and self._made:
            return self._made.popleft()
        while (made := self._take()) is not None:
            if self._stale:
                self._stale -= 1
            elif self._awaited is None or self._awaited is made.request:
                self._awaited = None
                return made
            else:
                self._made.append(made)
        return None

    def _take(self) -> _Made | None:
        """The next one that comes out of the pipeline."""
        assert self._pipe is not None
        self._pipe.schedule_run()  # what fails in it is the feed, and no batch
        stream = self.stream()
        try:
            with current_device(self._settings):
                outputs: list[Any] | RuntimeError = list(self._pipe.outputs(stream))
        except StopIteration:
            return None
        except RuntimeError as error:
            outputs = error.with_traceback(None)  # which would hold this frame, and the frame it
        return _Made(request=self._flying.popleft(), outputs=outputs, stream=stream)

    def _fail(self, request: Request, error: RuntimeError) -> NoReturn:
        """Raises BadBatchError where images are to blame, or nothing any more, which is tried once again; else the error."""
        reasons = find_bad(deque([request, *(made.request for made in self._made), *self._flying]), self._settings, str(error))
        if not reasons:
            if np.array_equal(request.draws.keys, self._failed):
                raise RuntimeError(str(error)) from None  # a new one: the frames that this is raised in hold the old one
            self._failed = request.draws.keys
        raise BadBatchError(reasons) from error

    def _wait(self, made: _Made) -> None:
        """On the current stream, for outputs that were made ready on another."""
        stream = self.stream()
        if stream is not None and made.stream is not None and stream != made.stream:
            stream.wait_stream(made.stream)


def _is_same(one: Request, other: Request) -> bool:
    """Whether two requests of a recipe are for the same crops of the same images."""
    if not (np.array_equal(one.draws.keys, other.draws.keys) and np.array_equal(one.sizes, other.sizes)):
        return False
    return len(one.encoded) == len(other.encoded) and all(map(np.array_equal, one.encoded, other.encoded))
