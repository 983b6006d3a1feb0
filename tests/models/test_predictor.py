"""The predictor: target blocks tell each other nothing, padding is unseen, and place, level and context all matter."""

import pytest
import torch
from torch import Tensor

from hjepa.models.predictor import LocalTokens, Predictor, PredictorSettings


@pytest.fixture
def predictor() -> Predictor:
    torch.manual_seed(0)
    predictor = Predictor(PredictorSettings(width=16, depth=2, num_heads=2), encoder_width=12, num_levels=3)
    for parameter in predictor.parameters():
        torch.nn.init.normal_(parameter, std=0.2)  # at 0.02 what a token says to another is lost in rounding
    return predictor


@pytest.fixture
def question() -> dict[str, Tensor]:
    """R = 3 contexts of K = 5 tokens, T = 2 blocks of M = 4 patches, in a grid of 4 x 4; the last slot of each is padding."""
    generator = torch.Generator().manual_seed(1)
    patches = torch.stack([torch.randperm(16, generator=generator) for _ in range(3)])
    return {
        "context": torch.randn(3, 5, 12, generator=generator),
        "context_index": patches[:, :5],
        "context_valid": (torch.arange(5) < 4).expand(3, -1),
        "target_index": patches[:, 5:13].view(3, 2, 4),
        "target_valid": (torch.arange(4) < 3).expand(3, 2, -1),
        "level": torch.tensor([0, 1, 2]),
    }


def _differs(predictor: Predictor, question: dict[str, Tensor], **changes: Tensor) -> Tensor:
    """Which of the valid predictions bool [R, T, M - 1] a change of the question changes."""
    difference = predictor(**question, grid=(4, 4)) - predictor(**(question | changes), grid=(4, 4))
    differs: Tensor = difference.abs().amax(-1)[:, :, :3] > 1e-5
    return differs


def test_blocks_tell_each_other_nothing(predictor: Predictor, question: dict[str, Tensor]) -> None:
    index = question["target_index"].clone()
    index[1, 0] = index[1, 0].flip(0)
    index[1, 0, 1] = 15 - index[1, 0, 1]
    changed = _differs(predictor, question, target_index=index)
    assert changed[1, 0].all()
    assert changed.sum() == 3
    alone = {**question, "target_index": question["target_index"][:, 1:], "target_valid": question["target_valid"][:, 1:]}
    torch.testing.assert_close(predictor(**alone, grid=(4, 4)), predictor(**question, grid=(4, 4))[:, 1:])


def test_patches_of_one_block_tell_each_other_their_places(predictor: Predictor, question: dict[str, Tensor]) -> None:
    index = question["target_index"].clone()
    index[2, 1, 0] = 15 - index[2, 1, 0]
    assert _differs(predictor, question, target_index=index)[2, 1].all()


def test_padding_is_not_seen(predictor: Predictor, question: dict[str, Tensor]) -> None:
    context, index = question["context"].clone(), question["context_index"].clone()
    context[:, 4], index[:, 4] = 100.0, 0
    assert not _differs(predictor, question, context=context, context_index=index).any()
    targets = question["target_index"].clone()
    targets[:, :, 3] = 0
    assert not _differs(predictor, question, target_index=targets).any()


@pytest.mark.parametrize("part", ["context", "context_index", "level"])
def test_context_and_level_of_a_row_matter_to_this_row_alone(
    predictor: Predictor, question: dict[str, Tensor], part: str
) -> None:
    changed = question[part].clone()
    changed[1] = changed[1].flip(0) if part != "level" else 0
    assert _differs(predictor, question, **{part: changed}).flatten(1).all(1).tolist() == [False, True, False]


def test_the_level_is_said_to_context_and_targets_alike(
    predictor: Predictor, question: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    entered: list[Tensor] = []

    def predict(tokens: Tensor, valid: Tensor, block_size: int) -> Tensor:
        entered.append(tokens)
        return torch.zeros(len(tokens), block_size, 12)

    monkeypatch.setattr(predictor, "_predict", predict)
    for level in (0, 2):
        predictor(**(question | {"level": torch.full((3,), level)}), grid=(4, 4))
    embedding = predictor.level_embedding.weight
    torch.testing.assert_close(entered[1] - entered[0], (embedding[2] - embedding[0]).expand_as(entered[0]))


def test_leaving_out_the_context_after_the_last_block_changes_no_prediction(
    predictor: Predictor, question: dict[str, Tensor]
) -> None:
    tokens, valid = torch.randn(3, 9, 16), torch.ones(3, 9, dtype=torch.bool)
    everything = tokens
    for block in predictor.blocks:
        everything = block(everything)
    torch.testing.assert_close(predictor._predict(tokens, valid, 4), predictor.project(predictor.norm(everything))[:, 5:])


def test_sizes_that_do_not_fit_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="num_heads=5"):
        PredictorSettings(width=64, num_heads=5)
    with pytest.raises(ValueError, match="above 0"):
        PredictorSettings(depth=0)


def test_a_local_token_where_a_patch_is_says_what_the_patch_says(question: dict[str, Tensor]) -> None:
    torch.manual_seed(0)
    predictor = Predictor(PredictorSettings(width=16, depth=2, num_heads=2), encoder_width=12, num_levels=3, reads_locals=True)
    for parameter in predictor.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    assert predictor.embed_size is not None
    torch.nn.init.zeros_(predictor.embed_size.bias)  # "this token is of a local crop"

    def centres(index: Tensor) -> Tensor:
        return torch.stack([index // 4, index % 4], dim=-1) + 0.5

    valid = question["context_valid"]
    place, size = centres(question["context_index"]), torch.zeros(3, 5, 2)  # patches as large as the global crop's
    local = LocalTokens(tokens=question["context"], place=place, log_size=size, valid=valid)
    expected = predictor(**question, grid=(4, 4))
    asked = centres(question["target_index"])
    between = predictor.predict_places(local, asked, question["target_valid"], question["level"])
    torch.testing.assert_close(between[:, :, :3], expected[:, :, :3], rtol=1e-4, atol=1e-4)
    nothing = {**question, "context_valid": torch.zeros_like(valid)}
    beside = predictor(**nothing, grid=(4, 4), local=local)
    torch.testing.assert_close(beside[:, :, :3], expected[:, :, :3], rtol=1e-4, atol=1e-4)
    smaller = predictor(
        **nothing, grid=(4, 4), local=LocalTokens(tokens=local.tokens, place=place, log_size=size - 1, valid=valid)
    )
    assert (smaller - beside)[:, :, :3].abs().amax(-1).min() > 1e-4
