"""The command line `hjepa` as a user meets it: recipes, parity, clear errors, exit codes."""

import contextlib
import inspect
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest

from hjepa import cli, commands, parity
from hjepa.configs.recipe_file import load_recipe, recipe_to_yaml
from hjepa.pipeline.presets import PRESETS, preset
from hjepa.recipe_table import markdown
from tests.hjepa.calling import Call

DOCUMENTED = Path(__file__).parents[2] / "docs" / "recipes.md"


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Call:
    monkeypatch.chdir(tmp_path)
    return Call("hjepa", commands.main, monkeypatch, capsys)


def test_without_a_command_the_commands_are_shown(call: Call) -> None:
    code, output, errors = call()
    assert (code, errors) == (0, "")
    for command in ("recipes", "parity", "hjepa-train"):
        assert command in output


@pytest.mark.parametrize(("name", "main"), [("hjepa", commands.main), ("hjepa-train", cli.main)])
def test_both_commands_say_their_version_and_complete_words(
    name: str, main: Callable[[], None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [name, "--version"])
    main()
    assert capsys.readouterr().out == f"hjepa {version('hjepa')}\n"
    words, whole = ("hjepa vi", "view") if name == "hjepa" else ("hjepa-train --batch", "--batch-size")
    monkeypatch.setattr(sys, "argv", [name])
    monkeypatch.setenv(f"_{name.upper().replace('-', '_')}_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", "1")
    with contextlib.suppress(SystemExit):
        main()
    assert whole in capsys.readouterr().out.split()


SLOW = {"numpy", "PIL", "torch", "torchvision", "timm", "nvidia", "matplotlib"}
"""Modules that take their time."""
QUICK = {
    "hjepa": ["--version", "veiw", *(f"{command.name} --help" for command in commands.app.registered_commands)],
    "hjepa-train": ["--version", "--help", "--batchsize 8", "trainig.lr=1e-3"],
}
"""Program -> what it answers without them."""
ASKED = """
import contextlib, sys
from hjepa.start import commands, train
for line in sys.argv[1:]:
    sys.argv = line.split()
    with contextlib.suppress(SystemExit):
        train() if sys.argv[0] == "hjepa-train" else commands()
print("loaded", *sys.modules)
"""


@pytest.mark.parametrize("program", QUICK)
def test_help_and_slips_wait_for_no_slow_module(program: str) -> None:
    printed, modules = ask([f"{program} {arguments}" for arguments in QUICK[program]], {})
    assert "--help" in printed
    assert modules & SLOW == set()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("hjepa vi", {"view"}),
        ("hjepa view --recipe sim", {"simclr", "simple"}),
        ("hjepa recipes sim", {"simclr", "simple"}),
        ("hjepa view photos/", set()),  # the shell's turn
        ("hjepa-train --batch", {"--batch-size"}),
        ("hjepa-train --config small", {"small", "small_dino"}),
        ("hjepa-train masking.n", {"masking.nested=", "masking.num_masks="}),
    ],
)
def test_tab_offers_names_and_waits_for_no_slow_module(words: str, offered: set[str]) -> None:
    program, *others = words.split()
    name = f"_{program.upper().replace('-', '_')}_COMPLETE"
    printed, modules = ask([program], {name: "complete_bash", "COMP_WORDS": words, "COMP_CWORD": f"{len(others)}"})
    assert set(printed.split()) == offered
    assert modules & SLOW == set()


def ask(lines: list[str], environment: dict[str, str]) -> tuple[str, set[str]]:
    """What the programs print on these command lines, in a process of their own, and the modules that are loaded then."""
    printed = subprocess.run(
        [sys.executable, "-c", ASKED, *lines],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **environment},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
    said, _, modules = printed.rpartition("loaded ")
    return said, set(modules.split())


@pytest.mark.parametrize(("wrong", "right"), [("veiw", "view"), ("docter", "doctor"), ("tun", "tune"), ("recipe", "recipes")])
def test_misspelt_command_is_told_the_nearest(wrong: str, right: str, call: Call) -> None:
    code, _, errors = call(wrong)
    assert (code, errors) == (2, f"hjepa: No such command '{wrong}'. Did you mean '{right}'?\n")


def test_own_images_are_shown_as_picture_and_page(call: Call, labelled: Path, tmp_path: Path) -> None:
    code, output, errors = call("view", labelled, "--count", 1, "--backend", "torchvision", "--device", "cpu")
    assert (code, errors) == (0, "")
    assert "made by torchvision; masks: global_only; seed 0, epoch 0; 1 image\n" in output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["crops.html", "crops.png"]
    call("view", labelled, "--count", 1, "--backend", "torchvision", "--recipe", "cifar10", "--output", "a.png")
    assert (tmp_path / "a.png").exists()
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "broken.jpg").write_bytes(b"no image")
    shutil.copy(next(labelled.rglob("*.jpg")), tmp_path / "photos")
    _, output, _ = call("view", "photos", "--count", 1, "--backend", "torchvision", "--output", "b.png")
    assert "left out: broken.jpg: not an image" in output
    next((tmp_path / "photos").rglob("[!b]*.jpg")).rename(tmp_path / "photos" / "写真.jpg")  # which matplotlib's font lacks
    assert call("view", "photos", "--count", 1, "--backend", "torchvision", "--output", "c.png")[0] == 0


def test_view_without_data_makes_no_more_sample_images_than_it_needs(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HJEPA_CACHE", str(tmp_path / "cache"))
    code, output, _ = call("view", "--count", 1, "--backend", "torchvision", "--masks", "none", "--output", "a.png")
    assert code == 0
    assert "making 20 sample images" in output
    assert len(list(tmp_path.glob("cache/sample-20-*/*/*.jpg"))) == 20


def test_all_recipes_are_listed_with_their_sources(call: Call) -> None:
    code, output, _ = call("recipes")
    assert code == 0
    for name in PRESETS:
        assert f"\n{name} " in f"\n{output}"
    assert "2x256 global + 8x112 local + 2x512 gram" in output
    assert "arXiv 2006.09882" in output


def test_names_are_whole_on_a_narrow_terminal(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    output = call("recipes")[1]
    assert "\ndinov3-highres-768-336-1152 " in output
    assert "src/data/multicrop_transforms.py" in output  # no word is cut where another line would hold it
    assert "…" not in call("recipes", "dinov3-gram")[1]
    monkeypatch.setenv("COLUMNS", "40")
    assert "\nijepa\n  1x224 global\n  facebookresearch/ijepa," in "\n".join(map(str.rstrip, call("recipes")[1].splitlines()))


@pytest.mark.parametrize("command", ["view", "doctor", "tune", "recipes", "parity", "eval", "export"])
def test_help_is_wrapped_by_the_terminal_and_not_by_its_source(
    command: str, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("typer.rich_utils.MAX_WIDTH", 200)
    code, output, _ = call(command, "--help")
    assert code == 0
    written = inspect.getdoc(next(each.callback for each in commands.app.registered_commands if each.name == command))
    assert written is not None
    for paragraph in written.replace("`", "").split("\n\n"):
        flowing = " ".join(paragraph.split())
        assert len(flowing) > 195 or f" {flowing} " in output


def test_recipe_is_shown_as_a_table_and_as_yaml(call: Call) -> None:
    _, output, _ = call("recipes", "dinov2")
    assert "0.9, 0.1-2, 9" in output
    assert output.endswith(recipe_to_yaml(preset("dinov2")))


def test_yaml_of_a_recipe_is_a_recipe_once_edited(call: Call, tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text(call("recipes", "dino", "--yaml")[1].replace("name: dino", "name: mine").replace("count: 8", "count: 3"))
    large, second, small = preset("dino").views
    assert load_recipe(mine) == replace(preset("dino"), name="mine", views=(large, second, replace(small, count=3)))
    assert call("recipes", mine, "--yaml")[1] == mine.read_text()


def test_documented_table_is_that_of_the_presets(call: Call) -> None:
    _, output, _ = call("recipes", "--markdown")
    assert output == markdown(preset(name) for name in PRESETS)
    assert output in DOCUMENTED.read_text(encoding="utf-8"), "docs/recipes.md is old; see `hjepa recipes --markdown`"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["recipes", "dinov"], "did you mean dino"),
        (["recipes", "missing.yaml"], "there is no file missing.yaml"),
        (["recipes", "--yaml"], "name it, as in `hjepa recipes dino --yaml`"),
        (["recipes", "dino", "--yaml", "--markdown"], "give one of them"),
        (["recipes", "broken.yaml"], "did you mean views?"),
        (["view", "images", "--output", "sheet.jpg"], "use a name with .png or .html"),
        (["view", "images", "--output", "broken.yaml/sheet.png"], "sheet.png cannot be written (broken.yaml is a file)"),
        (["view", "images", "--output", "folder.png"], "folder.png is a folder"),
        (["view", "images", "--masks", "global_onyl"], "did you mean global_only"),
        (["view", "missing"], "missing does not exist"),
        (["doctor", "missing"], "missing does not exist"),
        (["tune", "missing", "--output", "folder.png"], "--output folder.png is a folder"),
        (["parity", "simclear"], "did you mean simclr"),
        pytest.param(["parity", "--images", "missing"], "missing does not exist", marks=pytest.mark.dali),
        pytest.param(["parity", "--images", "images", "--device", "gpu"], "device", marks=pytest.mark.dali),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_users_mistake_is_one_line_and_exit_code_2(
    arguments: list[str], message: str, call: Call, labelled: Path, tmp_path: Path
) -> None:
    (tmp_path / "images").symlink_to(labelled)
    (tmp_path / "broken.yaml").write_text("name: a\nvews: []\n")
    (tmp_path / "folder.png").mkdir()
    code, _, errors = call(*arguments)
    assert code == 2
    assert message in errors
    assert errors.startswith("hjepa: ")
    assert errors.count("\n") == 1


@pytest.mark.dali
def test_parity_is_shown_and_written(call: Call, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "few").mkdir()
    for path in sorted(photographs.iterdir())[:4]:
        shutil.copy(path, tmp_path / "few")
    operators = {name: view for name, view in parity.OPERATORS.items() if name in ("blur", "crop, bicubic")}
    monkeypatch.setattr(parity, "OPERATORS", operators)
    monkeypatch.setattr(parity, "EPOCHS", 1)
    monkeypatch.setattr(parity, "available", lambda device: ["dali-ops"])
    (tmp_path / "mine.yaml").write_text(recipe_to_yaml(replace(preset("cifar10"), name="mine", decoding="reduced")))
    command = ["parity", "mine.yaml", "--images", "few", "--device", "cpu", "--json", "figures.json"]
    code, output, errors = call(*command)
    assert (code, errors) == (0, "")
    rows = json.loads((tmp_path / "figures.json").read_text())
    parts = ["crop, bicubic", "blur", "mine: global", "mine: local"]
    assert [row["part"] for row in rows] == parts
    assert all(row["within"] for row in rows)
    for part in parts:
        assert part in output
    narrow = replace(parity.BOUNDS["dali-ops"]["blur"], mean=0.001)
    monkeypatch.setitem(parity.BOUNDS["dali-ops"], "blur", narrow)
    code, output, errors = call(*command)
    assert code == 1
    assert errors == "hjepa: beyond the bound: dali-ops blur\n"
    assert "BEYOND THE BOUND" in output
