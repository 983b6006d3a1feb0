"""The engines that benchmarks compare: each turns a number of workers into an endless iterator of batches."""

from collections.abc import Callable, Generator
from dataclasses import replace
from functools import partial
from itertools import chain, count
from typing import Any

import nvidia.dali.fn as fn
import torch
from nvidia.dali.pipeline import Pipeline
from peers import DALI_PLAIN, FFCV, OTHERS, PEERS, installed
from torch.utils.data import DataLoader, RandomSampler
from torchvision.datasets import ImageFolder

from hjepa.pipeline.backend import BackendSettings, engine_of
from hjepa.pipeline.backends.dali_decode import decode, device_id, read
from hjepa.pipeline.backends.dali_inputs import Contents, contents_of
from hjepa.pipeline.device import Decoder
from hjepa.pipeline.folder import FolderSource
from hjepa.pipeline.loader import Loader
from hjepa.pipeline.recipe import Recipe
from hjepa.pipeline.sampler import Sampler

REDUCED = "fused-reduced"
"""hjepa's engine with the recipe's decoding="reduced"; it is measured where it is asked for."""
CPU_DECODED = "fused-cpu-decoded"
"""hjepa's engine on a GPU for which the CPU decodes; it is measured where it is asked for."""
HJEPA, DECODE = ("fused", "dali-ops", REDUCED, CPU_DECODED), "decode"
ENGINES = (*HJEPA, *OTHERS, DECODE)
ENDLESS = 1 << 40
"""Images of an epoch that does not end while anybody looks."""
Batches = Callable[[int], Generator[Any, None, None]]
"""Number of workers -> an endless iterator of batches."""


def available(device: torch.device) -> list[str]:
    """The engines that can run here, for this device."""
    has_kernel = engine_of("dali", device) == "fused"
    own = [name for name in HJEPA if name == "dali-ops" or has_kernel]
    return [*own, *filter(installed, OTHERS), DECODE]


def setup_of(name: str, recipe: Recipe, device: torch.device, hw_decoder_load: float) -> tuple[Recipe, dict[str, Any]]:
    """The recipe that one of hjepa's engines is given, and what its Loader is told of backend and decoder."""
    if name == REDUCED:
        recipe = replace(recipe, decoding="reduced")
    decoder: Decoder = "auto"
    if name == CPU_DECODED:
        decoder, hw_decoder_load = "cpu", 1.0  # a Loader refuses another share with it
    elif device.type == "cuda" and hw_decoder_load == 0:
        decoder = "gpu"  # without its engines, as `decode` is then; "auto" would be the CPU
    backend = "fused" if name in (REDUCED, CPU_DECODED) else name
    return recipe, {"backend": backend, "decoder": decoder, "hw_decoder_load": hw_decoder_load}


def engine(
    name: str, source: FolderSource, recipe: Recipe, batch_size: int, device: torch.device, hw_decoder_load: float = 1.0
) -> Batches:
    """The engine of that name. Raises ValueError where it cannot do the recipe."""
    if name in HJEPA:
        recipe, how = setup_of(name, recipe, device, hw_decoder_load)
        return lambda workers: loader_batches(source, recipe, batch_size, device, workers, how)
    if name == DECODE:
        return lambda workers: decoded_batches(source, recipe, batch_size, device, workers, hw_decoder_load)
    if name in (FFCV, DALI_PLAIN):
        return partial(loader_of(name, source, recipe, batch_size).batches, device)
    crops = PEERS[name][1](recipe)
    peer = spdl_batches if name == "spdl" else peer_batches
    return lambda workers: peer(source, crops, batch_size, device, workers)


def loader_of(name: str, source: FolderSource, recipe: Recipe, batch_size: int) -> Any:
    """FFCV's or DALI's own loader, with `batches` and `crops`. Raises ValueError where it cannot do the recipe."""
    if name == DALI_PLAIN:
        from dali_plain import DaliPlain

        return DaliPlain(source, recipe, batch_size)
    from ffcv_loader import FfcvLoader

    return FfcvLoader(source, recipe, batch_size)


def loader_batches(
    source: FolderSource,
    recipe: Recipe,
    batch_size: int,
    device: torch.device,
    workers: int,
    how: dict[str, Any],
) -> Generator[Any, None, None]:
    """hjepa's loader, for ever."""
    with Loader(source, recipe, batch_size=batch_size, device=device, num_workers=workers, **how) as loader:
        while True:
            for batch in loader:
                yield batch.views()


def decoded_batches(
    source: FolderSource, recipe: Recipe, batch_size: int, device: torch.device, workers: int, hw_decoder_load: float
) -> Generator[Any, None, None]:
    """`decoding_pipeline` on the same device, for ever."""
    settings = BackendSettings(
        recipe=recipe,
        batch_size=batch_size,
        device=device,
        num_workers=workers,
        prefetch=2,
        pin_memory=False,
        dtype=torch.float32,
        decoder="gpu" if device.type == "cuda" else "cpu",  # as DALI's users have it
        hw_decoder_load=hw_decoder_load,
    )
    pipe = decoding_pipeline(source, settings)
    while True:
        yield pipe.run()


def decoding_pipeline(
    source: FolderSource, how: BackendSettings, build: Callable[[Pipeline], None] = Pipeline.build
) -> Pipeline:
    """DALI that reads and decodes the files in the loader's order, and does no more."""
    sampler = Sampler(num_samples=len(source), batch_size=how.batch_size)
    batches = chain.from_iterable(sampler.batches(epoch, 0) for epoch in count())

    def feed() -> Contents:
        return contents_of(source.fetch(next(batches).indices).encoded)

    options = {"num_threads": how.num_workers, "device_id": device_id(how), "prefetch_queue_depth": 2, "exec_dynamic": True}
    pipe = Pipeline(batch_size=how.batch_size, **options)
    with pipe:
        pipe.set_outputs(decode(read(fn.external_source(source=feed, batch=True), from_files=True), how))
    build(pipe)
    return pipe


def peer_batches(
    source: FolderSource, crops: Callable[[str], list[torch.Tensor]], batch_size: int, device: torch.device, workers: int
) -> Generator[Any, None, None]:
    """What users of most libraries write: a folder per class, a transform, a DataLoader; crops are moved to the device.

    One epoch without end, because a DataLoader's workers idle while it begins another: here that would be every few seconds.
    """
    images = ImageFolder(str(source.root), crops, loader=str)
    loader = DataLoader(
        images,
        batch_size=batch_size,
        sampler=RandomSampler(images, num_samples=ENDLESS),
        num_workers=workers,
        pin_memory=device.type == "cuda",
        multiprocessing_context="fork" if workers else None,  # as in a script: in a process that was spawned it would spawn
    )
    for views, _ in loader:
        yield [view.to(device, non_blocking=True) for view in views]


def spdl_batches(
    source: FolderSource, crops: Callable[[str], list[torch.Tensor]], batch_size: int, device: torch.device, workers: int
) -> Generator[Any, None, None]:
    """SPDL's pipeline as its users write it, in threads, which is its default."""
    from spdl.pipeline import PipelineBuilder

    torch.set_num_threads(1)  # as in a DataLoader's worker
    images = ImageFolder(str(source.root))
    built = (
        PipelineBuilder()
        .add_source(images.imgs[index][0] for index in RandomSampler(images, num_samples=ENDLESS))
        .pipe(crops, concurrency=workers)
        .aggregate(batch_size)
        .pipe(lambda samples: [torch.stack(view) for view in zip(*samples, strict=True)])
        .add_sink(2)
        .build(num_threads=workers)
    )
    with built.auto_stop():
        for views in built:
            yield [view.to(device, non_blocking=True) for view in views]
