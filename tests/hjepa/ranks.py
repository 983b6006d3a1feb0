"""Ranks of hjepa-train that a process forks which has imported it: each that torchrun starts takes seconds to do so anew."""

import multiprocessing
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from hjepa import cli

PATIENCE = 120
"""Seconds."""


def run_ranks(count: int, log: Path, arguments: Sequence[object], before: str = "") -> str:
    """What they said, when all have ended well; `before` is Python that each rank runs first."""
    forking = multiprocessing.get_context("forkserver")
    forking.set_forkserver_preload(["hjepa.trainer"])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    words = [str(word) for word in arguments]
    log.write_bytes(b"")
    ranks = []
    for rank in range(count):
        own = {"RANK": rank, "LOCAL_RANK": rank, "TORCHELASTIC_RUN_ID": log.stem, **shared}
        environment = {**os.environ, **{name: str(value) for name, value in own.items()}}
        ranks.append(forking.Process(target=_run, args=(environment, log, words, before)))
        ranks[-1].start()
    for process in ranks:
        process.join(PATIENCE)
    codes = [process.exitcode for process in ranks]
    for process in ranks:
        process.kill()
        process.join()
    output = log.read_text()
    assert codes == [0] * count, f"{codes}\n{output}"
    return output


def _run(environment: dict[str, str], log: Path, words: list[str], before: str) -> None:
    os.environ.update(environment)
    with log.open("ab") as said:
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
    exec(before, {})
    sys.argv = ["hjepa-train", *words]
    cli.main()
