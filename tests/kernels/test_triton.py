"""Triton kernels: equal to their torch texts bit for bit, compiled for GPUs that are not there, and no wait on one that is."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from hjepa.kernels import chance
from hjepa.pipeline.masks import HierarchicalMaskGenerator

pytest.importorskip("triton", reason="needs Triton, which comes with torch for Linux")
ROOT = Path(__file__).parents[2]
KERNELS = ["reference masks", "exact masks", "gather tokens", "combine tokens"]


def test_kernels_equal_their_torch_texts_on_ten_thousand_random_settings() -> None:
    done = subprocess.run(
        [sys.executable, "tests/kernels/interpreted/equality.py"],
        cwd=ROOT,
        env=os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "10240 settings equal" in done.stdout


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("name", KERNELS)
def test_kernels_compile_without_a_gpu_and_spill_nothing(name: str, capability: int) -> None:
    from benchmarks.kernels_aot import KERNELS as known
    from benchmarks.kernels_aot import report

    assert list(known) == KERNELS
    found = report(name, capability)
    assert 0 < found["registers"] <= 255
    assert found["spilled bytes"] == 0
    assert found["fused multiply-adds"] == 0  # one rounding instead of two: the bits would differ


@pytest.mark.gpu
@pytest.mark.parametrize("law", ["exact", "reference"])
def test_masks_on_a_gpu_are_those_of_the_cpu_and_nothing_waits(law: str) -> None:
    generator = HierarchicalMaskGenerator(law=law)  # type: ignore[arg-type]
    keys = chance.key_tensor(chance.key(1, np.arange(256)))
    on_gpu = keys.cuda()
    generator.sample(on_gpu)
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = generator.sample(on_gpu)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    wanted = generator.sample(keys)
    assert torch.equal(found.context.cpu(), wanted.context)
    assert torch.equal(found.targets.cpu(), wanted.targets)


@pytest.mark.gpu
@pytest.mark.parametrize("law", ["exact", "reference"])
def test_masks_of_a_batch_replay_in_a_cuda_graph(law: str) -> None:
    generator = HierarchicalMaskGenerator(law=law)  # type: ignore[arg-type]
    keys = chance.key_tensor(chance.key(1, np.arange(256)), "cuda")
    generator.sample(keys)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        masks = generator.sample(keys)
    keys.copy_(chance.key_tensor(chance.key(2, np.arange(256))))
    graph.replay()
    assert torch.equal(masks.targets, generator.sample(keys).targets)
