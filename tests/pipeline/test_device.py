"""With how many threads a Loader works, which rank of how many it is, and who is asked."""

import pytest
import torch

from hjepa.pipeline.device import require_rank, resolve_rank, resolve_workers


def test_ranks_are_as_given_and_one_where_there_are_no_others() -> None:
    assert resolve_rank("auto", "auto") == (0, 1)
    assert resolve_rank(2, 3) == (2, 3)


def test_ranks_that_cannot_be_told_apart_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """All would train on the same images, and no figure would show it."""
    with pytest.raises(ValueError, match=r"there are 4 ranks.* not set up"):
        resolve_rank("auto", 4)
    monkeypatch.setattr(torch.distributed, "is_torchelastic_launched", lambda: True)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match=r"there are 2 ranks.* after init_process_group"):
        resolve_rank("auto", "auto")
    assert resolve_rank(1, 2) == (1, 2)
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert resolve_rank("auto", "auto") == (0, 1)


@pytest.mark.parametrize(("rank", "world_size", "name"), [(0.0, 2, "rank"), ("0", 2, "rank"), (0, 2.5, "world_size")])
def test_rank_that_is_no_whole_number_is_refused(rank: object, world_size: object, name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name}=.* is no whole number"):
        resolve_rank(rank, world_size)


def test_no_worker_is_torchvisions_alone() -> None:
    """Scripts for torch's DataLoader have num_workers=0."""
    assert resolve_workers(0, "torchvision") == 0
    with pytest.raises(ValueError, match=r"num_workers=0, but DALI needs a thread; use 1 or 'auto', or backend='torchvision'"):
        resolve_workers(0, "dali")


def test_loader_that_was_made_before_the_ranks_were_joined_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning joins them in `fit`: each rank would go on as the only one."""
    require_rank("auto", "auto", made_as=(0, 1))
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 1)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    with pytest.raises(ValueError, match=r"is rank 0 of 1, and .* says rank 1 of 2: make it after that"):
        require_rank("auto", "auto", made_as=(0, 1))
    require_rank("auto", "auto", made_as=(1, 2))
    require_rank(0, 1, made_as=(0, 1))
