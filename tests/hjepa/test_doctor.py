"""The doctor finds what is there, and judges machines and data sets that are not here by what would have been found of them."""

import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hjepa import commands, machine, short_run
from hjepa.data_check import PROGRESSIVE, DataSet, look_at_data
from hjepa.findings import is_healthy, judge_conduct, judge_data, judge_machine
from hjepa.machine import Gpu, Machine, look_at_machine
from hjepa.pipeline import control_groups
from hjepa.pipeline.draws import draw
from hjepa.pipeline.loader import Loader
from hjepa.pipeline.open_source import open_source
from hjepa.pipeline.presets import preset
from hjepa.pipeline.presets.jepa import evaluation, multicrop
from hjepa.pipeline.recipe import Recipe
from hjepa.short_run import Rate, ShortRun, rate, run_shortly
from hjepa.troubleshooting import advise, batch_mib
from hjepa.verdict import judge_run, useful_side

RECIPE = preset("hjepa")
H100 = Gpu(name="NVIDIA H100", memory_gib=79.6, capability=(9, 0), jpeg_engine=True)
LAPTOP = Machine(
    cpu="a CPU",
    cores=8,
    quota=0,
    memory_gib=16,
    shared_memory_gib=8,
    gpus=(),
    has_gpu_files=False,
    nvml_error="Driver Not Loaded",
    driver="",
    driver_cuda=(0, 0),
    torch_version="2.9",
    torch_cuda="12.8",
    torch_gpus=0,
    gpu_lacks="",
    dali={"nvidia-dali-cuda120": "2.4.0"},
    dali_error="",
    video_driver=True,
    compiler="/usr/bin/c++",
    kernel="avx2",
    jpeg_decoder=True,
)
SERVER = replace(LAPTOP, gpus=(H100,), has_gpu_files=True, nvml_error="", driver="570.1", driver_cuda=(12, 8), torch_gpus=1)
PHOTOS = DataSet(
    name="photos",
    images=10_000,
    looked_at=10_000,
    formats={"JPEG": 500},
    short_side=(300, 375, 400),
    long_side=(400, 500, 600),
    mean_kib=67,
    bad=0,
    bad_examples=(),
    duplicates=0,
    duplicate_examples=(),
    classes={},
)
RUN = ShortRun(
    engine="fused",
    device="cpu",
    recipe="hjepa",
    batch_size=64,
    threads=8,
    loader=Rate(images_per_second=900, busy=0.95, others=0.01),
    decode=Rate(images_per_second=2700, busy=0.95, others=0.01),
    read_per_second=9000,
    read_mib_per_second=600,
    draw_us=6,
    mask_us=40,
    replaced=0,
)


def levels(found: Machine) -> dict[str, str]:
    return {finding.subject: finding.level for finding in judge_machine(found) if finding.level != "ok"}


def test_machine_without_a_gpu_and_one_with_are_healthy() -> None:
    assert levels(LAPTOP) == {"GPU": "note"}
    assert levels(SERVER) == {}
    assert is_healthy(judge_machine(LAPTOP))
    assert {finding.subject for finding in judge_machine(SERVER)} >= {"GPU", "torch", "JPEG engine", "DALI", "native kernel"}


@pytest.mark.parametrize(
    ("found", "subject", "said"),
    [
        (replace(LAPTOP, has_gpu_files=True), "GPU", "Driver Not Loaded"),
        (
            replace(LAPTOP, torch_gpus=1, nvml_error="the package nvidia-ml-py is not installed"),
            "GPU",
            "pip install nvidia-ml-py",
        ),
        (replace(SERVER, torch_cuda=""), "torch", "for the CPU alone"),
        (replace(SERVER, torch_cuda="13.0"), "torch", "install torch for CUDA 12"),
        (replace(SERVER, torch_gpus=0), "torch", "CUDA_VISIBLE_DEVICES"),
        (replace(SERVER, dali={"nvidia-dali-cuda130": "2.4.0"}), "DALI", "pip install nvidia-dali-cuda120"),
        (replace(SERVER, dali={"nvidia-dali-cuda120": "2", "nvidia-dali-cuda130": "2"}), "DALI", "both installed"),
        (replace(LAPTOP, dali={}, dali_error="No module named 'nvidia'"), "DALI", "pip install nvidia-dali-cuda120"),
        (replace(SERVER, driver_cuda=(13, 0), dali={}, dali_error="No module"), "DALI", "pip install nvidia-dali-cuda130"),
        (replace(LAPTOP, kernel=""), "native kernel", "--force-reinstall"),
        (replace(LAPTOP, kernel="", compiler=""), "native kernel", "apt install g++"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_wrong_with_a_machine_is_a_problem_with_its_cure(found: Machine, subject: str, said: str) -> None:
    (problem,) = (finding for finding in judge_machine(found) if finding.level == "problem")
    assert problem.subject == subject
    assert said in f"{problem.text} {problem.advice}"
    assert problem.advice
    assert not is_healthy(judge_machine(found))


def test_containers_share_of_the_cores_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for quota, said in ((2.5, True), (8, False), (0, False)):
        (found,) = (each for each in judge_machine(replace(LAPTOP, quota=quota)) if each.subject == "cores")
        assert (found.level, "grants the time of 2.5" in found.text) == ("ok", said)
    monkeypatch.setattr(control_groups, "GROUPS", tmp_path)
    monkeypatch.setattr(control_groups, "OWN_GROUPS", tmp_path / "missing")
    for text, quota in (("250000 100000\n", 2.5), ("max 100000\n", 0), ("", 0)):
        (tmp_path / "cpu.max").write_text(text)
        assert look_at_machine().quota == quota
    (tmp_path / "cpu.max").unlink()
    assert look_at_machine().quota == 0


def test_no_more_memory_is_said_to_be_shared_than_a_containers_limit_grants() -> None:
    limited = replace(LAPTOP, memory_gib=16, shared_memory_gib=128)
    (found,) = (finding for finding in judge_machine(limited) if finding.subject == "memory")
    assert found.text.startswith("16.0 GiB, of it 16.0 GiB can be shared")


def test_small_container_is_told_of_both_of_its_memories() -> None:
    small = replace(LAPTOP, memory_gib=2, shared_memory_gib=1 / 16)
    (found,) = (finding for finding in judge_machine(small) if finding.subject == "memory")
    assert (found.level, "prefetch" in found.advice, "--shm-size" in found.advice) == ("note", True, True)
    for enough in (replace(small, memory_gib=16), replace(small, shared_memory_gib=2)):
        assert "; " not in next(finding for finding in judge_machine(enough) if finding.subject == "memory").advice


@pytest.mark.parametrize(
    ("own", "files"),
    [
        ("0::/jobs/7/step", {"jobs/7/cpu.max": "150000 100000", "jobs/7/memory.max": "2147483648", "jobs/memory.max": "max"}),
        (
            "4:memory:/jobs/7\n2:cpu,cpuacct:/jobs/7/step\n0::/",
            {
                "cpu/jobs/7/cpu.cfs_quota_us": "150000",
                "cpu/jobs/7/cpu.cfs_period_us": "100000",
                "cpu/cpu.cfs_quota_us": "-1",
                "cpu/cpu.cfs_period_us": "100000",
                "memory/jobs/7/memory.limit_in_bytes": "2147483648",
                "memory/memory.limit_in_bytes": "9223372036854771712",
            },
        ),
        (
            "4:memory:/docker/of-the-machine-outside\n2:cpu,cpuacct:/docker/of-the-machine-outside",
            {
                "cpu/cpu.cfs_quota_us": "150000",
                "cpu/cpu.cfs_period_us": "100000",
                "memory/memory.limit_in_bytes": "2147483648",
            },
        ),
    ],
    ids=["version 2, of a group around", "version 1", "version 1, in a container"],
)
def test_limits_of_any_control_group_are_found(
    own: str, files: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"{text}\n")
    (tmp_path / "own").write_text(f"{own}\n")
    monkeypatch.setattr(control_groups, "GROUPS", tmp_path)
    monkeypatch.setattr(control_groups, "OWN_GROUPS", tmp_path / "own")
    found = look_at_machine()
    assert (found.quota, found.memory_gib) == (1.5, 2)


def test_a_jpeg_decoder_that_takes_no_part_is_named_on_a_cpu() -> None:
    assert levels(replace(LAPTOP, jpeg_decoder=False)) == {"GPU": "note", "native kernel": "note"}
    assert levels(replace(SERVER, jpeg_decoder=False)) == {}
    for others in ({"gpus": (replace(H100, capability=(8, 0)),)}, {"video_driver": False}):  # for which the CPU decodes, too
        assert levels(replace(SERVER, jpeg_decoder=False, **others)) == {"native kernel": "note"}


def test_kernel_is_no_matter_of_health_beside_a_gpu() -> None:
    assert levels(replace(SERVER, kernel="")) == {"native kernel": "note"}


def test_gpu_without_the_kernel_of_crops_is_told_who_makes_them() -> None:
    old = replace(SERVER, gpu_lacks="a GPU of compute capability 7.2 or later")
    assert levels(old) == {"GPU kernel": "note"}
    (finding,) = [it for it in judge_machine(old) if it.subject == "GPU kernel"]
    assert "needs a GPU of compute capability 7.2 or later: they are made by DALI's operators" in finding.text


@pytest.mark.parametrize("machine", [LAPTOP, replace(SERVER, video_driver=False)], ids=["CPU", "unused engines"])
def test_what_was_not_built_is_missed_where_the_cpu_decodes(machine: Machine) -> None:
    (finding,) = [it for it in judge_machine(replace(machine, kernel="", jpeg_decoder=False)) if it.subject == "native kernel"]
    assert finding.text.startswith("not built: ")
    assert "DALI decodes JPEGs without hjepa's decoder" in finding.text


def test_missing_driver_for_video_is_named_and_does_no_harm() -> None:
    def said(found: Machine) -> str:
        return next(finding.text for finding in judge_machine(found) if finding.subject == "JPEG engine")

    hidden = replace(SERVER, video_driver=False)
    assert "compute,utility,video" in said(hidden)
    assert is_healthy(judge_machine(hidden))
    assert "video" not in said(SERVER)
    assert "no engine" in said(replace(SERVER, gpus=(replace(H100, jpeg_engine=False),)))
    assert "by which images are decoded; `hjepa tune`" in said(SERVER)
    assert "the CPU decodes all the same; `hjepa tune`" in said(replace(SERVER, gpus=(replace(H100, capability=(8, 0)),)))


@pytest.mark.parametrize(
    ("found", "subject", "level"),
    [
        (replace(PHOTOS, bad=1, bad_examples=("a.jpg: truncated",)), "bad files", "note"),
        (replace(PHOTOS, bad=200, bad_examples=("a.jpg: truncated",)), "bad files", "problem"),
        (replace(PHOTOS, duplicates=3, duplicate_examples=("b.jpg is a.jpg",)), "duplicates", "note"),
        (replace(PHOTOS, images=10), "images", "problem"),
        (replace(PHOTOS, formats={"JPEG": 1, PROGRESSIVE: 1}), "formats", "note"),
        (replace(PHOTOS, formats={"unreadable (OSError)": 1}), "formats", "problem"),
        (replace(PHOTOS, short_side=(32, 32, 32)), "sizes", "note"),
        (replace(PHOTOS, classes={"cat": 1000, "dog": 3}), "classes", "note"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_odd_about_data_is_named(found: DataSet, subject: str, level: str) -> None:
    odd = [finding for finding in judge_data(found, RECIPE, 64) if finding.level != "ok"]
    assert [(finding.subject, finding.level) for finding in odd] == [(subject, level)]
    assert odd[0].advice


def test_good_data_is_healthy() -> None:
    for classes in ({}, {"cat": 10, "dog": 9}, {"cat": 10, "dog": 10}):
        assert all(finding.level == "ok" for finding in judge_data(replace(PHOTOS, classes=classes), RECIPE, 64))


def verdict(run: ShortRun = RUN, data: DataSet = PHOTOS, found: Machine = LAPTOP, step_ms: float = 0) -> Any:
    return judge_run(run, data, RECIPE, found, step_ms)


def with_loader(rate: float, **changes: Any) -> ShortRun:
    return replace(RUN, loader=replace(RUN.loader, images_per_second=rate), **changes)


def test_bound_is_where_the_time_goes() -> None:
    assert verdict().bound == "crops"
    assert verdict(with_loader(2500)).bound == "decoding"
    assert verdict(with_loader(900, read_per_second=100)).bound == "reading"
    assert verdict(with_loader(900, read_per_second=0)).bound == "crops"  # an archive: no file was timed
    assert verdict(step_ms=100).bound == "model"  # 64 images take the loader 71 ms
    assert verdict(step_ms=60).bound == "crops"
    assert verdict().ceiling == 2700


def test_what_torchvision_decodes_is_no_bound_of_the_machine() -> None:
    found = verdict(with_loader(2500, engine="torchvision"))
    assert found.bound == "decoding"
    assert any("--backend dali" in line for line in found.advice)
    assert not any("exceeds" in line for line in found.advice)
    assert any("decodes whole images exceeds 2700" in line for line in verdict(with_loader(2500)).advice)
    reduced = judge_run(with_loader(2500), PHOTOS, replace(RECIPE, decoding="reduced"), LAPTOP).advice
    assert not any("exceeds" in line for line in reduced)  # what was timed is whole images, and they are fewer pixels


def test_share_of_the_crops_is_what_decoding_alone_leaves() -> None:
    for crops_rate, share in ((270, "90%"), (1890, "30%")):
        assert f"{share} of the time goes into their pixels" in verdict(with_loader(crops_rate)).advice[-1]


def test_dali_is_not_praised_where_it_does_not_help() -> None:
    for run, data, step_ms in (
        (RUN, PHOTOS, 100),
        (with_loader(900, read_per_second=100), PHOTOS, 0),
        (RUN, PHOTOS, 0),
        (RUN, replace(PHOTOS, formats={"PPM": 5}), 0),
    ):
        assert "will not help you here" in verdict(run, data, step_ms=step_ms).dali
    assert verdict(replace(RUN, engine="torchvision")).dali.startswith("DALI helps")
    assert verdict(replace(RUN, engine="dali-ops", device="cuda:0"), found=SERVER).dali.startswith("DALI helps")


def test_advice_fits_the_bound() -> None:
    slow = verdict(replace(RUN, engine="torchvision")).advice
    assert "--backend dali" in slow[0]
    assert (
        "apt install g++" in verdict(replace(RUN, engine="dali-ops"), found=replace(LAPTOP, kernel="", compiler="")).advice[0]
    )
    on_gpu = replace(RUN, engine="dali-ops", device="cuda:0")
    assert "backend='fused'" in verdict(on_gpu, found=replace(SERVER, kernel="")).advice[0]
    assert "best data.decoder" in verdict(with_loader(2500, device="cuda:0"), found=SERVER).advice[-1]
    assert "No recipe" in verdict(with_loader(2500)).advice[-1]
    large = replace(PHOTOS, short_side=(1000, 1500, 2000))
    shrink = verdict(with_loader(2500), large).advice[0]
    assert f"can use {useful_side(RECIPE)}" in shrink
    assert not any("Shrink" in line for line in verdict(with_loader(2500)).advice)


def test_decoding_at_a_reduced_scale_is_advice_where_it_would_do_something() -> None:
    large = replace(PHOTOS, short_side=(1500, 1500, 2000), long_side=(2000, 2000, 3000))

    def is_said(
        data: DataSet = large, recipe: Recipe = RECIPE, rate: float = 2500, machine: Machine = LAPTOP, **changes: Any
    ) -> bool:
        advice = judge_run(with_loader(rate, **changes), data, recipe, machine).advice
        return any("data.decoding=reduced" in line for line in advice)

    assert is_said()
    assert is_said(rate=100)  # crops of large images take longer, too
    assert not is_said(PHOTOS)
    assert is_said(replace(large, formats={"JPEG": 10, PROGRESSIVE: 10, "PNG": 10}))
    assert not is_said(replace(large, formats={"JPEG": 5, PROGRESSIVE: 5, "PNG": 10}))
    assert not is_said(recipe=replace(RECIPE, decoding="reduced"))
    assert not is_said(engine="dali-ops")
    assert not is_said(device="cuda:0")
    assert not is_said(machine=replace(LAPTOP, jpeg_decoder=False))
    assert is_said(machine=replace(LAPTOP, jpeg_decoder=False), engine="torchvision")


def test_decoding_alone_is_timed_at_the_scale_that_the_recipe_leaves_the_images() -> None:
    sizes = np.random.default_rng(0).integers(200, 3000, (400, 2)).astype(np.int32)
    recipe = replace(RECIPE, decoding="reduced")
    assert short_run.decode_only(RECIPE) == short_run.decode_only(preset("dino"))
    by, alone = (draw(each, 0, 0, np.arange(400), sizes).reduction for each in (recipe, short_run.decode_only(recipe)))
    assert set(by.tolist()) == {1, 2, 4}
    assert (by == alone).mean() > 0.85


def test_useful_side_is_that_of_the_smallest_crop_without_enlargement() -> None:
    assert useful_side(multicrop(num_local_crops=0)) == 384  # 224 / sqrt(0.4) = 354, rounded up to a multiple of 32
    assert useful_side(RECIPE) == 448  # 96 / sqrt(0.05) = 429


def test_busy_machine_and_images_that_do_not_decode_are_named() -> None:
    def conduct(run: ShortRun) -> list[str]:
        return [finding.level for finding in judge_conduct(run)]

    assert conduct(RUN) == ["ok"]
    assert conduct(replace(RUN, loader=replace(RUN.loader, others=0.5))) == ["note"]
    assert conduct(replace(RUN, replaced=2)) == ["ok", "note"]


def test_advice_on_memory_is_arithmetic() -> None:
    assert batch_mib(RECIPE, 64) == pytest.approx(64 * 1.868e6 / 2**20, rel=1e-3)  # requirements, difference 15
    tries = advise(RECIPE, 64, 8)["out of memory"]
    left = (2 * 224**2 + 4 * 96**2) / (2 * 224**2 + 6 * 96**2)
    assert f"leave {left:.0%} of the pixels" in tries[0]
    assert "batch_size=32" in tries[1]
    assert not any("local" in line for line in advise(evaluation(), 64, 8)["out of memory"])


def test_fewer_local_crops_are_no_advice_where_they_are_several_views() -> None:
    local = next(view for view in RECIPE.views if view.name == "local")
    twice = replace(RECIPE, views=(*RECIPE.views, local))
    assert "instead of" in advise(RECIPE, 64, 8)["out of memory"][0]
    assert not any("4 local crops instead" in line for line in advise(twice, 64, 8)["out of memory"])


def test_shortest_measurement_is_of_a_batch(labelled: Path) -> None:
    with Loader(labelled, RECIPE, backend="torchvision", device="cpu", num_workers=0, batch_size=8) as loader:
        assert rate(loader, 1e-9).images_per_second > 0


def test_more_threads_are_advised_never_fewer() -> None:
    slow = " ".join(advise(RECIPE, 64, 8)["too slow"])
    assert "all 8 cores" in slow
    assert "takes the one core;" in " ".join(advise(RECIPE, 64, 1)["too slow"])
    assert "reduce" not in slow


def test_this_machine_is_seen_as_it_is() -> None:
    found = look_at_machine()
    assert found.cores >= 1
    assert found.memory_gib > 0.1
    assert found.torch_version
    assert found.gpus or found.nvml_error
    assert bool(found.dali_error) == (not found.dali)


class FakeError(Exception):
    """In place of NVML's."""


class FakeNvml:
    """One GPU without an engine for JPEGs, and texts as bytes, as older versions give them."""

    NVMLError = FakeError
    unknown: tuple[str, ...] = ()

    def __getattr__(self, name: str) -> Any:
        answers: dict[str, Any] = {
            "nvmlDeviceGetCount": 1,
            "nvmlSystemGetCudaDriverVersion": 12040,
            "nvmlSystemGetDriverVersion": b"550.54",
            "nvmlDeviceGetName": b"Tesla T4",
            "nvmlDeviceGetMemoryInfo": type("Memory", (), {"total": 16 << 30}),
            "nvmlDeviceGetCudaComputeCapability": [7, 5],
        }

        def call(*_: object) -> Any:
            if name == "nvmlDeviceGetJpgUtilization" or name in self.unknown:
                raise FakeError("Not Supported")
            return answers.get(name)

        return call


def test_gpus_are_what_nvml_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml())  # type: ignore[arg-type]
    found = look_at_machine()
    assert found.gpus == (Gpu(name="Tesla T4", memory_gib=16.0, capability=(7, 5), jpeg_engine=False),)
    assert (found.driver, found.driver_cuda, found.nvml_error) == ("550.54", (12, 4), "")
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert "nvidia-ml-py" in machine.look_at_machine().nvml_error


def test_a_gpu_that_shares_the_computers_memory_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml()
    nvml.unknown = ("nvmlDeviceGetMemoryInfo",)
    monkeypatch.setitem(sys.modules, "pynvml", nvml)  # type: ignore[arg-type]
    found = look_at_machine()
    assert [gpu.memory_gib for gpu in found.gpus] == [found.memory_gib]


def test_data_is_described(labelled: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    shutil.copytree(labelled, folder)
    first = sorted((folder / "dark").iterdir())[0]
    os.symlink(first, folder / "dark" / "again.jpg")
    with Image.open(first) as image:
        image.save(folder / "light" / "slow.jpg", progressive=True)
        image.save(folder / "light" / "other.png")
    (folder / "light" / "broken.jpg").write_bytes(b"nothing")
    found = look_at_data(open_source(folder))
    assert (found.images, found.looked_at, found.bad, found.duplicates) == (43, 43, 1, 1)
    assert found.formats == {"JPEG": 41, PROGRESSIVE: 1, "PNG": 1}
    assert found.classes == {"dark": 21, "light": 22}
    assert found.duplicate_examples == ("dark/again.jpg is dark/00.jpg",)
    assert found.short_side[0] <= found.short_side[1] <= found.short_side[2] <= 60
    lengths = [path.stat().st_size for path in folder.rglob("*.*") if path.name != "broken.jpg"]
    assert found.mean_kib == pytest.approx(np.mean(lengths) / 1024)


def test_list_with_an_image_twice_and_arrays_are_described(labelled: Path) -> None:
    paths = sorted(map(str, labelled.rglob("*.jpg")))
    assert look_at_data(open_source([*paths, paths[3]])).duplicates == 1
    arrays = look_at_data(open_source([np.zeros((8, 9, 3), dtype=np.uint8)] * 3))
    assert (arrays.formats, arrays.short_side[1], arrays.long_side[1]) == ({"PPM": 3}, 8, 9)


@pytest.mark.parametrize("backend", ["torchvision", pytest.param("dali", marks=pytest.mark.dali)])
def test_short_run_measures_each_stage(backend: Any, labelled: Path) -> None:
    small = multicrop(global_crop_size=48, local_crop_size=32)
    found = run_shortly(open_source(labelled), small, backend=backend, device="cpu", batch_size=8, seconds=0.2)
    assert found.decode.images_per_second > 0
    assert found.loader.images_per_second > 0
    assert found.read_per_second > 0
    assert found.read_mib_per_second < found.read_per_second  # files of less than a MiB
    assert found.draw_us > 0
    assert found.mask_us > 0
    assert 0 < found.loader.busy <= 1


def test_no_ceiling_is_below_what_was_reached(labelled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = iter([Rate(images_per_second=47, busy=1, others=0.8), Rate(images_per_second=60, busy=1, others=0.8)])
    monkeypatch.setattr(short_run, "rate", lambda loader, seconds: next(measured))
    found = run_shortly(open_source(labelled), RECIPE, backend="torchvision", device="cpu", batch_size=4)
    assert (found.decode.images_per_second, found.loader.images_per_second) == (60, 60)


@pytest.mark.parametrize("is_gone", [True, False], ids=["gone", "not to be read"])
def test_file_that_cannot_be_read_is_replaced_in_a_short_run(is_gone: bool, labelled: Path, tmp_path: Path) -> None:
    shutil.copytree(labelled, tmp_path / "photos")
    source = open_source(tmp_path / "photos")
    file = next((tmp_path / "photos").rglob("*.jpg"))
    file.unlink()
    if not is_gone:
        file.symlink_to("/proc/self/mem")  # opens, and reading it is an I/O error
    tiny = replace(RECIPE, views=tuple(replace(view, size=16, count=1) for view in RECIPE.views))
    found = run_shortly(source, tiny, backend="torchvision", device="cpu", batch_size=40, seconds=0.1)
    assert found.read_per_second > 0
    assert found.replaced == 1


def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["hjepa", "doctor", *map(str, arguments)])
    monkeypatch.setenv("COLUMNS", "200")
    code = 0
    try:
        commands.main()
    except SystemExit as stop:
        code = int(stop.code or 0)
    return code, capsys.readouterr().out


def test_table_that_explains_why_dali_does_not_run_is_still_shown(
    labelled: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("CUDA driver version is insufficient for CUDA runtime version")

    monkeypatch.setattr("hjepa.short_run.run_shortly", refuse)
    code, output = call(monkeypatch, capsys, labelled, "--backend", "torchvision")
    assert code == 1
    assert "CUDA driver version is insufficient" in output
    assert "Machine and images" in output


@pytest.mark.dali
def test_command_says_what_bounds_and_whether_all_is_well(
    labelled: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("hjepa.machine.look_at_machine", lambda: LAPTOP)
    options = ("--seconds", 0.2, "--batch-size", 8, "--device", "cpu")
    code, output = call(monkeypatch, capsys, labelled, *options)
    assert code == 0
    for words in ("What bounds you: ", "The ceiling: ", "will not help you here", "If it is out of memory:", "\nHealthy."):
        assert words in output
    code, output = call(monkeypatch, capsys, labelled, *options, "--json")
    found = json.loads(output)
    assert (code, found["healthy"]) == (0, True)
    assert found["verdict"]["bound"] in ("decoding", "crops", "reading")
    monkeypatch.setattr("hjepa.machine.look_at_machine", lambda: replace(LAPTOP, kernel=""))
    code, output = call(monkeypatch, capsys, labelled, *options)
    assert code == 1
    assert "Not healthy; problems in the table: 1." in output


@pytest.mark.parametrize(
    "arguments", [("--seconds", 0), ("--step-ms", -1), ("--step-ms", "nan"), ("--seconds", "nan"), ("--batch-size", 0)]
)
def test_mistakes_end_with_2(
    arguments: tuple[object, ...], labelled: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--backend", "torchvision", "--device", "cpu")
    assert call(monkeypatch, capsys, labelled, *options, *arguments)[0] == 2


def test_doctor_of_data_that_cannot_be_used_and_without_dali_still_reports(
    labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = replace(LAPTOP, dali={}, dali_error="No module named 'nvidia'")
    monkeypatch.setattr("hjepa.machine.look_at_machine", lambda: missing)
    folder = tmp_path / "data"
    shutil.copytree(labelled, folder)
    for path in sorted(folder.rglob("*.jpg"))[:20]:
        path.write_bytes(path.read_bytes()[:-400])  # the header is whole
    code, output = call(monkeypatch, capsys, folder, "--seconds", 0.2, "--batch-size", 8, "--device", "cpu", "--json")
    found = json.loads(output)
    assert (code, found["run"], found["verdict"]) == (1, None, None)
    problems = {finding["subject"]: finding["text"] for finding in found["findings"] if finding["level"] == "problem"}
    assert set(problems) == {"DALI", "short run"}
    assert "images are bad" in problems["short run"]
    code, output = call(monkeypatch, capsys, folder, "--seconds", 0.2, "--batch-size", 8, "--device", "cpu")
    assert code == 1
    assert "running hjepa with torchvision" in output
    assert "What bounds you" not in output
