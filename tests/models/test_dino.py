"""DINO: which pairs count, what learns, when the centre moves, and that crops are crop-major and read at their own size."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from hjepa.models.dino import Dino, DinoSettings, dino_loss, mean_output, moved_center
from hjepa.models.losses import nearest_loss
from hjepa.models.sizes import VisionTransformerSettings

SMALL = DinoSettings(
    encoder=VisionTransformerSettings(patch_size=8, width=16, depth=1, num_heads=2), num_prototypes=12, hidden=16, bottleneck=8
)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _model() -> Dino:
    torch.manual_seed(0)
    return Dino(SMALL)


def _crops(num_images: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    shapes = (2, num_images, 3, 32, 32), (3, num_images, 3, 16, 16)
    return torch.randn(shapes[0], generator=generator), torch.randn(shapes[1], generator=generator)


def test_every_pair_of_two_crops_of_an_image_counts_once() -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(5, 4, 12, generator=generator), torch.randn(2, 4, 12, generator=generator)
    center = torch.randn(12, generator=generator)
    terms = []
    for large in range(2):
        for crop in range(5):
            if crop != large:
                wanted = ((teacher[large] - center) / 0.04).softmax(-1)
                terms.append(-(wanted * (student[crop] / 0.1).log_softmax(-1)).sum(-1).mean())
    assert len(terms) == 2 + 2 * 3
    torch.testing.assert_close(dino_loss(student, teacher, center, 0.1, 0.04), torch.stack(terms).mean())
    weights = torch.tensor([1.0, 0.3, 0.3, 0.3, 1.0, 0.3, 0.3, 0.3])  # one global crop, then the three local ones, twice
    expected = (weights * torch.stack(terms)).sum() / weights.sum()
    torch.testing.assert_close(dino_loss(student, teacher, center, 0.1, 0.04, local_weight=0.3), expected)


def test_a_crop_alone_is_refused() -> None:
    with pytest.raises(ValueError, match="use 2, or local crops"):
        dino_loss(torch.randn(1, 4, 12), torch.randn(1, 4, 12), torch.zeros(12), 0.1, 0.04)
    with pytest.raises(ValueError, match="none of them counts"):
        dino_loss(torch.randn(3, 4, 12), torch.randn(1, 4, 12), torch.zeros(12), 0.1, 0.04, local_weight=0.0)


def test_autocast_changes_no_bit_of_the_loss() -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(5, 4, 64, generator=generator), torch.randn(2, 4, 64, generator=generator)
    expected = dino_loss(student, teacher, torch.zeros(64), 0.1, 0.04)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(dino_loss(student, teacher, torch.zeros(64), 0.1, 0.04), expected)


def test_loss_is_a_number_where_a_probability_is_0() -> None:
    student = torch.tensor([[[1e4, -1e4]], [[-1e4, 1e4]]], requires_grad=True)
    loss = dino_loss(student, student.detach(), torch.zeros(2), 0.1, 0.04)
    loss.backward()
    assert torch.isfinite(loss)
    assert loss > 1e4  # log(softmax + epsilon) would stop at 18
    assert torch.isfinite(student.grad).all()


def test_no_gradient_goes_to_the_teacher_even_if_it_asks_for_one() -> None:
    teacher = torch.randn(2, 4, 12, requires_grad=True)
    student = torch.randn(2, 4, 12, requires_grad=True)
    dino_loss(student, teacher, torch.zeros(12), 0.1, 0.04).backward()
    assert teacher.grad is None
    assert student.grad is not None
    model = _model()
    model(*_crops(), 0.04).total.backward()
    for frozen in (model.teacher, model.teacher_head):
        assert all(parameter.grad is None for parameter in frozen.parameters())
    for trained in (model.encoder, model.head):
        assert all(parameter.grad is not None and parameter.grad.any() for parameter in trained.parameters())


def test_centre_moves_with_the_update_in_training_alone_and_is_saved() -> None:
    model, crops = _model(), _crops()
    with torch.no_grad():
        teacher = model.teacher_head(model.teacher(crops[0].flatten(0, 1)).mean(1)).view(2, 4, 12)
        said = torch.cat([model.head(model._means(part).flatten(0, 1)).view(-1, 4, 12) for part in crops])
    losses = model(*crops, 0.04)
    torch.testing.assert_close(losses.total.detach(), dino_loss(said, teacher, torch.zeros(12), 0.1, 0.04))
    assert losses.center_norm == 0
    assert not model.center.any()
    model.update_teacher(1.0)
    torch.testing.assert_close(model.center, 0.1 * teacher.mean((0, 1)))
    assert torch.equal(model.state_dict()["center"], model.center)
    moved = model.center.clone()
    assert model.eval()(*crops, 0.04).center_norm == moved.norm()
    model.update_teacher(1.0)
    assert torch.equal(model.center, moved)
    torch.testing.assert_close(losses.student_norm, said.norm(dim=-1).mean())
    torch.testing.assert_close(losses.teacher_norm, teacher.norm(dim=-1).mean())


def test_centre_is_a_moving_average() -> None:
    center = torch.randn(12)
    teacher = torch.randn(2, 4, 12)
    expected = 0.75 * center + 0.25 * teacher.flatten(0, 1).mean(0)
    torch.testing.assert_close(moved_center(center, mean_output(teacher), 0.75), expected)


def test_accumulated_batches_are_one_update_of_gradients_and_centre() -> None:
    whole, divided, crops = _model(), _model(), _crops()
    divided.load_state_dict(whole.state_dict())
    for _ in range(2):  # the second time with a centre that has moved
        whole(*crops, 0.04).total.backward()
        for half in zip(*(part.split(2, dim=1) for part in crops), strict=True):
            (divided(*half, 0.04).total / 2).backward()
        for model in (whole, divided):
            model.update_teacher(1.0)
        torch.testing.assert_close(divided.center, whole.center)
    for one, other in zip(whole.encoder.parameters(), divided.encoder.parameters(), strict=True):
        torch.testing.assert_close(other.grad, one.grad, rtol=1e-4, atol=1e-6)


def test_crops_are_crop_major() -> None:
    model = _model().eval()
    colours = torch.randn(4, 3, 1, 1)  # an image of one colour says the same in every crop of a size
    large, small = colours.expand(2, 4, 3, 32, 32), colours.expand(3, 4, 3, 16, 16)
    before = model(large, small, 0.04).total
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(model(large[:, order], small[:, order], 0.04).total, before)
    sample_major = small.transpose(0, 1).reshape(3, 4, 3, 16, 16)
    assert (model(large, sample_major, 0.04).total - before).abs() > 1e-4


def test_the_koleo_term_is_weighed_and_spreads_the_students_global_features() -> None:
    model, crops = _model().eval(), _crops()
    weighed = Dino(dataclasses.replace(SMALL, koleo_weight=0.5)).eval()
    weighed.load_state_dict(model.state_dict())
    plain, both = model(*crops, 0.04), weighed(*crops, 0.04)
    assert plain.koleo == 0
    torch.testing.assert_close(both.koleo, nearest_loss(model._means(crops[0])).detach())
    torch.testing.assert_close(both.total, plain.total + 0.5 * both.koleo)


def test_local_crops_may_be_missing() -> None:
    model = _model().eval()
    crops = _crops()
    assert torch.isfinite(model(crops[0], None, 0.04).total)


def test_teacher_starts_as_the_student_and_follows_it_with_its_head() -> None:
    model = _model().train()
    pairs = [*zip(model.teacher.parameters(), model.encoder.parameters(), strict=True)]
    pairs += zip(model.teacher_head.parameters(), model.head.parameters(), strict=True)
    assert all(torch.equal(teacher, student) for teacher, student in pairs)
    with torch.no_grad():
        for _, student in pairs:
            student.add_(1)
    before = [teacher.clone() for teacher, _ in pairs]
    model.update_teacher(0.75)
    for (teacher, _), old in zip(pairs, before, strict=True):
        torch.testing.assert_close(teacher, old + 0.25)


def test_a_few_steps_reduce_the_loss() -> None:
    model, crops = _model(), _crops(8)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    history = []
    for _ in range(30):
        optimizer.zero_grad()
        losses = model(*crops, 0.04)
        losses.total.backward()
        optimizer.step()
        model.update_teacher(0.99)
        history.append(losses.total.item())
    assert history[-1] < 0.8 * history[0]


def test_no_step_of_training_looks_at_a_value() -> None:
    model = _model().to("meta")
    crops = [part.to("meta") for part in _crops()]
    model(*crops, 0.04).total.backward()
    model.update_teacher(0.9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_prototypes": 0}, "above 0"),
        ({"student_temperature": 0.0}, "above 0"),
        ({"center_momentum": 2.0}, "lie between"),
        ({"koleo_weight": -1.0}, "must not be negative"),
    ],
)
def test_settings_that_cannot_work_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SMALL, **change)
