"""The law "reference" against the published algorithm in Python loops, on grids and settings that its tables do not have."""

import os

import numpy as np
import pytest
import torch

from benchmarks import mask_loops
from hjepa.kernels import chance
from hjepa.kernels.block_masks import draw_blocks, law_tensor
from hjepa.kernels.rectangles import masks_of
from hjepa.pipeline.masks import ScaleProgression, hierarchy_laws

LOOPS = int(os.environ.get("HJEPA_MASK_LOOPS", "1000"))
"""Samples of the published loops; 30000 take a minute for each case."""
SAMPLES, ATTEMPTS = 30_000, 10
CASES = {
    "16x16, level 2 of 3": ((16, 16), 3, "geometric", (0.05, 0.15), (0.75, 1.5), 2),
    "14x14, linear, level 2 of 3": ((14, 14), 3, "linear", (0.05, 0.15), (0.75, 1.5), 2),
    "24x24, level 3 of 4": ((24, 24), 4, "geometric", (0.02, 0.1), (0.75, 1.5), 3),
    "18x18, linear, level 3 of 4": ((18, 18), 4, "linear", (0.03, 0.1), (0.75, 1.5), 3),
    "10x10, base 0.08-0.12, level 1 of 3": ((10, 10), 3, "geometric", (0.08, 0.12), (0.75, 1.5), 1),
    "9x17, wide aspects": ((9, 17), 2, "geometric", (0.1, 0.2), (0.5, 2.0), 1),
}


def statistics(
    context: np.ndarray, targets: np.ndarray, context_area: np.ndarray, attempts: np.ndarray
) -> dict[str, np.ndarray]:
    """Per sample, from context [B, N], targets [B, T, N], the context block's area [B] and the attempts [B, T]."""
    hits, patches = targets.sum(1), context.shape[-1]
    found = {"context": context.mean(-1), "union": (hits > 0).mean(-1), "twice": (hits > 1).sum(-1), "block": context_area}
    found |= {f"target {t}": targets[:, t].mean(-1) for t in range(targets.shape[1])}
    found |= {f"attempts {t}": np.minimum(attempts[:, t], ATTEMPTS) for t in range(1, targets.shape[1])}
    found |= {f"fallback {t}": attempts[:, t] > ATTEMPTS for t in range(1, targets.shape[1])}
    found |= {f"context at {n}": context[:, n] for n in (0, patches // 2, patches - 1)}
    found |= {f"union at {n}": hits[:, n] > 0 for n in (0, patches // 2, patches - 1)}
    return {name: values.astype(np.float64) for name, values in found.items()}


@pytest.mark.parametrize("case", CASES)
def test_statistics_are_those_of_the_published_loops(case: str) -> None:
    grid, count, progression, base, aspect, level = CASES[case]
    kind: ScaleProgression = "linear" if progression == "linear" else "geometric"
    law = hierarchy_laws(grid, count, kind, base, aspect)[level]
    keys = chance.key_tensor(chance.key(7, list(CASES).index(case), np.arange(SAMPLES)))[None]
    blocks = draw_blocks(keys, law_tensor([law]), grid, num_targets=4, max_attempts=ATTEMPTS)
    context, targets = masks_of(blocks, grid)
    top, bottom, left, right = blocks.context[:, 0].numpy()
    found = statistics(
        context[0].numpy(), targets[0].numpy(), (bottom - top) * (right - left), (blocks.choice[:, 0] + 1).T.numpy()
    )
    np.random.seed(1)  # noqa: NPY002  # the published loops draw from the global state
    scales = mask_loops.levels(grid, count, base, aspect, progression)[level]
    fallback = (int(scales[3][0]), int(scales[3][1]))
    draws = [mask_loops.sample(grid, scales[0], scales[1], scales[2], fallback) for _ in range(LOOPS)]
    wanted = statistics(
        np.stack([draw.context.flatten() for draw in draws]),
        np.stack([[target.flatten() for target in draw.targets] for draw in draws]),
        np.array([draw.context_area for draw in draws]),
        np.array([draw.attempts for draw in draws]),
    )
    scores = {}
    for name, values in found.items():
        error = (values.var() / SAMPLES + max(values.var(), wanted[name].var()) / LOOPS) ** 0.5
        scores[name] = abs(values.mean() - wanted[name].mean()) / (error + 1e-9)
    worst = max(scores, key=lambda name: scores[name])
    print(f"{case}: {len(scores)} statistics, the largest |z| is {scores[worst]:.2f} ({worst})")
    assert scores[worst] < 4.5, (worst, scores[worst])
    assert torch.equal(targets.any(-1), torch.ones_like(targets[..., 0]))
