"""Several ranks that train together, as torchrun starts them: one process for each GPU, the same program in all of them.

    torchrun --nproc-per-node 8 $(which hjepa-train) --data-path photos

Gradients are joined by DistributedDataParallel, or by FSDP2, which divides the parameters, too (sharding.py). What ranks say
to each other beside (whether to stop, where to write) goes over the CPU, so that no rank waits for its GPU to hear it.
"""

import os
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from typing import Literal, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from hjepa.configs.schema import Settings
from hjepa.pipeline.device import resolve_device, resolve_workers

PATIENCE = timedelta(hours=2)
"""How long ranks wait for the first one while it makes an index or evaluates. A rank that fails is noticed at once."""
START = "torchrun --nproc-per-node N $(which hjepa-train) ..."
COUNTS = {"SLURM_STEP_NUM_TASKS": "srun", "OMPI_COMM_WORLD_SIZE": "mpirun", "PMI_SIZE": "mpirun", "WORLD_SIZE": "a launcher"}
"""Variable of the environment with the number of processes of a program -> who started them, where that was not torchrun."""
Shared = TypeVar("Shared")


class Ranks:
    """The ranks of a run, one or several; use it as a context manager, which leaves them."""

    def __init__(self, settings: Settings) -> None:
        """Joins the ranks. Raises ValueError where the settings contradict torchrun."""
        launched = dist.is_torchelastic_launched()
        self.rank = int(os.environ["RANK"]) if launched else 0
        self.world_size = int(os.environ["WORLD_SIZE"]) if launched else 1
        _check(settings, launched, self.world_size)
        self._fsdp = settings.distributed.fsdp
        self._control: dist.ProcessGroup | None = None
        self.device = _own_device(settings, launched)
        if launched:
            backend = _backend(settings, self.device)
            store, rank, world_size = next(rendezvous("env://"))
            # Or ranks that torchrun has restarted would read the addresses of those that are gone.
            store = PrefixStore(f"attempt_{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
            dist.init_process_group(backend, store=store, rank=rank, world_size=world_size, timeout=PATIENCE)
            control = dist.new_group(backend="gloo", timeout=PATIENCE)
            assert isinstance(control, dist.ProcessGroup)
            self._control = control

    @property
    def is_first(self) -> bool:
        """Whether this is the rank that speaks and writes."""
        return self.rank == 0

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model whose gradients are means over the ranks; itself on one. With FSDP it is the same model, divided."""
        if self._control is None:
            return model
        if not self._fsdp:
            return DistributedDataParallel(model)
        from hjepa.sharding import shard  # here: with the models it loads timm, which a refused setting need not wait for

        return shard(model, self.device, self.world_size)

    def largest(self, number: int) -> int:
        """The largest of the ranks' numbers; all ranks must ask."""
        if self._control is None:
            return number
        shared = torch.tensor(number)
        dist.all_reduce(shared, dist.ReduceOp.MAX, group=self._control)
        return int(shared)

    def share(self, value: Shared) -> Shared:
        """The first rank's value; all ranks must ask."""
        if self._control is None:
            return value
        held = [value]
        dist.broadcast_object_list(held, src=0, group=self._control)
        return held[0]

    def wait(self) -> None:
        """Returns when all ranks have come here."""
        self.largest(0)

    def __enter__(self) -> "Ranks":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # After an error the others may be anywhere: leaving in order would wait for them, and torchrun ends them anyway.
        if self._control is not None and (kind is None or issubclass(kind, SystemExit)):
            dist.destroy_process_group()


def without_joining(model: nn.Module, unless: bool) -> AbstractContextManager[None]:
    """Keeps gradients to this rank, for batches that are accumulated before an update; `unless` it is the last of them.

    With FSDP they are joined for every batch: to keep them would keep whole ones, which there may be no room for.
    """
    return nullcontext() if unless or not isinstance(model, DistributedDataParallel) else model.no_sync()


def check_local_rank(local_rank: int | None) -> None:
    """Raises ValueError where a launcher's --local-rank is not what torchrun's environment says; None was not given."""
    launched = dist.is_torchelastic_launched()
    own = int(os.environ["LOCAL_RANK"]) if launched else 0
    if local_rank is None or local_rank == own or (not launched and local_rank == -1):  # -1: not distributed, in older code
        return
    started = f"torchrun started this process with local rank {own}" if launched else "this process was not started by torchrun"
    raise ValueError(f"--local-rank {local_rank}, and {started}; leave it out, and start ranks as {START}")


def share_of_workers(num_workers: int | Literal["auto"], pipeline: str) -> int:
    """Threads or processes for data: what was asked for, or this rank's part of the machine's cores."""
    if num_workers != "auto":
        return num_workers
    return max(1, resolve_workers("auto", pipeline) // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def _check(settings: Settings, launched: bool, world_size: int) -> None:
    asked = settings.distributed
    if asked.enabled is True and not launched:
        raise ValueError(f"distributed.enabled=true, and this process was not started by torchrun; start it as {START}")
    if asked.fsdp and not launched:
        raise ValueError(f"distributed.fsdp=true divides a model among ranks, and there is one process; start it as {START}")
    if asked.enabled == "auto" and not launched:
        _check_alone()
    if asked.enabled is False and world_size > 1:
        raise ValueError(
            f"distributed.enabled=false, and torchrun started {world_size} ranks; set distributed.enabled=auto, or start "
            "hjepa-train without torchrun"
        )
    if asked.world_size not in ("auto", world_size) and (launched or asked.world_size != 1):
        raise ValueError(
            f"distributed.world_size={asked.world_size}, and there are {world_size} ranks; set distributed.world_size=auto, "
            f"or start {asked.world_size} ranks: {START}"
        )


def _check_alone() -> None:
    """Raises ValueError where this process is one of several that know nothing of each other: each would train by itself."""
    if "SLURM_PTY_PORT" in os.environ:  # srun --pty: a shell, and the others have ended for want of a terminal
        return
    for name, launcher in COUNTS.items():
        count = os.environ.get(name, "")
        is_one_of_them = name != "WORLD_SIZE" or "RANK" in os.environ
        if count.isdecimal() and int(count) > 1 and is_one_of_them:
            raise ValueError(
                f"{launcher} started {count} processes of hjepa-train ({name}), and each would be a run of its own; have it "
                "start one torchrun on each machine (docs/training.md, Many ranks), or, if they are to be runs of their own, "
                "set distributed.enabled=false"
            )


def _own_device(settings: Settings, launched: bool) -> torch.device:
    """This rank's device, which is then torch's current one."""
    if not launched or settings.device == "cpu" or not torch.cuda.is_available():
        return resolve_device(settings.device)
    if settings.device.startswith("cuda:"):
        raise ValueError(f"device={settings.device} would put all ranks on one GPU; set device=cuda")
    number = int(os.environ["LOCAL_RANK"])
    if number >= torch.cuda.device_count():
        raise ValueError(
            f"there are {torch.cuda.device_count()} GPUs for {os.environ['LOCAL_WORLD_SIZE']} ranks of this machine; "
            f"use --nproc-per-node {torch.cuda.device_count()}"
        )
    torch.cuda.set_device(number)
    return resolve_device("cuda")


def _backend(settings: Settings, device: torch.device) -> str:
    fitting = "nccl" if device.type == "cuda" else "gloo"
    asked = settings.distributed.backend
    if asked == "nccl" and fitting == "gloo":
        raise ValueError("distributed.backend=nccl joins GPUs, and the device is the CPU; set distributed.backend=auto or gloo")
    backend = fitting if asked == "auto" else asked
    if settings.distributed.fsdp and backend == "gloo" and torch.__version__ < "2.9":
        # 2.6 and 2.7 have no FSDP2 on a CPU; 2.8 takes the sum of the ranks' gradients for their mean, and does not say so.
        raise ValueError(
            f"distributed.fsdp=true needs torch 2.9 or later where gloo joins the ranks, and this is {torch.__version__}: "
            "install a later torch, or set distributed.fsdp=false"
        )
    return backend
