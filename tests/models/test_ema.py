"""The moving average: its formula, in place, and nothing else touched."""

import pytest
import torch
from torch import nn

from hjepa.models.ema import update_average


@pytest.mark.parametrize("momentum", [0.0, 0.25, 0.996, 1.0])
def test_the_average_follows_its_formula_in_place(momentum: float) -> None:
    average, source = nn.Linear(5, 3), nn.Linear(5, 3)
    places = [parameter.data_ptr() for parameter in average.parameters()]
    before = [parameter.detach().clone() for parameter in average.parameters()]
    theirs = [parameter.detach().clone() for parameter in source.parameters()]
    update_average(average, source, momentum)
    for ours, old, new in zip(average.parameters(), before, source.parameters(), strict=True):
        torch.testing.assert_close(ours.detach(), momentum * old + (1 - momentum) * new.detach(), rtol=1e-6, atol=1e-7)
        assert ours.grad_fn is None
    assert [parameter.data_ptr() for parameter in average.parameters()] == places
    assert all(torch.equal(new, old) for new, old in zip(source.parameters(), theirs, strict=True))


def test_momentum_one_changes_no_bit_and_momentum_zero_copies_every_bit() -> None:
    average, source = nn.Linear(33, 33), nn.Linear(33, 33)
    before = average.weight.detach().clone()
    update_average(average, source, 1.0)
    assert torch.equal(average.weight, before)
    update_average(average, source, 0.0)
    assert torch.equal(average.weight, source.weight)


def test_a_momentum_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match=r"momentum=1\.5"):
        update_average(nn.Linear(1, 1), nn.Linear(1, 1), 1.5)
