"""Local crops as context and as targets, with the boxes of real draws: what may be seen, what is counted, what learns."""

import dataclasses
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hjepa.assembly import build_loader, build_masks
from hjepa.configs.load import load_settings
from hjepa.configs.schema import Settings
from hjepa.model_assembly import build_model
from hjepa.models.geometry import PatchPlaces, sampled_targets
from hjepa.models.hjepa import HierarchicalJepa, JepaLosses
from hjepa.models.local_crops import LocalMasks, MaskedLocals
from hjepa.pipeline.batch import Batch
from hjepa.pipeline.folder import open_folder
from hjepa.step_masks import StepMasks, draw_masks

CONTEXT, CROSS = "global_with_local_context", "cross_crop_prediction"
STRATEGIES = [CONTEXT, CROSS]
TINY = [
    "data.dataset=imagefolder",
    "data.data_path=unused",
    "data.pipeline=torchvision",
    "data.num_workers=0",
    "data.batch_size=6",
    "data.multicrop.num_local_crops=4",
    "data.multicrop.local_crop_scale=[0.05, 0.3]",
    "model.encoder.width=16",
    "model.embed_dim=16",
    "model.encoder.depth=2",
    "model.encoder.num_heads=2",
    "model.predictor.width=16",
    "model.view_weight=0",
    "model.spread_weight=0",
    "masking.mask_scale=[0.05, 0.1]",
    "device=cpu",
]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def settings_of(strategy: str, *overrides: str) -> Settings:
    return load_settings(Path("small"), [*TINY, f"masking.strategy={strategy}", *overrides])


def model_of(settings: Settings) -> HierarchicalJepa:
    model = build_model(settings, torch.device("cpu"))
    assert isinstance(model, HierarchicalJepa)
    torch.manual_seed(0)
    for parameter in (*model.encoder.parameters(), *model.predictor.parameters()):
        nn.init.normal_(parameter, std=0.2)  # at 0.02 what a token says to another is lost in rounding
    model.update_teacher(0.0)
    return model


@pytest.fixture(scope="module")
def batch(labelled: Path) -> Batch:
    settings = settings_of(CROSS)
    with build_loader(settings, open_folder(labelled), "train") as loader:
        return next(iter(loader))


def loss(model: HierarchicalJepa, batch: Batch, masks: StepMasks, **changes: Any) -> JepaLosses:
    parts = {"global_crops": batch.globals, "local_crops": batch.locals, "places": masks.places, "local_masks": masks.local}
    for name in ("context_index", "context_valid", "target_index", "target_valid"):
        parts[name] = getattr(masks, name)
    losses = model(**(parts | changes))
    assert isinstance(losses, JepaLosses)
    return losses


def moved(part: Any, order: Tensor, axis: dict[str, int]) -> Any:
    """A dataclass with the images of each tensor in another order."""
    changes = {}
    for field in dataclasses.fields(part):
        value = getattr(part, field.name)
        if dataclasses.is_dataclass(value):
            changes[field.name] = moved(value, order, axis)
        elif isinstance(value, Tensor):
            changes[field.name] = value.index_select(axis.get(field.name, axis["else"]), order)
    return dataclasses.replace(part, **changes)


def patches_reached(gradient: Tensor, side: int) -> Tensor:
    """bool [V, B, n]: patches of crops [V, B, 3, s, s] that the gradient reaches."""
    count = gradient.shape[-1] // side
    blocks = gradient.unflatten(-1, (count, side)).unflatten(-3, (count, side))
    return blocks.abs().amax((2, 4, 6)).flatten(-2) > 0


def shows(batch: Batch, outer: Tensor, outer_flip: Tensor, hidden: Tensor, side: int) -> Tensor:
    """bool [V, B, n], pixel by pixel: which patches of each local crop show a pixel of a hidden patch [B, N] of a crop."""
    box, flip = batch.boxes["local"], batch.flips["local"]
    count, grid = int(batch.locals.shape[-1] / side), int(hidden.shape[-1] ** 0.5)
    seen = torch.zeros(*box.shape[:2], count * count, dtype=torch.bool)
    for image in range(box.shape[1]):
        top, left, height, width = outer[image].tolist()
        marks = torch.zeros(300, 300, dtype=torch.bool)  # thirds of pixels of the source, whose sides are below 100
        for patch in hidden[image].nonzero().flatten().tolist():
            row, column = divmod(patch, grid)
            column = grid - 1 - column if outer_flip[image] else column
            rows = slice(round((top + row * height / grid) * 3), round((top + (row + 1) * height / grid) * 3))
            columns = slice(round((left + column * width / grid) * 3), round((left + (column + 1) * width / grid) * 3))
            marks[rows, columns] = True
        for crop in range(len(box)):
            first, start, tall, wide = box[crop, image].tolist()
            for patch in range(count * count):
                row, column = divmod(patch, count)
                column = count - 1 - column if flip[crop, image] else column
                rows = slice(round((first + row * tall / count) * 3), round((first + (row + 1) * tall / count) * 3))
                columns = slice(round((start + column * wide / count) * 3), round((start + (column + 1) * wide / count) * 3))
                seen[crop, image, patch] = marks[rows, columns].any()
    return seen


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_no_pixel_of_a_target_reaches_its_prediction_through_a_local_crop(strategy: str, batch: Batch) -> None:
    reached = {}
    for excluded in (True, False):
        settings = settings_of(strategy, f"masking.exclude_leaks={str(excluded).lower()}")
        model, masks = model_of(settings), draw_masks(build_masks(settings), batch, settings)
        local_crops = batch.locals.clone().requires_grad_()
        local = model._read_locals(local_crops, masks.places, masks.local)
        parts = (masks.context_index, masks.context_valid, masks.target_index, masks.target_valid)
        predicted = model.predict(batch.globals, *parts, local)
        leaks = seen = 0
        for crop in range(2):
            for level in range(3):
                valid = masks.target_valid[crop, level]
                asked = predicted[crop, level][valid].square().sum()
                (gradient,) = torch.autograd.grad(asked, local_crops, retain_graph=True)
                hidden = masks.blocks.targets[crop, level].any(-2)
                forbidden = shows(batch, batch.boxes["global"][crop], batch.flips["global"][crop], hidden, 8)
                reaches = patches_reached(gradient, 8)
                leaks += int((reaches & forbidden).sum())
                seen += int(reaches.sum())
        assert seen > 20  # of 2 crops x 3 levels x 6 images
        reached[excluded] = leaks
    assert reached[True] == 0
    assert reached[False] > 20


def test_no_pixel_of_a_masked_local_crop_reaches_its_prediction_through_another(batch: Batch) -> None:
    reached = {}
    for excluded in (True, False):
        settings = settings_of(CROSS, f"masking.exclude_leaks={str(excluded).lower()}")
        model, masks = model_of(settings), draw_masks(build_masks(settings), batch, settings)
        assert masks.local is not None
        masked = masks.local.masked
        assert masked is not None
        local_crops = batch.locals.clone().requires_grad_()
        valid = masked.target_valid.expand(2, *masked.target_valid.shape)
        predicted = model._predict_locals(local_crops, masks.places, masked, valid)
        leaks = seen = 0
        generator = build_masks(settings)
        targets = generator.sample_local(batch.mask_keys).targets[:, 0].any(-2)  # [M, B, n]
        for crop in range(2):
            (gradient,) = torch.autograd.grad(predicted[:, crop][valid[:, crop]].square().sum(), local_crops, retain_graph=True)
            reaches = patches_reached(gradient, 8)
            forbidden = shows(batch, batch.boxes["local"][crop], batch.flips["local"][crop], targets[crop], 8)
            leaks += int((reaches & forbidden).sum())
            seen += int(reaches[2:].sum())
            assert not reaches[1 - crop].any()  # another masked crop is never read
        assert seen > 10
        reached[excluded] = leaks
    assert reached[True] == 0
    assert reached[False] > 0


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_order_of_the_images_does_not_matter_and_crops_are_crop_major(strategy: str, batch: Batch) -> None:
    settings = settings_of(strategy)
    model, masks = model_of(settings), draw_masks(build_masks(settings), batch, settings)
    before = loss(model, batch, masks)
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    indices = {
        name: getattr(masks, name)[:, :, order] for name in ("context_index", "context_valid", "target_index", "target_valid")
    }
    places = moved(masks.places, order, {"else": 2})
    masked_axes = {"context_index": 1, "context_valid": 1, "target_index": 1, "target_valid": 1}
    assert masks.local is not None
    local = LocalMasks(
        seen_index=masks.local.seen_index[:, :, :, order],
        seen_valid=masks.local.seen_valid[:, :, :, order],
        masked=None if masks.local.masked is None else moved(masks.local.masked, order, {**masked_axes, "else": 2}),
    )
    crops = {"global_crops": batch.globals[:, order], "local_crops": batch.locals[:, order]}
    after = loss(model, batch, masks, **crops, **indices, places=places, local_masks=local)
    torch.testing.assert_close(after.total, before.total)
    torch.testing.assert_close(after.cross, before.cross)
    colours = 10 * torch.randn(
        6, 3, 1, 1, generator=torch.Generator().manual_seed(0)
    )  # an image of one colour: its crops are alike, and another image's are not
    constant = {
        "global_crops": colours.expand(2, 6, 3, 48, 48),
        "local_crops": colours.expand(4, 6, 3, 24, 24),
    }
    mixed = constant["local_crops"].transpose(0, 1).reshape(4, 6, 3, 24, 24)  # sample-major, read as crop-major
    right, wrong = loss(model, batch, masks, **constant), loss(model, batch, masks, **(constant | {"local_crops": mixed}))
    assert (right.total - wrong.total).abs() > 1e-5


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_weight_of_the_student_learns_and_none_of_the_teacher(strategy: str, batch: Batch) -> None:
    settings = settings_of(strategy)
    model, masks = model_of(settings), draw_masks(build_masks(settings), batch, settings)
    losses = loss(model, batch, masks)
    assert (losses.cross > 0) == (strategy == CROSS)
    losses.total.backward()
    assert all(parameter.grad is None for parameter in model.teacher.parameters())
    trained = (*model.encoder.parameters(), *model.predictor.parameters())
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in trained)


def test_what_is_hidden_or_padding_changes_nothing(batch: Batch) -> None:
    settings = settings_of(CROSS)
    model, masks = model_of(settings), draw_masks(build_masks(settings), batch, settings)
    before = loss(model, batch, masks)
    assert masks.local is not None
    masked = masks.local.masked
    assert isinstance(masked, MaskedLocals)

    def elsewhere(part: Any, names: tuple[str, ...]) -> dict[str, Tensor]:
        pairs = {name: (getattr(part, f"{name}_index"), getattr(part, f"{name}_valid")) for name in names}
        return {f"{name}_index": torch.where(valid, index, 8 - index) for name, (index, valid) in pairs.items()}

    changed = LocalMasks(
        **elsewhere(masks.local, ("seen",)),
        seen_valid=masks.local.seen_valid,
        masked=dataclasses.replace(masked, **elsewhere(masked, ("context", "target", "seen"))),
    )
    assert not torch.equal(changed.seen_index, masks.local.seen_index)
    after = loss(model, batch, masks, local_masks=changed)
    torch.testing.assert_close(after.total, before.total, rtol=1e-6, atol=0)


def test_terms_without_a_valid_patch_are_nothing_and_are_not_counted(batch: Batch) -> None:
    settings = settings_of(CROSS)
    model, masks = model_of(settings), draw_masks(build_masks(settings), batch, settings)
    assert isinstance(masks.places, PatchPlaces)
    nowhere = dataclasses.replace(masks.places, inside=torch.zeros_like(masks.places.inside))
    losses = loss(model, batch, masks, places=nowhere)
    assert losses.cross == 0
    losses.total.backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters() if parameter.grad is not None)
    one = masks.places.inside.clone()
    one[:, :, 1:] = False
    alone = loss(model, batch, masks, places=dataclasses.replace(masks.places, inside=one))
    first = torch.tensor([0])
    masked = masks.local.masked if masks.local is not None else None
    assert masked is not None
    axes = {"context_index": 1, "context_valid": 1, "target_index": 1, "target_valid": 1, "else": 2}
    known = model.teacher_tokens(batch.globals[:, :1].flatten(0, 1)).view(2, 1, -1, 16)
    local = LocalMasks(
        seen_index=masks.local.seen_index[:, :, :, :1],
        seen_valid=masks.local.seen_valid[:, :, :, :1],
        masked=moved(masked, first, axes),
    )
    expected = model._cross_loss(batch.locals[:, :1], moved(masks.places, first, {"else": 2}), local, known, (6, 6))
    torch.testing.assert_close(alone.cross, expected.detach())


def test_a_masked_local_crop_is_asked_for_what_each_global_crop_has_at_its_places(
    batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(CROSS)
    model, masks = model_of(settings), draw_masks(build_masks(settings), batch, settings)
    assert masks.local is not None
    assert masks.local.masked is not None
    assert masks.places is not None
    index = masks.local.masked.target_index  # [M, B, T, m]
    wanted = torch.empty(2, *index.shape, 16)
    for crop, local, image in product(range(2), range(len(index)), range(6)):
        tokens = model.teacher_tokens(batch.globals[crop, image : image + 1]).unsqueeze(0)
        centre = masks.places.centre[crop, local, image].view(1, 1, 1, -1, 2)
        wanted[crop, local, image] = sampled_targets(tokens, (6, 6), (1,), centre)[0][0, 0, 0][index[local, image]]
    found = []
    for guess in (wanted, wanted.flip(0)):  # what one global crop has, and what the other one has there
        monkeypatch.setattr(model, "_predict_locals", lambda *_, guess=guess: guess)
        found.append(loss(model, batch, masks).cross)
    assert found[0] < 1e-8
    assert found[1] > 1e-2


def test_every_term_has_its_own_weight_in_what_is_minimised(batch: Batch) -> None:
    weights = [
        "model.view_weight=0.5",
        "model.spread_weight=0.25",
        "model.cross_weight=3",
        "loss.hierarchy_weights=[2, 1, 0.25]",
    ]
    settings = settings_of(CROSS, *weights)
    losses = loss(model_of(settings), batch, draw_masks(build_masks(settings), batch, settings))
    terms = (losses.view, losses.spread, losses.cross)
    assert min(terms) > 0.01
    levels = (losses.levels * torch.tensor([2, 1, 0.25])).sum() / 3.25
    expected = levels + sum(weight * term for weight, term in zip((0.5, 0.25, 3), terms, strict=True))
    torch.testing.assert_close(losses.total.detach(), expected)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_no_step_looks_at_a_value(strategy: str, batch: Batch) -> None:
    settings = settings_of(strategy)
    model, masks = model_of(settings).to("meta"), draw_masks(build_masks(settings), batch, settings)

    def on_meta(part: Any) -> Any:
        if isinstance(part, Tensor):
            return part.to("meta")
        if not dataclasses.is_dataclass(part):
            return part
        return dataclasses.replace(
            part, **{field.name: on_meta(getattr(part, field.name)) for field in dataclasses.fields(part)}
        )

    crops = {"global_crops": batch.globals.to("meta"), "local_crops": batch.locals.to("meta")}
    loss(model, batch, on_meta(masks), **crops).total.backward()


def test_a_growing_number_of_local_crops_leaves_half_of_them_masked(labelled: Path) -> None:
    ramp = [f"data.multicrop.adaptive_config.{name}" for name in ("min_local_crops=2", "max_local_crops=5", "warmup_epochs=1")]
    adaptive = ["data.multicrop.adaptive=true", "data.multicrop.num_local_crops=6"]
    settings = settings_of(CROSS, *adaptive, *ramp, "training.epochs=2")
    generator = build_masks(settings)
    found = []
    with build_loader(settings, open_folder(labelled), "train") as loader:
        for epoch in range(2):
            loader.set_epoch(epoch)
            masks = draw_masks(generator, next(iter(loader)), settings)
            assert masks.local is not None
            assert masks.local.masked is not None
            found.append((len(masks.local.masked.context_index), masks.local.seen_index.shape[2]))
    assert found == [(1, 1), (2, 3)]
