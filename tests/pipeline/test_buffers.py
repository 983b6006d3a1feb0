"""Memory is used again exactly when nobody refers to it any more."""

import gc

import torch

from hjepa.pipeline.buffers import ALIGNMENT, Buffers


def test_memory_comes_back_when_the_last_reference_goes() -> None:
    buffers = Buffers(spare=2)
    first = buffers.take((2, 3, 4), torch.float32)
    place = first.data_ptr()
    assert place % ALIGNMENT == 0
    views = [first[1], first.numpy(), torch.from_dlpack(first)]
    del first
    while views:
        assert buffers.take((2, 3, 4), torch.float32).data_ptr() != place
        views.pop()
        gc.collect()
    assert place in {tensor.data_ptr() for tensor in [buffers.take((2, 3, 4), torch.float32) for _ in range(2)]}


def test_what_was_handed_out_stays_as_it_is() -> None:
    buffers = Buffers(spare=3)
    held = [buffers.take((100,), torch.bfloat16).fill_(number) for number in range(10)]
    for _ in range(20):
        buffers.take((100,), torch.bfloat16).fill_(-1)
    assert [int(tensor[0]) for tensor in held] == list(range(10))
    assert all(bool((tensor == tensor[0]).all()) for tensor in held)


def test_no_more_than_the_spare_ones_are_kept() -> None:
    buffers = Buffers(spare=2)
    held = [buffers.take((50,), torch.float16) for _ in range(9)]
    del held
    gc.collect()
    assert [len(unused) for unused in buffers._unused.values()] == [2]
