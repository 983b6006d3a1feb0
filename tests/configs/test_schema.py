"""The checks of settings against each other, and what is refused because it would have no effect."""

import re
from pathlib import Path

import pytest

from hjepa.configs.load import load_settings, settings_from_plain
from hjepa.configs.names import DESCRIPTIONS
from hjepa.configs.schema import Settings
from hjepa.configs.yaml_file import SettingsError

CUSTOM = ["model.encoder_type=custom", "model.encoder={patch_size: 8, width: 192, depth: 6, num_heads: 3}"]


def refusal(*overrides: str) -> str:
    with pytest.raises(SettingsError) as error:
        load_settings(None, overrides)
    return str(error.value)


def test_every_setting_is_described() -> None:
    assert not [path for path, description in DESCRIPTIONS.items() if not description.endswith(".")]


def test_a_named_encoder_fills_in_its_sizes() -> None:
    model = load_settings(None, ["model.encoder_type=vit_small_patch16_224"]).model
    assert (model.encoder.patch_size, model.encoder.width, model.encoder.depth, model.embed_dim) == (16, 384, 12, 384)


def test_a_custom_encoder_has_its_own_sizes() -> None:
    model = load_settings(None, CUSTOM).model
    assert (model.encoder.width, model.embed_dim, model.encoder.mlp_ratio) == (192, 192, 4.0)


def test_sizes_that_contradict_a_name_are_refused() -> None:
    assert "model.encoder.depth=3 contradicts" in refusal("model.encoder.depth=3")
    assert "set model.embed_dim=384" in refusal("model.encoder_type=vit_small_patch16_224", "model.embed_dim=768")
    assert "set model.embed_dim=192" in refusal(*CUSTOM, "model.embed_dim=768")
    assert "model.encoder.width is missing" in refusal("model.encoder_type=custom", "model.encoder.depth=3")
    assert "the nearest is vit_small_patch16_224" in refusal("model.encoder_type=vit_smal_patch16_224")


def test_verifying_files_is_refused_where_it_has_no_effect() -> None:
    place = "data.data_path=x"
    assert load_settings(None, ["data.dataset=csv", place, "data.verify=true"]).data.verify
    assert "data.verify has no effect on data.dataset=cifar10" in refusal("data.dataset=cifar10", place, "data.verify=true")


def test_heads_divide_the_width() -> None:
    assert "model.predictor.width=384 must divide by model.predictor.num_heads=5" in refusal("model.predictor.num_heads=5")


def test_crops_are_whole_patches() -> None:
    assert "data.multicrop.local_crop_size=100 does not divide by the patch size 16" in refusal(
        "data.multicrop.local_crop_size=100"
    )
    assert "use 96 or 112" in refusal("data.multicrop.local_crop_size=100")
    assert "data.image_size=100 does not" in refusal("data.use_multicrop=false", "data.image_size=100")
    unread = ["data.multicrop.num_local_crops=0", "data.multicrop.local_crop_size=100"]
    assert load_settings(None, unread).data.multicrop.num_local_crops == 0


def test_image_size_and_global_crop_size_agree() -> None:
    assert "set data.image_size=160" in refusal("data.multicrop.global_crop_size=160")
    both = load_settings(None, ["data.multicrop.global_crop_size=160", "data.image_size=160"])
    assert both.data.image_size == 160
    assert load_settings(None, ["data.use_multicrop=false", "data.image_size=160"]).data.image_size == 160


@pytest.mark.parametrize(
    ("overrides", "feasible"),
    [
        (["masking.mask_scale=[0.15, 0.2]"], False),  # 4 blocks of 60 % at level 2
        (["masking.mask_scale=[0.0612, 0.2]"], True),  # 4 blocks of 48 patches, and 4 of 196 for the context
        (["masking.mask_scale=[0.0613, 0.2]"], False),
        (["masking.law=reference", "masking.mask_scale=[0.0625, 0.2]"], True),  # 4 blocks of 25 %: a full crop
        (["masking.law=reference", "masking.mask_scale=[0.0626, 0.2]"], False),
        (["masking.mask_scale=[0.08, 0.2]", "masking.scale_progression=linear"], True),
        (["masking.mask_scale=[0.09, 0.2]", "masking.scale_progression=linear"], False),
        (["masking.mask_scale=[0.3, 0.4]", "masking.num_masks=1"], True),  # 120 %, held at 95 %
        (["masking.mask_scale=[0.15, 0.2]", "model.num_hierarchies=1"], True),
        (["masking.mask_scale_end=[0.0612, 0.2]"], True),
        (["masking.mask_scale_end=[0.0613, 0.2]"], False),  # from its last epoch on
        (["masking.mask_scale=[0.0613, 0.2]", "masking.mask_scale_end=[0.05, 0.2]"], False),  # in its first
        # 4 blocks of 8 of a local crop's 36 patches, and 4 for the context
        (["masking.strategy=cross_crop_prediction", "masking.mask_scale_end=[0.05, 0.3]"], True),
        (["masking.strategy=cross_crop_prediction", "masking.num_masks=2", "masking.mask_scale_end=[0.1, 0.3]"], True),
        (["masking.strategy=cross_crop_prediction", "masking.min_keep=16", "masking.num_masks=18"], False),
    ],
)
def test_blocks_that_cannot_lie_side_by_side_are_refused(overrides: list[str], feasible: bool) -> None:
    if "model.num_hierarchies=1" in overrides:
        overrides = [*overrides, "loss.hierarchy_weights=[1]", "model.level_windows=[1]"]
    if feasible:
        load_settings(None, overrides)
    else:
        assert "cannot lie side by side" in refusal(*overrides)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["masking.mask_scale_warmup_epochs=5"], "has no effect without masking.mask_scale_end; set that, or leave it out"),
        (["masking.mask_scale_end=[0.3, 0.2]"], "the smaller number comes first"),
        (["masking.mask_scale_end=[0.2, 0.3]"], r"mask_scale_end to 0.0612, or"),
        (["masking.nested=true", "masking.law=reference"], "set masking.law=exact, or masking.nested=false"),
    ],
)
def test_ramps_and_nested_levels_without_a_meaning_are_refused(overrides: list[str], message: str) -> None:
    assert re.search(message, refusal(*overrides))


def test_more_blocks_than_patches_are_refused_by_their_number() -> None:
    """No scale is small enough for them, so none is advised."""
    four = ["masking.strategy=cross_crop_prediction", "data.multicrop.local_crop_size=32"]  # 2 x 2 patches
    text = refusal(*four, "masking.min_keep=1")
    assert text.startswith("masking.num_masks=4 blocks cannot lie side by side in 3 of the 4 patches of a local crop")
    assert "mask_scale" not in text
    load_settings(None, [*four, "masking.min_keep=1", "masking.num_masks=3"])


def test_the_advice_of_an_infeasible_mask_is_feasible() -> None:
    for masks in range(1, 12):
        overrides = [f"masking.num_masks={masks}"]
        text = refusal(*overrides, "masking.mask_scale=[0.9, 0.9]") if masks > 1 else "to 0.2, or"
        advised = text.partition("masking.mask_scale to ")[2].partition(",")[0] or "0.2"
        load_settings(None, [*overrides, f"masking.mask_scale=[{advised}, 0.9]"])


def test_levels_have_one_weight_and_one_window_each() -> None:
    text = refusal("model.num_hierarchies=2")
    assert "loss.hierarchy_weights has 3 numbers" in text
    assert "model.level_windows has 3 numbers" in text
    assert load_settings(None, ["model.num_hierarchies=2", "loss.hierarchy_weights=[1.0, 0.5]", "model.level_windows=[1, 3]"])
    assert "must be odd" in refusal("model.level_windows=[1, 2, 3]")
    assert "a weight above 0" in refusal("loss.hierarchy_weights=[0, 0, 0]")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["model.view_weight=1", "data.multicrop.num_local_crops=0"],
            "model.view_weight=1.0 has no effect without local crops",
        ),
        (["model.view_weight=1", "data.use_multicrop=false"], "has no effect without local crops"),
        (["masking.strategy=global_with_local_context", "data.multicrop.num_local_crops=0"], "needs 1 local crops or more"),
        (["masking.strategy=cross_crop_prediction", "data.multicrop.num_local_crops=1"], "there may be 1; raise"),
        (
            [
                "masking.strategy=cross_crop_prediction",
                "data.multicrop.adaptive=true",
                "data.multicrop.adaptive_config.min_local_crops=1",
            ],
            "needs 2 local crops or more in every epoch",
        ),
        (["objective=dino", "masking.strategy=cross_crop_prediction"], "has no effect with objective=dino"),
        (["objective=dino", "model.view_weight=1"], "has no effect with objective=dino"),
        (["masking.exclude_leaks=false"], "masking.exclude_leaks=false has no effect with masking.strategy=global_only"),
        (
            ["masking.nested=true", "model.num_hierarchies=1", "loss.hierarchy_weights=[1]", "model.level_windows=[1]"],
            "masking.nested=true has no effect with model.num_hierarchies=1",
        ),
        (
            ["masking.mask_scale_end=[0.05, 0.1]", "masking.mask_scale_warmup_epochs=101"],
            "masking.mask_scale_warmup_epochs=101 is longer than training.epochs=100",
        ),
        (["objective=dino", "data.use_multicrop=false"], "compares crops of an image, and there is one alone"),
        (["data.data_path=/photos"], "set data.dataset=imagefolder"),
        (["data.dataset=imagefolder"], "set data.data_path"),
        (["data.num_workers=0"], "DALI needs at least one thread"),
        (["masking.min_keep=99"], "exceeds the 98 context patches"),
        (["training.epochs=5"], "set training.warmup_epochs to at most 5"),
        (["training.lr=1e-7"], "lower training.min_lr"),
        (["data.multicrop.adaptive_config.min_local_crops=11"], "exceeds max_local_crops=10"),
    ],
)
def test_contradictions_are_refused(overrides: list[str], message: str) -> None:
    assert message in refusal(*overrides)


@pytest.mark.parametrize(
    ("beside", "unread", "default"),
    [
        ("objective=hjepa", "dino.koleo_weight=0.1", "0.0"),
        ("objective=hjepa", "dino.teacher_temperature=0.02", "0.04"),
        ("objective=dino", "loss.type=mse", "smoothl1"),
        ("objective=dino", "loss.normalize_embeddings=true", "false"),
        ("objective=dino", "masking.num_masks=2", "4"),
        ("objective=dino", "masking.mask_scale_end=[0.05, 0.1]", "null"),
        ("objective=dino", "masking.mask_scale=[0.05, 0.1]", "[0.05, 0.15]"),
        ("objective=dino", "model.predictor.depth=3", "6"),
        ("objective=dino", "model.cross_weight=3.0", "1.0"),
        ("objective=dino", "model.level_windows=[1, 1, 1]", "[1, 3, 7]"),
        ("masking.strategy=global_with_local_context", "model.cross_weight=3.0", "1.0"),
        ("masking.law=exact", "masking.max_attempts=3", "10"),
        ("data.multicrop.adaptive=true", "data.multicrop.num_local_crops=7", "6"),
    ],
)
def test_what_nothing_reads_is_refused_unless_it_is_as_by_default(beside: str, unread: str, default: str) -> None:
    text = refusal(beside, unread)
    assert text.startswith(f"{unread} has no effect with {beside}")
    assert text.endswith(f"leave it out, or set it to {default}")
    name = unread.partition("=")[0]
    load_settings(None, [beside, f"{name}={default}"])


def test_checkpoint_may_hold_what_nothing_reads() -> None:
    plain = load_settings().model_dump(mode="json")
    plain["dino"]["koleo_weight"] = 0.25
    assert settings_from_plain(plain).dino.koleo_weight == 0.25


def test_a_setting_that_two_others_leave_unread_is_refused_once() -> None:
    assert refusal("objective=dino", "masking.max_attempts=3").count("\n") == 0


def test_what_something_reads_is_accepted() -> None:
    cross = load_settings(None, ["masking.strategy=cross_crop_prediction", "model.cross_weight=3"])
    assert cross.model.cross_weight == 3
    assert load_settings(None, ["masking.law=reference", "masking.max_attempts=3"]).masking.max_attempts == 3
    heat = ["objective=dino", "dino.teacher_temperature_warmup_epochs=0", "dino.teacher_temperature=0.06"]
    assert load_settings(None, [*heat, "dino.teacher_temperature_end=0.06"]).dino.teacher_temperature == 0.06
    with pytest.raises(SettingsError, match=r"which is dino\.teacher_temperature_end at once"):
        load_settings(None, heat)
    assert load_settings(None, ["objective=dino", "dino.local_weight=2"]).dino.local_weight == 2
    later = ["data.multicrop.num_local_crops=0", phases("{from_epoch: 9, num_local_crops: 2}")]
    assert load_settings(None, ["objective=dino", "dino.local_weight=2", *later]).dino.local_weight == 2
    with pytest.raises(SettingsError, match=r"dino\.local_weight=2\.0 has no effect with crops of which none is local"):
        load_settings(None, ["objective=dino", "dino.local_weight=2", "data.multicrop.num_local_crops=0"])
    assert load_settings(None, ["masking.mask_scale_end=[0.05, 0.1]", "masking.mask_scale_warmup_epochs=100"])


def test_the_linear_probe_of_another_data_set_needs_its_place() -> None:
    probe, folder = "evaluation.linear_probe", ["data.dataset=imagefolder", "data.data_path=photos"]
    text = refusal(*folder, f"{probe}.enabled=true", f"{probe}.dataset=cifar10")
    assert f"{probe}.dataset=cifar10 is not the run's own" in text
    for accepted in (
        [f"{probe}.dataset=null"],
        [f"{probe}.dataset=imagefolder"],
        [f"{probe}.data_path=cifar", f"{probe}.dataset=cifar10"],
    ):
        assert load_settings(None, [*folder, f"{probe}.enabled=true", *accepted]).evaluation.linear_probe.enabled
    assert load_settings(None, [f"{probe}.dataset=cifar10"]).evaluation.linear_probe.dataset == "cifar10"  # not read


def test_smooth_l1_may_be_written_with_an_underscore() -> None:
    assert load_settings(None, ["loss.type=smooth_l1"]).loss.type == "smoothl1"


def test_folders_lie_in_the_output_folder_unless_named() -> None:
    settings = load_settings(None, ["output_dir=out", "logging.log_dir=elsewhere"])
    assert settings.checkpoint_folder == Path("out/checkpoints")
    assert settings.log_folder == Path("elsewhere")


def test_zero_workers_are_torchvisions_own_process() -> None:
    assert load_settings(None, ["data.num_workers=0", "data.pipeline=torchvision"]).data.num_workers == 0


def test_defaults_need_no_files() -> None:
    assert (Settings().data.dataset, Settings().data.data_path, Settings().device) == ("sample", "", "auto")


def phases(*texts: str) -> str:
    return f"data.multicrop.curriculum=[{', '.join(texts)}]"


def test_a_phase_keeps_what_it_does_not_name() -> None:
    given = phases(
        "{from_epoch: 30, global_crop_size: 256, num_local_crops: 4}", "{from_epoch: 60, local_crop_scale: [0.1, 0.3]}"
    )
    crops = load_settings(None, [given]).data.multicrop
    assert [(epoch, phase.global_crop_size, phase.num_local_crops) for epoch, phase in crops.phases] == [
        (0, 224, 6),
        (30, 256, 4),
        (60, 256, 4),
    ]
    assert [crops.at(epoch).local_crop_scale for epoch in (0, 59, 60, 99)] == [(0.05, 0.4), (0.05, 0.4), (0.1, 0.3), (0.1, 0.3)]
    assert [crops.at(epoch).global_crop_size for epoch in (29, 30)] == [224, 256]


def test_images_may_be_evaluated_at_the_size_of_any_phase() -> None:
    given = phases("{from_epoch: 30, global_crop_size: 256}")
    assert load_settings(None, [given, "data.image_size=256"]).data.image_size == 256
    assert "set data.image_size=224" in refusal(given, "data.image_size=240")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([phases("{from_epoch: 3}")], "curriculum[0] changes nothing; set one of num_local_crops, global_crop_size"),
        ([phases("{from_epoch: 3, local_crop_size: 96}")], "curriculum[0] changes nothing; set one of num_local_crops"),
        (
            [phases("{from_epoch: 3, local_crop_size: 112}"), "data.multicrop.num_local_crops=0"],
            "curriculum[0].local_crop_size=112 has no effect: there are no local crops from epoch 3 on",
        ),
        (
            [
                phases(
                    "{from_epoch: 3, num_local_crops: 0, local_crop_scale: [0.1, 0.4]}",
                    "{from_epoch: 9, global_crop_size: 256}",
                )
            ],
            "curriculum[0].local_crop_scale=(0.1, 0.4) has no effect: there are no local crops from epoch 3 on",
        ),
        ([phases("{from_epoch: 0, local_crop_size: 112}")], "curriculum[0].from_epoch=0 should be greater than or equal to 1"),
        ([phases("{local_crop_size: 112}")], "data.multicrop.curriculum[0].from_epoch is missing"),
        (
            [phases("{from_epoch: 9, local_crop_size: 112}", "{from_epoch: 9, local_crop_size: 96}")],
            "curriculum[1].from_epoch=9 does not follow epoch 9; phases ascend",
        ),
        (
            [phases("{from_epoch: 9, global_crop_size: 230}")],
            "curriculum[0].global_crop_size=230 does not divide by the patch size 16 of the encoder; use 224 or 240",
        ),
        (
            [
                phases("{from_epoch: 9, num_local_crops: 2}"),
                "data.multicrop.num_local_crops=0",
                "data.multicrop.local_crop_size=90",
            ],
            "data.multicrop.local_crop_size=90 does not divide by the patch size 16",
        ),
        ([phases("{from_epoch: 9, crop_size: 112}")], "data.multicrop.curriculum[0].crop_size: there is no such setting"),
        ([phases("{from_epoch: 9, local_crop_size: big}")], 'curriculum[0].local_crop_size="big" should be a valid integer'),
        (
            [phases("{from_epoch: 20, local_crop_size: 112}"), "training.epochs=20"],
            "curriculum[0].from_epoch=20 never comes: training.epochs=20 ends with epoch 19",
        ),
        (
            [phases("{from_epoch: 9, num_local_crops: 2}"), "data.multicrop.adaptive=true"],
            "curriculum[0].num_local_crops=2 has no effect with data.multicrop.adaptive=true",
        ),
        (
            [phases("{from_epoch: 9, num_local_crops: 1}"), "masking.strategy=cross_crop_prediction"],
            "needs 2 local crops or more in every epoch, and there may be 1",
        ),
        ([phases("{from_epoch: 9, global_crop_size: 16}")], "from epoch 9 on: masking.num_masks=4 blocks"),
        (
            [phases("{from_epoch: 9, global_crop_size: 16}")],
            "from epoch 9 on: masking.min_keep=4 exceeds the 0 context patches",
        ),
    ],
)
def test_phases_that_cannot_be_are_refused(overrides: list[str], message: str) -> None:
    assert message in refusal(*overrides)


def test_dino_asks_nothing_of_masks_that_it_does_not_draw() -> None:
    sizes = ["data.image_size=16", "data.multicrop.global_crop_size=16", "data.multicrop.local_crop_size=8"]
    with pytest.raises(SettingsError, match=r"masking\.num_masks"):
        load_settings(Path("small"), sizes)
    assert load_settings(Path("small_dino"), sizes).objective == "dino"


def test_attention_is_refused_where_nothing_is_masked() -> None:
    assert "masking.weights=attention has no effect with objective=dino" in refusal(
        "objective=dino", "masking.weights=attention"
    )


def test_the_curriculum_in_the_documentation_loads(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```yaml\n(data:.*?)^```$", text, re.DOTALL | re.MULTILINE)
    (tmp_path / "example.yaml").write_text(example, encoding="utf-8")
    crops = load_settings(tmp_path / "example.yaml").data.multicrop
    assert [crops.at(epoch).global_crop_size for epoch in (0, 60, 90)] == [128, 192, 224]
