"""Loaders in other processes and threads: refused with a reason, passed on, or ended, but never doubled, leaked or hung."""

import gc
import importlib
import itertools
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image, ImageStat
from torch.utils.data import DataLoader

from hjepa.pipeline.ahead import Ahead
from hjepa.pipeline.backend import BadBatchError, Crops, Request
from hjepa.pipeline.backends import torchvision
from hjepa.pipeline.backends.torchvision import TorchvisionBackend
from hjepa.pipeline.forks import OwnLock
from hjepa.pipeline.loader import Loader
from hjepa.pipeline.presets.jepa import multicrop
from hjepa.pipeline.quarantine import BadImageError
from hjepa.pipeline.stream import Stream

RECIPE = multicrop(num_global_crops=1, num_local_crops=0, global_crop_size=16)
BACKENDS = [pytest.param("dali-ops", marks=pytest.mark.dali), pytest.param("fused", marks=pytest.mark.fused), "torchvision"]


def open_loader(folder: Path, backend: str = "torchvision", **options: object) -> Loader:
    workers = {"num_workers": 0 if backend == "torchvision" else 1}
    return Loader(folder, RECIPE, backend=backend, device="cpu", **({"batch_size": 4} | workers | options))


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@contextmanager
def without_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


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
    wait_until(lambda: own_threads() == before)


def test_forgetting_a_loader_waits_for_nothing(photographs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Garbage is collected on any thread, which may hold what the loader's own thread waits for."""
    close, released, closed = Stream.close, threading.Event(), threading.Event()

    def close_slowly(stream: Stream) -> None:
        assert released.wait(10)
        close(stream)
        closed.set()

    monkeypatch.setattr(Stream, "close", close_slowly)
    loader = open_loader(photographs)
    next(iter(loader))
    del loader
    gc.collect()
    released.set()
    assert closed.wait(10)


@pytest.mark.parametrize("backend", BACKENDS)
def test_program_that_closes_no_loader_ends_without_a_word(backend: str, photographs: Path) -> None:
    """While batches are made: with so many in flight a thread is busy whenever the interpreter ends."""
    script = f"""
from hjepa.pipeline.loader import Loader
from hjepa.pipeline.presets.jepa import multicrop
recipe = multicrop(num_global_crops=1, num_local_crops=0, global_crop_size=16)
loader = Loader({str(photographs)!r}, recipe, backend={backend!r}, device="cpu", num_workers=1, batch_size=1, prefetch=200)
next(iter(loader))
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=180)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize(
    ("backend", "default"),
    # Python 3.14 begins workers by a forkserver unless they say otherwise, which needs a guard of the script's main part
    [pytest.param("fused", "fork", marks=pytest.mark.fused), ("torchvision", "fork"), ("torchvision", "forkserver")],
)
def test_script_that_leaves_its_loader_open_ends_without_a_word(
    backend: str, default: str, photographs: Path, tmp_path: Path
) -> None:
    """A script's names are cleared late, when the modules that they would need are gone already."""
    script = tmp_path / "script.py"
    script.write_text(
        "from multiprocessing import context\n"
        f"context._default_context._default_context = context._concrete_contexts[{default!r}]\n"
        "from hjepa.pipeline.loader import Loader\n"
        "from hjepa.pipeline.presets.jepa import multicrop\n"
        "recipe = multicrop(num_global_crops=1, num_local_crops=0, global_crop_size=16)\n"
        f"options = dict(backend={backend!r}, device='cpu', num_workers=1, batch_size=1)\n"
        f"loader = Loader({str(photographs)!r}, recipe, **options)\n"
        "batch = next(iter(loader))\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, timeout=180)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_end_of_the_program_waits_for_a_thread_that_is_at_work(tmp_path: Path) -> None:
    script = f"""
import pathlib, time
from hjepa.pipeline.ahead import Ahead
def items():
    time.sleep(0.5)
    pathlib.Path({str(tmp_path / "done")!r}).touch()
    yield 1
Ahead(items(), 1)
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=180)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert (tmp_path / "done").exists()


def test_error_keeps_nothing_alive_of_what_made_it() -> None:
    """Without a run of the garbage collector, which comes late: a backend's threads and images are many."""

    class Work:
        pass

    def items(made: list["weakref.ref[Work]"]) -> Iterator[int]:
        work = Work()
        made.append(weakref.ref(work))
        yield 1
        raise ValueError("broken")

    made: list[weakref.ref[Work]] = []
    with without_collection():
        for depth in (1, 3):
            stage = Ahead(items(made), depth)
            assert next(stage) == 1
            for _ in range(2):
                try:
                    next(stage)
                except ValueError as error:
                    assert str(error) == "broken"  # noqa: PT017  # pytest.raises would keep the frames
            stage.close()
            del stage
        wait_until(lambda: [work() for work in made] == [None, None])


@pytest.mark.parametrize("backend", BACKENDS[:2])
def test_pipeline_of_batches_with_bad_images_is_one_and_ends_with_them(
    backend: str, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = importlib.import_module(f"hjepa.pipeline.backends.{backend.replace('-', '_')}")
    for path in photographs.iterdir():
        content = path.read_bytes()
        (tmp_path / path.name).write_bytes(
            content[: len(content) // 2] if path.name in ("03.jpg", "12.jpg", "21.jpg") else content
        )
    build, built = module.build, []
    monkeypatch.setattr(module, "build", lambda pipe, decoder: built.append(weakref.ref(pipe)) or build(pipe, decoder))
    options = {"shuffle": False, "max_bad": 0.5, "bad_images": tmp_path / "bad.jsonl"}
    with without_collection():
        with open_loader(tmp_path, backend, **options) as loader:
            assert len(list(loader)) == 8
            assert [pipe() is not None for pipe in built] == [True]
        assert built[0]() is None
        with open_loader(tmp_path, backend, on_error="raise") as loader:
            with pytest.raises(BadImageError):
                list(loader)
            assert [pipe() for pipe in built] == [None, None]


def test_workers_of_a_batch_with_a_bad_image_end_before_others_begin(photographs: Path, tmp_path: Path) -> None:
    """Those of torchvision: the garbage collector comes late, perhaps in a new worker, which then complains of the old ones."""
    for path in photographs.iterdir():
        content = path.read_bytes()
        (tmp_path / path.name).write_bytes(content[: len(content) // 2] if path.name in ("03.jpg", "21.jpg") else content)
    options = {"shuffle": False, "max_bad": 0.5, "bad_images": tmp_path / "bad.jsonl", "num_workers": 1, "epochs": 1}
    with without_collection(), open_loader(tmp_path, **options) as loader:
        assert [len(multiprocessing.active_children()) for _ in loader] == [1] * 8
        assert len(loader.quarantine or ()) == 2


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


@pytest.mark.parametrize("is_running", [True, False], ids=["running", "not yet running"])
def test_stage_whose_beginning_is_interrupted_leaves_no_thread(is_running: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start

    def interrupted(thread: threading.Thread) -> None:
        if is_running:
            start(thread)
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Ahead(itertools.count(), 1)
    assert own_threads() == 0


def test_iterated_loader_is_pickled_with_its_place(photographs: Path) -> None:
    with open_loader(photographs) as loader:
        iterator = iter(loader)
        next(iterator)
        copy = pickle.loads(pickle.dumps(loader))
        expected = next(iterator).indices
    with copy:
        assert torch.equal(next(iter(copy)).indices, expected)


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_of_a_dataloader_are_refused(workers: int, photographs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One alone would be a copy of the loader that begins with the same epoch each time."""
    with open_loader(photographs) as loader:
        alone = DataLoader(loader, batch_size=None, num_workers=0)
        assert len(list(alone)) == 8
        # What a worker is told; a real one that fails keeps torch waiting for five seconds.
        monkeypatch.setattr("hjepa.pipeline.loader.get_worker_info", lambda: SimpleNamespace(num_workers=workers))
        with pytest.raises(ValueError, match=f"{workers} workers would yield every batch"):
            next(iter(loader))


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
def test_loader_that_was_iterated_is_left_alone_by_a_forked_process(backend: str, photographs: Path) -> None:
    with open_loader(photographs, backend) as loader:
        batches = iter(loader)
        next(batches)
        child = os.fork()
        if not child:
            signal.alarm(20)  # its end, should it wait for a thread that it has not
            loader.close()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert len(list(batches)) == 7


def test_worker_collects_no_garbage_of_its_parent(photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which may be a pipeline, whose threads the worker has not: it would wait for them, or die."""

    class OfTheParent:
        def __del__(self) -> None:
            if os.getpid() != parent:
                (tmp_path / "collected").touch()

    parent, render = os.getpid(), torchvision.render_batch
    monkeypatch.setattr(torchvision, "render_batch", lambda *given: (gc.collect(), render(*given))[1])
    with without_collection():
        garbage: list[object] = [OfTheParent()]
        garbage.append(garbage)
        del garbage
        with open_loader(photographs, num_workers=1) as loader:
            assert len(list(loader)) == 8
    assert not (tmp_path / "collected").exists()


def test_worker_finds_nothing_locked_by_a_thread_that_rendered_as_it_was_forked(
    photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as PIL's contrast, which Python 3.11 locks for all threads: the worker would wait for it for ever."""
    locked, render = threading.Lock(), torchvision.render_image

    def render_locked(*given: object) -> object:
        if not locked.acquire(timeout=20):
            raise OSError("it was locked as this process was forked")
        try:
            time.sleep(0.02)
            return render(*given)
        finally:
            locked.release()

    monkeypatch.setattr(torchvision, "render_image", render_locked)
    with open_loader(photographs, prefetch=20) as threaded, open_loader(photographs, num_workers=2, batch_size=2) as forked:
        next(iter(threaded))
        next(iter(forked))


def test_contrast_that_an_item_of_a_data_set_is_at_is_free_in_a_forked_process() -> None:
    """Such as a worker of the user's own DataLoader, whose images are coloured, too."""
    colouring, may_go_on, images = threading.Event(), threading.Event(), [Image.new("RGB", (32, 32))] * 8

    class Slow(ImageStat.Stat):
        @property
        def sum(self) -> list[float]:  # type: ignore[override]  # of which the mean is made, while it is locked
            colouring.set()
            assert may_go_on.wait(20)
            return [0.0] * 3

    class Coloured:
        def __len__(self) -> int:
            return len(images)

        def __getitem__(self, number: int) -> Image.Image:
            if threading.current_thread().name == "hjepa-ahead":
                assert Slow(images[number]).mean == [0.0] * 3
            return images[number]

    with Loader(Coloured(), RECIPE, backend="torchvision", device="cpu", batch_size=4, num_workers=0) as loader:
        reader = threading.Thread(target=lambda: next(iter(loader)))
        reader.start()
        assert colouring.wait(10)
        child = os.fork()
        if not child:
            signal.alarm(5)
            os._exit(len(ImageStat.Stat(images[0]).mean) - 3)
        status = os.waitpid(child, 0)[1]
        may_go_on.set()
        reader.join()
    assert status == 0


def test_fork_whose_wait_is_interrupted_frees_nothing_that_another_thread_renders_with(
    photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by Ctrl-C, which Python drops there: the process is forked all the same."""
    render, rendering, may_go_on, dropped = torchvision.render_image, threading.Event(), threading.Event(), []

    def render_slowly(*given: object) -> object:
        rendering.set()
        assert may_go_on.wait(20)
        return render(*given)

    def interrupt(*_: object) -> None:
        raise InterruptedError

    monkeypatch.setattr(torchvision, "render_image", render_slowly)
    monkeypatch.setattr(sys, "unraisablehook", lambda error: dropped.append(error.exc_type))
    before = signal.signal(signal.SIGUSR1, interrupt)
    with open_loader(photographs) as loader:
        reader = threading.Thread(target=lambda: (next(iter(loader)), read.set()))
        read = threading.Event()
        reader.start()
        assert rendering.wait(10)
        threading.Timer(1, lambda: os.kill(os.getpid(), signal.SIGUSR1)).start()  # by then it forks
        child = os.fork()
        if not child:
            os._exit(0)
        os.waitpid(child, 0)
        signal.signal(signal.SIGUSR1, before)
        may_go_on.set()
        assert read.wait(10)
        reader.join()
    assert dropped[0] is InterruptedError


def test_batch_that_shared_memory_cannot_hold_ends_the_iteration(photographs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container, whose /dev/shm is small; torch's queue would lose it, and its reader wait for ever."""

    def share(_: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("unable to allocate shared memory(shm)")

    monkeypatch.setattr(torch.Tensor, "share_memory_", share)
    with (
        open_loader(photographs, num_workers=1) as loader,
        pytest.raises(RuntimeError, match=r"^a worker cannot hand over its batch \(unable .*\(--shm-size 8g\), use fewer"),
    ):
        next(iter(loader))


@pytest.mark.parametrize("num_workers", [0, 1])
def test_lack_of_memory_ends_the_iteration_in_one_line(
    num_workers: int, photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(torchvision, "to_rgb", refuse)
    with (
        open_loader(photographs, num_workers=num_workers) as loader,
        pytest.raises(MemoryError, match=r"^out of memory while an image was decoded; .*, or fewer workers$"),
    ):
        next(iter(loader))


def test_lock_that_another_thread_held_is_free_in_a_forked_process() -> None:
    lock = OwnLock()
    with lock():
        child = os.fork()
        if not child:
            os._exit(0 if lock().acquire(timeout=5) else 1)
        assert os.waitpid(child, 0)[1] == 0


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


def test_loader_that_is_closed_while_a_batch_is_made_leaves_no_thread(
    photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who closes does not wait for the batch; who takes it ends the work."""
    render, before = TorchvisionBackend.render, own_threads()

    def closed_meanwhile(backend: TorchvisionBackend, requests: Iterator[Request]) -> Iterator[Crops]:
        for crops in render(backend, requests):
            loader.close()
            yield crops

    monkeypatch.setattr(TorchvisionBackend, "render", closed_meanwhile)
    loader = open_loader(photographs)
    iterator = iter(loader)
    next(iterator)
    assert own_threads() == before


def test_loader_that_is_closed_while_its_work_begins_ends(photographs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loader, before = open_loader(photographs), own_threads()
    stages = loader._stages
    monkeypatch.setattr(loader, "_stages", lambda epoch: (loader.close(), stages(epoch))[1])
    with pytest.raises(ValueError, match=r"closed|ended"):
        next(iter(loader))
    assert own_threads() == before


def test_images_that_are_gone_once_a_loader_is_closed_are_not_called_bad(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    awaited = threading.Event()

    def fails_late(backend: TorchvisionBackend, requests: Iterator[Request]) -> Iterator[Crops]:
        next(requests)
        assert awaited.wait(10)
        raise BadBatchError({(0, 0): "no such file"})
        yield {}

    monkeypatch.setattr(TorchvisionBackend, "render", fails_late)
    loader = open_loader(photographs, bad_images=tmp_path / "bad.jsonl")
    closer = threading.Thread(target=lambda: (loader.close(), awaited.set()))
    iterator = iter(loader)
    threading.Timer(0.2, closer.start).start()
    with pytest.raises(ValueError, match=r"closed|ended"):
        next(iterator)
    assert not loader.quarantine
    assert not (tmp_path / "bad.jsonl").exists()


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
