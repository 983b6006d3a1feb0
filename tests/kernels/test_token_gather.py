"""Gathered tokens are those that the indices name, and each gets the gradient of every place it was gathered to."""

import pytest
import torch
from torch import Tensor

from hjepa.kernels.token_gather import gather_visible

SHAPES = [(1, 1, 1, 1, 1), (3, 1, 7, 33, 5), (2, 3, 7, 7, 4)]
"""R, G, K, N, D."""


def indices(rows: int, groups: int, length: int, patches: int) -> tuple[Tensor, Tensor]:
    """Distinct indices int64 [R, G, K] with 0 at padding, and valid bool [R, G, K]."""
    generator = torch.Generator().manual_seed(1)
    valid = torch.rand(rows, groups, length, generator=generator) < 0.7
    order = torch.rand(rows, groups, patches, generator=generator).argsort(-1)
    return order[..., :length].masked_fill(~valid, 0), valid


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gathered_tokens_are_those_of_a_loop(shape: tuple[int, ...]) -> None:
    rows, groups, length, patches, width = shape
    index, valid = indices(rows, groups, length, patches)
    tokens = torch.randn(rows, patches, width, requires_grad=True)
    found = gather_visible(tokens, index, valid)
    (gradient,) = torch.autograd.grad(found, tokens, found.detach())
    scattered = torch.zeros(rows, patches, width)
    for row in range(rows):
        for group in range(groups):
            for slot in range(length):
                expected = tokens[row, index[row, group, slot]] if valid[row, group, slot] else torch.zeros(width)
                assert torch.equal(found[row, group, slot], expected)
                if valid[row, group, slot]:
                    scattered[row, index[row, group, slot]] += found[row, group, slot].detach()
    torch.testing.assert_close(gradient, scattered)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gradients_are_right(shape: tuple[int, ...]) -> None:
    rows, groups, length, patches, width = shape
    index, valid = indices(rows, groups, length, patches)
    tokens = torch.randn(rows, patches, width, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda given: gather_visible(given, index, valid), tokens)
