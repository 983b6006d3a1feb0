"""The loader: sampler, source, draws and backend in order, with N batches in flight.

Its whole state is (seed, epoch, position), because every decision is a function of those; so it resumes anywhere, bitwise.
"""

import _thread
import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch.utils.data import IterableDataset, get_worker_info

from hjepa.pipeline import state
from hjepa.pipeline.adapters import Adapter, open_adapter
from hjepa.pipeline.backend import BackendName, BackendSettings, Engine, engine_of, open_backend
from hjepa.pipeline.batch import Batch
from hjepa.pipeline.curriculum import Curriculum, as_plan, recipe_at
from hjepa.pipeline.device import Decoder, require_rank, resolve_decoder, resolve_device, resolve_rank, resolve_workers
from hjepa.pipeline.mixture import mixture_of
from hjepa.pipeline.open_source import open_source
from hjepa.pipeline.quarantine import open_quarantine
from hjepa.pipeline.recipe import Recipe, whole
from hjepa.pipeline.sampler import Sampler
from hjepa.pipeline.stream import Stages, Stream


class Loader(IterableDataset[Any]):
    """Iterates batches of crops, one epoch at a time; use it as a context manager, or call close().

    data: whatever open_source takes: a folder, tar shards, a CSV or parquet file, a list, a data set, a Source (a Mixture of
    several among them). recipe: a name of `preset`, a Recipe, or a Curriculum, whose recipe of an epoch is taken when the epoch
    begins. backend: "dali" is the fastest engine here that decodes with DALI; "fused", "dali-ops" and "torchvision" ask for one
    by name (see `engine`). batch_size: images per rank. device: "auto" is the GPU where there is one. seed: of the order and of
    every draw. shuffle: True, False, or "blocks", in which reads go forward. tail: what becomes of images that fill no batch:
    "drop", "wrap" or "keep". num_workers: threads of DALI (and as many of the fused kernel) or processes of torchvision (which,
    as with any DataLoader, want the script to have a main guard); "auto" is one per core that is granted. prefetch: batches
    that are ready ahead of the consumer, and as many again in the making. pin_memory: page-locked memory for what torchvision
    makes for a GPU. dtype: float32, float16 or bfloat16. decoder: where images for a GPU are decoded: "gpu", "cpu" (fused's
    crops are then a CPU's, bit for bit), or "auto": the GPU if it has several JPEG engines. hw_decoder_load: their share of the
    JPEGs. epochs: reading ahead ends after this many; None reads ahead for ever. rank, world_size: "auto" asks
    torch.distributed, which must be set up first where there are several ranks. Neither batch_size, num_workers, prefetch nor
    ranks change a sample's pixels, unless hw_decoder_load is between 0 and 1: then two decoders round in two ways.

    on_error: an image that cannot be read or decoded is replaced by another of the source ("replace"), always the same one,
    or ends the iteration ("raise"). bad_images: file of JSON lines that replaced images are written to, and read from at the
    start; by default in hjepa's cache folder, one file per source. max_bad: share of the images that may be bad.

    adapter: gives each batch as another trainer reads it: a name of `adapters.ADAPTERS`, such as "dinov2", an Adapter, or a
    function of a Batch.

    It is torch's IterableDataset of whole batches: a DataLoader around it, where a framework wants one, needs batch_size=None.
    It keeps torchdata's Stateful protocol, so StatefulDataLoader(loader, batch_size=None), Lightning and Accelerate save and
    restore it; it goes to the device by itself.

    Raises ValueError for a setting that cannot work; while iterating BadImageError, or with "replace" TooManyBadImagesError.
    """

    batch_sampler = None
    """As of a DataLoader without one: Lightning asks where there is a sampler."""

    def __init__(
        self,
        data: Any,
        recipe: str | Recipe | Curriculum = "hjepa",
        *,
        batch_size: int,
        backend: BackendName = "dali",
        device: str | torch.device = "auto",
        seed: int = 0,
        shuffle: bool | Literal["blocks"] = True,
        tail: Literal["drop", "wrap", "keep"] = "drop",
        num_workers: int | Literal["auto"] = "auto",
        prefetch: int = 2,
        pin_memory: bool = True,
        dtype: torch.dtype = torch.float32,
        decoder: Decoder = "auto",
        hw_decoder_load: float = 1.0,
        epochs: int | None = None,
        on_error: Literal["replace", "raise"] = "replace",
        max_bad: float = 0.01,
        bad_images: str | Path | None = None,
        adapter: str | Adapter | Callable[[Batch], Any] | None = None,
        rank: int | Literal["auto"] = "auto",
        world_size: int | Literal["auto"] = "auto",
    ) -> None:
        self._plan = as_plan(recipe)
        self.source = open_source(data)
        self.source.fingerprint()  # now, not while another thread fetches: a data set need not be thread-safe
        self.device = resolve_device(device)
        self.epochs = None if epochs is None else whole("epochs", epochs, 0)
        self._ranks, (own_rank, num_ranks) = (rank, world_size), resolve_rank(rank, world_size)
        mixture = mixture_of(self.source, shuffle)
        self._sampler = Sampler(
            num_samples=len(self.source) if mixture is None else mixture.epoch_length,
            batch_size=whole("batch_size", batch_size, 1),
            seed=whole("seed", seed, 0),
            shuffle=shuffle,
            mixture=None if mixture is None else mixture.order(seed),
            tail=tail,
            rank=own_rank,
            world_size=num_ranks,
        )
        self._backend_name = backend
        self._settings = BackendSettings(
            recipe=recipe_at(self._plan, 0),
            batch_size=batch_size,
            device=self.device,
            num_workers=resolve_workers(num_workers, backend),
            prefetch=whole("prefetch", prefetch, 1),
            pin_memory=pin_memory,
            dtype=dtype,
            decoder=resolve_decoder(decoder, hw_decoder_load, self.device, backend),
            hw_decoder_load=hw_decoder_load,
        )
        open_backend(backend, self._settings)  # what is missing is said now, not in the first batch
        self.quarantine = open_quarantine(self.source, on_error, max_bad, bad_images, is_first=own_rank == 0)
        self._adapter = self._open_adapter(adapter)
        self._stream: Stream | None = None
        self._epoch = 0
        self._position = 0  # batches of the epoch that were handed out
        self._resumed = False
        self._iteration: object = None  # the one that moves the place on; set_epoch and load_state_dict take that from it
        self._iterated: tuple[int, int] | None = None  # its epoch and next batch, while its body runs
        self._closed = False
        self.wait_seconds = 0.0
        """How long the consumer waited for the latest batch."""

    def __len__(self) -> int:
        """Batches per epoch on this rank."""
        return len(self._sampler)

    @property
    def sampler(self) -> "Loader":
        """Itself: Lightning and DINO call `loader.sampler.set_epoch`."""
        return self

    @property
    def engine(self) -> Engine:
        """Who makes the crops: "fused" (hjepa's kernel on what DALI decoded), "dali-ops" (DALI's operators), "torchvision"."""
        return engine_of(self._backend_name, self.device)

    @property
    def recipe(self) -> Recipe:
        """The recipe of the epoch that is being iterated, or that comes next."""
        return recipe_at(self._plan, self.epoch)

    @property
    def epoch(self) -> int:
        """The epoch that is being iterated, or that comes next."""
        return self._epoch if self._iterated is None else self._iterated[0]

    @property
    def remaining(self) -> int:
        """How many batches of `epoch` are to come, once those that were taken are done."""
        return len(self) - (self._position if self._iterated is None else self._iterated[1])

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch of the next iteration, which takes it from its start; a place that was loaded in it is kept.

        Without it every iteration takes the next epoch, whether the one before was finished or broken off.
        """
        epoch = whole("epoch", epoch, 0)
        if epoch != self._epoch or not self._resumed:
            self._epoch, self._position, self._resumed, self._iteration = epoch, 0, False, None

    def set_weights(self, weights: Sequence[float]) -> None:
        """Other weights for the sources of a Mixture, from the next period of its order on (mixture.PERIOD images or more)."""
        if self._sampler.mixture is None:
            raise ValueError("set_weights is for a Mixture, and this Loader reads a single source")
        position = self._epoch * self._sampler.num_samples + self._position * self._sampler.global_batch_size
        self._sampler = replace(self._sampler, mixture=self._sampler.mixture.reweighted(position, weights))
        if self._stream is not None:
            self._stream.restart(self._stages(self._stream.next[0]))  # what is in flight was chosen by the old weights

    def __iter__(self) -> Iterator[Any]:
        """The batches of the next epoch, or once the rest of the one in which a loaded state stands.

        They are of type Batch, or what the adapter makes of one.
        """
        self._check_process()
        if self._position and not self._resumed:  # the epoch before was broken off
            self._epoch, self._position = self._epoch + 1, 0
        self._resumed = False
        epoch, first = self._epoch, self._position
        stream, iteration = self._stream, object()
        if stream is None or stream.ended or stream.next != (epoch, first):
            if stream is not None:
                stream.close()
            self._stream = stream = Stream(self._stages(epoch), epoch, first, self._end_of_reading(epoch))
            if self._closed:  # meanwhile, by another thread
                stream.close()
        self._iteration = iteration
        for number in range(first, len(self)):
            batch = self._take(stream)
            adapted = batch if self._adapter is None else self._adapter(batch)
            if self._iteration is iteration:
                self._epoch, self._position = (epoch, number + 1) if number + 1 < len(self) else (epoch + 1, 0)
            self._iterated = body = (epoch, number + 1)
            try:
                yield adapted
            finally:
                if self._iterated is body:  # and not that of a newer iteration
                    self._iterated = None

    def state_dict(self) -> dict[str, Any]:
        """Where the loader stands: small, JSON-able, and valid for any number of ranks, workers and any backend.

        Of an epoch that was broken off it is the rest, though this loader itself would go on with the next epoch.
        """
        return state.save(self._sampler, self.source, self._plan, self._epoch, self._position)

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Continues from a state. Raises ValueError where it belongs to other images, another recipe, seed or order."""
        place = state.load(saved, self._sampler, self.source, self._plan)
        self._sampler, self._epoch, self._position = place.sampler, place.epoch, place.number
        self._resumed, self._iteration = True, None
        if self._stream is not None:  # it may stand at the same place, and come from another order
            self._stream.close()
            self._stream = None

    def close(self) -> None:
        """Stops the work in flight. Batches that were handed out stay valid."""
        self._closed = True
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    def __enter__(self) -> "Loader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        stream = getattr(self, "_stream", None)
        if stream is not None and not stream.closed:  # its threads would keep it, and batches, for ever
            # Garbage is collected on any thread, which may hold what the stream's own waits for: here nothing is waited for.
            with contextlib.suppress(RuntimeError):  # as the interpreter ends: the stream closes by itself, then
                _thread.start_new_thread(stream.close, ())

    def __getstate__(self) -> dict[str, Any]:
        """For another process: the place, but no work in flight."""
        return {**self.__dict__, "_stream": None, "_iteration": None, "_iterated": None, "_resumed": self._position > 0}

    def _check_process(self) -> None:
        if self._closed:
            raise ValueError("this Loader is closed; make a new one")
        if self._stream is not None and self._stream.process != os.getpid():
            raise ValueError("this Loader was iterated before this process was forked; make it in the process that iterates it")
        require_rank(*self._ranks, made_as=(self._sampler.rank, self._sampler.world_size))
        worker = get_worker_info()
        if worker is not None:
            raise ValueError(
                f"each of the DataLoader's {worker.num_workers} workers would yield every batch, of the same epoch for ever; a "
                "Loader has its own threads: use num_workers=0 there, and num_workers=... here"
            )

    def _take(self, stream: Stream) -> Batch:
        start = time.perf_counter()
        try:
            batch = stream.take()
        except BaseException:
            if self._stream is stream:  # its backend ended with the error; the next iteration starts another
                self._stream = None
            stream.close()
            raise
        self.wait_seconds = time.perf_counter() - start
        return batch

    def _open_adapter(self, adapter: str | Adapter | Callable[[Batch], Any] | None) -> Callable[[Batch], Any] | None:
        if adapter is None:
            return None
        for epoch in range(self._plan.last + 1 if isinstance(self._plan, Curriculum) else 1):
            opened = open_adapter(adapter, recipe_at(self._plan, epoch))
        return opened

    def _stages(self, epoch: int) -> Stages:
        recipe = recipe_at(self._plan, epoch)
        return Stages(
            source=self.source,
            sampler=self._sampler,
            recipe=recipe,
            backend=open_backend(self._backend_name, replace(self._settings, recipe=recipe)),
            quarantine=self.quarantine,
            device=self.device,
        )

    def _end_of_reading(self, epoch: int) -> int | None:
        """The epoch up to which batches are made from `epoch` on without a new recipe."""
        end = None if self.epochs is None else max(self.epochs, epoch + 1)
        if not isinstance(self._plan, Curriculum):
            return end
        changes = (later for later in range(epoch + 1, self._plan.last + 1) if self._plan.at(later) != self._plan.at(epoch))
        change = next(changes, None)
        return min((limit for limit in (change, end) if limit is not None), default=None)
