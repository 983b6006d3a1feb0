"""The model and its loss: what may depend on what, what learns and what does not, and that it learns."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hjepa.models.hjepa import HierarchicalJepa, HierarchicalJepaSettings, JepaLosses
from hjepa.models.losses import LossKind, baseline_loss, prediction_loss, spread_loss
from hjepa.models.predictor import PredictorSettings
from hjepa.models.sizes import VisionTransformerSettings
from hjepa.models.targets import level_targets

SMALL = HierarchicalJepaSettings(
    encoder=VisionTransformerSettings(patch_size=8, width=16, depth=2, num_heads=2),
    predictor=PredictorSettings(width=8, depth=2, num_heads=2),
    num_levels=2,
    level_windows=(1, 3),
    level_weights=(1.0, 0.5),
)
VIEWS = dataclasses.replace(SMALL, view_weight=0.5)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Toy sizes gain nothing from threads, and on a busy machine each operation would wait for all of them."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _model(settings: HierarchicalJepaSettings = SMALL) -> HierarchicalJepa:
    torch.manual_seed(0)
    model = HierarchicalJepa(settings)
    for parameter in (*model.encoder.parameters(), *model.predictor.parameters()):
        # At a deviation of 0.02, what one token says to another is lost in rounding.
        nn.init.normal_(parameter, std=0.2)
    model.update_teacher(0.0)
    return model


def _batch(num_images: int = 3) -> dict[str, Tensor]:
    """G = 2 crops of 4 x 4 patches, L = 2 levels, K = 6 context tokens, T = 2 blocks of M = 4; some slots are padding."""
    generator = torch.Generator().manual_seed(1)
    rows = (2, 2, num_images)
    patches = torch.rand(*rows, 16, generator=generator).argsort(-1)
    num_visible = torch.randint(2, 6, (*rows, 1), generator=generator)
    num_hidden = torch.randint(0, 4, (*rows, 2, 1), generator=generator)
    num_hidden[..., 0, :] += 1  # the second block of a row may be empty
    return {
        "global_crops": torch.randn(2, num_images, 3, 32, 32, generator=generator),
        "context_index": patches[..., :6],
        "context_valid": torch.arange(6) < num_visible,
        "target_index": patches[..., 6:14].view(*rows, 2, 4),
        "target_valid": torch.arange(4) < num_hidden,
    }


@pytest.mark.parametrize(("kind", "normalized"), [("smooth_l1", False), ("mse", True)])
def test_the_loss_is_the_weighted_mean_of_the_levels_computed_one_row_at_a_time(kind: LossKind, normalized: bool) -> None:
    model, batch = _model(dataclasses.replace(SMALL, loss=kind, normalize_embeddings=normalized)), _batch()
    losses = model(**batch)
    expected = []
    for level in range(2):
        distances, places = [], [(crop, image) for crop in range(2) for image in range(3)]
        for crop, image in places:
            pixels = batch["global_crops"][crop, image].unsqueeze(0)
            targets = level_targets(model.teacher(pixels), (4, 4), (1, 3))[level][0]
            for block in range(2):
                seen, asked = ({"index": batch[f"{part}_index"][crop, level, image]} for part in ("context", "target"))
                visible = seen["index"][batch["context_valid"][crop, level, image]].unsqueeze(0)
                hidden = asked["index"][block][batch["target_valid"][crop, level, image, block]].view(1, 1, -1)
                if hidden.numel():
                    every = [torch.ones_like(index, dtype=torch.bool) for index in (visible, hidden)]
                    context, which = model.encoder(pixels, visible), torch.tensor([level])
                    guess = model.predictor(context, visible, every[0], hidden, every[1], which, (4, 4))
                    distances.append(prediction_loss(guess, targets[hidden], every[1], kind, normalized))
        expected.append(torch.stack(distances).mean())
    torch.testing.assert_close(losses.levels, torch.stack(expected).detach())
    torch.testing.assert_close(losses.total, (expected[0] + 0.5 * expected[1]) / 1.5)
    assert losses.view == 0


def test_each_level_has_the_baseline_of_its_own_targets() -> None:
    model, batch = _model(), _batch()
    losses = model(**batch)
    assert not losses.baselines.requires_grad
    for level, window in enumerate((1, 3)):
        index, valid = (batch[f"target_{part}"][:, level] for part in ("index", "valid"))  # [G, B, T, M]
        targets = torch.stack([level_targets(model.teacher(crop), (4, 4), (window,))[0] for crop in batch["global_crops"]])
        wanted = torch.stack(
            [torch.stack([targets[crop, image][index[crop, image]] for image in range(3)]) for crop in range(2)]
        )
        torch.testing.assert_close(losses.baselines[level], baseline_loss(wanted, valid))


def test_the_order_of_the_images_does_not_matter() -> None:
    model, batch = _model(), _batch()
    order = torch.tensor([2, 0, 1])
    moved = {name: part[:, order] if name == "global_crops" else part[:, :, order] for name, part in batch.items()}
    torch.testing.assert_close(model(**moved).total, model(**batch).total)
    mixed = batch | {"global_crops": moved["global_crops"]}
    assert (model(**mixed).total - model(**batch).total).abs() > 1e-4


def test_a_prediction_depends_on_the_visible_patches_of_its_own_crop_alone() -> None:
    model, batch = _model(), _batch()
    batch["global_crops"].requires_grad_()
    predicted = model.predict(**batch)
    crop, level, image, block = 1, 0, 2, 0
    valid = batch["target_valid"][crop, level, image, block]
    (gradient,) = torch.autograd.grad(predicted[crop, level, image, block][valid].square().sum(), batch["global_crops"])
    visible = batch["context_index"][crop, level, image][batch["context_valid"][crop, level, image]]
    expected = torch.zeros(2, 3, 16, dtype=torch.bool)
    expected[crop, image, visible] = True
    reached = gradient.view(2, 3, 3, 4, 8, 4, 8).abs().amax((2, 4, 6)).flatten(2) > 0
    assert torch.equal(reached, expected)


def test_padding_does_not_change_the_loss_and_gets_no_gradient() -> None:
    model, batch = _model(), _batch()
    before = model(**batch).total
    moved = {
        name: torch.where(batch[f"{name}_valid"], batch[f"{name}_index"], 15 - batch[f"{name}_index"])
        for name in ("context", "target")
    }
    changed = batch | {f"{name}_index": index for name, index in moved.items()}
    assert not torch.equal(changed["target_index"], batch["target_index"])
    torch.testing.assert_close(model(**changed).total, before, rtol=1e-6, atol=0)

    predicted = model.predict(**batch).detach().requires_grad_()
    prediction_loss(predicted, torch.randn_like(predicted), batch["target_valid"]).backward()
    assert predicted.grad is not None
    assert torch.equal(predicted.grad.any(-1), batch["target_valid"])


def test_the_teacher_starts_as_the_student_learns_nothing_and_follows_it() -> None:
    torch.manual_seed(0)
    model, batch = HierarchicalJepa(SMALL).train(), _batch()
    pairs = list(zip(model.teacher.parameters(), model.encoder.parameters(), strict=True))
    assert all(torch.equal(teacher, student) for teacher, student in pairs)
    assert not model.teacher.training
    before = [teacher.detach().clone() for teacher, _ in pairs]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
    model(**batch).total.backward()
    optimizer.step()
    assert all(teacher.grad is None and torch.equal(teacher, old) for (teacher, _), old in zip(pairs, before, strict=True))
    assert all(student.grad is not None and not torch.equal(teacher, student) for teacher, student in pairs)
    model.update_teacher(0.75)
    for (teacher, student), old in zip(pairs, before, strict=True):
        torch.testing.assert_close(teacher, 0.75 * old + 0.25 * student.detach())


def test_features_are_the_means_of_the_teachers_tokens() -> None:
    model = _model()
    images = torch.randn(3, 3, 24, 24, requires_grad=True)
    features = model.features(images)
    torch.testing.assert_close(features, model.teacher(images).mean(1))
    assert not features.requires_grad


def test_local_crops_are_matched_with_the_global_crops_of_their_own_image() -> None:
    model, batch = _model(VIEWS), _batch()
    model.view_projector = nn.LayerNorm(16, elementwise_affine=False)  # makes guess and target the same function
    colours = torch.randn(3, 3, 1, 1)  # an image of one colour has the same feature in every crop
    batch["global_crops"] = colours.expand(2, 3, 3, 32, 32)
    local_crops = colours.expand(4, 3, 3, 32, 32)
    assert model(**batch, local_crops=local_crops).view < 1e-10
    sample_major = local_crops.transpose(0, 1).reshape(4, 3, 3, 32, 32)
    assert model(**batch, local_crops=sample_major).view > 1e-3


def test_local_crops_are_read_at_their_own_size_and_only_if_they_count() -> None:
    batch = _batch()
    local_crops = torch.randn(4, 3, 3, 16, 16)
    model = _model(VIEWS)
    losses = model(**batch, local_crops=local_crops)
    torch.testing.assert_close(
        losses.total - 0.5 * losses.view, model(**batch, local_crops=local_crops.flip(0)).total.detach() - 0.5 * losses.view
    )
    losses.total.backward()
    assert model.view_projector is not None
    assert all(parameter.grad is not None for parameter in model.view_projector.parameters())
    with pytest.raises(ValueError, match="pass local_crops"):
        model(**batch)
    without = _model()
    assert without.view_projector is None
    assert torch.equal(without(**batch, local_crops=torch.full_like(local_crops, torch.nan)).total, without(**batch).total)


def test_spread_term_alone_keeps_the_students_means_apart() -> None:
    model, batch = _model(dataclasses.replace(VIEWS, view_weight=1e-9, spread_weight=2.0)), _batch()
    local_crops = torch.randn(4, 3, 3, 16, 16)
    losses = model(**batch, local_crops=local_crops)
    assert losses.spread == spread_loss(model.encoder(local_crops.flatten(0, 1)).mean(1).view(4, 3, -1))
    plain = _model(VIEWS)
    plain.load_state_dict(model.state_dict())
    assert plain(**batch, local_crops=local_crops).spread == 0
    (losses.total - plain(**batch, local_crops=local_crops).total).backward()
    assert model.encoder.norm.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("settings", [SMALL, VIEWS], ids=["levels", "views"])
def test_no_step_of_training_looks_at_a_value(settings: HierarchicalJepaSettings) -> None:
    # A meta tensor has no values: whatever would wait for a GPU fails here.
    model = _model(settings).to("meta")
    batch = {name: part.to("meta") for name, part in _batch().items()}
    model(**batch, local_crops=torch.empty(4, 3, 3, 16, 16, device="meta")).total.backward()
    model.update_teacher(0.9)


def test_autocast_computes_in_bfloat16_and_the_loss_in_float32() -> None:
    model, batch = _model(VIEWS), _batch()
    local_crops = torch.randn(4, 3, 3, 16, 16)
    exact = model(**batch, local_crops=local_crops)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model.predict(**batch).dtype == torch.bfloat16
        rough = model(**batch, local_crops=local_crops)
    rough.total.backward()
    for name in ("total", "levels", "baselines", "view"):
        assert getattr(rough, name).dtype == torch.float32
        torch.testing.assert_close(getattr(rough, name), getattr(exact, name), rtol=0.05, atol=0.01)


def test_a_few_steps_reduce_the_loss() -> None:
    torch.manual_seed(0)
    model, batch = HierarchicalJepa(VIEWS), _batch(8)
    local_crops = torch.randn(2, 8, 3, 16, 16)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    history: list[JepaLosses] = []
    for _ in range(30):
        optimizer.zero_grad()
        history.append(model(**batch, local_crops=local_crops))
        history[-1].total.backward()
        optimizer.step()
        model.update_teacher(0.99)
    assert history[-1].total < 0.8 * history[0].total
    assert (history[-1].levels < 0.9 * history[0].levels).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_levels": 3}, "as many level_windows"),
        ({"level_windows": (1, 4)}, "odd"),
        ({"level_weights": (0.0, 0.0)}, "nor all level_weights 0"),
        ({"view_weight": -1.0}, "negative"),
        ({"spread_weight": 1.0}, "no effect with view_weight=0"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SMALL, **change)
