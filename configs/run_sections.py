"""The settings of a run: how it learns, what it saves and says, and how it is evaluated."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from hjepa.configs.section import Count, CountOrZero, NotNegative, Positive, Section, Texts, Weights

# A beta of 1 would never forget the first gradient.
Betas = Annotated[tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]], Field(strict=False)]


def _without_underscore(name: Any) -> Any:
    return "smoothl1" if name == "smooth_l1" else name


class TrainingSettings(Section):
    """Optimizer and schedules."""

    epochs: Count = 100
    """Passes over the data set."""
    warmup_epochs: CountOrZero = 10
    """Epochs in which the learning rate rises from 0 to lr."""
    lr: Positive = 1e-4
    """Highest learning rate."""
    min_lr: NotNegative = 1e-6
    """Learning rate at the end of the run."""
    weight_decay: NotNegative = 0.05
    """Weight decay of matrices; biases and norms have none."""
    weight_decay_end: NotNegative | None = None
    """Weight decay at the end of the run, reached along a cosine; null: weight_decay stays constant."""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    """adamw, or sgd."""
    betas: Betas = (0.9, 0.95)
    """Memory of AdamW's two averages; SGD takes the first as its momentum."""
    lr_schedule: Literal["cosine", "linear"] = "cosine"
    """Way from lr down to min_lr after the warm-up."""
    clip_grad: NotNegative = 3.0
    """Largest norm of the gradient of all parameters; 0: no clipping."""
    use_amp: bool = True
    """Whether a GPU computes in bfloat16 where that is safe (autocast); a CPU always computes in float32."""
    accumulation_steps: Count = 1
    """Batches whose gradients are averaged before one optimizer step."""
    gradient_checkpointing: bool = False
    """Whether blocks are computed again for the gradient instead of kept: less memory, about a third more time."""
    compile: bool = False
    """Whether torch.compile makes kernels of the blocks: minutes at the start, faster steps on a GPU."""

    @model_validator(mode="after")
    def _check(self) -> "TrainingSettings":
        if self.warmup_epochs > self.epochs:
            raise ValueError(
                f"training.warmup_epochs={self.warmup_epochs} exceeds training.epochs={self.epochs}; "
                f"set training.warmup_epochs to at most {self.epochs}"
            )
        if self.min_lr > self.lr:
            raise ValueError(f"training.min_lr={self.min_lr} exceeds training.lr={self.lr}; lower training.min_lr")
        return self


class LossSettings(Section):
    """Distance between predicted and true tokens."""

    type: Annotated[Literal["mse", "smoothl1", "huber"], BeforeValidator(_without_underscore)] = "smoothl1"
    """mse, smoothl1 (also written smooth_l1) or huber."""
    hierarchy_weights: Weights = (1.0, 0.5, 0.25)
    """Weight of each level, from fine to coarse; they are divided by their sum."""
    normalize_embeddings: bool = False
    """Whether both sides are scaled to length 1 before they are compared."""

    @model_validator(mode="after")
    def _check(self) -> "LossSettings":
        if not sum(self.hierarchy_weights) > 0:
            raise ValueError("loss.hierarchy_weights: at least one level needs a weight above 0")
        return self


class CheckpointSettings(Section):
    """What is saved, and where a run starts from."""

    save_frequency: Count = 10
    """Epochs between two checkpoints."""
    keep_best_n: Count = 3
    """Checkpoints kept beside the latest: the best by kNN accuracy, or the probe's; the newest, where neither is measured."""
    checkpoint_dir: str = ""
    """Folder of the checkpoints; empty: checkpoints/ inside output_dir."""
    resume: Annotated[str, Field(min_length=1)] | None = None
    """null: start anew; auto: go on from the latest checkpoint if there is one; or the path of a checkpoint."""


class WandbSettings(Section):
    """Reports to Weights & Biases."""

    enabled: bool = False
    """Whether the run is reported."""
    project: str = "h-jepa-multicrop"
    """Name of the project."""
    entity: str | None = None
    """User or team that owns the project; null: the account's default."""
    tags: Texts = ()
    """Labels of the run."""


class TensorboardSettings(Section):
    """Curves for TensorBoard."""

    enabled: bool = True
    """Whether event files are written to the log folder."""


class LoggingSettings(Section):
    """What a run says about itself."""

    experiment_name: Annotated[str, Field(min_length=1)] = "hjepa"
    """Name of the run in logs and reports."""
    log_dir: str = ""
    """Folder of the logs; empty: logs/ inside output_dir."""
    log_frequency: Count = 50
    """Steps between two lines of the log."""
    wandb: WandbSettings = WandbSettings()
    """Reports to Weights & Biases."""
    tensorboard: TensorboardSettings = TensorboardSettings()
    """Curves for TensorBoard."""


class DistributedSettings(Section):
    """Training on several GPUs, which torchrun starts; what is set here must agree with it, or the run is refused."""

    enabled: Literal["auto"] | bool = "auto"
    """Whether the run is one of several that train together; auto: as torchrun says."""
    backend: Literal["auto", "nccl", "gloo"] = "auto"
    """Library that joins them: nccl between GPUs, gloo between CPUs; auto: by the device."""
    world_size: Literal["auto"] | Count = "auto"
    """Number of processes, one for each GPU; auto: as many as torchrun starts."""
    fsdp: bool = False
    """Whether the ranks divide weights, gradients and averages (FSDP2), for models that a GPU can hold but not train."""


class KnnSettings(Section):
    """Classification by nearest neighbours in the teacher's features."""

    enabled: bool = True
    """Whether it is measured during training, where the data set has labels. RankMe is measured in any case."""
    k: Count = 20
    """Neighbours that vote."""
    temperature: Positive = 0.07
    """Vote of a neighbour: exp(cosine / temperature)."""


class LinearProbeSettings(Section):
    """A linear classifier trained on the teacher's features, measured on a fifth of the images kept apart."""

    enabled: bool = False
    """Whether one is trained at every evaluation; the images need labels."""
    dataset: str | None = None
    """Labelled data set it is trained on, by name; null: the run's own, or what lies at data_path."""
    data_path: str = ""
    """Where that data set lies; empty: it is the run's own images that are read."""
    batch_size: Count = 256
    """Features per step."""
    epochs: Count = 90
    """Passes over the features."""
    lr: Positive = 0.1
    """Highest learning rate."""


class EvaluationSettings(Section):
    """Measures of the features during training."""

    eval_frequency: Count = 10
    """Epochs between two evaluations."""
    knn: KnnSettings = KnnSettings()
    """Nearest neighbours."""
    linear_probe: LinearProbeSettings = LinearProbeSettings()
    """Linear probe."""
