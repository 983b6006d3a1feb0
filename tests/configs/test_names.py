"""Names: every alias means its canonical setting, and a misspelt name finds the right one."""

from pathlib import Path

import pytest

from hjepa.configs.load import load_settings
from hjepa.configs.names import ALIASES, LEAVES, MASK_TYPES, REFUSED, nearest
from hjepa.configs.schema import Settings
from hjepa.configs.yaml_file import SettingsError

# a value that differs from the default, for every setting that has an alias
VALUES: dict[str, object] = {
    "dino.held_prototypes_epochs": 3,
    "dino.koleo_weight": 0.2,
    "masking.num_masks": 3,
    "masking.mask_scale": [0.04, 0.1],
    "masking.aspect_ratio": [0.5, 2.0],
    "data.multicrop.num_global_crops": 1,
    "data.multicrop.num_local_crops": 8,
    "data.multicrop.global_crop_scale": [0.3, 1.0],
    "data.multicrop.local_crop_scale": [0.05, 0.3],
    "data.multicrop.local_crop_size": 64,
    "data.batch_size": 32,
    "logging.experiment_name": "mine",
}
# needed besides, where a setting does not go alone
BESIDES: dict[str, list[str]] = {
    "model.num_hierarchies": ["loss.hierarchy_weights=[1, 0.5]", "model.level_windows=[1, 3]"],
    "data.multicrop.global_crop_size": ["data.image_size=192"],
    "data.dataset": ["data.data_path=photos"],
    "masking.strategy": [],
    "dino.held_prototypes_epochs": ["objective=dino"],
    "dino.koleo_weight": ["objective=dino"],
}
VALUES |= {"model.num_hierarchies": 2, "data.multicrop.global_crop_size": 192, "data.dataset": "imagefolder"}
VALUES["masking.strategy"] = "global_only"


def value_of(settings: Settings, path: str) -> object:
    found: object = settings.model_dump(mode="json")
    for part in path.split("."):
        assert isinstance(found, dict)
        found = found[part]
    return found


@pytest.mark.parametrize("alias", ALIASES)
def test_an_alias_sets_its_canonical_setting(alias: str) -> None:
    name = ALIASES[alias]
    settings = load_settings(None, BESIDES.get(name, []), {alias: VALUES[name]})
    assert value_of(settings, name) == VALUES[name]
    assert name == "masking.strategy" or value_of(Settings(), name) != VALUES[name]


def test_aliases_lead_to_settings_and_hide_none() -> None:
    assert set(ALIASES.values()) <= LEAVES
    assert not (set(ALIASES) | set(REFUSED)) & LEAVES


@pytest.mark.parametrize("alias", ["num_target_masks", "num_masks_per_level", "num_pred_masks"])
def test_an_alias_that_contradicts_its_canonical_name_is_refused(alias: str) -> None:
    with pytest.raises(SettingsError, match=f"masking.num_masks=3 and masking.{alias}=2 are the same setting"):
        load_settings(None, ["masking.num_masks=3", f"masking.{alias}=2"])
    assert load_settings(None, ["masking.num_masks=3", f"masking.{alias}=3"]).masking.num_masks == 3


def test_an_alias_in_an_override_wins_over_the_canonical_name_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("masking: {num_masks: 3}", encoding="utf-8")
    assert load_settings(file, ["masking.num_target_masks=2"]).masking.num_masks == 2


MISSPELT = [
    ("batch_szie", "data.batch_size"),
    ("data.batch_szie", "data.batch_size"),
    ("training.batch_size", "data.batch_size"),
    ("sead", "seed"),
    ("lr", "training.lr"),
    ("trainning.lr", "training.lr"),
    ("evaluation.linear_prob.lr", "evaluation.linear_probe.lr"),
    ("evaluation.linear_probe.batchsize", "evaluation.linear_probe.batch_size"),
    ("optimizer", "training.optimizer"),
    ("num_local_crops", "data.multicrop.num_local_crops"),
    ("multicrop.local_crops_number", "data.multicrop.num_local_crops"),
    ("masking.num_mask", "masking.num_masks"),
    ("model.predictor.heads", "model.predictor.num_heads"),
    ("model.ema.momentum_ends", "model.ema.momentum_end"),
    ("Masking.Strategy", "masking.strategy"),
]


@pytest.mark.parametrize(("misspelt", "right"), MISSPELT, ids=[case[0] for case in MISSPELT])
def test_a_misspelt_name_is_refused_with_the_right_one(tmp_path: Path, misspelt: str, right: str) -> None:
    assert nearest(misspelt) == right
    with pytest.raises(SettingsError) as error:
        load_settings(None, [f"{misspelt}=1"])
    assert str(error.value) == f"override: there is no setting {misspelt}; did you mean {right}?"
    *sections, leaf = misspelt.split(".")
    file = tmp_path / "run.yaml"
    file.write_text(
        "".join("  " * depth + f"{part}:\n" for depth, part in enumerate(sections)) + "  " * len(sections) + f"{leaf}: 1"
    )
    with pytest.raises(SettingsError) as error:
        load_settings(file)
    assert str(error.value) == f"{file}: there is no setting {misspelt}; did you mean {right}?"


def test_a_name_like_no_other_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(SettingsError, match=r"there is no setting loss\.zzz; loss has loss\.type, loss\.hierarchy_weights"):
        load_settings(None, ["loss.zzz=1"])


def test_every_unknown_name_is_told_at_once(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("sead: 1\ndata: {batch_szie: 3}", encoding="utf-8")
    with pytest.raises(SettingsError) as error:
        load_settings(file, ["optimizer=sgd"])
    assert len(str(error.value).splitlines()) == 3


@pytest.mark.parametrize("path", REFUSED)
def test_a_name_of_another_system_without_a_counterpart_is_explained(path: str) -> None:
    with pytest.raises(SettingsError, match="leave it out"):
        load_settings(None, [f"{path}=1"])


def test_the_hierarchical_mask_type_is_what_there_is_and_others_are_explained() -> None:
    assert load_settings(None, ["masking.type=hierarchical"]) == Settings()
    for other in [*MASK_TYPES, "ibot"][1:]:
        with pytest.raises(SettingsError, match=f"masking.type='{other}' is not available: "):
            load_settings(None, [f"masking.type={other}"])


def test_what_is_advised_instead_of_the_multi_block_type_works() -> None:
    advice = MASK_TYPES["multi_block"].partition("the nearest is ")[2].replace(" with ", "; ").replace(", loss", "; loss")
    overrides = advice.replace(" and ", "; ").split("; ")
    assert load_settings(None, overrides).model.num_hierarchies == 1
