"""Triton kernels: equal to their torch texts bit for bit, compiled for GPUs that are not there, and no wait on one that is."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from hjepa.kernels import chance
from hjepa.kernels.blockwise_masks import blockwise_masks
from hjepa.kernels.mask_indices import context_indices, mask_indices
from hjepa.kernels.shared_blocks import block_masks, tube_masks
from hjepa.pipeline.masks import HierarchicalMaskGenerator

pytest.importorskip("triton", reason="needs Triton, which comes with torch for Linux")
ROOT = Path(__file__).parents[2]
KERNELS = ["reference masks", "exact masks", "nested masks", "weighted reference", "weighted exact", "blockwise masks"]
KERNELS += ["shared blocks", "tubes", "mask indices", "context indices", "gather tokens", "combine tokens"]
KERNELS += ["crop weights", "crop resize", "crop contrast", "crop blur"]
SETTINGS = os.environ.get("HJEPA_MASK_SETTINGS", "768")
"""Random settings that are compared; 10240 take a minute."""


@pytest.mark.parametrize("part", ["blocks", "families"])
def test_kernels_equal_their_torch_texts_in_random_settings(part: str) -> None:
    done = subprocess.run(
        [sys.executable, "tests/kernels/interpreted/equality.py", part, SETTINGS],
        cwd=ROOT,
        env=os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"{SETTINGS} settings equal" in done.stdout


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


def generator_of(kind: str) -> HierarchicalMaskGenerator:
    return HierarchicalMaskGenerator(law="reference" if kind == "reference" else "exact", nested=kind == "nested")


@pytest.mark.gpu
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("kind", ["exact", "reference", "nested"])
def test_masks_on_a_gpu_are_those_of_the_cpu_and_nothing_waits(kind: str, weighted: bool) -> None:
    generator = generator_of(kind)
    keys, weights = chance.key_tensor(chance.key(1, np.arange(256))), torch.rand(256, 196) if weighted else None
    on_gpu, of_gpu = keys.cuda(), None if weights is None else weights.cuda()
    generator.sample(on_gpu, of_gpu)
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = generator.sample(on_gpu, of_gpu)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    wanted = generator.sample(keys, weights)
    assert torch.equal(found.context.cpu(), wanted.context)
    assert torch.equal(found.targets.cpu(), wanted.targets)


@pytest.mark.gpu
def test_the_other_families_on_a_gpu_are_those_of_the_cpu_and_nothing_waits() -> None:
    keys, counts = chance.key_tensor(chance.key(1, np.arange(64))), torch.arange(64)

    def families(keys: torch.Tensor, counts: torch.Tensor) -> list[torch.Tensor]:
        hidden = blockwise_masks(keys, counts, (14, 14))
        context, targets = block_masks(keys, (12, 12), (5, 6), (14, 14), num_targets=4, min_outside=10)
        indices = context_indices(context, targets.any(1), 60, 10, keys), mask_indices(hidden, 40, keys)
        return [hidden, context, targets, *indices[0], *indices[1], *tube_masks(keys, (2, 5, 5), (4, 14, 14), 3)]

    on_gpu = keys.cuda(), counts.cuda()
    families(*on_gpu)
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = families(*on_gpu)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for one, other in zip(found, families(keys, counts), strict=True):
        assert torch.equal(one.cpu(), other)


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["exact", "reference", "nested"])
def test_masks_of_a_batch_replay_in_a_cuda_graph(kind: str) -> None:
    generator = generator_of(kind)
    keys = chance.key_tensor(chance.key(1, np.arange(256)), "cuda")
    generator.sample(keys)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        masks = generator.sample(keys)
    keys.copy_(chance.key_tensor(chance.key(2, np.arange(256))))
    graph.replay()
    assert torch.equal(masks.targets, generator.sample(keys).targets)
