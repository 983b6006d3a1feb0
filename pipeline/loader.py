"""The loader: sampler, draws and backend in order, with N batches in flight.

Its whole state is (seed, epoch, position), because every decision is a function of those; so it resumes anywhere, bitwise.
"""

import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import torch

from hjepa.pipeline.backend import BackendSettings, Crops, Request, open_backend
from hjepa.pipeline.batch import Batch
from hjepa.pipeline.draws import draw
from hjepa.pipeline.recipe import Recipe, preset
from hjepa.pipeline.sampler import Sampler
from hjepa.pipeline.source import Source, open_folder


class Loader:
    """Iterates batches of crops, one epoch at a time; use it as a context manager, or call close().

    data: a folder of images, or a Source. recipe: a name ("hjepa", "dino", "eval") or a Recipe. batch_size: images per rank.
    device: "auto" is the GPU where there is one. num_workers: threads of DALI or processes of torchvision (which, as with
    any DataLoader, want the script to have a main guard); "auto" is one per core. prefetch: batches in flight. pin_memory:
    page-locked memory for what torchvision makes for a GPU. dtype: float32, float16 or bfloat16. tail: what becomes of images
    that fill no batch: "drop", "wrap" or "keep". epochs: reading ahead ends after this many; None reads ahead for ever. rank,
    world_size: "auto" asks torch.distributed. Neither batch_size, num_workers, prefetch nor ranks change a sample's pixels.

    Raises ValueError for a setting that cannot work, BadImageError (while iterating) for an image that does not decode.
    """

    def __init__(
        self,
        data: str | Path | Source,
        recipe: str | Recipe = "hjepa",
        *,
        batch_size: int,
        backend: Literal["dali", "torchvision"] = "dali",
        device: str | torch.device = "auto",
        seed: int = 0,
        shuffle: bool = True,
        tail: Literal["drop", "wrap", "keep"] = "drop",
        num_workers: int | Literal["auto"] = "auto",
        prefetch: int = 2,
        pin_memory: bool = True,
        dtype: torch.dtype = torch.float32,
        epochs: int | None = None,
        rank: int | Literal["auto"] = "auto",
        world_size: int | Literal["auto"] = "auto",
    ) -> None:
        self.recipe = preset(recipe) if isinstance(recipe, str) else recipe
        self.source = data if isinstance(data, Source) else open_folder(data)
        self.device = resolve_device(device)
        self.epochs = epochs
        distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        self.sampler = Sampler(
            num_samples=len(self.source),
            batch_size=batch_size,
            seed=seed,
            shuffle=shuffle,
            tail=tail,
            rank=(torch.distributed.get_rank() if distributed else 0) if rank == "auto" else rank,
            world_size=(torch.distributed.get_world_size() if distributed else 1) if world_size == "auto" else world_size,
        )
        settings = BackendSettings(
            recipe=self.recipe,
            batch_size=batch_size,
            device=self.device,
            num_workers=_num_workers(num_workers, backend),
            prefetch=_checked(prefetch, "prefetch", "batches in flight"),
            pin_memory=pin_memory,
            dtype=_checked_dtype(dtype),
        )
        self._backend = open_backend(backend, settings)
        self._stream: _Stream | None = None
        self._epoch = 0
        self._position = 0  # batches of the epoch that were handed out
        self._resumed = False
        self._closed = False
        self.wait_seconds = 0.0
        """How long the consumer waited for the latest batch."""

    def __len__(self) -> int:
        """Batches per epoch on this rank."""
        return len(self.sampler)

    @property
    def epoch(self) -> int:
        """The epoch that is being iterated, or that comes next."""
        return self._epoch

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch of the next iteration. Without it epochs follow each other. A resumed position is kept."""
        if epoch != self._epoch:
            self._epoch, self._position, self._resumed = epoch, 0, False

    def __iter__(self) -> Iterator[Batch]:
        """The batches of the current epoch, from its start, or once from where a loaded state stands."""
        if self._closed:
            raise ValueError("this Loader is closed; make a new one")
        if not self._resumed:
            self._position = 0
        self._resumed = False
        epoch, first = self._epoch, self._position
        if self._stream is None or self._stream.ended or self._stream.next != (epoch, first):
            self._restart(epoch, first)
        stream = self._stream
        assert stream is not None
        for number in range(first, len(self)):
            start = time.perf_counter()
            try:
                batch = stream.take()
            except BaseException:
                if self._stream is stream:  # its backend ended with the error; the next iteration starts another
                    self._stream = None
                stream.close()
                raise
            self.wait_seconds = time.perf_counter() - start
            last = number + 1 == len(self)
            self._epoch, self._position = (epoch + 1, 0) if last else (epoch, number + 1)
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """Where the loader stands: small, JSON-able, and valid for any number of ranks, workers and any backend."""
        return {
            "version": 1,
            "seed": self.sampler.seed,
            "epoch": self._epoch,
            "position": self._position * self.sampler.global_batch_size,
            "shuffle": self.sampler.shuffle,
            "source": self.source.fingerprint(),
            "recipe": _plain(self.recipe.to_dict()),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues from a state. Raises ValueError where it belongs to other images, another recipe, seed or order."""
        own = self.state_dict()
        for name in ("version", "seed", "shuffle", "source"):
            if state[name] != own[name]:
                raise ValueError(
                    f"the state was saved with {name}={state[name]!r}, this Loader has {own[name]!r}; use the same"
                )
        if _plain(state["recipe"]) != own["recipe"]:
            changed = [name for name in own["recipe"] if own["recipe"][name] != _plain(state["recipe"]).get(name)]
            raise ValueError(f"the state was saved with another recipe ({', '.join(changed)} differ); use the same recipe")
        batches, rest = divmod(state["position"], self.sampler.global_batch_size)
        if rest:
            raise ValueError(
                f"the state stands at image {state['position']}, which no batch of {self.sampler.global_batch_size} images "
                "(over all ranks) ends at; use the global batch size it was saved with"
            )
        self._epoch, self._position, self._resumed = state["epoch"], batches, True

    def close(self) -> None:
        """Stops the work in flight. Batches that were handed out stay valid."""
        self._closed = True
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def __enter__(self) -> "Loader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _restart(self, epoch: int, first: int) -> None:
        if self._stream is not None:
            self._stream.close()
        self._stream = _Stream(self, self._backend.render, epoch, first)


class _Stream:
    """Batches from (epoch, number) onwards, across the ends of epochs, so that none of them costs a refill."""

    def __init__(self, loader: Loader, render: Callable[[Iterator[Request]], Iterator[Crops]], epoch: int, number: int) -> None:
        self.next = (epoch, number)
        self._end = None if loader.epochs is None else max(loader.epochs, epoch + 1)
        self._loader = loader
        self._flying: deque[Request] = deque()
        self._crops = render(self._requests(epoch, number))

    @property
    def ended(self) -> bool:
        """Whether there is no batch left, because reading ahead was to end here."""
        return self._end is not None and self.next[0] >= self._end

    def take(self) -> Batch:
        crops = next(self._crops, None)
        if crops is None:
            raise ValueError("this iteration was ended by a newer one, or by close(); a Loader has one iteration at a time")
        request = self._flying.popleft()
        epoch, number = self.next
        self.next = (epoch, number + 1) if number + 1 < len(self._loader) else (epoch + 1, 0)
        source, indices = self._loader.source, request.draws.indices
        return Batch(
            crops=crops,
            labels=torch.from_numpy(source.labels[indices]).to(self._loader.device, non_blocking=True),
            indices=torch.from_numpy(indices),
            keys=tuple(os.fsdecode(path) for path in source.paths[indices].tolist()),
            draws=request.draws,
        )

    def close(self) -> None:
        self._crops.close()  # type: ignore[attr-defined]  # render is a generator: closing it ends the backend's work

    def _requests(self, epoch: int, number: int) -> Iterator[Request]:
        """Runs in the background, ahead of `take`."""
        loader = self._loader
        source, recipe, sampler = loader.source, loader.recipe, loader.sampler
        while self._end is None or epoch < self._end:
            for batch in range(number, len(sampler)):
                indices = sampler.batch(epoch, batch)
                sizes = source.sizes(indices, recipe.orientation)
                drawn = draw(recipe, sampler.seed, epoch, indices, sizes)
                request = Request(paths=source.absolute_paths(indices), draws=drawn)
                self._flying.append(request)
                yield request
            epoch, number = epoch + 1, 0


def resolve_device(device: str | torch.device) -> torch.device:
    """The device of that name; "auto" is the GPU where there is one. Raises ValueError for a GPU that is not there."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        resolved = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"device={device!r} is unknown; use 'auto', 'cpu', 'cuda' or 'cuda:N'") from error
    if resolved.type not in ("cpu", "cuda"):
        raise ValueError(f"device={device!r} is not supported; use 'auto', 'cpu', 'cuda' or 'cuda:N'")
    if resolved.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device={str(device)!r}, but torch finds no GPU here; use device='cpu' or 'auto'")
    if resolved.type == "cuda" and (resolved.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device={str(device)!r}, but there are only {torch.cuda.device_count()} GPUs, counted from 0")
    # The number is spelt out, because DALI takes "no number" for GPU 0, and torch for the current one.
    return torch.device("cuda", torch.cuda.current_device()) if resolved == torch.device("cuda") else resolved


def _num_workers(num_workers: int | Literal["auto"], backend: str) -> int:
    if num_workers == "auto":
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if num_workers == 0 and backend == "torchvision":
        return 0  # a thread of this process
    return _checked(num_workers, "num_workers", "threads or processes")


def _checked(value: int, name: str, unit: str) -> int:
    if value < 1:
        raise ValueError(f"{name}={value} is not a number of {unit}; use 1 or more")
    return value


def _checked_dtype(dtype: torch.dtype) -> torch.dtype:
    if dtype not in (torch.float32, torch.float16, torch.bfloat16):
        raise ValueError(f"dtype={dtype} is not supported; use torch.float32, torch.float16 or torch.bfloat16")
    return dtype


def _plain(value: Any) -> Any:
    """The value as JSON gives it back: tuples become lists."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
