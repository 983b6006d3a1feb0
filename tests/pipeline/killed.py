"""Yields batches of a Loader and is killed: python killed.py FOLDER BACKEND RANK RANKS FIRST LAST STATE_FILE LOG_FILE.

Goes on from the state in STATE_FILE if there is one, takes batches FIRST to LAST - 1, writes down a digest of every sample, and
saves the state after each. Then it dies by SIGKILL, with batches in flight.
"""

import hashlib
import json
import os
import signal
import sys
from pathlib import Path

from hjepa.pipeline.batch import Batch
from hjepa.pipeline.loader import Loader
from hjepa.pipeline.presets.jepa import multicrop

GLOBAL_BATCH = 8
RECIPE = multicrop(global_crop_size=32, local_crop_size=16, num_local_crops=2)


def open_loader(folder: Path, backend: str, rank: int, ranks: int) -> Loader:
    return Loader(
        folder,
        RECIPE,
        batch_size=GLOBAL_BATCH // ranks,
        backend=backend,
        device="cpu",
        seed=5,
        num_workers=ranks,
        prefetch=1 + ranks,
        rank=rank,
        world_size=ranks,
        bad_images=folder / "bad.jsonl",
        max_bad=0.5,
    )


def digests(batch: Batch, rank: int) -> list[str]:
    """One line per sample: place in the global batch, number of the image, digest of all its crops."""
    lines = []
    for place, index in enumerate(batch.indices.tolist()):
        content = b"".join(view[place].contiguous().numpy().tobytes() for view in batch.views())
        lines.append(f"{rank * len(batch.indices) + place} {index} {hashlib.sha256(content).hexdigest()[:16]}")
    return lines


def main() -> None:
    folder, backend, rank, ranks, first, last, state, log = sys.argv[1:]
    with open_loader(Path(folder), backend, int(rank), int(ranks)) as loader, open(log, "a", encoding="utf-8") as lines:
        if Path(state).exists():
            loader.load_state_dict(json.loads(Path(state).read_text()))
        number = int(first)
        while True:
            for batch in loader:
                lines.writelines(f"{number} {line}\n" for line in digests(batch, int(rank)))
                lines.flush()
                number += 1
                if number == int(last):
                    if rank == "0":
                        Path(state).write_text(json.dumps(loader.state_dict()))
                    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
