"""Several ranks: the run of one rank, settings that agree, and, started by torchrun as users start them, an end for all."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.torch_version import TorchVersion

from hjepa import checkpoint, cli, trainer
from hjepa.configs.load import load_settings
from hjepa.distributed import Ranks, check_local_rank
from tests.hjepa.calling import Call
from tests.hjepa.ranks import run_ranks

REPOSITORY = str(Path(cli.__file__).resolve().parents[1])
TINY = [
    "data.image_size=32",
    "data.multicrop.global_crop_size=32",
    "data.multicrop.local_crop_size=16",
    "model.encoder.width=16",
    "model.embed_dim=16",
    "model.encoder.depth=1",
    "model.encoder.num_heads=2",
    "training.warmup_epochs=0",
    "logging.log_frequency=1",
]
JEPA = ["model.predictor.width=8", "model.predictor.depth=1", "masking.min_keep=1"]
OPTIONS = [
    "--pipeline",
    "torchvision",
    "--num_workers",
    "0",
    "--device",
    "cpu",
    "--dataset",
    "imagefolder",
]
DINO = ["--config", "small_dino", "dino.num_prototypes=32", "dino.hidden=16", "dino.koleo_weight=0.1"]
DINO += ["dino.held_prototypes_epochs=1", "dino.teacher_temperature_end=0.07", "dino.teacher_temperature_warmup_epochs=30"]
LEVELS_ALONE = ["model.view_weight=0", "model.spread_weight=0"]  # the spread is that of a batch, however it is accumulated
CROSS = ["masking.strategy=cross_crop_prediction", "data.multicrop.local_crop_size=24"]

WITH_FSDP = torch.__version__ >= "2.9"  # over gloo
STOP = """
import os, signal, hjepa.trainer
real, seen = hjepa.trainer.draw_masks, []
def draw(*args):
    seen.append(0)
    if len(seen) == {}:
        os.kill(os.getpid(), signal.SIGUSR1)
    return real(*args)
hjepa.trainer.draw_masks = draw
"""
"""Asks for the end of the run in the step of that many batches."""

Start = Callable[..., "subprocess.Popen[str]"]
Run = Callable[..., str]


def words(data: Path, output: Path, *arguments: object) -> list[object]:
    """Of hjepa-train's command line."""
    settings = [] if "--config" in arguments else ["--config", "small", *JEPA]
    return ["--data-path", data, "--output-dir", output, *OPTIONS, *TINY, *settings, *arguments]


@pytest.fixture
def alone(labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs hjepa-train in this process, which no torchrun started, and returns what it said."""
    call = Call("hjepa-train", cli.main, monkeypatch, capsys)

    def alone(output: str, *arguments: object) -> str:
        code, said, errors = call(*words(labelled, tmp_path / output, *arguments))
        assert code == 0, errors
        return said

    return alone


@pytest.fixture
def together(labelled: Path, tmp_path: Path) -> Run:
    """Runs hjepa-train on two ranks and returns what they said; `before` is Python that each runs first."""

    def together(output: str, *arguments: object, before: str = "") -> str:
        return run_ranks(2, tmp_path / f"{output}.txt", words(labelled, tmp_path / output, *arguments), before)

    return together


@pytest.fixture
def start(labelled: Path, tmp_path: Path) -> Iterator[Start]:
    """Starts hjepa-train on as many ranks; `before` is Python that each rank runs first."""
    started = []

    def start(
        ranks: int, output: str, *arguments: object, before: str = "", launch: Sequence[str] = ()
    ) -> "subprocess.Popen[str]":
        script = tmp_path / f"{output}.py"
        script.write_text(f"{before}\nfrom hjepa.cli import main\nmain()\n")
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks), *launch]
        process = subprocess.Popen(
            [*launcher, str(script), *map(str, words(labelled, tmp_path / output, *arguments))],
            env={**os.environ, "PYTHONPATH": REPOSITORY, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def lines(folder: Path) -> list[dict[str, Any]]:
    text = (folder / "logs" / "metrics.jsonl").read_text().splitlines()
    return [line for line in map(json.loads, text) if line["kind"] == "train"]


@pytest.mark.parametrize(
    ("fsdp", "variant"),
    [
        pytest.param("true", CROSS, marks=pytest.mark.skipif(not WITH_FSDP, reason="needs torch 2.9")),
        ("false", DINO),
    ],
    ids=["cross_crop_prediction, fsdp", "dino"],
)
def test_two_ranks_train_as_one_with_the_same_global_batch(
    fsdp: str, variant: list[str], together: Run, alone: Run, tmp_path: Path
) -> None:
    """Over 50 batches, two for each step; each sample's draws are its own, so only rounding may differ."""
    shared = ["--epochs", 10, "training.accumulation_steps=2", *variant]
    said = together("two", "--batch-size", 4, f"distributed.fsdp={fsdp}", *shared)
    assert alone("one", "--batch-size", 8, *shared).count("Finished") == 1
    assert said.count("Finished") == 1  # only the first rank speaks
    _agree(tmp_path / "one", tmp_path / "two")


def _agree(first: Path, second: Path) -> None:
    one, two = lines(first), lines(second)
    assert len(one) == len(two) >= 20
    names = [name for name in one[0] if name.startswith("loss") or name.endswith("norm")]
    for alone, joined in zip(one, two, strict=True):
        for name in names:
            # Norms and the logarithm of neighbours' distances are rounded far more than the loss: on a Xeon by up to 2e-4.
            exact = name.startswith("loss") and name != "loss_koleo"
            assert joined[name] == pytest.approx(alone[name], rel=1e-5 if exact else 1e-3, abs=1e-6), name
    latest = [folder / "checkpoints" / "latest.pt" for folder in (first, second)]
    alone, joined = (checkpoint.load(path, torch.device("cpu"))["model"] for path in latest)
    assert not torch.equal(joined["teacher.norm.weight"], torch.ones(16))  # the teacher follows under DDP, too
    for name, tensor in alone.items():
        found = joined[name]
        if name.endswith("qkv.bias"):  # the keys' have no effect, and AdamW makes steps of the noise in their gradients
            tensor, found = (torch.cat([bias.chunk(3)[0], bias.chunk(3)[2]]) for bias in (tensor, found))
        torch.testing.assert_close(found, tensor, rtol=1e-3, atol=2e-3)


@pytest.mark.skipif(not WITH_FSDP, reason="needs torch 2.9")
def test_another_division_of_the_batch_goes_on_as_the_same_run(
    together: Run, alone: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped within epochs, on: two ranks with FSDP, one that accumulates, two that do not, two with FSDP again.

    The masks follow the teacher, whose attention is the same however it is divided.
    """
    options = ["--batch-size", 4, "--epochs", 3, "--resume", "auto", "masking.weights=attention", *LEVELS_ALONE]

    def on_two(fsdp: str, stop: str) -> str:
        return together("divided", f"distributed.fsdp={fsdp}", *options, before=stop)

    def on_one() -> str:
        with monkeypatch.context() as patch:
            patch.setattr(trainer, "draw_masks", trainer.draw_masks)  # what the script sets is undone with it
            exec(STOP.format(8), {})
            return alone("divided", "training.accumulation_steps=2", *options)

    stop_of_one = f"import os\nif os.environ['RANK'] == '1':\n{textwrap.indent(STOP.format(4), '    ')}"
    divided: list[tuple[Callable[[], str], int]] = [  # and the step after which it is stopped
        (lambda: on_two("true", STOP.format(3)), 3),
        (on_one, 7),
        (lambda: on_two("false", stop_of_one), 11),
        (lambda: on_two("true", ""), 15),
    ]
    for run, step in divided:
        assert ("SIGUSR1: saving a checkpoint" in run()) == (step < 15)
        assert checkpoint.load(tmp_path / "divided" / "checkpoints" / "latest.pt", torch.device("cpu"))["step"] == step
    alone("whole", "--batch-size", 8, *options[2:])
    whole, changed = (lines(tmp_path / name) for name in ("whole", "divided"))
    assert [line["step"] for line in changed] == list(range(1, 16))
    for name, tolerance in {"loss": 1e-5, "grad_norm": 1e-3, "lr": 0}.items():
        assert [line[name] for line in changed] == pytest.approx([line[name] for line in whole], rel=tolerance), name


def test_an_error_on_one_rank_ends_all_with_its_message(start: Start) -> None:
    broken = (
        "import os, hjepa.trainer\n"
        "real = hjepa.trainer.draw_masks\n"
        "def draw(*args):\n"
        "    if os.environ['RANK'] == '1':\n"
        "        raise ValueError('the second rank cannot go on')\n"
        "    return real(*args)\n"
        "hjepa.trainer.draw_masks = draw\n"
    )
    run = start(2, "broken", "--batch-size", 4, "--epochs", 2, before=broken)
    output, _ = run.communicate(timeout=120)
    assert run.returncode != 0
    assert "hjepa-train (rank 1): the second rank cannot go on" in output


def test_torchrun_restarts_all_ranks_from_the_latest_checkpoint(start: Start, tmp_path: Path) -> None:
    once = (
        "import os, pathlib, hjepa.trainer\n"
        f"flag = pathlib.Path({str(tmp_path / 'crashed')!r})\n"
        "real, seen = hjepa.trainer.draw_masks, []\n"
        "def draw(*args):\n"
        "    seen.append(0)\n"
        "    if os.environ['RANK'] == '1' and len(seen) == 8 and not flag.exists():\n"
        "        flag.touch()\n"
        "        os._exit(9)\n"
        "    return real(*args)\n"
        "hjepa.trainer.draw_masks = draw\n"
    )
    run = start(2, "elastic", "--batch-size", 4, "--epochs", 3, "--resume", "auto", before=once, launch=["--max-restarts", "1"])
    output, _ = run.communicate(timeout=120)
    assert run.returncode == 0, output
    assert "resuming from" in output
    assert "step 5" in output  # the end of the first epoch
    steps = [line["step"] for line in lines(tmp_path / "elastic")]
    assert steps[-10:] == list(range(6, 16))


def test_torchrun_that_is_terminated_leaves_a_checkpoint(start: Start, tmp_path: Path) -> None:
    run = start(2, "ended", "--batch-size", 4, "--epochs", 200)
    log = tmp_path / "ended" / "logs" / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while not (log.exists() and len(lines(tmp_path / "ended")) > 2):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    run.send_signal(signal.SIGTERM)
    output, _ = run.communicate(timeout=60)
    assert "SIGTERM: saving a checkpoint" in output
    assert checkpoint.load(tmp_path / "ended" / "checkpoints" / "latest.pt", torch.device("cpu"))["step"] > 2


@pytest.mark.parametrize(
    ("override", "launched", "message"),
    [
        ("distributed.enabled=true", None, "was not started by torchrun"),
        ("distributed.fsdp=true", None, "divides a model among ranks, and there is one process"),
        ("distributed.world_size=2", None, "and there are 1 ranks"),
        ("distributed.enabled=false", 2, "torchrun started 2 ranks"),
        ("distributed.world_size=3", 2, "distributed.world_size=3, and there are 2 ranks"),
        ("distributed.backend=nccl", 1, "the device is the CPU"),
    ],
)
def test_settings_that_contradict_torchrun_are_refused(
    override: str, launched: int | None, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if launched is not None:
        for name, value in {"TORCHELASTIC_RUN_ID": "x", "RANK": "0", "WORLD_SIZE": str(launched)}.items():
            monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=message):
        Ranks(load_settings(Path("small"), [override, "device=cpu"]))


@pytest.mark.parametrize(
    ("environment", "launcher"),
    [
        ({"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "1"}, "srun"),
        ({"OMPI_COMM_WORLD_SIZE": "4"}, "mpirun"),
        ({"RANK": "1", "WORLD_SIZE": "4"}, "a launcher"),
    ],
    ids=["srun", "mpirun", "variables of torch"],
)
def test_processes_that_know_nothing_of_each_other_are_no_run(
    environment: dict[str, str], launcher: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each would train by itself, with a batch of its own, and in a folder of its own or not at all."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=f"{launcher} started 4 processes of hjepa-train .* one torchrun on each machine"):
        Ranks(load_settings(Path("small"), ["device=cpu"]))
    with Ranks(load_settings(Path("small"), ["device=cpu", "distributed.enabled=false"])) as ranks:
        assert ranks.world_size == 1


@pytest.mark.parametrize(
    "environment",
    [
        {"SLURM_NTASKS": "4", "SLURM_PROCID": "0"},
        {"SLURM_NTASKS": "4", "SLURM_STEP_NUM_TASKS": "1"},
        {"SLURM_STEP_NUM_TASKS": "4", "SLURM_PTY_PORT": "40000"},
        {"WORLD_SIZE": "4"},
    ],
    ids=["script of sbatch", "srun of one task", "shell of srun --pty", "variable that was left over"],
)
def test_one_process_of_a_job_is_a_run(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with Ranks(load_settings(Path("small"), ["device=cpu"])) as ranks:
        assert ranks.world_size == 1


def test_fsdp_over_gloo_is_refused_where_torch_sums_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"TORCHELASTIC_RUN_ID": "x", "RANK": "0", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch, "__version__", TorchVersion("2.8.0+cu128"))
    with pytest.raises(ValueError, match=r"needs torch 2\.9 or later where gloo joins the ranks, and this is 2\.8\.0\+cu128"):
        Ranks(load_settings(Path("small"), ["distributed.fsdp=true", "device=cpu"]))


@pytest.mark.parametrize(("local_rank", "own"), [(None, None), (0, None), (-1, None), (None, 1), (1, 1)])
def test_a_local_rank_that_is_torchruns_is_taken(
    local_rank: int | None, own: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if own is not None:
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
        monkeypatch.setenv("LOCAL_RANK", str(own))
    check_local_rank(local_rank)
    with pytest.raises(ValueError, match="--local-rank 2, and"):
        check_local_rank(2)


def test_published_settings_agree_with_one_process() -> None:
    alone = ["distributed.enabled=false", "distributed.world_size=1", "distributed.backend=nccl", "device=cpu"]
    with Ranks(load_settings(Path("small"), alone)) as ranks:
        assert (ranks.is_first, ranks.world_size, ranks.largest(7), ranks.share("x")) == (True, 1, 7, "x")
