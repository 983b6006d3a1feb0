"""Triton kernels: equal to their torch texts bit for bit, compiled for GPUs that are not there, and no wait on one that is."""

import os
import re
import subprocess
import sys
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch

from hjepa.kernels import chance
from hjepa.kernels.blockwise_masks import blockwise_masks
from hjepa.kernels.folded_keys import fold_ranges
from hjepa.kernels.mask_indices import block_indices, context_indices, mask_indices
from hjepa.kernels.shared_blocks import block_masks, tube_masks
from hjepa.kernels.simple_masks import paint_rectangles, random_masks
from hjepa.pipeline.masks import HierarchicalMaskGenerator
from tests.kernels.waiting import nothing_waits

triton = pytest.importorskip("triton", reason="needs Triton, which comes with torch for Linux")
ROOT = Path(__file__).parents[2]
KERNELS = [
    "folded keys",
    "reference masks",
    "exact masks",
    "nested masks",
    "weighted reference",
    "weighted exact",
    "blockwise masks",
]
KERNELS += [
    "shared blocks",
    "tubes",
    "random masks",
    "given rectangles",
    "mask indices",
    "context indices",
    "block indices",
    "gather tokens",
    "combine tokens",
]
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


SPILLED = {(3, 9): 20, (3, 8): 16, (3, 6): 44, (0, 0): 80}
"""Bytes, measured, of the resize: since which Triton."""


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("name", KERNELS)
def test_kernels_compile_without_a_gpu_and_spill_next_to_nothing(name: str, capability: int) -> None:
    from benchmarks.kernels_aot import KERNELS as known
    from benchmarks.kernels_aot import report

    assert list(known) == KERNELS
    found = report(name, capability)
    assert 0 < found["registers"] <= 255
    version = tuple(map(int, triton.__version__.split(".")[:2]))
    bound = next(spilled for since, spilled in SPILLED.items() if version >= since)
    assert found["spilled bytes"] <= bound
    assert found["fused multiply-adds"] == 0  # one rounding instead of two: the bits would differ


def test_launches_compile_as_on_a_gpu_and_for_no_batch_again() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "tests/kernels/compiled/launches.py"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    sources = "".join(path.read_text() for path in (ROOT / "kernels").glob("*_triton.py"))
    assert done.stdout.split() == sorted(re.findall(r"def (\w+_kernel)\(", sources))


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
    with nothing_waits():
        found = generator.sample(on_gpu, of_gpu)
    wanted = generator.sample(keys, weights)
    assert torch.equal(found.context.cpu(), wanted.context)
    assert torch.equal(found.targets.cpu(), wanted.targets)


def families(keys: torch.Tensor, counts: torch.Tensor, rectangles: torch.Tensor) -> list[torch.Tensor]:
    """What every family but the levels' makes of keys int64 [64], counts int64 [64] and rectangles int64 [8, 4]."""
    hidden = blockwise_masks(keys, counts, (14, 14))
    context, targets = block_masks(keys, (12, 12), (5, 6), (14, 14), num_targets=4, min_outside=10)
    indices = context_indices(context, targets.any(1), 60, 10, keys), mask_indices(hidden, 40, keys)
    simple = [random_masks(keys, 196, 147), paint_rectangles(rectangles, (14, 14)), fold_ranges(keys, range(2, 5), range(3))]
    indices += (block_indices(context, targets, 60, 20, 10, keys),)
    return [hidden, context, targets, *chain(*indices), *tube_masks(keys, (2, 5, 5), (4, 14, 14), 3, 2), *simple]


def families_given(seed: int, device: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    keys = chance.key_tensor(chance.key(seed, np.arange(64)))
    return keys.to(device), torch.arange(64).to(device), (keys.view(-1, 4)[:8] % 10).to(device)


@pytest.mark.gpu
def test_the_other_families_on_a_gpu_are_those_of_the_cpu_and_nothing_waits() -> None:
    given = families_given(1, "cuda")
    families(*given)
    with nothing_waits():
        found = families(*given)
    for one, other in zip(found, families(*families_given(1, "cpu")), strict=True):
        assert torch.equal(one.cpu(), other)


@pytest.mark.gpu
def test_the_other_families_replay_in_a_cuda_graph() -> None:
    given = families_given(1, "cuda")
    families(*given)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = families(*given)
    for static, other in zip(given, families_given(2, "cuda"), strict=True):
        static.copy_(other)
    graph.replay()
    for one, other in zip(found, families(*given), strict=True):
        assert torch.equal(one, other)


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
