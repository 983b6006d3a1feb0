"""Runs a DALI pipeline batch by batch, and goes on with it after a bad one: to open another takes 2 seconds on a GPU.

DALI's messages call a pipeline that has failed no longer valid. With the dynamic executor only the batch that failed is lost:
those behind it come out as they would have, on the CPU and on a GPU (test_dali_pipe.py and test_gpu.py hold it
to that). They were made for requests that the bad image's replacement may have changed, so they are passed over.
"""

from collections import deque
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any, TypeAlias

from nvidia.dali.pipeline import Pipeline

from hjepa.pipeline.backend import BackendSettings, BadBatchError, Request
from hjepa.pipeline.backends.dali_decode import find_bad

Feed: TypeAlias = Callable[[], Any]
"""Gives the inputs of the next batch; raises StopIteration where there is none."""


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
        self._flying: deque[Request] = deque()
        self._ended = False
        """Whether there was no further batch to feed, which a pipeline is told once."""

    def run(self, requests: Iterator[Request], stream: Callable[[], Any] = lambda: None) -> Iterator[tuple[Request, list[Any]]]:
        """Each request and its outputs; stream: gives the CUDA stream that they are to be ready on.

        Raises BadBatchError, after which the pipeline is kept for the next run, until close; else a run that ends closes it.
        """
        first = next(requests, None)
        if first is None:
            return
        self._requests = chain([first], requests)
        passed_over = len(self._flying)
        if self._pipe is None:
            self._pipe = self._build(self._feed, not isinstance(first.encoded, list))
        kept = False
        try:
            while True:
                try:
                    outputs = list(self._pipe.run(stream()))
                except StopIteration:
                    return
                except RuntimeError as error:
                    if passed_over == 0:
                        self._raise_bad(error)
                    outputs = []
                request = self._flying.popleft()
                if passed_over:
                    passed_over -= 1
                    continue
                self._check(outputs, request)
                yield request, outputs
        except BadBatchError:
            kept = not self._ended
            raise
        finally:
            if not kept:
                self.close()

    def close(self) -> None:
        """Ends the pipeline."""
        self._pipe, self._requests, self._ended = None, iter(()), False
        self._flying.clear()

    def _feed(self) -> Any:
        request = next(self._requests, None)
        if request is None:
            self._ended = True
            raise StopIteration
        self._flying.append(request)
        return self._inputs(request)

    def _raise_bad(self, error: RuntimeError) -> None:
        """BadBatchError where images are to blame, else the error."""
        reasons = find_bad(self._flying, self._settings, str(error))
        if not reasons:
            raise error
        if any(number > 0 for number, _ in reasons):  # not the batch that failed: nothing is known of the pipeline
            self.close()
        else:
            self._flying.popleft()
        raise BadBatchError(reasons) from error
