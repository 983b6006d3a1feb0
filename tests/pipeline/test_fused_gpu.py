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
    with pytest.raises(ValueError, match=r"a C compiler and Python's headers, .*apt install gcc python3-dev, or use backend="):
        open_backend("dali", SETTINGS)


@pytest.mark.parametrize(
    ("version", "engine"),
    [("3.2.0", "dali-ops"), ("3.3.0", "fused"), ("3.10.1+git0a1b2c3d", "fused"), ("4.0.0", "fused")],
)
def test_a_triton_that_cannot_compile_the_kernels_of_crops_is_passed_over_or_named(
    version: str, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """3.2, which torch 2.6 brings, has no tuples in kernels."""
    monkeypatch.setattr("triton.__version__", version)
    assert engine_of("dali", SETTINGS.device) == engine
    if engine == "dali-ops":
        with pytest.raises(ValueError, match=r"backend='fused' needs Triton 3.3 or later on a GPU, .* use backend='dali-ops'"):
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
