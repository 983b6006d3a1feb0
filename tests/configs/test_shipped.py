"""The YAML files that come with hjepa: they load, say what was agreed, and comment every key."""

from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import yaml

from hjepa.configs.load import load_settings, shipped, to_yaml
from hjepa.schedules import early_end, schedule

# The published configuration of multi-crop H-JEPA, every key and value.
DOCUMENT_A = """
model:
  encoder_type: vit_base_patch16_224
  embed_dim: 768
  num_hierarchies: 3
  predictor: {depth: 6, num_heads: 12, mlp_ratio: 4.0}
  ema: {momentum: 0.996, momentum_end: 1.0, momentum_warmup_epochs: 30}
data:
  dataset: cifar10
  data_path: DATA_DIR
  image_size: 224
  batch_size: 64
  num_workers: 4
  pin_memory: true
  use_multicrop: true
  multicrop:
    num_global_crops: 2
    num_local_crops: 6
    global_crop_size: 224
    local_crop_size: 96
    global_crop_scale: [0.4, 1.0]
    local_crop_scale: [0.05, 0.4]
    global_color_jitter: 0.4
    local_color_jitter: 0.4
    adaptive: false
    adaptive_config: {min_local_crops: 2, max_local_crops: 10, warmup_epochs: 30}
masking: {strategy: global_only, num_masks: 4, mask_scale: [0.05, 0.15], aspect_ratio: [0.75, 1.5]}
training:
  epochs: 100
  warmup_epochs: 10
  lr: 1.0e-4
  min_lr: 1.0e-6
  weight_decay: 0.05
  optimizer: adamw
  betas: [0.9, 0.95]
  lr_schedule: cosine
  clip_grad: 3.0
  use_amp: true
  accumulation_steps: 1
loss: {type: mse, hierarchy_weights: [1.0, 0.5, 0.25], normalize_embeddings: false}
checkpoint: {save_frequency: 10, keep_best_n: 3, checkpoint_dir: results/multicrop/checkpoints, resume: null}
logging:
  experiment_name: hjepa_multicrop_cifar10
  log_dir: results/multicrop/logs
  log_frequency: 50
  wandb: {enabled: false, project: h-jepa-multicrop, entity: null, tags: [multicrop, vit-base, cifar10]}
  tensorboard: {enabled: true}
distributed: {enabled: false, backend: nccl, world_size: 1}
evaluation:
  eval_frequency: 10
  linear_probe: {enabled: false, dataset: cifar10, batch_size: 256, epochs: 90, lr: 0.1}
seed: 42
device: cuda
"""


def leaves(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def keys_with_lines(node: yaml.Node) -> Iterator[tuple[str, int]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield key.value, key.start_mark.line
            yield from keys_with_lines(value)


@pytest.mark.parametrize("name", shipped())
def test_shipped_settings_load_and_round_trip(tmp_path: Path, name: str) -> None:
    settings = load_settings(Path(name))
    saved = tmp_path / "saved.yaml"
    saved.write_text(to_yaml(settings), encoding="utf-8")
    assert load_settings(saved) == settings


def test_the_published_configuration_loads_with_its_exact_values(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(DOCUMENT_A, encoding="utf-8")
    loaded = dict(leaves(load_settings(file).model_dump(mode="json")))
    expected = dict(leaves(yaml.safe_load(DOCUMENT_A)))
    assert len(expected) == 69
    assert {path: loaded[path] for path in expected} == expected


def test_the_shipped_multicrop_file_is_the_published_configuration_but_for_the_ranks_and_the_teachers_ramp(
    tmp_path: Path,
) -> None:
    """As published, `distributed` says one process, which torchrun would contradict, and the teacher stops at epoch 30."""
    file = tmp_path / "a.yaml"
    file.write_text(DOCUMENT_A, encoding="utf-8")
    changed = [f"distributed.{name}=auto" for name in ("enabled", "backend", "world_size")]
    changed.append("model.ema.momentum_warmup_epochs=null")
    assert load_settings(Path("multicrop_training")) == load_settings(file, changed)
    text = (resources.files("hjepa.configs") / "multicrop_training.yaml").read_text(encoding="utf-8")
    assert set(dict(leaves(yaml.safe_load(text)))) == set(dict(leaves(yaml.safe_load(DOCUMENT_A))))


@pytest.mark.parametrize("name", shipped())
def test_the_teacher_of_shipped_settings_follows_to_the_last_epoch(name: str) -> None:
    settings = load_settings(Path(name))
    assert early_end(settings) is None
    start_of_last = schedule(settings, (settings.training.epochs - 1) * 10, 10)
    assert start_of_last.momentum < 1


@pytest.mark.parametrize("name", shipped())
def test_every_key_of_a_shipped_file_has_a_comment(name: str) -> None:
    text = (resources.files("hjepa.configs") / f"{name}.yaml").read_text(encoding="utf-8")
    lines = text.splitlines()
    root = yaml.compose(text)
    assert root is not None
    for key, line in keys_with_lines(root):
        assert " # " in lines[line] or lines[line - 1].lstrip().startswith("# "), f"{name}.yaml, line {line + 1}: {key}"


def test_the_small_settings_need_neither_a_gpu_nor_files() -> None:
    settings = load_settings(Path("small"))
    assert (settings.device, settings.data.dataset, settings.data.data_path) == ("auto", "sample", "")
    assert (settings.model.encoder.width, settings.data.image_size, settings.data.multicrop.local_crop_size) == (128, 48, 24)
