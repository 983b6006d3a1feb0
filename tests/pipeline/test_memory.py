"""Memory stays flat however many epochs a Loader runs."""

import gc
import os
from pathlib import Path

import pytest

from hjepa.pipeline.loader import Loader
from hjepa.pipeline.presets.jepa import multicrop

RECIPE = multicrop(global_crop_size=64, local_crop_size=32, num_local_crops=2)
MIB = 1 << 20


def resident() -> int:
    """Bytes of this process that are in memory."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads Linux's /proc")
@pytest.mark.parametrize(
    "backend", [pytest.param("dali-ops", marks=pytest.mark.dali), pytest.param("fused", marks=pytest.mark.fused), "torchvision"]
)
def test_memory_is_flat_over_fifty_epochs(backend: str, labelled: Path) -> None:
    workers = {"num_workers": 0 if backend == "torchvision" else 2}
    with Loader(labelled, RECIPE, batch_size=8, backend=backend, device="cpu", **workers) as loader:
        sizes = []
        for epoch in range(50):
            for _ in loader:
                pass
            if epoch in (9, 49):
                sizes.append(resident())
    # 40 epochs hand out 230 MiB of crops; a batch that was kept, of 1.1 MiB, would show in each of them.
    assert sizes[1] - sizes[0] < 12 * MIB
