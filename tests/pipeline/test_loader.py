"""The loader: bitwise the same pixels whatever the settings, exact resume, no copy, clear errors."""

import importlib
import json
import sys
import threading
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hjepa.kernels.chance import key
from hjepa.pipeline.backend import BackendSettings
from hjepa.pipeline.batch import Batch
from hjepa.pipeline.curriculum import Curriculum, Ramp
from hjepa.pipeline.folder import open_folder
from hjepa.pipeline.loader import Loader
from hjepa.pipeline.presets import preset
from hjepa.pipeline.presets.jepa import evaluation, multicrop
from hjepa.pipeline.quarantine import BadImageError
from hjepa.pipeline.recipe import Recipe, View
from hjepa.pipeline.source import Samples, Source

RECIPE = multicrop(global_crop_size=48, local_crop_size=24, num_local_crops=3)
BACKENDS = [pytest.param("dali-ops", marks=pytest.mark.dali), pytest.param("fused", marks=pytest.mark.fused), "torchvision"]


def open_loader(folder: Path, backend: str = "torchvision", **options: object) -> Loader:
    workers = {"num_workers": 0} if backend == "torchvision" else {}
    recipe = options.pop("recipe", RECIPE)
    return Loader(folder, recipe, backend=backend, device="cpu", **({"batch_size": 8} | workers | options))


def by_sample(batches: list[Batch]) -> dict[int, list[torch.Tensor]]:
    return {
        int(index): [view[place] for view in batch.views()] for batch in batches for place, index in enumerate(batch.indices)
    }


def assert_same(first: list[Batch], second: list[Batch]) -> None:
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one.indices, other.indices)
        assert one.keys == other.keys
        for name in one.crops:
            assert torch.equal(one.crops[name], other.crops[name])


@pytest.mark.parametrize("backend", BACKENDS)
def test_batch_has_the_documented_shapes(backend: str, photographs: Path) -> None:
    with open_loader(photographs, backend) as loader:
        assert len(loader) == 4
        batch = next(iter(loader))
    assert batch.globals.shape == (2, 8, 3, 48, 48)
    assert batch.locals is not None
    assert batch.locals.shape == (3, 8, 3, 24, 24)
    assert [view.shape[-1] for view in batch.views()] == [48, 48, 24, 24, 24]
    assert batch.globals.dtype == torch.float32
    assert batch.labels.tolist() == [-1] * 8
    assert batch.views()[1].data_ptr() == batch.globals[1].data_ptr()
    assert all((photographs / key).exists() for key in batch.keys)
    crops = "global [2, 8, 3, 48, 48], local [3, 8, 3, 24, 24]"
    assert repr(batch) == f"Batch of 8 images on cpu: crops {crops} in float32"


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "options",
    [{"batch_size": 5, "tail": "keep"}, {"num_workers": 1}, {"num_workers": 2}, {"prefetch": 1}, {"prefetch": 5}],
    ids=str,
)
def test_settings_change_no_pixel(backend: str, options: dict[str, object], photographs: Path) -> None:
    with open_loader(photographs, backend) as plain, open_loader(photographs, backend, **options) as other:
        expected, actual = by_sample(list(plain)), by_sample(list(other))
    assert expected.keys() == actual.keys()
    for index, views in expected.items():
        for one, two in zip(views, actual[index], strict=True):
            assert torch.equal(one, two)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64], ids=str)
def test_torchs_default_type_changes_no_pixel(backend: str, dtype: torch.dtype, photographs: Path) -> None:
    with open_loader(photographs, backend) as plain, open_loader(photographs, backend) as other:
        expected = list(plain)
        torch.set_default_dtype(dtype)
        try:
            actual = list(other)
        finally:
            torch.set_default_dtype(torch.float32)
    assert_same(expected, actual)


@pytest.mark.parametrize("backend", BACKENDS)
def test_torchs_default_device_changes_nothing(backend: str, photographs: Path) -> None:
    with open_loader(photographs, backend) as plain, open_loader(photographs, backend, num_workers=1) as other:
        expected = list(plain)
        with torch.device("meta"):  # as torch.set_default_device("cuda")
            actual = list(other)
    assert_same(expected, actual)


@pytest.mark.parametrize("backend", BACKENDS)
def test_ranks_together_yield_the_batches_of_one(backend: str, photographs: Path) -> None:
    with open_loader(photographs, backend) as alone:
        expected = by_sample(list(alone))
    for rank in range(2):
        with open_loader(photographs, backend, batch_size=4, rank=rank, world_size=2) as loader:
            for index, views in by_sample(list(loader)).items():
                assert all(torch.equal(one, two) for one, two in zip(views, expected[index], strict=True))


@pytest.mark.parametrize("backend", BACKENDS)
def test_resumed_loader_yields_the_same_batches(backend: str, photographs: Path) -> None:
    with open_loader(photographs, backend, seed=3) as loader:
        expected = [batch for _ in range(3) for batch in loader]
    with open_loader(photographs, backend, seed=3) as loader:
        first = list(loader)
        for batch in loader:
            first.append(batch)
            if len(first) == 6:
                state = json.loads(json.dumps(loader.state_dict()))
                break
    with open_loader(photographs, backend, seed=3, prefetch=1) as loader:
        loader.load_state_dict(state)
        assert loader.epoch == 1
        loader.set_epoch(1)  # as a training loop does at the top of each epoch; it must not lose the position
        rest = [batch for _ in range(2) for batch in loader]
    assert_same(expected, first + rest)


def test_state_resumes_on_another_number_of_ranks(photographs: Path) -> None:
    with open_loader(photographs) as alone:
        iterator = iter(alone)
        next(iterator)
        state = alone.state_dict()
        expected = next(iterator).indices
    with open_loader(photographs, batch_size=4, rank=1, world_size=2) as loader:
        loader.load_state_dict(state)
        assert torch.equal(next(iter(loader)).indices, expected[4:])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": 1}, "seed was 0, now 1"),
        ({"recipe": multicrop(num_local_crops=2)}, r"recipe.views\[1\].count was 3, now 2"),
        ({"shuffle": False}, "shuffle was True, now False"),
        ({"batch_size": 7}, "stands at image 8"),
    ],
    ids=["seed", "recipe", "order", "batch"],
)
def test_state_of_another_experiment_is_refused(options: dict[str, object], message: str, photographs: Path) -> None:
    with open_loader(photographs) as loader:
        next(iter(loader))
        state = loader.state_dict()
    with open_loader(photographs, **options) as loader, pytest.raises(ValueError, match=message):
        loader.load_state_dict(state)


def test_epochs_follow_each_other_and_differ(photographs: Path) -> None:
    with open_loader(photographs) as loader:
        orders = [torch.cat([batch.indices for batch in loader]) for _ in range(2)]
        assert loader.epoch == 2
        assert not torch.equal(*orders)
        loader.set_epoch(0)
        assert torch.equal(torch.cat([batch.indices for batch in loader]), orders[0])


@pytest.mark.parametrize("backend", BACKENDS)
def test_more_epochs_than_were_announced_are_iterated_all_the_same(backend: str, photographs: Path) -> None:
    with open_loader(photographs, backend, epochs=1) as loader, open_loader(photographs, backend) as endless:
        for _ in range(3):
            assert_same(list(loader), list(endless))


def test_a_second_iteration_ends_the_first_with_a_clear_error(photographs: Path) -> None:
    with open_loader(photographs) as loader:
        first = iter(loader)
        next(first)
        loader.set_epoch(0)
        second = iter(loader)
        expected = [next(second)]
        with pytest.raises(ValueError, match="one iteration at a time"):
            next(first)
        expected += list(second)
    with open_loader(photographs) as loader:
        assert_same(expected, list(loader))


def test_sampler_sets_the_epoch_as_a_distributed_sampler_does(photographs: Path) -> None:
    """DINO calls it so, and Lightning, which asks for a batch_sampler too."""
    with open_loader(photographs) as loader:
        loader.sampler.set_epoch(3)
        assert (loader.epoch, loader.batch_sampler) == (3, None)


def test_an_epoch_that_is_broken_off_is_followed_by_the_next_or_started_anew_by_set_epoch(photographs: Path) -> None:
    with open_loader(photographs) as loader:
        whole = [list(loader), list(loader), list(loader)]
    with open_loader(photographs) as loader:
        for epoch in range(3):  # as Lightning's limit_train_batches does, or itertools.islice
            for number, batch in enumerate(loader):
                assert_same([batch], [whole[epoch][number]])
                assert loader.epoch == epoch
                if number == 1:
                    break
        loader.set_epoch(2)
        assert_same(list(loader), whole[2])


def test_epoch_and_recipe_are_those_of_the_batch_also_in_the_body_of_the_last(photographs: Path) -> None:
    with open_loader(photographs) as loader:
        seen = [(loader.epoch, loader.remaining) for _ in range(2) for _ in loader]
        assert seen == [(epoch, remaining) for epoch in (0, 1) for remaining in (3, 2, 1, 0)]
        older = iter(loader)
        next(older)
        newer = iter(loader)
        next(newer)
        older.close()  # the body of the newer one goes on
        assert (loader.epoch, loader.remaining) == (3, 3)


def test_epoch_set_inside_the_loop_is_the_next_one(photographs: Path) -> None:
    with open_loader(photographs) as loader:
        for _ in loader:
            loader.set_epoch(7)
        expected = loader.epoch
        batch = next(iter(loader))
    assert expected == 7
    with open_loader(photographs) as loader:
        loader.set_epoch(7)
        assert_same([batch], [next(iter(loader))])


@pytest.mark.dali
def test_tensors_are_the_memory_of_dali(photographs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[int] = []
    dali = importlib.import_module("hjepa.pipeline.backends.dali_ops")
    real = dali.from_dlpack
    monkeypatch.setattr(dali, "from_dlpack", lambda tensor: (given.append(tensor.data_ptr()), real(tensor))[1])
    with open_loader(photographs, "dali-ops") as loader:
        for batch in loader:
            taken = [crops.data_ptr() for crops in batch.crops.values()]
            assert taken == given[-2:]


@pytest.mark.parametrize("backend", BACKENDS[:2])
def test_twenty_batches_held_alive_are_not_overwritten(backend: str, photographs: Path) -> None:
    with open_loader(photographs, backend) as loader:
        held = [batch for _ in range(5) for batch in loader]
        copies = [batch.globals.clone() for batch in held]
        for _ in range(5):
            for _ in loader:
                pass
    assert len(held) == 20
    assert len({batch.globals.data_ptr() for batch in held}) == 20
    assert all(torch.equal(batch.globals, copy) for batch, copy in zip(held, copies, strict=True))


@pytest.mark.fused
def test_fused_batches_are_contiguous_and_their_memory_is_used_again(photographs: Path) -> None:
    with open_loader(photographs, "fused", prefetch=1) as loader:
        places = set()
        for _ in range(6):
            for batch in loader:
                assert batch.globals.is_contiguous()
                assert batch.globals.data_ptr() % 64 == 0
                places.add(batch.globals.data_ptr())
    assert len(places) <= 4  # of 24 batches: one here, one ready, one being made, and one in between


@pytest.mark.fused
def test_fused_is_torchvision_within_a_level_here_and_there(photographs: Path) -> None:
    with open_loader(photographs, "fused", recipe="dino") as fused, open_loader(photographs, recipe="dino") as reference:
        for one, other in zip(fused, reference, strict=True):
            for name, crops in one.crops.items():
                assert 255 * 0.229 * (crops - other.crops[name]).abs().mean() < 0.2


@pytest.mark.fused
def test_dali_is_the_fused_engine_on_a_cpu(photographs: Path) -> None:
    with open_loader(photographs, "dali") as dali, open_loader(photographs, "fused") as fused:
        assert dali.engine == "fused"
        assert_same(list(dali), list(fused))


def test_missing_kernel_is_said_with_what_to_do(photographs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("nvidia.dali")
    monkeypatch.setitem(sys.modules, "hjepa.kernels._fused_crops", None)
    monkeypatch.delattr("hjepa.kernels._fused_crops", raising=False)
    with pytest.raises(ValueError, match=r"backend='fused' needs hjepa's native kernel.*apt install g\+\+.*backend='dali-ops'"):
        open_loader(photographs, "fused")
    with open_loader(photographs, "dali") as loader:
        assert loader.engine == "dali-ops"


@pytest.mark.dali
def test_boxes_and_flips_are_the_same_for_both_backends(photographs: Path) -> None:
    with open_loader(photographs, "dali-ops") as dali, open_loader(photographs) as reference:
        for one, other in zip(dali, reference, strict=True):
            for name in one.crops:
                np.testing.assert_array_equal(one.draws.views[name].box, other.draws.views[name].box)
                np.testing.assert_array_equal(one.draws.views[name].flip, other.draws.views[name].flip)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_is_the_rounded_float32(backend: str, dtype: torch.dtype, photographs: Path) -> None:
    with open_loader(photographs, backend) as full, open_loader(photographs, backend, dtype=dtype) as half:
        expected, actual = next(iter(full)).globals, next(iter(half)).globals
    assert actual.dtype == dtype
    torch.testing.assert_close(actual.float(), expected, atol=0.02, rtol=0)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("orientation", ["ignore", "exif"])
@pytest.mark.parametrize("tag", [1, 3, 6, 8])
def test_orientation_is_applied_alike(backend: str, orientation: str, tag: int, tmp_path: Path) -> None:
    pixels = np.zeros((40, 60, 3), dtype=np.uint8)
    pixels[:20, :30] = 255  # only the corner that is top left as stored is white
    exif = Image.Exif()
    exif[0x0112] = tag
    Image.fromarray(pixels).save(tmp_path / "x.jpg", exif=exif, quality=95)
    plain = evaluation(16).views[0]
    recipe = Recipe(name="test", source="", views=(plain,), mean=(0, 0, 0), std=(1, 1, 1), orientation=orientation)
    with open_loader(tmp_path, backend, recipe=recipe, batch_size=1) as loader:
        image = next(iter(loader)).globals[0, 0, 0]
    corners = [
        (image[rows, columns].mean() > 0.5).item() for rows in (slice(7), slice(9, 16)) for columns in (slice(7), slice(9, 16))
    ]
    white = {"ignore": 0, "exif": {1: 0, 3: 3, 6: 1, 8: 2}[tag]}[orientation]
    assert corners == [place == white for place in range(4)]


@pytest.mark.parametrize("backend", BACKENDS)
def test_image_that_does_not_decode_stops_with_its_path(backend: str, photographs: Path, tmp_path: Path) -> None:
    for path in photographs.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    whole = (tmp_path / "07.jpg").read_bytes()
    (tmp_path / "07.jpg").write_bytes(whole[: len(whole) // 2])
    with open_loader(tmp_path, backend, on_error="raise") as loader:
        with pytest.raises(BadImageError, match=r"07\.jpg: ") as caught:
            list(loader)
        assert caught.value.path == str(tmp_path / "07.jpg")
        (tmp_path / "07.jpg").write_bytes(whole)
        assert len(list(loader)) == 4  # the loader goes on once the file is repaired


def test_worker_processes_report_a_bad_image_alike(photographs: Path, tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes((photographs / "00.jpg").read_bytes()[:5000])
    loader = open_loader(tmp_path, num_workers=1, batch_size=1, on_error="raise")
    with loader, pytest.raises(BadImageError, match=r"x\.jpg"):
        list(loader)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backend": "ffcv"}, "backend='ffcv'"),
        ({"batch_size": 64}, "more than the 32 images"),
        ({"prefetch": 0}, "prefetch=0"),
        ({"num_workers": -1}, "num_workers=-1"),
        ({"dtype": torch.int8}, "dtype=torch.int8"),
        ({"recipe": "dinov9"}, "recipe='dinov9'"),
    ],
    ids=str,
)
def test_impossible_setting_is_refused(options: dict[str, object], message: str, photographs: Path) -> None:
    with pytest.raises(ValueError, match=message):
        open_loader(photographs, **options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_missing_gpu_is_said(photographs: Path) -> None:
    with pytest.raises(ValueError, match="finds no GPU here"):
        Loader(photographs, RECIPE, batch_size=2, device="cuda")


def test_closed_loader_leaves_no_thread_and_says_it_is_closed(photographs: Path) -> None:
    before = set(threading.enumerate())  # a test before this one may have left a loader to the garbage collector
    loader = open_loader(photographs)
    next(iter(loader))
    loader.close()
    assert not [thread for thread in set(threading.enumerate()) - before if thread.name == "hjepa-ahead"]
    with pytest.raises(ValueError, match="closed"):
        iter(loader).__next__()


def test_no_local_crops_is_none(photographs: Path) -> None:
    with open_loader(photographs, recipe=multicrop(num_local_crops=0, global_crop_size=32)) as loader:
        assert next(iter(loader)).locals is None


def test_odd_images_are_cropped_by_both_backends(tmp_path: Path) -> None:
    pytest.importorskip("nvidia.dali")
    chance = np.random.default_rng(0)
    for number, (height, width) in enumerate([(1, 1), (1, 400), (300, 3), (7, 33), (64, 64)]):
        Image.fromarray(chance.integers(0, 255, (height, width, 3), dtype=np.uint8)).save(tmp_path / f"{number}.png")
    Image.fromarray(chance.integers(0, 255, (50, 60), dtype=np.uint8)).save(tmp_path / "gray.jpg")
    Image.fromarray(chance.integers(0, 255, (50, 60, 4), dtype=np.uint8)).save(tmp_path / "alpha.png")
    Image.fromarray(chance.integers(0, 65535, (50, 60), dtype=np.uint16)).save(tmp_path / "deep.png")
    Image.fromarray(chance.integers(0, 65535, (50, 60), dtype=np.uint16)).save(tmp_path / "deep.tif")
    Image.fromarray(chance.integers(0, 255, (50, 60, 3), dtype=np.uint8)).convert("CMYK").save(tmp_path / "print.jpg")
    Image.fromarray(chance.integers(0, 255, (50, 60), dtype=np.uint8)).convert("P").save(tmp_path / "palette.png")
    view = View(name="global", count=2, size=17, area=(0.2, 1.0), gray=0, blur=0)
    recipe = Recipe(name="test", source="", views=(view,))
    crops = []
    for backend in ("dali-ops", "torchvision"):
        with open_loader(tmp_path, backend, recipe=recipe, batch_size=11, shuffle=False) as loader:
            crops.append(next(iter(loader)).globals)
    assert torch.isfinite(crops[0]).all()
    # On noise DALI's region of interest differs at its borders, where it reads neighbours of the box; photographs: test_parity.
    differences = (crops[0] - crops[1]).abs().mean(dim=(0, 2, 3, 4))  # of one image each, of noise with a deviation above 1
    assert differences[3:].max() < 0.1
    assert differences[:3].max() < 0.5  # one to three pixels wide: all border


@pytest.mark.parametrize("backend", BACKENDS)
def test_recipe_follows_the_epochs_and_resumes(backend: str, photographs: Path) -> None:
    ramps = {
        "local.count": Ramp(start=1, end=3, epochs=2),
        "global.size": Ramp(start=32, end=48, epochs=1, delay=1, step=16),
        "global.area": Ramp(start=(0.9, 1.0), end=(0.2, 0.3), epochs=2),
    }
    curriculum = Curriculum(recipe=RECIPE, ramps=ramps)
    with open_loader(photographs, backend, recipe=curriculum) as loader:
        epochs = []
        for epoch in range(4):
            loader.set_epoch(epoch)
            epochs.append(list(loader))
            if epoch == 0:
                state = json.loads(json.dumps(loader.state_dict()))
    assert [len(batches[0].locals) for batches in epochs] == [1, 2, 3, 3]
    assert [batches[0].globals.shape[-1] for batches in epochs] == [32, 32, 48, 48]
    areas = [np.mean([(batch.draws.views["global"].box[..., 2:]).prod(-1) for batch in batches]) for batches in epochs]
    assert areas[0] > areas[1] > areas[2]
    with open_loader(photographs, backend, recipe=curriculum) as resumed:
        resumed.load_state_dict(state)
        for batches in epochs[1:]:
            assert_same(list(resumed), batches)
    with open_loader(photographs, backend) as other, pytest.raises(ValueError, match="recipe"):
        other.load_state_dict(state)


def test_loader_hands_out_the_batch_of_another_trainer(photographs: Path) -> None:
    with (
        open_loader(photographs, recipe=preset("ijepa"), adapter="ijepa") as loader,
        open_loader(photographs, recipe=preset("ijepa")) as plain,
    ):
        (images, labels), context, targets = next(iter(loader))
        batch = next(iter(plain))
    assert torch.equal(images, batch.globals[0])
    assert torch.equal(labels, batch.labels)
    assert len(context) == 1
    assert len(targets) == 4
    with pytest.raises(ValueError, match="I-JEPA"):
        open_loader(photographs, recipe=preset("dinov2"), adapter="ijepa")
    with pytest.raises(ValueError, match=r"adapter='dinov22' is unknown.*dinov2"):
        open_loader(photographs, adapter="dinov22")


@pytest.mark.parametrize(
    ("backend", "load", "message"),
    [
        ("torchvision", 0.5, "no effect with backend='torchvision' and device='cpu'"),
        ("dali", 0.65, "no effect with backend='dali' and device='cpu'"),
        ("dali", 1.5, "hw_decoder_load=1.5 is no share"),
        ("dali", -0.1, "hw_decoder_load=-0.1 is no share"),
        ("dali", float("nan"), "hw_decoder_load=nan is no share"),
    ],
)
def test_decoder_of_a_gpu_is_refused_without_one(backend: str, load: float, message: str, photographs: Path) -> None:
    with pytest.raises(ValueError, match=message):
        open_loader(photographs, backend, hw_decoder_load=load)
    with pytest.raises(ValueError, match="decoder='gpu' has no effect with"):
        open_loader(photographs, backend, decoder="gpu")
    with pytest.raises(ValueError, match="decoder='cuda' is unknown; use 'auto', 'cpu' or 'gpu'"):
        open_loader(photographs, backend, decoder="cuda")


@pytest.mark.dali
def test_a_gpus_images_are_decoded_where_and_by_the_share_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    class Node:
        def gpu(self) -> str:
            return "moved"

    dali_decode = importlib.import_module("hjepa.pipeline.backends.dali_decode")
    asked: list[dict[str, object]] = []
    monkeypatch.setattr(dali_decode, "_parsed", lambda encoded: encoded)
    monkeypatch.setattr(dali_decode.fn.decoders, "image", lambda _, **options: asked.append(options) or Node())
    moved = []
    for name, decoder in (("cpu", "cpu"), ("cuda:0", "cpu"), ("cuda:0", "gpu")):
        settings = BackendSettings(
            recipe=RECIPE, batch_size=8, device=torch.device(name), num_workers=1, prefetch=1, pin_memory=False,
            dtype=torch.float32, decoder=decoder, hw_decoder_load=0.65,
        )  # fmt: skip
        moved.append(dali_decode.decode(None, settings) == "moved")
    on_cpu, for_gpu, on_gpu = asked
    assert moved == [False, True, False]
    assert on_cpu == for_gpu
    assert on_cpu["device"] == "cpu"
    assert "hw_decoder_load" not in on_cpu
    assert (on_gpu["device"], on_gpu["hw_decoder_load"], on_gpu["jpeg_fancy_upsampling"]) == ("mixed", 0.65, True)


def test_batch_whose_adapter_fails_is_not_taken(photographs: Path) -> None:
    calls = []

    def adapter(batch: Batch) -> Batch:
        calls.append(batch.indices)
        if len(calls) == 2:
            raise KeyError("a user's mistake")
        return batch

    with open_loader(photographs, adapter=adapter) as loader:
        batches = iter(loader)
        next(batches)
        with pytest.raises(KeyError, match="mistake"):
            next(batches)
        loader.load_state_dict(loader.state_dict())
        assert torch.equal(next(iter(loader)).indices, calls[1])


@pytest.mark.parametrize("prefetch", [1, 3])
def test_draws_and_step_keys_are_of_the_seed_the_epoch_and_the_place(prefetch: int, photographs: Path) -> None:
    with open_loader(photographs, seed=3, prefetch=prefetch) as loader:
        for epoch in range(2):
            for number, batch in enumerate(loader):
                assert batch.step_key == key(3, epoch, number)
                np.testing.assert_array_equal(batch.draws.keys, key(3, epoch, batch.indices.numpy()))


class OwnLabels:
    """A source that gives out its own array of labels."""

    name, classes, bad = "own", (), ()

    def __init__(self, source: Source) -> None:
        self.source, self.labels = source, np.arange(len(source))

    def __len__(self) -> int:
        return len(self.source)

    def fetch(self, indices: np.ndarray) -> Samples:
        return replace(self.source.fetch(indices), labels=self.labels[indices[0] : indices[-1] + 1])

    def fingerprint(self) -> str:
        return "own"


def test_labels_of_a_batch_may_be_written_on(photographs: Path) -> None:
    source = OwnLabels(open_folder(photographs))
    with open_loader(source, shuffle=False) as loader:
        for batch in loader:
            batch.labels.zero_()
    assert source.labels.tolist() == list(range(32))


def test_nothing_is_read_beyond_the_epochs_that_were_announced(photographs: Path) -> None:
    with open_loader(photographs, epochs=2) as loader:
        next(iter(loader))
        assert len(list(islice(loader._stream._requests(1, 2), 10))) == 2  # of the last epoch


def test_seed_may_be_of_numpy(photographs: Path) -> None:
    with open_loader(photographs, seed=np.int64(3)) as loader, open_loader(photographs, seed=3) as other:
        assert torch.equal(next(iter(loader)).indices, next(iter(other)).indices)
        assert json.loads(json.dumps(loader.state_dict())) == other.state_dict()
    with pytest.raises(ValueError, match=r"seed=3\.0 is no whole number"):
        open_loader(photographs, seed=3.0)


def test_numbers_of_numpy_in_a_recipe_or_an_epoch_leave_a_state_that_any_loading_reads(
    photographs: Path, tmp_path: Path
) -> None:
    view = View(name="global", count=1, size=24, area=(np.float32(0.5), 1.0), blur=np.linspace(0, 1, 3)[1])
    with open_loader(photographs, recipe=Recipe(name="swept", source="test", views=(view,))) as loader:
        loader.set_epoch(np.int64(2))
        assert type(loader.epoch) is int
        state = loader.state_dict()
        torch.save(state, tmp_path / "state.pt")
        for read in (torch.load(tmp_path / "state.pt", weights_only=True), json.loads(json.dumps(state))):
            loader.load_state_dict(read)
            assert loader.epoch == 2


@pytest.mark.parametrize("shuffle", [True, False, "blocks"])
def test_state_of_version_2_is_read_where_orders_are_as_they_were(shuffle: bool | str, photographs: Path) -> None:
    with open_loader(photographs, shuffle=shuffle) as loader:
        state = loader.state_dict() | {"version": 2}
        if shuffle == "blocks":
            with pytest.raises(ValueError, match="version 2"):
                loader.load_state_dict(state)
        else:
            loader.load_state_dict(state)
