"""The same claims with the loader on a GPU."""

from pathlib import Path

import pytest
import torch

from hjepa.pipeline.loader import Loader
from hjepa.pipeline.presets.dino import dino
from hjepa.pipeline.presets.jepa import multicrop
from hjepa.pipeline.recipe import IMAGENET_STD

pytestmark = [pytest.mark.gpu, pytest.mark.dali]
RECIPE = multicrop(global_crop_size=48, local_crop_size=24, num_local_crops=3)


def test_gpu_crops_are_those_of_the_cpu_but_for_rounding(photographs: Path) -> None:
    crops = []
    for device in ("cpu", "cuda"):
        with Loader(photographs, RECIPE, batch_size=16, device=device, epochs=1) as loader:
            crops.append(torch.cat([batch.globals for batch in loader], dim=1).cpu())
    levels = (crops[0] - crops[1]).abs() * torch.tensor(IMAGENET_STD).reshape(3, 1, 1) * 255
    assert levels.mean() < 2


def test_batches_are_on_the_gpu_and_bitwise_independent_of_the_settings(photographs: Path) -> None:
    seen = []
    for options in ({"batch_size": 8}, {"batch_size": 4, "num_workers": 1, "prefetch": 4}):
        with Loader(photographs, RECIPE, device="cuda", epochs=1, **options) as loader:
            seen.append({int(i): batch.globals[:, n].clone() for batch in loader for n, i in enumerate(batch.indices)})
    assert all(crop.is_cuda for crop in seen[0].values())
    assert all(torch.equal(crop, seen[1][index]) for index, crop in seen[0].items())


def test_twenty_gpu_batches_held_alive_are_not_overwritten(photographs: Path) -> None:
    with Loader(photographs, RECIPE, batch_size=8, device="cuda") as loader:
        held = [batch for _ in range(5) for batch in loader]
        copies = [batch.globals.clone() for batch in held]
        for _ in range(5):
            for _ in loader:
                pass
    assert len({batch.globals.data_ptr() for batch in held}) == 20
    assert all(torch.equal(batch.globals, copy) for batch, copy in zip(held, copies, strict=True))


def test_a_batch_dropped_while_the_gpu_still_reads_it_is_not_overwritten(photographs: Path) -> None:
    with Loader(photographs, RECIPE, batch_size=8, device="cuda") as loader:
        expected = [batch.globals.sum().item() for batch in loader]
        loader.set_epoch(0)
        busy = torch.randn(4096, 4096, device="cuda")
        sums = []
        for batch in loader:
            for _ in range(20):  # the stream is far behind when the batch is dropped
                busy = (busy @ busy).clamp(-1, 1)
            sums.append(batch.globals.sum())
    assert [total.item() for total in sums] == expected


def test_every_operator_runs_on_the_gpu(photographs: Path) -> None:
    with Loader(photographs, dino(2), batch_size=8, device="cuda", dtype=torch.float16) as loader:
        batch = next(iter(loader))
    assert batch.globals.dtype == torch.float16
    assert torch.isfinite(batch.globals).all()
