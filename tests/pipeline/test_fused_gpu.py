"""The fused backend of a GPU: in Triton's interpreter its batches are the native one's, and on a GPU but for the decoder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from hjepa.pipeline.backend import BackendSettings, engine_of, open_backend
from hjepa.pipeline.loader import Loader
from hjepa.pipeline.presets.dino import dino

pytestmark = pytest.mark.fused
pytest.importorskip("triton", reason="needs Triton, which comes with torch for Linux")
ROOT = Path(__file__).parents[2]
SETTINGS = BackendSettings(
    recipe=dino(2), batch_size=4, device=torch.device("cuda", 0), num_workers=1, prefetch=1, pin_memory=True,
    dtype=torch.float32,
)  # fmt: skip


def test_batches_in_the_interpreter_are_those_of_the_native_backend() -> None:
    done = subprocess.run(
        [sys.executable, "tests/pipeline/interpreted/fused_gpu.py"],
        cwd=ROOT,
        env=os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "3 batches equal" in done.stdout


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("Failed to find C compiler."),
        subprocess.CalledProcessError(1, ["gcc", "main.c"]),
        FileNotFoundError(2, "No such file or directory", "gcc-15"),
    ],
    ids=["no compiler", "no Python.h", "a CC that is not there"],
)
def test_what_triton_lacks_to_start_kernels_is_said_before_the_first_batch(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Driver:
        @property
        def active(self) -> object:
            raise error

    monkeypatch.setattr("hjepa.kernels.fused_crops_triton.driver", Driver())
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 0))
    with pytest.raises(ValueError, match=r"a C compiler and Python's headers, .*apt install gcc python3-dev, or use backend="):
        open_backend("dali", SETTINGS)


@pytest.mark.parametrize(
    ("version", "capability", "lacking"),
    [
        ("3.2.0", (9, 0), "Triton 3.3 or later on a GPU"),
        ("3.6.0", (7, 0), "a GPU of compute capability 7.2 or later"),
        ("3.3.0", (7, 5), ""),
        ("3.10.1+git0a1b2c3d", (12, 0), ""),
    ],
)
def test_where_the_kernels_of_crops_cannot_be_compiled_dali_does_without_and_fused_says_why(
    version: str, capability: tuple[int, int], lacking: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Triton 3.2, which torch 2.6 brings, has no tuples in kernels, and a V100 no cvt.pack."""
    monkeypatch.setattr("triton.__version__", version)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    assert engine_of("dali", SETTINGS.device) == ("dali-ops" if lacking else "fused")
    if lacking:
        with pytest.raises(ValueError, match=rf"backend='fused' needs {lacking}.*, or use backend='dali-ops'"):
            open_backend("fused", SETTINGS)


@pytest.mark.gpu
def test_a_gpu_that_is_far_behind_still_reads_the_images_it_was_given(photographs: Path) -> None:
    with Loader(photographs, dino(2), backend="fused", batch_size=4, device="cuda") as loader:
        expected = [batch.globals.sum().item() for batch in loader]
        loader.set_epoch(0)
        sums = []
        for batch in loader:
            torch.cuda._sleep(50_000_000)  # the next batch's kernels are queued behind it
            sums.append(batch.globals.sum())
    assert len(expected) == 8
    assert [total.item() for total in sums] == expected
