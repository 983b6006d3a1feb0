"""Document C's DINO trainer for a student-teacher model of one's own; `hjepa-train --objective dino` is the whole run.

The document's names are kept; where its code trains on noise or leaks gradients (docs/requirements-status.md) this does
not: crops are crop-major, locals keep their size, the teacher is detached, and the centre moves after the loss. Save
`state_dict()` beside the model; `hjepa.trained.export_encoder` writes the model's encoder for timm, if it is hjepa's.
"""

from collections.abc import Iterable, Mapping
from typing import Protocol

import torch
from torch import Tensor, nn

from hjepa.models.dino import dino_loss, mean_output, moved_center
from hjepa.pipeline.adapters.lists import CropDict
from hjepa.pipeline.batch import Batch

# G global crops, V local crops, B images, S and s pixels, P outputs


class StudentTeacher(Protocol):
    """What the trainer asks of a model; images of any size come as [R, 3, S, S] and outputs go as [R, P]."""

    def forward_student(self, images: Tensor) -> Tensor:
        """The student's outputs."""
        ...

    def forward_teacher(self, images: Tensor) -> Tensor:
        """The teacher's outputs."""
        ...

    def get_student_parameters(self) -> Iterable[nn.Parameter]:
        """What the optimizer trains."""
        ...

    def update_teacher(self, epoch: int) -> None:
        """Moves the teacher; called after each step of the optimizer."""
        ...


class MultiCropTrainer:
    """DINO's loss and step on batches of crops.

    student_teacher_model: what has the four methods of StudentTeacher. Raises ValueError for temperatures that are not above 0.
    """

    def __init__(
        self,
        student_teacher_model: StudentTeacher,
        temperature_student: float = 0.1,
        temperature_teacher: float = 0.04,
        center_momentum: float = 0.9,
    ) -> None:
        if not (temperature_student > 0 and temperature_teacher > 0 and 0 <= center_momentum <= 1):
            raise ValueError(
                f"temperature_student={temperature_student}, temperature_teacher={temperature_teacher}, center_momentum="
                f"{center_momentum}: temperatures are above 0, and the momentum is a number from 0 to 1"
            )
        self.model = student_teacher_model
        self.temperature_student = temperature_student
        self.temperature_teacher = temperature_teacher
        self.center_momentum = center_momentum
        self.center: Tensor | None = None
        """[P]; None, which is zeros, before the first update."""

    def forward_multicrop(self, global_crops: Tensor, local_crops: Tensor | None, batch_size: int) -> tuple[Tensor, Tensor]:
        """Outputs of the student [(G + V) B, P] and of the teacher [G B, P], crop-major.

        So are global_crops [G B, 3, S, S] and local_crops [V B, 3, s, s] (None: none). Raises ValueError for others.
        """
        if len(global_crops) % batch_size or (local_crops is not None and len(local_crops) % batch_size):
            raise ValueError(
                f"crops come as whole batches of batch_size={batch_size}, crop after crop; got {len(global_crops)} global and "
                f"{0 if local_crops is None else len(local_crops)} local ones"
            )
        sizes = [global_crops] if local_crops is None else [global_crops, local_crops]
        with torch.no_grad():
            teacher_outputs = self.model.forward_teacher(global_crops)
        return torch.cat([self.model.forward_student(crops) for crops in sizes]), teacher_outputs

    def compute_dino_loss(
        self, student_outputs: Tensor, teacher_outputs: Tensor, batch_size: int, num_local_crops: int = 8
    ) -> Tensor:
        """The mean over all pairs of different crops of an image: 2 + 2 num_local_crops terms for two global crops.

        student_outputs: [(G + V) B, P]. teacher_outputs: [G B, P]. Gives float32 []. Raises ValueError for other numbers.
        """
        student = student_outputs.float().view(-1, batch_size, student_outputs.shape[-1])
        teacher = teacher_outputs.float().view(-1, batch_size, teacher_outputs.shape[-1])
        if len(student) != len(teacher) + num_local_crops:
            raise ValueError(
                f"the student has {len(student)} crops, and the teacher {len(teacher)} beside num_local_crops="
                f"{num_local_crops}; pass the number of local crops that were forwarded"
            )
        return dino_loss(student, teacher, self._center_beside(teacher), self.temperature_student, self.temperature_teacher)

    def update_center(self, teacher_outputs: Tensor) -> None:
        """Moves the centre towards the mean of the outputs, on all ranks; after the loss."""
        mean = mean_output(teacher_outputs.unsqueeze(0))
        self.center = moved_center(self._center_beside(mean), mean, self.center_momentum)

    def state_dict(self) -> dict[str, Tensor]:
        """What the trainer itself knows: the centre, once there is one."""
        return {} if self.center is None else {"center": self.center}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Goes on from what state_dict gave."""
        self.center = state.get("center")

    def _center_beside(self, outputs: Tensor) -> Tensor:
        """The centre on the device of the outputs; a state may have been loaded on another."""
        return outputs.new_zeros(outputs.shape[-1]) if self.center is None else self.center.to(outputs.device)

    def training_step(self, batch: Batch | CropDict, optimizer: torch.optim.Optimizer, epoch: int) -> dict[str, float]:
        """One step on a batch of a Loader, or on document C's dict; waits for the device.

        The gradients are clipped to a norm of 3. epoch: passed on to update_teacher. Gives loss, student_norm, teacher_norm and
        center_norm. Raises ValueError for another kind of batch.
        """
        globals_, locals_, num_images = _parts(batch)
        student, teacher = self.forward_multicrop(globals_, locals_, num_images)
        loss = self.compute_dino_loss(student, teacher, num_images, 0 if locals_ is None else len(locals_) // num_images)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch's own
        nn.utils.clip_grad_norm_(self.model.get_student_parameters(), 3.0)
        optimizer.step()
        self.model.update_teacher(epoch)
        self.update_center(teacher)
        assert self.center is not None
        norms = (student.detach().norm(dim=-1).mean(), teacher.norm(dim=-1).mean(), self.center.norm())
        return {
            "loss": loss.item(),
            **{name: norm.item() for name, norm in zip(("student_norm", "teacher_norm", "center_norm"), norms, strict=True)},
        }


def _parts(batch: Batch | CropDict) -> tuple[Tensor, Tensor | None, int]:
    """Global crops [G B, 3, S, S] and local ones [V B, 3, s, s], crop-major (None without any), and the number of images."""
    if isinstance(batch, Batch):
        return batch.globals.flatten(0, 1), None if batch.locals is None else batch.locals.flatten(0, 1), len(batch.labels)
    if not isinstance(batch, Mapping):
        raise ValueError(
            f"a batch is a {type(batch).__name__}; give a Loader's Batch, or document C's dict (MultiCropCollator)"
        )
    return batch["global_crops"], batch["local_crops"] if len(batch["local_crops"]) else None, batch["batch_size"]
