"""Loaders in other processes and threads: refused with a reason, passed on, or ended, but never doubled, leaked or hung."""

import gc
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from hjepa.pipeline.ahead import Ahead
from hjepa.pipeline.backend import Crops, Request
from hjepa.pipeline.backends.torchvision import TorchvisionBackend
from hjepa.pipeline.loader import Loader
from hjepa.pipeline.presets.jepa import multicrop

RECIPE = multicrop(num_global_crops=1, num_local_crops=0, global_crop_size=16)
BACKENDS = [pytest.param("dali-ops", marks=pytest.mark.dali), pytest.param("fused", marks=pytest.mark.fused), "torchvision"]


def open_loader(folder: Path, backend: str = "torchvision", **options: object) -> Loader:
    workers = {"num_workers": 0 if backend == "torchvision" else 1}
    return Loader(folder, RECIPE, backend=backend, device="cpu", **({"batch_size": 4} | workers | options))


def own_threads() -> int:
    return sum(thread.name == "hjepa-ahead" for thread in threading.enumerate())


@pytest.mark.parametrize("backend", BACKENDS)
def test_loader_that_is_forgotten_leaves_no_thread(backend: str, photographs: Path) -> None:
    before = own_threads()
    loader = open_loader(photographs, backend)
    next(iter(loader))
    assert own_threads() == before + 1
    del loader
    gc.collect()
    assert own_threads() == before


@pytest.mark.parametrize("backend", BACKENDS)
def test_program_that_closes_no_loader_ends_without_a_word(backend: str, photographs: Path) -> None:
    """While batches are made: with so many in flight a thread is busy whenever the interpreter ends."""
    script = f"""
from hjepa.pipeline.loader import Loader
from hjepa.pipeline.presets.jepa import multicrop
recipe = multicrop(num_global_crops=1, num_local_crops=0, global_crop_size=16)
loader = Loader({str(photographs)!r}, recipe, backend={backend!r}, device="cpu", num_workers=1, batch_size=1, prefetch=1000)
next(iter(loader))
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_stage_that_is_closed_on_its_own_thread_ends() -> None:
    """As the garbage collector does, which runs wherever memory is asked for."""
    opened, closed, stages = threading.Event(), threading.Event(), []

    def items() -> Iterator[int]:
        opened.wait(5)
        stages[0].close()
        closed.set()
        yield 1

    stages.append(Ahead(items(), 1))
    opened.set()
    assert closed.wait(5)
    stages[0].close()
    assert own_threads() == 0


def test_iterated_loader_is_pickled_with_its_place(photographs: Path) -> None:
    with open_loader(photographs) as loader:
        iterator = iter(loader)
        next(iterator)
        copy = pickle.loads(pickle.dumps(loader))
        expected = next(iterator).indices
    with copy:
        assert torch.equal(next(iter(copy)).indices, expected)


def test_several_workers_of_a_dataloader_are_refused(photographs: Path) -> None:
    with open_loader(photographs) as loader:
        alone = DataLoader(loader, batch_size=None, num_workers=0)
        assert len(list(alone)) == 8
    with open_loader(photographs) as loader, pytest.raises(ValueError, match="2 workers would yield every batch"):
        list(DataLoader(loader, batch_size=None, num_workers=2))


def test_loader_that_was_iterated_is_refused_in_a_forked_process(photographs: Path) -> None:
    with open_loader(photographs) as loader:
        next(iter(loader))
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            try:
                next(iter(loader))
            except ValueError as error:
                os.write(writer, str(error).encode())
            finally:
                os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as said:
            assert "forked" in said.read()
        os.waitpid(child, 0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_loader_is_closed_from_another_thread_while_a_batch_is_awaited(backend: str, photographs: Path) -> None:
    loader = open_loader(photographs, backend, prefetch=1)
    iterator = (batch for _ in range(1000) for batch in loader)
    next(iterator)
    closer = threading.Timer(0.3, loader.close)
    closer.start()
    with pytest.raises(ValueError, match=r"closed|ended"):
        for _ in iterator:
            pass
    closer.join()


def test_batch_awaited_while_another_thread_closes_is_refused(photographs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the backend takes to end."""
    render, ending, awaited = TorchvisionBackend.render, threading.Event(), threading.Event()

    def slow_to_end(backend: TorchvisionBackend, requests: Iterator[Request]) -> Iterator[Crops]:
        try:
            yield from render(backend, requests)
        finally:
            ending.set()
            awaited.wait(10)

    monkeypatch.setattr(TorchvisionBackend, "render", slow_to_end)
    loader = open_loader(photographs)
    iterator = iter(loader)
    next(iterator)
    closer = threading.Thread(target=loader.close)
    closer.start()
    assert ending.wait(10)
    threading.Timer(0.2, awaited.set).start()
    with pytest.raises(ValueError, match=r"closed|ended"):
        next(iterator)
    closer.join()


@pytest.mark.parametrize("workers", [0, 1])
def test_torchs_own_generator_is_left_alone(workers: int, photographs: Path) -> None:
    before = torch.get_rng_state()
    with open_loader(photographs, num_workers=workers) as loader:
        next(iter(loader))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": "4"}, "batch_size='4'"),
        ({"batch_size": 2.5}, "batch_size=2.5"),
        ({"prefetch": True}, "prefetch=True"),
        ({"epochs": -1}, "epochs=-1"),
        ({"num_workers": None}, "num_workers=None"),
    ],
    ids=str,
)
def test_number_that_is_none_is_refused(options: dict[str, object], message: str, photographs: Path) -> None:
    with pytest.raises(ValueError, match=message):
        open_loader(photographs, **options)


def test_recipe_or_epoch_that_is_none_is_refused(photographs: Path) -> None:
    with pytest.raises(ValueError, match="recipe is of type dict"):
        Loader(photographs, {}, batch_size=2)  # type: ignore[arg-type]
    with open_loader(photographs) as loader, pytest.raises(ValueError, match="epoch=-1"):
        loader.set_epoch(-1)
