"""The same claims with the loader on a GPU."""

import json
from pathlib import Path

import pytest
import torch

from hjepa.pipeline.loader import Loader
from hjepa.pipeline.presets.dino import dino
from hjepa.pipeline.presets.jepa import multicrop
from hjepa.pipeline.recipe import IMAGENET_STD
from tests.kernels.waiting import nothing_waits
from tests.pipeline.broken import bad_files, good_files

pytestmark = [pytest.mark.gpu, pytest.mark.dali]
RECIPE = multicrop(global_crop_size=48, local_crop_size=24, num_local_crops=3)
BACKENDS = ["dali-ops", pytest.param("fused", marks=pytest.mark.fused)]
DECODERS = [
    pytest.param({"decoder": "cpu"}, id="cpu"),
    pytest.param({"decoder": "gpu", "hw_decoder_load": 0.0}, id="gpu"),
    pytest.param({"decoder": "gpu", "hw_decoder_load": 1.0}, id="engines"),
]


def test_dali_is_the_fused_engine(photographs: Path) -> None:
    with Loader(photographs, RECIPE, batch_size=16, device="cuda") as loader:
        assert loader.engine == "fused"


@pytest.mark.parametrize("decoder", ["cpu", "gpu"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_gpu_crops_are_those_of_the_cpu_but_for_the_decoder_and_rounding(backend: str, decoder: str, photographs: Path) -> None:
    crops = []
    for options in ({"device": "cpu"}, {"device": "cuda", "decoder": decoder}):
        with Loader(photographs, dino(2), batch_size=16, backend=backend, epochs=1, **options) as loader:
            crops.append(torch.cat([batch.globals for batch in loader], dim=1).cpu())
    levels = (crops[0] - crops[1]).abs() * torch.tensor(IMAGENET_STD).reshape(3, 1, 1) * 255
    assert levels.mean() < 2
    if (backend, decoder) == ("fused", "cpu"):
        assert torch.equal(*crops)


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_batches_are_on_the_gpu_and_bitwise_independent_of_the_settings(
    backend: str, decoder: dict[str, object], photographs: Path
) -> None:
    seen = []
    for options in ({"batch_size": 8}, {"batch_size": 4, "num_workers": 1, "prefetch": 4}):
        options |= {"backend": backend, **decoder}
        with Loader(photographs, RECIPE, device="cuda", epochs=1, **options) as loader:
            seen.append({int(i): batch.globals[:, n].clone() for batch in loader for n, i in enumerate(batch.indices)})
    assert all(crop.is_cuda for crop in seen[0].values())
    assert all(torch.equal(crop, seen[1][index]) for index, crop in seen[0].items())


@pytest.mark.parametrize("backend", BACKENDS)
def test_twenty_gpu_batches_held_alive_are_not_overwritten(backend: str, photographs: Path) -> None:
    with Loader(photographs, RECIPE, batch_size=8, backend=backend, device="cuda") as loader:
        held = [batch for _ in range(5) for batch in loader]
        copies = [batch.globals.clone() for batch in held]
        for _ in range(5):
            for _ in loader:
                pass
    assert len({batch.globals.data_ptr() for batch in held}) == 20
    assert all(torch.equal(batch.globals, copy) for batch, copy in zip(held, copies, strict=True))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_batch_dropped_while_the_gpu_still_reads_it_is_not_overwritten(backend: str, photographs: Path) -> None:
    with Loader(photographs, RECIPE, batch_size=8, backend=backend, device="cuda") as loader:
        expected = [batch.globals.sum().item() for batch in loader]
        loader.set_epoch(0)
        busy = torch.randn(4096, 4096, device="cuda")
        sums = []
        for batch in loader:
            for _ in range(20):  # the stream is far behind when the batch is dropped
                busy = (busy @ busy).clamp(-1, 1)
            sums.append(batch.globals.sum())
    assert [total.item() for total in sums] == expected


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_batch_is_taken_without_waiting_for_the_gpu(backend: str, photographs: Path) -> None:
    with Loader(photographs, RECIPE, batch_size=4, backend=backend, device="cuda") as loader:
        batches = (batch for _ in range(2) for batch in loader)
        next(batches)  # compiles, and takes memory
        with nothing_waits():
            for batch in batches:
                batch.views()


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_every_good_image_is_delivered_and_every_bad_one_named(
    backend: str, decoder: dict[str, object], tmp_path: Path
) -> None:
    good, bad = good_files(), bad_files()
    for name, content in (good | bad).items():
        (tmp_path / name).write_bytes(content)
    options = {"backend": backend, "device": "cuda", "bad_images": tmp_path / "bad.jsonl", **decoder}
    with Loader(tmp_path, RECIPE, batch_size=4, tail="keep", max_bad=1.0, **options) as loader:
        delivered = {key for batch in loader for key in batch.keys}
    assert {Path(json.loads(line)["path"]).name for line in (tmp_path / "bad.jsonl").read_text().splitlines()} == bad.keys()
    assert delivered == good.keys()


def test_every_operator_runs_on_the_gpu(photographs: Path) -> None:
    with Loader(photographs, dino(2), batch_size=8, backend="dali-ops", device="cuda", dtype=torch.float16) as loader:
        batch = next(iter(loader))
    assert batch.globals.dtype == torch.float16
    assert torch.isfinite(batch.globals).all()
