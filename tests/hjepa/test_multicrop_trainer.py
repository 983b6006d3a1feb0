"""Document C's trainer on a model of one's own."""

import copy
from collections.abc import Iterable
from pathlib import Path

import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

import hjepa
from hjepa.models.dino import dino_loss
from hjepa.models.sizes import VisionTransformerSettings
from hjepa.models.vit import VisionTransformer
from hjepa.multicrop_trainer import MultiCropTrainer
from hjepa.pipeline.folder import open_folder
from hjepa.pipeline.loader import Loader
from hjepa.pipeline.presets.jepa import multicrop
from hjepa.trained import export_encoder


class Mean:
    """Student and teacher: the mean colour, mapped linearly."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.student = nn.Linear(3, 8)
        self.teacher = copy.deepcopy(self.student)
        self.sizes: list[int] = []
        self.epochs: list[int] = []

    def forward_student(self, images: Tensor) -> Tensor:
        assert len(images)  # of no images a batch norm has no mean
        self.sizes.append(images.shape[-1])
        said: Tensor = self.student(images.mean((2, 3)))
        return said

    def forward_teacher(self, images: Tensor) -> Tensor:
        said: Tensor = self.teacher(images.mean((2, 3)))
        return said

    def get_student_parameters(self) -> Iterable[nn.Parameter]:
        return self.student.parameters()

    def update_teacher(self, epoch: int) -> None:
        self.epochs.append(epoch)


def test_a_step_trains_the_student_on_crops_at_their_own_size(labelled: Path) -> None:
    model = Mean()
    trainer = MultiCropTrainer(model)
    optimizer = torch.optim.SGD(model.student.parameters(), lr=0.1)
    recipe = multicrop(num_local_crops=3, global_crop_size=32, local_crop_size=16)
    with Loader(open_folder(labelled), recipe, batch_size=8, backend="torchvision", num_workers=0, device="cpu") as loader:
        figures = [trainer.training_step(batch, optimizer, epoch=4) for batch in loader]
    assert set(figures[0]) == {"loss", "student_norm", "teacher_norm", "center_norm"}
    assert model.sizes[:2] == [32, 16]
    assert set(model.epochs) == {4}
    assert len(figures) == len(model.epochs) == 5
    assert all(parameter.grad is None for parameter in model.teacher.parameters())
    assert figures[0]["center_norm"] > 0


def test_a_step_is_loss_then_clipped_update_then_teacher_then_centre() -> None:
    model = Mean()
    trainer = MultiCropTrainer(model, temperature_student=1e-3)  # so sharp that the gradient is longer than 3
    optimizer = torch.optim.SGD(model.student.parameters(), lr=1.0)
    crops = {"global_crops": torch.randn(8, 3, 4, 4), "local_crops": torch.randn(12, 3, 2, 2), "batch_size": 4}
    student, teacher = trainer.forward_multicrop(crops["global_crops"], crops["local_crops"], 4)
    expected = trainer.compute_dino_loss(student, teacher, 4, num_local_crops=3).item()
    before = nn.utils.parameters_to_vector(model.student.parameters()).detach().clone()
    seen = []
    model.update_teacher = lambda _: seen.append(nn.utils.parameters_to_vector(model.student.parameters()).detach().clone())
    assert trainer.training_step(crops, optimizer, epoch=0)["loss"] == pytest.approx(expected)  # by the centre before it
    torch.testing.assert_close((seen[0] - before).norm(), torch.tensor(3.0), rtol=1e-3, atol=0)
    torch.testing.assert_close(trainer.center, 0.1 * teacher.mean(0))


@pytest.mark.parametrize("num_local_crops", [3, 0])
def test_document_cs_dict_and_a_loaders_batch_are_the_same_step(num_local_crops: int) -> None:
    augment = hjepa.MultiCropAugmentation(global_crop_size=32, local_crop_size=16, num_local_crops=num_local_crops)
    images = [Image.new("RGB", (40, 40), (50 * number, 90, 200 - 40 * number)) for number in range(4)]
    collated = hjepa.MultiCropCollator()([augment(image) for image in images])
    with Loader(
        images, augment.recipe, batch_size=4, shuffle=False, backend="torchvision", num_workers=0, device="cpu"
    ) as loader:
        batch = next(iter(loader))
    figures = []
    for each in (collated, batch):
        model = Mean()
        optimizer = torch.optim.SGD(model.student.parameters(), lr=0.1)
        figures.append(MultiCropTrainer(model).training_step(each, optimizer, epoch=0))
    assert figures[0] == pytest.approx(figures[1], rel=1e-5)


def test_the_loss_needs_no_centre_and_is_that_of_the_objective() -> None:
    trainer = MultiCropTrainer(Mean())
    student, teacher = torch.randn(5, 4, 8), torch.randn(2, 4, 8)
    loss = trainer.compute_dino_loss(student.flatten(0, 1), teacher.flatten(0, 1), 4, num_local_crops=3)
    assert loss == dino_loss(student, teacher, torch.zeros(8), 0.1, 0.04)
    trainer.update_center(teacher.flatten(0, 1))
    torch.testing.assert_close(trainer.center, 0.1 * teacher.mean((0, 1)))


def test_what_does_not_fit_together_is_refused() -> None:
    trainer = MultiCropTrainer(Mean())
    with pytest.raises(ValueError, match="whole batches of batch_size=3"):
        trainer.forward_multicrop(torch.randn(8, 3, 4, 4), None, 3)
    with pytest.raises(ValueError, match="num_local_crops=8"):
        trainer.compute_dino_loss(torch.randn(20, 8), torch.randn(8, 8), 4)


def test_a_trainer_goes_on_from_its_state() -> None:
    trainer, other = MultiCropTrainer(Mean()), MultiCropTrainer(Mean())
    other.load_state_dict(trainer.state_dict())
    assert other.center is None
    trainer.update_center(torch.randn(8, 8))
    other.load_state_dict(trainer.state_dict())
    assert torch.equal(other.center, trainer.center)
    student, teacher = torch.randn(16, 8), torch.randn(8, 8)
    assert other.compute_dino_loss(student, teacher, 4, 2) == trainer.compute_dino_loss(student, teacher, 4, 2)


class Distilled(Mean):
    """A student of hjepa's own: encoder and head."""

    def __init__(self) -> None:
        super().__init__()
        encoder = VisionTransformer(VisionTransformerSettings(patch_size=8, width=16, depth=2, num_heads=4, mlp_ratio=3.0))
        self.student = nn.Sequential(encoder, nn.Linear(16, 8))
        self.teacher = copy.deepcopy(self.student)

    def forward_student(self, images: Tensor) -> Tensor:
        said: Tensor = self.student(images).mean(1)
        return said

    def forward_teacher(self, images: Tensor) -> Tensor:
        said: Tensor = self.teacher(images).mean(1)
        return said


def test_an_encoder_that_it_trained_is_exported_for_timm(labelled: Path, tmp_path: Path) -> None:
    model = Distilled()
    trainer = MultiCropTrainer(model)
    optimizer = torch.optim.SGD(model.get_student_parameters(), lr=0.1)
    recipe = multicrop(num_local_crops=3, global_crop_size=32, local_crop_size=16)
    with Loader(open_folder(labelled), recipe, batch_size=8, backend="torchvision", num_workers=0, device="cpu") as loader:
        for batch in loader:
            trainer.training_step(batch, optimizer, epoch=0)
    encoder = model.student[0]
    arguments = export_encoder(encoder, 32, tmp_path / "encoder.safetensors")
    theirs = timm.models.vision_transformer.VisionTransformer(**arguments).eval()
    theirs.load_state_dict(load_file(tmp_path / "encoder.safetensors"))  # strict
    images = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(theirs.forward_features(images), encoder(images), rtol=1e-5, atol=1e-5)
