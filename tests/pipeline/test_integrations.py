"""torchdata, Lightning and Accelerate drive a Loader, save it in the middle of an epoch, and go on from there."""

from pathlib import Path

import pytest
import torch
from torch import nn

from hjepa.pipeline.adapters import Dino, DinoLoader
from hjepa.pipeline.loader import Loader
from hjepa.pipeline.presets.jepa import multicrop

RECIPE = multicrop(num_global_crops=1, num_local_crops=0, global_crop_size=16)


def open_loader(folder: Path) -> Loader:
    return Loader(folder, RECIPE, batch_size=4, backend="torchvision", num_workers=0, device="cpu")


def expected(folder: Path, epochs: int) -> list[list[int]]:
    with open_loader(folder) as loader:
        return [batch.indices.tolist() for _ in range(epochs) for batch in loader]


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")  # torchdata calls what torch wants to drop
def test_torchdata_resumes_a_loader_in_the_middle_of_an_epoch(photographs: Path) -> None:
    stateful = pytest.importorskip("torchdata.stateful_dataloader")
    whole = expected(photographs, 2)
    with open_loader(photographs) as loader:
        batches = stateful.StatefulDataLoader(loader, batch_size=None)
        assert len(batches) == 8
        iterator = iter(batches)
        first = [next(iterator).indices.tolist() for _ in range(3)]
        state = batches.state_dict()
    with open_loader(photographs) as loader:
        batches = stateful.StatefulDataLoader(loader, batch_size=None)
        batches.load_state_dict(state)
        rest = [batch.indices.tolist() for _ in range(2) for batch in batches]
    assert first + rest == whole


class Module:
    """Made where Lightning is known to be there."""

    @staticmethod
    def build(lightning: object) -> nn.Module:
        class Recorder(lightning.LightningModule):
            def __init__(self) -> None:
                super().__init__()
                self.layer = nn.Linear(3, 1)
                self.seen: list[list[int]] = []

            def training_step(self, batch: object, number: int) -> torch.Tensor:
                self.seen.append(batch.indices.tolist())
                return self.layer(batch.globals[0].mean((2, 3))).square().mean()

            def configure_optimizers(self) -> torch.optim.Optimizer:
                return torch.optim.SGD(self.parameters(), lr=0.01)

        return Recorder()


@pytest.mark.filterwarnings("ignore")  # Lightning's own advice and deprecations
def test_lightning_trains_and_resumes_a_loader_in_the_middle_of_an_epoch(photographs: Path, tmp_path: Path) -> None:
    lightning = pytest.importorskip("lightning.pytorch")
    options = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    whole = expected(photographs, 2)
    with open_loader(photographs) as loader:
        module = Module.build(lightning)
        checkpoint = lightning.callbacks.ModelCheckpoint(tmp_path, "middle", every_n_train_steps=3)
        trainer = lightning.Trainer(max_steps=4, default_root_dir=tmp_path, callbacks=[checkpoint], **options)
        trainer.fit(module, loader)
        first = module.seen[:3]
    with open_loader(photographs) as loader:
        module = Module.build(lightning)
        trainer = lightning.Trainer(max_epochs=2, default_root_dir=tmp_path, enable_checkpointing=False, **options)
        trainer.fit(module, loader, ckpt_path=tmp_path / "middle.ckpt")
        rest = module.seen
    assert first + rest == whole


@pytest.mark.filterwarnings("ignore")
def test_lightning_changes_an_adapters_batch_to_its_precision_and_refuses_to_change_a_batch(photographs: Path) -> None:
    precisions = pytest.importorskip("lightning.pytorch.plugins.precision")
    half = precisions.HalfPrecision("bf16-true")
    with open_loader(photographs) as loader:
        batch = next(iter(loader))
    with pytest.raises(ValueError, match="frozen dataclass"):  # as docs/drop-in/pytorch.md says
        half.convert_input(batch)
    (image,), labels = half.convert_input(Dino()(batch))
    assert (image.dtype, labels.dtype) == (torch.bfloat16, torch.int64)


@pytest.mark.filterwarnings("ignore")
def test_lightning_moves_dino_loaders_batch(photographs: Path) -> None:
    functions = pytest.importorskip("lightning.fabric.utilities.apply_func")
    with Loader(photographs, "dino", batch_size=4, backend="torchvision", num_workers=0, device="cpu") as loader:
        batch = DinoLoader()(next(iter(loader)))
    moved = functions.move_data_to_device(batch, torch.device("meta"))
    assert [crop.shape for crops in moved for crop in crops] == [crop.shape for crops in batch for crop in crops]
    assert {crop.device.type for crops in moved for crop in crops} == {"meta"}
    assert moved.metadata == batch.metadata


@pytest.mark.filterwarnings("ignore")
def test_lightning_overfits_some_batches_of_a_loader(photographs: Path, tmp_path: Path) -> None:
    """It would refuse what has a `dataset` and is no DataLoader."""
    lightning = pytest.importorskip("lightning.pytorch")
    options = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    with open_loader(photographs) as loader:
        module = Module.build(lightning)
        trainer = lightning.Trainer(
            max_epochs=2, overfit_batches=3, default_root_dir=tmp_path, enable_checkpointing=False, **options
        )
        trainer.fit(module, loader)
    assert len(module.seen) == 6


@pytest.mark.filterwarnings("ignore")
def test_accelerate_saves_and_restores_a_loader(photographs: Path, tmp_path: Path) -> None:
    accelerate = pytest.importorskip("accelerate")
    whole = expected(photographs, 2)

    def parts(folder: Path) -> tuple[object, Loader]:
        accelerator = accelerate.Accelerator(cpu=True)
        loader = open_loader(folder)
        accelerator.register_for_checkpointing(loader)
        return accelerator, loader

    accelerator, loader = parts(photographs)
    with loader:
        iterator = iter(loader)
        first = [next(iterator).indices.tolist() for _ in range(3)]
        accelerator.save_state(str(tmp_path / "state"))
    accelerator, loader = parts(photographs)
    with loader:
        accelerator.load_state(str(tmp_path / "state"))
        rest = [batch.indices.tolist() for _ in range(2) for batch in loader]
    assert first + rest == whole
