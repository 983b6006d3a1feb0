"""The order of a step: accumulated gradients are a mean, and the teacher follows the student's new weights, once an update."""

from dataclasses import asdict, fields, replace
from pathlib import Path

import pytest
import torch
from torch.nn.utils import parameters_to_vector

from hjepa.assembly import build_loader, build_masks
from hjepa.configs.load import load_settings
from hjepa.configs.schema import Settings
from hjepa.model_assembly import build_model
from hjepa.models.block import Block
from hjepa.models.dino import Dino
from hjepa.models.hjepa import HierarchicalJepa, HierarchicalJepaSettings
from hjepa.pipeline.folder import open_folder
from hjepa.schedules import Schedule
from hjepa.step import backward, build_optimizer, update, watch
from hjepa.step_masks import draw_masks

VALUES = Schedule(learning_rate=1e-2, weight_decay=0.0, momentum=0.0, teacher_temperature=0.04, prototypes_held=False)


KINDS = {
    "hjepa": ["model.view_weight=0", "model.spread_weight=0"],
    "dino": ["dino.num_prototypes=16", "dino.hidden=16", "dino.bottleneck=8"],
}


def settings_of(*overrides: str, objective: str = "hjepa") -> Settings:
    place = ["data.dataset=imagefolder", "data.data_path=unused", "data.pipeline=torchvision", "data.num_workers=0"]
    config = "small" if objective == "hjepa" else "small_dino"
    return load_settings(Path(config), [*place, "data.batch_size=8", "device=cpu", *overrides])


@pytest.mark.parametrize("objective", ["hjepa", "dino"])
def test_accumulated_gradients_are_divided_by_their_number(objective: str, labelled: Path) -> None:
    norms = []
    for accumulation in (1, 4):
        settings = settings_of(f"training.accumulation_steps={accumulation}", *KINDS[objective], objective=objective)
        model, generator = build_model(settings, torch.device("cpu")).eval(), build_masks(settings)
        with build_loader(settings, open_folder(labelled), "train") as loader:
            batch = next(iter(loader))
        masks = draw_masks(generator, batch, settings) if objective == "hjepa" else None
        for number in range(accumulation):
            backward(model, batch, masks, VALUES, settings, last=number + 1 == accumulation)
        norms.append(torch.stack([parameter.grad.norm() for parameter in model.encoder.parameters()]))
    torch.testing.assert_close(norms[1], norms[0])
    assert norms[0].all()


def test_the_teacher_follows_the_weights_of_this_step() -> None:
    settings = settings_of()
    model = build_model(settings, torch.device("cpu"))
    optimizer = build_optimizer(model, settings)
    before = model.encoder.norm.weight.detach().clone()
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter) if parameter.requires_grad else None
    update(model, optimizer, VALUES, clip_grad=0)  # at momentum 0 the teacher is a copy
    assert not torch.equal(model.encoder.norm.weight, before)
    for teacher, student in zip(model.teacher.parameters(), model.encoder.parameters(), strict=True):
        assert torch.equal(teacher, student)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert isinstance(model, HierarchicalJepa)


def test_an_update_decays_matrices_as_the_schedule_says_and_vectors_not_at_all() -> None:
    settings = settings_of()
    model = build_model(settings, torch.device("cpu"))
    optimizer = build_optimizer(model, settings)
    before = {name: parameter.detach().clone() for name, parameter in model.encoder.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
    update(model, optimizer, replace(VALUES, learning_rate=0.5, weight_decay=0.2), clip_grad=0)
    for name, parameter in model.encoder.named_parameters():
        torch.testing.assert_close(parameter, before[name] * (0.9 if parameter.ndim > 1 else 1), msg=name)


def test_held_prototypes_stay_and_all_else_of_the_student_moves() -> None:
    settings = settings_of(*KINDS["dino"], objective="dino")
    model = build_model(settings, torch.device("cpu"))
    assert isinstance(model, Dino)
    optimizer = build_optimizer(model, settings)
    for held in (True, False):
        before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter) if parameter.requires_grad else None
        update(model, optimizer, replace(VALUES, prototypes_held=held, weight_decay=0.1), clip_grad=1)
        still = {name for name, parameter in model.named_parameters() if torch.equal(parameter, before[name])}
        assert still == ({"head.prototypes", "teacher_head.prototypes"} if held else set())


@pytest.mark.parametrize("objective", ["hjepa", "dino"])
def test_blocks_that_are_computed_again_give_the_same_gradient_and_keep_less(objective: str, labelled: Path) -> None:
    gradients, kept = [], []
    for again in ("false", "true"):
        settings = settings_of(f"training.gradient_checkpointing={again}", *KINDS[objective], objective=objective)
        model, generator = build_model(settings, torch.device("cpu")), build_masks(settings)
        with build_loader(settings, open_folder(labelled), "train") as loader:
            batch = next(iter(loader))
        masks = draw_masks(generator, batch, settings) if objective == "hjepa" else None
        sizes: list[int] = []

        def count(tensor: torch.Tensor, sizes: list[int] = sizes) -> torch.Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            backward(model, batch, masks, VALUES, settings, last=True)
        gradients.append({name: part.grad for name, part in model.named_parameters() if part.requires_grad})
        kept.append(sum(sizes))
    for name, gradient in gradients[0].items():
        assert torch.equal(gradients[1][name], gradient), name
    assert kept[1] < kept[0] / 2


@pytest.mark.filterwarnings("ignore:.torch.jit.script_method:DeprecationWarning")  # torch 2.11 says so of itself
@pytest.mark.parametrize("asked", ["false", "true"])
def test_every_block_is_compiled_where_it_is_asked_for_and_the_state_keeps_its_names(asked: str) -> None:
    plain = build_model(settings_of(), torch.device("cpu"))
    model = build_model(settings_of(f"training.compile={asked}"), torch.device("cpu"))
    blocks = [block for block in model.modules() if isinstance(block, Block)]
    assert len(blocks) == 4 + 4 + 2  # of student, teacher and predictor
    assert all((block._compiled_call_impl is not None) == (asked == "true") for block in blocks)
    if asked == "true":  # 9 ways to call a block were counted with masked local crops; torch compiles 8 by itself
        assert torch._dynamo.config.cache_size_limit > 16
    assert model.state_dict().keys() == plain.state_dict().keys()


def test_sgd_has_the_momentum_that_is_asked_for_and_moves_the_student() -> None:
    settings = settings_of("training.optimizer=sgd", "training.betas=[0.7, 0.95]")
    model = build_model(settings, torch.device("cpu"))
    optimizer = build_optimizer(model, settings)
    assert isinstance(optimizer, torch.optim.SGD)
    before = model.encoder.norm.weight.detach().clone()
    for step in (1.0, 1.7):  # the second step goes on with 0.7 of the first
        model.encoder.norm.weight.grad = torch.ones_like(before)
        update(model, optimizer, VALUES, clip_grad=0)
        torch.testing.assert_close(model.encoder.norm.weight.detach(), before - step * VALUES.learning_rate)
        before = model.encoder.norm.weight.detach().clone()


def test_adamw_has_the_betas_that_are_asked_for() -> None:
    settings = settings_of("training.betas=[0.8, 0.9]")
    optimizer = build_optimizer(build_model(settings, torch.device("cpu")), settings)
    assert isinstance(optimizer, torch.optim.AdamW)
    assert all(group["betas"] == (0.8, 0.9) for group in optimizer.param_groups)


def test_the_teachers_temperature_is_that_of_the_step(labelled: Path) -> None:
    settings = settings_of(*KINDS["dino"], objective="dino")
    model = build_model(settings, torch.device("cpu")).eval()
    with build_loader(settings, open_folder(labelled), "train") as loader:
        batch = next(iter(loader))
    for temperature in (0.04, 0.5):
        values = replace(VALUES, teacher_temperature=temperature)
        found = backward(model, batch, None, values, settings, last=True).total
        assert torch.equal(found, model(batch.globals, batch.locals, temperature).total)
    assert not torch.equal(found, model(batch.globals, batch.locals, 0.04).total)


@pytest.mark.parametrize("clip_grad", [0.5, 0.0], ids=["clipped", "not clipped"])
def test_all_gradients_together_are_clipped_and_their_norm_before_is_told(clip_grad: float) -> None:
    settings = settings_of("training.optimizer=sgd", "training.betas=[0, 0.95]")
    model = build_model(settings, torch.device("cpu"))
    optimizer = build_optimizer(model, settings)
    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    before = parameters_to_vector(trained).detach()
    for parameter in trained:
        parameter.grad = torch.full_like(parameter, 0.01)
    whole = 0.01 * len(before) ** 0.5
    assert whole > 5
    norm = update(model, optimizer, VALUES, clip_grad)
    assert float(norm) == pytest.approx(whole, rel=1e-4)
    moved = (parameters_to_vector(trained).detach() - before).norm()
    assert float(moved) == pytest.approx(VALUES.learning_rate * (clip_grad or whole), rel=1e-3)


def test_every_setting_of_the_loss_and_the_networks_reaches_the_model() -> None:
    asked = {
        "num_levels": (2, "model.num_hierarchies=2"),
        "level_windows": ((3, 5), "model.level_windows=[3, 5]"),
        "level_weights": ((3.0, 2.0), "loss.hierarchy_weights=[3, 2]"),
        "loss": ("huber", "loss.type=huber"),
        "normalize_embeddings": (True, "loss.normalize_embeddings=true"),
        "view_weight": (0.5, "model.view_weight=0.5"),
        "spread_weight": (0.25, "model.spread_weight=0.25"),
        "reads_locals": (True, "masking.strategy=cross_crop_prediction"),
        "cross_weight": (2.0, "model.cross_weight=2"),
    }
    of_dino = {
        "num_prototypes": (24, "dino.num_prototypes=24"),
        "hidden": (20, "dino.hidden=20"),
        "bottleneck": (12, "dino.bottleneck=12"),
        "student_temperature": (0.2, "dino.student_temperature=0.2"),
        "center_momentum": (0.8, "dino.center_momentum=0.8"),
        "local_weight": (0.5, "dino.local_weight=0.5"),
        "koleo_weight": (0.3, "dino.koleo_weight=0.3"),
    }
    for objective, wanted in (("hjepa", asked), ("dino", of_dino)):
        settings = settings_of(*(override for _, override in wanted.values()), objective=objective)
        held = build_model(settings, torch.device("cpu")).settings
        assert {name: getattr(held, name) for name in wanted} == {name: value for name, (value, _) in wanted.items()}
        assert {field.name for field in fields(held)} == {*wanted, "encoder"} | (
            {"predictor"} if objective == "hjepa" else set()
        )
        assert asdict(held.encoder) == dict(settings.model.encoder)
        if isinstance(held, HierarchicalJepaSettings):
            assert asdict(held.predictor) == dict(settings.model.predictor)


def test_nothing_that_learns_stands_between_the_teacher_and_its_targets(labelled: Path) -> None:
    """A projection that both sides share shrinks until every target is the same."""
    settings = settings_of()
    model, generator = build_model(settings, torch.device("cpu")), build_masks(settings)
    with build_loader(settings, open_folder(labelled), "train") as loader:
        batch = next(iter(loader))
    masks = draw_masks(generator, batch, settings)
    before = backward(model, batch, masks, VALUES, settings, last=True)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.mul_(0.5)
    after = backward(model, batch, masks, VALUES, settings, last=True)
    assert torch.equal(after.baselines, before.baselines)  # how far targets are from their mean
    assert not torch.equal(after.levels, before.levels)


def test_masks_by_attention_lie_where_the_teacher_looks_and_the_loss_is_that_of_the_same_masks(
    labelled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of("masking.weights=attention")
    model, generator = build_model(settings, torch.device("cpu")), build_masks(settings)
    with torch.no_grad():
        model.teacher.blocks[-1].attn.qkv.weight.mul_(10)  # a teacher without training looks everywhere alike
    with build_loader(settings, open_folder(labelled), "train") as loader:
        batch = next(iter(loader))
    watched = watch(model, batch, settings)
    assert watched is not None
    torch.testing.assert_close(watched.attention.sum(-1), torch.ones(2, 8))
    assert watched.attention.amax() > 3 * watched.attention.mean()
    leaning, by_chance = (draw_masks(generator, batch, settings, seen) for seen in (watched, None))
    received = [(masks.blocks.targets * watched.attention[:, None, :, None]).sum(-1) for masks in (leaning, by_chance)]
    sizes = [masks.blocks.targets.sum(-1) for masks in (leaning, by_chance)]
    means = [under.sum() / size.sum() for under, size in zip(received, sizes, strict=True)]
    assert means[0] > 1.1 * means[1]
    asked_again = backward(model, batch, replace(leaning, watched=None), VALUES, settings, last=True).total
    monkeypatch.setattr(HierarchicalJepa, "teacher_tokens", None)  # the teacher reads the crops once
    assert torch.equal(backward(model, batch, leaning, VALUES, settings, last=True).total, asked_again)


def test_masks_by_chance_ask_the_teacher_nothing_before_the_loss(labelled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of()
    model = build_model(settings, torch.device("cpu"))
    monkeypatch.setattr(HierarchicalJepa, "watch", None)
    with build_loader(settings, open_folder(labelled), "train") as loader:
        assert watch(model, next(iter(loader)), settings) is None
