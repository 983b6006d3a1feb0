"""Loading: who wins over whom, what YAML may hold, and what a mistake reads like."""

from pathlib import Path

import pytest

from hjepa.configs.load import load_settings, to_yaml
from hjepa.configs.schema import Settings
from hjepa.configs.yaml_file import SettingsError


def written(folder: Path, text: str) -> Path:
    file = folder / "run.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def test_nothing_given_is_the_defaults() -> None:
    assert load_settings(None) == Settings()


def test_flags_win_over_overrides_over_yaml_over_defaults(tmp_path: Path) -> None:
    file = written(tmp_path, "training: {lr: 2, epochs: 20, warmup_epochs: 2}\nseed: 2")
    settings = load_settings(file, ["training.epochs=30", "seed=3"], {"seed": 4, "data.batch_size": None})
    assert (settings.training.lr, settings.training.epochs, settings.seed) == (2, 30, 4)
    assert (settings.data.batch_size, settings.training.min_lr) == (64, 1e-6)


def test_a_later_override_wins_over_an_earlier_one() -> None:
    settings = load_settings(None, ["loss={type: mse}", "seed=1", "loss.type=huber", "seed=2"])
    assert (settings.loss.type, settings.seed) == ("huber", 2)


def test_a_section_given_in_part_keeps_the_rest(tmp_path: Path) -> None:
    settings = load_settings(written(tmp_path, "data:\n  multicrop:\n    num_local_crops: 4\nloss:\n"))
    assert settings.data.multicrop.num_local_crops == 4
    assert settings.data.multicrop.num_global_crops == 2


def test_a_path_is_accepted_as_a_flag() -> None:
    settings = load_settings(None, ["data.dataset=imagefolder"], {"data.data_path": Path("photos")})
    assert settings.data.data_path == "photos"


def test_an_empty_override_is_the_empty_text() -> None:
    assert load_settings(None, ["data.data_path="]).data.data_path == ""


@pytest.mark.parametrize("text", ["1e-4", "1E-4", "1.e-4", "0.0001", "1.0e-4", ".1e-3"])
def test_every_way_to_write_a_float_is_a_float(tmp_path: Path, text: str) -> None:
    assert load_settings(written(tmp_path, f"training: {{lr: {text}}}")).training.lr == pytest.approx(1e-4)
    assert load_settings(None, [f"training.lr={text}"]).training.lr == pytest.approx(1e-4)


def test_saved_settings_load_as_the_same_settings(tmp_path: Path) -> None:
    overrides = [
        "logging.experiment_name='1e-4'",
        "training.lr=3e-5",
        "logging.wandb.tags=[ä, 'true', '3']",
        "model.encoder_type=custom",
    ]
    overrides += ["model.encoder={patch_size: 8, width: 64, depth: 2, num_heads: 4}", "training.weight_decay_end=0.4"]
    settings = load_settings(None, overrides)
    assert load_settings(written(tmp_path, to_yaml(settings))) == settings
    assert load_settings(written(tmp_path, to_yaml(Settings()))) == Settings()


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().seed = 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: 1\ndata: [1, 2", "run.yaml, line 2: "),
        ("seed: 1\n\tdevice: cpu", "run.yaml, line 2: "),
        ("- seed", "holds a list, not settings"),
        ("just words", "holds a str, not settings"),
        ("seed: 1\ndevice: cpu\nseed: 1", "run.yaml, line 3: seed is written twice"),
        ("data:\n  image_size: 224\n  image_size: 224", "run.yaml, line 3: image_size is written twice"),
        ("training.epochs: 20\ntraining: {epochs: 30}", "training.epochs=20 and training.epochs=30 are the same setting"),
        ("data: 3", "data is a section"),
        ("data: ''", "data is a section"),
        ("data: false", "data is a section"),
        ("seed: {a: 1}", "seed is a single setting"),
        ("nonsense: {}", "there is no setting nonsense"),
    ],
)
def test_a_broken_file_is_refused_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SettingsError) as error:
        load_settings(written(tmp_path, text))
    assert message in str(error.value)


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "picture.yaml"
    file.write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(SettingsError, match=r"picture\.yaml cannot be read"):
        load_settings(file)


def test_merge_keys_of_yaml_are_not_taken_for_repetitions(tmp_path: Path) -> None:
    text = "model:\n  predictor: &sizes {depth: 2, num_heads: 3, width: 96}\n  encoder_type: custom\n"
    settings = load_settings(written(tmp_path, text + "  encoder: {<<: *sizes, depth: 4, patch_size: 16}\n"))
    assert (settings.model.predictor.depth, settings.model.encoder.depth, settings.model.embed_dim) == (2, 4, 96)


def test_recipe_in_place_of_settings_is_called_so(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("name: mine\nviews: []\n")
    with pytest.raises(SettingsError, match=r"mine\.yaml is a recipe"):
        load_settings(tmp_path / "mine.yaml")


@pytest.mark.parametrize(
    ("config", "message"),
    [("no/such.yaml", "there is no file no/such.yaml"), ("small_cup", "there are no shipped settings named small_cup")],
)
def test_a_missing_file_is_refused_with_the_shipped_names(config: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message) as error:
        load_settings(Path(config))
    assert "multicrop_training, small" in str(error.value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed", "override 'seed' is not of the form name=value"),
        ("=1", "is not of the form name=value"),
        ("seed={: ", "the value is not YAML; quote it, as in seed='"),
        ("masking.mask_scale=[0.03,", "the value is not YAML; quote the list for the shell, as in 'masking.mask_scale=[1, 2]'"),
        ("seed=2020-13-45", "the value is not YAML"),
        ("/", "override '/' is not of the form name=value; write --data-path /"),
        ("training.lr=abc", 'training.lr="abc" should be a valid number. What it is: Highest learning rate.'),
        ("training.lr=-1", "training.lr=-1 should be greater than 0"),
        ("training.epochs=true", "training.epochs=true should be a valid integer"),
        ("training.epochs=1.5", "training.epochs=1.5 should be a valid integer"),
        ("training.lr=.nan", "training.lr=NaN should be a finite number"),
        ("data.pin_memory=1", "data.pin_memory=1 should be a valid boolean"),
        ("data.num_workers=many", "data.num_workers=\"many\" should be 'auto' or be a valid integer"),
        (
            "data.multicrop.global_crop_scale=[0.5, 2]",
            "data.multicrop.global_crop_scale[1]=2 should be less than or equal to 1",
        ),
        ("data.multicrop.global_crop_scale=[0.5, 0.2]", "global_crop_scale=[0.5, 0.2]: the smaller number comes first"),
        ("data.multicrop.global_crop_scale=[0.1, 0.2, 0.3]", "should have at most 2 items, not 3"),
        ("loss.type=l2", "should be 'mse', 'smoothl1' or 'huber'"),
        ("device=gpu", "What it is: cpu, cuda, cuda:N"),
        ("logging.experiment_name=12", "logging.experiment_name=12 should be a valid string"),
    ],
)
def test_a_wrong_value_is_explained_in_plain_lines(override: str, message: str) -> None:
    with pytest.raises(SettingsError) as error:
        load_settings(None, [override])
    assert message in str(error.value)
    assert "pydantic" not in str(error.value)
    assert "\n" not in str(error.value)


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(SettingsError) as error:
        load_settings(None, ["training.lr=-1", "data.batch_size=0"], {})
    assert len(str(error.value).splitlines()) == 2
